"""The embedded kitchens, built on the spot from data that ship with scikit-learn."""

from soupviz.demo.diabetes import DiabetesNet
from soupviz.demo.digits import DigitsNet

__all__ = ["DiabetesNet", "DigitsNet"]
