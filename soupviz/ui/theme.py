"""What differs between the light theme and the dark one, for pictures that do not take their colours from Streamlit."""

from typing import Any

import streamlit as st

ON_PRIMARY = "#12161C"
"""Letters on the dark theme's primary colour. Streamlit's are white whatever the colour, here at 2.6 to 1."""


def is_dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def ink() -> str:
    """The colour of text and rules."""
    return "#E6EAEF" if is_dark() else "#1B2430"


def faint() -> str:
    """The colour of grids and of what is not in focus."""
    return "#2F3842" if is_dark() else "#E3E8ED"


def of_pictures() -> dict[str, Any]:
    """A configuration for Vega-Lite: on white, Streamlit's own grey for the words of a picture is too faint to read.

    A picture is described as a whole, not mark by mark; pointed at, a mark tells what it has a tooltip for, where
    Streamlit would have it tell the names and values of all its fields.
    """
    config: dict[str, Any] = {"mark": {"aria": False, "tooltip": None}}
    if is_dark():
        return config
    words = {"labelColor": "#4A5560", "titleColor": "#4A5560"}
    return config | {"axis": words, "legend": words, "header": words}


CLOSER = """
[data-testid=stSidebarHeader] { height: 2.5rem; margin-bottom: 0; }
[data-testid=stSidebarUserContent] { padding: 1rem 0; }
[data-testid=stButtonGroup] [role=radiogroup] { flex-wrap: wrap; overflow: visible; }
.st-key-answer p:first-child { font-size: 1.1rem; }
.st-key-next-steps .stMarkdown a { color: inherit; text-decoration: none; padding: 0.25rem 0.5rem; }
.st-key-next-steps .stMarkdown a { font-size: 0.875rem; }
.st-key-next-steps .stMarkdown a [role=img] { margin-right: 0.25rem; }
.st-key-next-steps .stMarkdown a:hover { text-decoration: underline; }
@media (max-width: 640px) {
.stElementContainer:has(> .stMetric) { flex: 0 0 calc(50% - 0.5rem) !important; min-width: 0; }
.stElementContainer:nth-child(odd):last-child:has(> .stMetric) { flex: 1 1 100% !important; }
.stMetric { width: 100% !important; }
[data-testid=stMetricDelta], [data-testid=stMetricDelta] * { white-space: normal !important; }
}
"""
"""In the sidebar: in a window 1,000 pixels high what is asked there, and what runs, is seen without scrolling.
On a page: the answer stands out, and on a phone two cards stand side by side."""

LINES = (
    "[data-testid=stProgressBarTrack] {{ box-shadow: inset 0 0 0 1px {0}; }}"
    ".st-key-places {{ border-bottom: 1px solid {0}; padding-bottom: 0.75rem; }}"
)
"""The length of a bar that is empty yet, else as good as the background; and where the places end."""


def style() -> str:
    """What config.toml cannot say, as CSS: colours that Streamlit sets too faint to read by WCAG AA, and the sidebar's
    room."""
    keys = "[data-testid^=stBaseButton-primary] kbd { opacity: 1; }"  # the shortcut on a button, else at 60 %
    keys += CLOSER + LINES.format(st.get_option(f"theme.{'dark' if is_dark() else 'light'}.borderColor"))
    if is_dark():
        on_primary = "[data-testid^=stBaseButton-primary]:enabled, [data-testid=stMultiSelectTagsContainer] [data-tag]"
        return f"{keys} {on_primary}, [data-tag] button {{ color: {ON_PRIMARY}; }}"
    return f"{keys} [data-testid=stCode] code span {{ color: inherit !important; }}"  # its syntax colours, on white
