"""Parts of a page that are drawn again without the rest of it, and what Streamlit must be kept from meanwhile."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import streamlit as st
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession


def redrawn(draw: Callable[..., None], *args: Any, every: float | None = None) -> None:
    """Draw a part now, and by itself whenever one of its widgets is used, or every so many seconds.

    It has a container of its own. Streamlit drops what a part has drawn and not yet sent once it is to be drawn
    again; the page's next elements would move into its place, and the browser would look for it one further down.
    """
    with st.container():
        st.fragment(draw, run_every=every)(*args)


Asks = Callable[[AppSession, ClientState | None], None]


def of_this_page(ask: Asks) -> Asks:
    """Let parts ask to be drawn again only of the page that their session shows.

    Where the server changes the page, the browser goes on asking for the parts of the old one until it hears of that.
    Streamlit would tell it that the old page is back, upon which it clears the new one.
    """

    @wraps(ask)
    def request(session: AppSession, asked: ClientState | None) -> None:
        if asked is None or not asked.is_auto_rerun or asked.page_script_hash == session.page_script_hash:
            ask(session, asked)

    return request


AppSession.request_rerun = of_this_page(AppSession.request_rerun)  # type: ignore[method-assign, assignment]
