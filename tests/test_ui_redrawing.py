"""What is drawn again by itself belongs to the page that is shown."""

from typing import Any, cast

import pytest
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

from soupviz.ui import redrawing


class Session:
    """As much of Streamlit's as is looked at."""

    def __init__(self, page: str):
        self._client_state = ClientState(page_script_hash=page)

    page_script_hash = AppSession.page_script_hash


def showing(page: str) -> AppSession:
    return cast(AppSession, Session(page))


@pytest.mark.parametrize(
    ("asked", "is_heard"),
    [
        (ClientState(page_script_hash="old", fragment_id="bar", is_auto_rerun=True), False),
        (ClientState(page_script_hash="new", fragment_id="bar", is_auto_rerun=True), True),
        (ClientState(page_script_hash="old", fragment_id="slider"), True),  # a click, of whatever page
        (ClientState(page_script_hash="old"), True),  # a change of the page
        (None, True),
    ],
)
def test_a_part_of_a_page_that_was_left_is_not_drawn_again(asked: ClientState | None, is_heard: bool) -> None:
    heard: list[Any] = []
    redrawing.of_this_page(lambda _session, state: heard.append(state))(showing("new"), asked)
    assert heard == ([asked] if is_heard else [])


def test_what_asks_for_another_page_leaves_the_parts_of_the_one_before() -> None:
    heard: list[Any] = []
    session = showing("old")
    ask = redrawing.of_this_page(lambda _session, state: heard.append(state))
    ask(session, change := ClientState(page_script_hash="new"))
    ask(session, ClientState(page_script_hash="old", fragment_id="bar", is_auto_rerun=True))
    assert heard == [change]


def drawn(path: tuple[int, ...], *, part: str = "", is_place: bool = False) -> ForwardMsg:
    message = ForwardMsg()
    message.metadata.delta_path.extend(path)
    message.delta.fragment_id = part
    if is_place:
        message.delta.add_block.vertical.SetInParent()
    else:
        message.delta.new_element.text.body = "text"
    return message


def paths_of(queue: ForwardMsgQueue) -> list[tuple[int, ...]]:
    return [tuple(message.metadata.delta_path) for message in queue.flush()]


def test_what_a_part_within_a_part_has_drawn_goes_with_its_place() -> None:
    """Whatever stood in that place before, nothing is sent that lies in it."""
    queue = ForwardMsgQueue()
    outer = drawn((0, 0), is_place=True)
    for message in (
        outer, drawn((0, 0, 0), part="outer"), drawn((0, 0, 1), part="outer", is_place=True),
        drawn((0, 0, 1, 0), part="inner"), drawn((0, 1)), drawn((0, 0, 10), part="other"),
    ):  # fmt: skip
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=["outer"])
    assert paths_of(queue) == [(0, 0), (0, 1), (0, 0, 10)]


def test_what_a_part_has_drawn_goes_alone_where_its_place_stays() -> None:
    queue = ForwardMsgQueue()
    for message in (drawn((0, 0), part="outer", is_place=True), drawn((0, 0, 0), part="inner")):
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=["inner"])
    assert paths_of(queue) == [(0, 0)]


def test_streamlit_asks_so() -> None:
    assert ForwardMsgQueue.clear.__wrapped__.__module__ == "streamlit.runtime.forward_msg_queue"  # type: ignore[attr-defined]
    assert AppSession.request_rerun.__qualname__ == "AppSession.request_rerun"
    assert AppSession.request_rerun.__wrapped__.__module__ == "streamlit.runtime.app_session"  # type: ignore[attr-defined]
