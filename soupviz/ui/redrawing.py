"""Parts of a page that are drawn again without the rest of it, and what Streamlit must be kept from meanwhile."""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import streamlit as st
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue


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


Clears = Callable[..., None]


def with_what_lies_there(clear: Clears) -> Clears:
    """Have a queue that drops a place not yet sent to the browser drop what lies in it, too.

    Before a part is drawn again Streamlit drops what the part itself has drawn, and keeps what parts within it have:
    the browser would look for that where something else stands, and stop.
    """

    @wraps(clear)
    def clear_whole(queue: ForwardMsgQueue, *args: Any, **options: Any) -> None:
        before = list(queue._queue)
        clear(queue, *args, **options)
        kept = {id(message) for message in queue._queue}
        gone = {
            tuple(message.metadata.delta_path)
            for message in before
            if id(message) not in kept and message.delta.WhichOneof("type") == "add_block"
        }
        queue._queue = [message for message in queue._queue if not _lies_in(message, gone)]

    return clear_whole


def _lies_in(message: ForwardMsg, places: Collection[tuple[int, ...]]) -> bool:
    path = tuple(message.metadata.delta_path) if message.WhichOneof("type") == "delta" else ()
    return any(path[:length] in places for length in range(1, len(path)))


ForwardMsgQueue.clear = with_what_lies_there(ForwardMsgQueue.clear)  # type: ignore[method-assign]
AppSession.request_rerun = of_this_page(AppSession.request_rerun)  # type: ignore[method-assign, assignment]
