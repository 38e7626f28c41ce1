"""Files from a web server on this machine that cuts connections, refuses, is slow, or knows no ranges."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from elsewhere import Web, serving
from kitchens import change_yaml, small_kitchen

from soupviz.errors import Cancelled, RemoteError
from soupviz.kitchen import Kitchen
from soupviz.remote import listing, room
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch, head_of
from soupviz.remote.listing import Found
from soupviz.remote.ranges import Ranges
from soupviz.remote.systems import _is_here

pytest.importorskip("aiohttp", reason="needs aiohttp")
pytestmark = pytest.mark.extras

SIZE = 12 * 2**20
CONTENT = Random(0).randbytes(SIZE)


@pytest.fixture
def web(empty_cache: Path) -> Iterator[Web]:
    with serving() as server:
        server.files["a.bin"] = CONTENT
        yield server


def at(web: Web, name: str = "a.bin") -> Found:
    with Calls() as calls:
        found = listing.at(f"{web.address}/{name}", calls)
    assert found is not None
    return found


def parts(cache: Path) -> list[Path]:
    return list((cache / "remote" / "parts").glob("*.part"))


def test_a_large_file_comes_in_ranges_and_whole(web: Web) -> None:
    seen: list[tuple[int, int]] = []
    [place] = fetch([at(web)], lambda done, total, _: seen.append((done, total)))
    assert place.read_bytes() == CONTENT
    assert len(web.ranges()) > 3
    assert seen == sorted(seen) and seen[-1] == (SIZE, SIZE)


def test_cut_connections_are_tried_again(web: Web) -> None:
    found = at(web)
    web.cuts = 4
    [place] = fetch([found])
    assert place.read_bytes() == CONTENT
    assert web.cuts == 0


def test_a_connection_that_is_cut_ever_again_ends_with_what_came(web: Web, empty_cache: Path, monkeypatch) -> None:
    monkeypatch.setattr("soupviz.remote.calling.FIRST_PAUSE", 0.001)
    found = at(web)
    web.cuts = 1000
    with pytest.raises(RemoteError, match=r"a\.bin: cannot be reached"):
        fetch([found])
    web.cuts = 0
    assert fetch([found])[0].read_bytes() == CONTENT


def test_a_fetch_that_was_stopped_goes_on_from_there(web: Web, empty_cache: Path) -> None:
    def stop(done: int, _total: int, _what: str) -> None:
        if done > SIZE // 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch([at(web)], stop)
    [part] = parts(empty_cache)
    there = part.stat().st_size
    assert 0 < there < SIZE
    web.asked.clear()
    [place] = fetch([at(web)])
    assert min(web.ranges()) == there
    assert place.read_bytes() == CONTENT
    assert parts(empty_cache) == []


KILLED = """
import sys
from soupviz.remote import listing
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch

with Calls() as calls:
    found = listing.at(sys.argv[1], calls)
