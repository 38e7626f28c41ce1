"""What a recipe has to say of its soup beside coefficients: losses while it learned, layers that were repaired."""

from collections.abc import Mapping
from typing import Any

from soupviz.pictures import search
from soupviz.ui import charts
from soupviz.ui.charts import Place


def draw_notes(place: Place, notes: Mapping[str, Any]) -> None:
    """The notes of a run, as far as it has any."""
    if losses := notes.get("losses") or [epoch["loss"] for epoch in notes.get("epochs", [])]:
        place.header("Loss while learning")
        told = f"The loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
        charts.show(search.losses(losses), key="losses", alt=told, place=place)
    if notes.get("temperature", 1.0) != 1.0:  # of a task without logits there is none to learn
        place.caption(f"The temperature learned beside the coefficients: {notes['temperature']:.3f}.")
    if "repaired" in notes:
        left = "".join(f" {name} was left: {reason}." for name, reason in notes["left"].items())
        place.caption(f"REPAIR corrected {len(notes['repaired'])} layers.{left}")
