"""What the command line tells while it computes: a bar for each worker on a terminal, a line at the end elsewhere."""

import io
from types import SimpleNamespace

import pytest
from kitchens import small_kitchen
from rich import console as terminals
from workers import without_processes

import soupviz as sv
from soupviz.cli import progress
from soupviz.cli.progress import progress_bar


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    without_processes(monkeypatch)
    return sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=60), executor="processes", workers=2)


def score(kitchen, tell):
    mixes = [(((name, 1.0),), "held_out", "average") for name in kitchen.names]
    kitchen.scores.score_all(mixes, tell)


def test_on_a_terminal_each_worker_has_its_bar(kitchen, monkeypatch):
    written = io.StringIO()

    def terminal(**_more):
        return terminals.Console(file=written, force_terminal=True, width=100)

    monkeypatch.setattr(progress, "Console", terminal)
    told = []
    with progress_bar(kitchen=kitchen) as tell:

        def both(done, total, what):
            tell(done, total, what)
            told.append(what)

        score(kitchen, both)
        tell(1, 1, "the end")  # the last look, at which both have computed
    bars = written.getvalue()
    assert told
    assert "place 0 computes" in bars and "place 1 computes" in bars
    assert "the end" in bars


@pytest.mark.parametrize("executor", ["processes", "inline"])
def test_elsewhere_a_line_at_the_end_tells_what_workers_did(tmp_path, monkeypatch, capsys, executor):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=60), executor=executor)
    capsys.readouterr()
    with progress_bar(as_json=True, kitchen=kitchen) as tell:
        score(kitchen, tell)
    said = capsys.readouterr()
    assert said.out == ""
    number = len(kitchen.scores.usage().shares)
    assert ("workers computed" in said.err) == (executor == "processes")
    assert not number or said.err.startswith(f"{number} workers computed ")
    assert said.err.count("%") == number


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch, capsys):
    now = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with progress_bar(as_json=True) as tell:
        tell(1, 4, "scoring held_out")
        tell(2, 4, "scoring held_out")
        tell(3, 4, "scoring held_out")
    assert capsys.readouterr().err == "scoring held_out: 50%\n"
