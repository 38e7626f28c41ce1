"""soupviz: average the weights of fine-tuned checkpoints, and measure whether the soup is better."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from soupviz.version import __version__

if TYPE_CHECKING:
    from soupviz.errors import SoupError
    from soupviz.kitchen import Kitchen
    from soupviz.recognition.proposal import recognise
    from soupviz.reports.page import report
    from soupviz.soups.baking import bake
    from soupviz.soups.cooking import cook
    from soupviz.soups.curves import interpolate
    from soupviz.soups.exports import export
    from soupviz.soups.menu import cook_menu
    from soupviz.soups.mergekit import from_mergekit
    from soupviz.soups.soup import Soup
    from soupviz.soups.textbook import greedy, sweep, uniform
    from soupviz.tasks.metric import Metric, NumberMetric, SumMetric
    from soupviz.tasks.outcomes import Outcomes
    from soupviz.tasks.task import Task
    from soupviz.tracking.logging import log

__all__ = [
    "Kitchen",
    "Metric",
    "NumberMetric",
    "Outcomes",
    "SWARecorder",
    "Soup",
    "SoupError",
    "SumMetric",
    "Task",
    "__version__",
    "bake",
    "cook",
    "cook_menu",
    "export",
    "from_mergekit",
    "greedy",
    "interpolate",
    "log",
    "recognise",
    "report",
    "sweep",
    "uniform",
]

PUBLIC = {
    "Kitchen": "kitchen",
    "Metric": "tasks.metric",
    "NumberMetric": "tasks.metric",
    "Outcomes": "tasks.outcomes",
    "SWARecorder": "weights.training",
    "Soup": "soups.soup",
    "SoupError": "errors",
    "SumMetric": "tasks.metric",
    "Task": "tasks.task",
    "bake": "soups.baking",
    "cook": "soups.cooking",
    "cook_menu": "soups.menu",
    "export": "soups.exports",
    "from_mergekit": "soups.mergekit",
    "greedy": "soups.textbook",
    "interpolate": "soups.curves",
    "log": "tracking.logging",
    "recognise": "recognition.proposal",
    "report": "reports.page",
    "sweep": "soups.textbook",
    "uniform": "soups.textbook",
}
"""What `soupviz` exports, so that a process loads only what it uses."""


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'soupviz' has no attribute {name!r}")
    return getattr(import_module(f"soupviz.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
