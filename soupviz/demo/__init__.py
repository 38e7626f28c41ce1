"""The embedded kitchens, built on the spot from data that ship with scikit-learn."""

from soupviz.demo.digits import DigitsNet

__all__ = ["DigitsNet"]
