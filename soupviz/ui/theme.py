"""One colour, one meaning (Okabe-Ito), and what differs between light and dark."""

import streamlit as st

INGREDIENT = "#56B4E9"
SOUP = "#E69F00"
BEST = "#009E73"
REJECTED = "#999999"
BASE = "#CC79A7"
ENSEMBLE = "#0072B2"

MARKERS = {
    "ingredient": "circle",
    "soup": "star",
    "best": "diamond",
    "base": "square",
    "rejected": "x",
    "ensemble": "hexagon",
}
COLORS = {
    "ingredient": INGREDIENT,
    "soup": SOUP,
    "best": BEST,
    "base": BASE,
    "rejected": REJECTED,
    "ensemble": ENSEMBLE,
}


def is_dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def ink() -> str:
    """The colour of text and rules."""
    return "#E6EAEF" if is_dark() else "#1B2430"


def faint() -> str:
    """The colour of grids and of what is not in focus."""
    return "#2F3842" if is_dark() else "#E3E8ED"
