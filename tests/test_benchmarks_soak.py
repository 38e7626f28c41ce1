"""The soak finds what it is there for: a number that does not come out again, a bug's words, memory that grows."""

import sqlite3
from pathlib import Path

import pytest
from kitchens import small_kitchen

import soupviz as sv
from benchmarks.soak import walking
from benchmarks.soak.browsing import BUG, NETWORK
from benchmarks.soak.recounting import recounted
from benchmarks.soak.server import recording
from soupviz.files import STORE
from soupviz.kitchen import Kitchen
from soupviz.scoring.service import Scores


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kitchen in which something was scored and cooked by a server that writes it down."""
    monkeypatch.setattr(Scores, "attempt", recording(Scores.attempt))
    file = small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40)
    kitchen = Kitchen.load(file)
    kitchen.scores.of_ingredients("test")
    sv.greedy(kitchen)
    return file


def test_what_was_kept_comes_out_again(file: Path) -> None:
    told: list[str] = []
    assert recounted(file, told.append) == []
    assert "1 soups were made again" in told[0] and not told[0].startswith("0 ")


def test_a_number_that_does_not_come_out_again_is_named(file: Path) -> None:
    with sqlite3.connect(file.parent / STORE / "store.sqlite") as connection:
        connection.execute("UPDATE results SET summary = replace(summary, '\"num_units\"', '\"number\"')")
        connection.execute("UPDATE runs SET result = replace(result, '0.', '0.1')")
    connection.close()
    problems = recounted(file, lambda _text: None)
    assert any("was kept as" in one for one in problems)
    assert any("decides otherwise" in one for one in problems)


def test_a_score_that_nobody_asked_for_is_told(file: Path) -> None:
    (file.parent / STORE / "asked.jsonl").write_text("cut in the mid", encoding="utf-8")
    [problem] = recounted(file, lambda _text: None)
    assert "nobody was seen to ask for" in problem


def test_a_bug_is_told_from_a_users_message_and_from_a_server_that_is_down() -> None:
    for text in ("KeyError: 'x' (a bug in soupviz; the log has the details)", "<soupviz.Kitchen object at 0x7f>"):
        assert BUG.search(text)
    for text in ("/x lies outside the folders this dashboard was started with", "A plane needs three points."):
        assert not BUG.search(text)
    assert NETWORK.search("WebSocket connection to 'ws://127.0.0.1/' failed")


def test_tracebacks_are_found_in_a_log_and_growing_memory_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "started\nTraceback (most recent call last):\n  File 'a', line 1, in f\n    g()\nKeyError: 'x'\nwent on\n",
        encoding="utf-8",
    )
    assert walking.logged(log) == ["the server's log: File 'a', line 1, in f / g() / KeyError: 'x'"]
    assert walking.Told(memory=[5e8] * 40).beyond() == []
    assert walking.Told(memory=[5e8 + 1e7 * at for at in range(40)]).beyond() == [
        "memory grows: by 100 MB in a quarter of the time"
    ]