fetch([found], lambda done, total, what: print(done, flush=True))
"""


def test_a_fetch_that_was_killed_goes_on_from_there(web: Web, empty_cache: Path) -> None:
    web.pause = 0.02
    command = [sys.executable, "-c", KILLED, f"{web.address}/a.bin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) > 2**20:
                os.kill(child.pid, signal.SIGKILL)
                break
    [part] = parts(empty_cache)
    there = part.stat().st_size
    assert there >= 2**20
    web.pause = 0.0
    web.asked.clear()
    assert fetch([at(web)])[0].read_bytes() == CONTENT
    assert min(web.ranges()) == there


def test_a_slow_server_shows_progress_and_is_left_within_a_second(web: Web) -> None:
    web.pause = 0.5
    told: list[float] = []

    def stop_after_two(_done: int, _total: int, what: str) -> None:
        assert "a.bin" in what or what == "fetching"
        told.append(time.monotonic())
        if told[-1] - told[0] > 2:
            raise Cancelled

    found = at(web)
    with pytest.raises(Cancelled):
        fetch([found], stop_after_two)
    assert time.monotonic() - told[-1] < 1
    assert max(later - earlier for earlier, later in pairwise(told)) < 1


def test_a_command_that_waits_for_a_server_ends_by_ctrl_c_and_not_when_that_answers(web: Web, tmp_path: Path) -> None:
    web.files["m.safetensors"] = CONTENT
    web.pause = 20.0
    file = change_yaml(
        small_kitchen(tmp_path / "k"), lambda document: document.update(base=f"{web.address}/m.safetensors")
    )
    command = [sys.executable, "-m", "soupviz", "score", str(file)]
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # Where tests run behind a shell Ctrl-C is not heard, and what they start would not hear it either.
    with subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **told
    ) as child:
        while not any(method == "GET" for method, *_ in list(web.asked)):
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        asked = time.monotonic()
        assert child.wait(30) == 130
    assert time.monotonic() - asked < 5  # the server answers after twenty


def test_a_server_without_ranges_sends_the_whole_file(web: Web) -> None:
    web.has_ranges = False
    assert fetch([at(web)])[0].read_bytes() == CONTENT


def test_a_whole_file_that_is_cut_begins_anew(web: Web) -> None:
    web.has_ranges = False
    found = at(web)
    web.cuts = 2
    seen: list[int] = []
    assert fetch([found], lambda done, *_: seen.append(done))[0].read_bytes() == CONTENT
    assert web.cuts == 0 and seen[-1] == SIZE


def test_a_whole_file_whose_next_attempt_is_refused_is_told_in_one_line(web: Web) -> None:
    web.has_ranges = False
    found = at(web)

    def refuse(done: int, _total: int, _what: str) -> None:
        if done:
            web.cuts, web.refuses_all = 0, True

    web.cuts = 2
    with pytest.raises(RemoteError, match=r"access is refused \(403\)"):
        fetch([found], refuse)


def test_whoever_stops_does_not_wait_for_a_whole_file_to_be_opened(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.has_ranges = False
    found = at(web)
    began: list[float] = []

    def hang(_found: Found) -> None:
        began.append(time.monotonic())
        time.sleep(8)

    def stop(*_: object) -> None:
        if began:
            raise Cancelled

    monkeypatch.setattr("soupviz.remote.fetching._from_its_beginning", hang)
    with pytest.raises(Cancelled):
        fetch([found], stop)
    assert time.monotonic() - began[0] < 2


def test_a_file_of_unknown_size_comes_and_not_beyond_the_budget(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.tells_sizes = False
    found = at(web)
    assert found.size is None
    assert fetch([found])[0].read_bytes() == CONTENT
    web.files["a.bin"] = CONTENT[::-1]
    monkeypatch.setenv("SOUPVIZ_REMOTE_GB", str((room.held() + SIZE // 2) / 1e9))
    before = room.held()
    with pytest.raises(RemoteError, match=r"its size is not told, and more than .* SOUPVIZ_REMOTE_GB"):
        fetch([at(web)])
    assert room.held() == before


def test_a_server_elsewhere_that_sends_on_to_this_machine_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["inside.bin"] = b"role"
    web.moved["m.bin"] = f"{web.address.replace('127.0.0.1', 'localhost')}/inside.bin"
    assert at(web, "m.bin").size == 4  # on this machine it may

    async def is_here(host: str) -> bool:
        return host == "localhost"

    monkeypatch.setattr("soupviz.remote.systems._is_here", is_here)
    with pytest.raises(RemoteError, match="sends on to localhost"):
        at(web, "m.bin")


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("127.0.0.1", True), ("169.254.169.254", True), ("::ffff:127.0.0.1", True), ("8.8.8.8", False)],
)
def test_what_lies_on_this_machine_or_its_link_is_known(host: str, is_here: bool) -> None:
    with ThreadPoolExecutor(1) as elsewhere:  # this thread may have a loop that runs: a browser's
        assert elsewhere.submit(lambda: asyncio.run(_is_here(host))).result() == is_here


def test_two_processes_that_want_the_same_file_fetch_it_once(web: Web, empty_cache: Path) -> None:
    web.pause = 0.002
    command = [sys.executable, "-c", KILLED, f"{web.address}/a.bin"]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    assert len(web.ranges()) == len(set(web.ranges()))
    web.asked.clear()
    assert fetch([at(web)])[0].read_bytes() == CONTENT
    assert web.ranges() == []


def test_a_file_that_changes_while_it_is_fetched_is_fetched_anew(web: Web) -> None:
    other = CONTENT[::-1]

    def change(done: int, _total: int, _what: str) -> None:
        if done > SIZE // 2:
            web.files["a.bin"] = other

    assert fetch([at(web)], change)[0].read_bytes() == other


def test_a_refused_file_is_told_in_one_line_with_where_and_a_remedy(web: Web) -> None:
    web.refused.add("a.bin")
    with pytest.raises(RemoteError) as told:
        at(web)
    message = str(told.value)
    assert f"{web.address}/a.bin: access is refused (403)" in message and "netrc" in message and "\n" not in message


def test_only_the_beginning_of_a_file_is_asked_for_where_that_is_enough(web: Web, empty_cache: Path) -> None:
    found = at(web)
    web.asked.clear()
    assert head_of(found, 1000) == CONTENT[:1000]
    assert head_of(found, 1000) == CONTENT[:1000]
    assert web.asked == [("GET", "a.bin", "bytes=0-999")]


def test_a_port_where_nobody_answers_is_told(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soupviz.remote.calling.FIRST_PAUSE", 0.001)
    with serving() as gone:
        address = gone.address
    with Calls() as calls, pytest.raises(RemoteError, match="cannot be reached"):
        listing.at(f"{address}/a.bin", calls)


def test_a_kitchen_on_a_web_server_is_opened_and_its_listing_is_a_pattern_s(web: Web, tmp_path: Path) -> None:
    whole = small_kitchen(tmp_path / "whole", num_ingredients=3)
    for file in whole.parent.iterdir():
        web.files[f"runs/{file.name}"] = file.read_bytes()
    here = tmp_path / "here"
    here.mkdir()
    (here / "model.py").write_bytes((whole.parent / "model.py").read_bytes())
    (here / "kitchen.yaml").write_bytes(whole.read_bytes())
    root = f"{web.address}/runs"
    web.files["runs/index.html"] = b"nothing of use"

    def move(document: dict) -> None:
        document["ingredients"] = [f"{root}/m_*.safetensors"]
        document["base"] = f"{root}/base.safetensors"
        document["data"]["held_out"]["path"] = f"{root}/held_out.safetensors"
        del document["data"]["test"]

    opened = Kitchen.load(change_yaml(here / "kitchen.yaml", move))
    assert opened.names == ["m_0", "m_1", "m_2"]
    assert "runs/index.html" not in [name for method, name, _ in web.asked if method == "GET"]
    assert list(opened.score()["accuracy"]) == list(Kitchen.load(whole).score()["accuracy"])


def test_a_folder_of_images_on_a_web_server_is_fetched_whole(web: Web) -> None:
    from soupviz.data.elsewhere import fetched
    from soupviz.spec import SplitSpec

    for label in ("cat", "dog"):
        for index in range(3):
            web.files[f"val/{label}/{index}.png"] = f"{label}{index}".encode()
    spec = fetched("held_out", SplitSpec(format="imagefolder", path=f"{web.address}/val/"), Path(), lambda *_: None)
    there = sorted(path.relative_to(spec.path).as_posix() for path in Path(str(spec.path)).rglob("*.png"))
    assert there == [f"{label}/{index}.png" for label in ("cat", "dog") for index in range(3)]


def test_ranges_grow_where_they_come_fast_and_shrink_where_they_do_not() -> None:
    ranges = Ranges(0, 2**30)
    given = iter(ranges)
    lengths = []
    for seconds in (0.1, 0.1, 9.0, 9.0, 9.0):
        start, stop = next(given)
        lengths.append(stop - start)
        ranges.took(stop - start, seconds)
    assert lengths == [2**18, 2**19, 2**20, 2**19, 2**18]
