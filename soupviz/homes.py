"""Where names are that are loaded when they are asked for: the public ones, and what records show themselves by."""

from importlib import import_module
from typing import Any

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

ABOVE = {"plot": "notebooks.plotting", "html": "notebooks.showing"}
"""What draws a kitchen, a soup or a curve. A notebook asks these themselves for it; the room is above theirs, and no
code of theirs depends on it."""


def public(name: str) -> Any:
    """A name that `soupviz` exports."""
    return getattr(import_module(f"soupviz.{PUBLIC[name]}"), name)


def above(name: str) -> Any:
    """What shows a record in a notebook."""
    return getattr(import_module(f"soupviz.{ABOVE[name]}"), name)
