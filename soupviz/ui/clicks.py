"""Clicks that set widgets which are drawn elsewhere on the page.

What is set of a widget before the browser knows of it can be lost: another event, of a part of the page that refreshes
itself, brings the widget's old value along. So what a click asks for stands apart until a run of the page has shown it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

ASKED = "asked for by a click"


def ask(**values: Any) -> None:
    """Set widgets by their keys, which this run of the page has still to draw."""
    st.session_state[ASKED] = values


def choose(**values: Any) -> None:
    """Set widgets by their keys, and draw the page anew with them."""
    ask(**values)
    st.rerun()


def apply() -> None:
    """At the start of a page, before its widgets are drawn."""
    for key, value in st.session_state.get(ASKED, {}).items():
        st.session_state[key] = value


@contextmanager
def applied() -> Iterator[None]:
    """Around the widgets of a page: they have what was asked for, unless they cannot."""
    apply()
    try:
        yield
    except Exception:
        done()  # the page ends here: it would be asked for again and again
        raise


def done() -> None:
    """At the end of a page: its widgets show what was asked for."""
    st.session_state.pop(ASKED, None)
