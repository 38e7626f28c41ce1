"""Pictures on a page: drawn at one place, so that each can be saved and read aloud, and tells what was clicked."""

from types import ModuleType
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from soupviz.pictures.basics import Chart
from soupviz.ui import theme

Place = DeltaGenerator | ModuleType
"""Where something is drawn: a column or a container, or the page itself, which is the module `streamlit`."""

SIDE = 395
"""Pixels of a picture of which two stand side by side where there is room."""


def show(chart: Chart, *, key: str, alt: str, clicked: str | None = None, place: Place = st) -> list[dict[str, Any]]:
    """Draw a picture; its toolbar saves it as PNG and its data as CSV.

    Args:
        key: the same for the same picture, so that new data only move its marks.
        alt: what a screen reader says of it. clicked: the name of its selection parameter, if it can be clicked.
    Returns:
        What is selected in it, by the fields of the selection.
    """
    data, spec = chart
    spec = {"config": theme.of_pictures()} | spec
    if clicked is None:
        place.vega_lite_chart(data, spec, key=key, alt=alt)
        return []
    event = place.vega_lite_chart(data, spec, key=key, alt=alt, on_select="rerun", selection_mode=[clicked])
    # Nothing selected is an empty mapping, a selection a list of fields with their values.
    selected = event["selection"].get(clicked) or []
    return [dict(one) for one in selected]
