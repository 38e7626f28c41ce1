"""Times soupviz against the textbook's loops, in turn, on one machine, and checks that both decide the same."""

from soupviz.bench.figures import ESTIMATED, FIGURES, Comparison, Measures
from soupviz.bench.measuring import machine
from soupviz.bench.picture import picture
from soupviz.bench.run import Bench

__all__ = ["ESTIMATED", "FIGURES", "Bench", "Comparison", "Measures", "machine", "picture"]
