"""The embedded kitchens, built on the spot: from data that ship with scikit-learn, or from what is made up."""

from collections.abc import Callable
from pathlib import Path

from soupviz.demo.diabetes import DiabetesNet, diabetes_kitchen
from soupviz.demo.digits import DigitsNet, demo_kitchen
from soupviz.demo.sentences import Sentences, SentencesNet, sentences_kitchen
from soupviz.demo.shapes import ShapesNet, shapes_kitchen
from soupviz.demo.tones import TonesNet, tones_kitchen
from soupviz.types import Progress

__all__ = ["SIBLINGS", "DiabetesNet", "DigitsNet", "Sentences", "SentencesNet", "ShapesNet", "TonesNet"]

SIBLINGS: dict[str, Callable[[Path | None, Progress], Path]] = {
    "classification": demo_kitchen,
    "regression": diabetes_kitchen,
    "text": sentences_kitchen,
    "speech": tones_kitchen,
    "detection": shapes_kitchen,
}
"""What builds a demo's kitchen in a folder, or in the cache, by what the command line calls it."""
