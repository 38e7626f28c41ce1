"""What differs between the light theme and the dark one, for pictures that do not take their colours from Streamlit."""

import streamlit as st


def is_dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def ink() -> str:
    """The colour of text and rules."""
    return "#E6EAEF" if is_dark() else "#1B2430"


def faint() -> str:
    """The colour of grids and of what is not in focus."""
    return "#2F3842" if is_dark() else "#E3E8ED"
