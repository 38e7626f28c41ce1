"""soupviz: average the weights of fine-tuned checkpoints, and measure whether the soup is better."""

from soupviz.cooking import cook, greedy, sweep, uniform
from soupviz.curves import interpolate
from soupviz.errors import SoupError
from soupviz.export import bake, export
from soupviz.kitchen import Kitchen
from soupviz.menu import cook_menu
from soupviz.soups import Soup
from soupviz.version import __version__

__all__ = [
    "Kitchen",
    "Soup",
    "SoupError",
    "__version__",
    "bake",
    "cook",
    "cook_menu",
    "export",
    "greedy",
    "interpolate",
    "sweep",
    "uniform",
]
