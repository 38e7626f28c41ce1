"""The embedded kitchens, built on the spot: from data that ship with scikit-learn, or from what is made up."""

from soupviz.demo.diabetes import DiabetesNet
from soupviz.demo.digits import DigitsNet
from soupviz.demo.sentences import Sentences, SentencesNet

__all__ = ["DiabetesNet", "DigitsNet", "Sentences", "SentencesNet"]
