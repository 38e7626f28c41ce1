"""What a plan says of workers: how busy they are at best, and that they are started first."""

from typing import Any

from kitchens import json_of, run_command, small_kitchen
from workers import without_processes

import soupviz as sv
from soupviz.recipes import parse
from soupviz.soups.planning import Cost, cooking_cost
from soupviz.ui import asking

WORKERS = ("--executor", "processes", "--workers", "3")


def test_the_command_line_plans_with_workers_and_starts_none(tmp_path, monkeypatch, capsys):
    """Greedy on 120 units takes at most 8 evaluations: 60 batches of 16, which three workers share evenly."""
    started = without_processes(monkeypatch)
    file = small_kitchen(tmp_path, num_examples=120, batch_size=16)
    alone, shared = (
        json_of(capsys, "soup", file, "--recipe", "greedy", "--plan", *options)["plan"] for options in ((), WORKERS)
    )
    same = ("evaluations", "known", "examples", "bytes_read", "peak_bytes")
    assert {name: alone[name] for name in same} == {name: shared[name] for name in same}
    assert [(plan["workers"], plan["utilisation"], plan["to_start"]) for plan in (alone, shared)] == [
        (1, 1.0, 0), (3, 1.0, 3),
    ]  # fmt: skip
    assert started == []


def test_a_table_says_that_workers_are_busy_at_best_and_have_to_be_started(tmp_path, monkeypatch, capsys):
    without_processes(monkeypatch)
    file = small_kitchen(tmp_path, num_examples=120, batch_size=60)
    command: list[Any] = ["soup", file, "--recipe", "uniform", "--plan"]
    _, told, _ = run_command(capsys, *command, *WORKERS)
    lines = {line.split("│")[1].strip(): line for line in told.splitlines() if line.count("│") > 1}
    assert "at best 67%" in lines["utilisation"]
    assert "and starting 3 workers" in lines["seconds"]
    assert "to start" not in lines
    _, alone, _ = run_command(capsys, *command)
    assert "starting" not in alone


def test_workers_that_are_there_are_not_started_again(tmp_path, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path), executor="processes", workers=2)
    kitchen.splits.load("held_out")
    cost = Cost(2, 0, 400, 1.0)
    recipe = parse({"method": "uniform"})
    assert cooking_cost(kitchen, recipe).to_start == 2
    assert "about 1 s, and starting 2 workers" in asking.told(cost, kitchen)
    kitchen.score()
    assert cooking_cost(kitchen, recipe).to_start == 0
    assert "starting" not in asking.told(cost, kitchen)
    kitchen.scores.executor.close()
    assert cooking_cost(kitchen, recipe).to_start == 2
