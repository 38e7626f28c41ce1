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
    """Let parts ask to be drawn again only of the page that their session shows, or is about to show.

    Where the page changes, the browser goes on asking for the parts of the old one until the new one has begun.
    Streamlit would run the old page instead of the new one, or tell the browser that the old one is back, upon which it
    clears the new one.
    """

    @wraps(ask)
    def request(session: AppSession, asked: ClientState | None) -> None:
        if asked is not None and asked.is_auto_rerun and asked.page_script_hash != session.page_script_hash:
            return
        if asked is not None and not asked.fragment_id and asked.page_script_hash:
            session._client_state.page_script_hash = asked.page_script_hash  # Streamlit notes it once it has begun
        ask(session, asked)

    return request


AppSession.request_rerun = of_this_page(AppSession.request_rerun)  # type: ignore[method-assign, assignment]
