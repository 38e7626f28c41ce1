"""Parts of a page that are drawn again without the rest of it."""

from collections.abc import Callable
from typing import Any

import streamlit as st


def redrawn(draw: Callable[..., None], *args: Any, every: float | None = None) -> None:
    """Draw a part now, and by itself whenever one of its widgets is used, or every so many seconds.

    It has a container of its own. Streamlit drops what a part has drawn and not yet sent once it is to be drawn
    again; the page's next elements would move into its place, and the browser would look for it one further down.
    """
    with st.container():
        st.fragment(draw, run_every=every)(*args)
