"""Progress of a soup is of all that it takes, its test too, and never goes back."""

from pathlib import Path
from typing import Any

import pytest
from kitchens import small_kitchen
from workers import without_processes

import soupviz as sv
from soupviz.soups.cooking import cook
from soupviz.types import stages

SEARCHES: list[dict[str, Any]] = [
    {"method": "greedy"},
    {"method": "greedy", "objective": "with_shifts"},
    {"method": "exhaustive"},
    {"method": "pruned"},
    {"method": "line_search", "steps": 3},
    {"method": "nbest"},
    {"method": "wise_ft", "alpha": "best"},
    {"method": "ensemble"},
]


class Told:
    """Of each time that progress was told: which part of all is done, and what is being done."""

    def __init__(self) -> None:
        self.parts: list[tuple[float, str]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        if not what.startswith(("reading", "alpha 0.1: reading", "alpha 0.5: reading")):  # which comes first
            self.parts.append((done / total, what))

    @property
    def fractions(self) -> list[float]:
        return [fraction for fraction, _ in self.parts]

    def first(self, what: str) -> float:
        return next(fraction for fraction, said in self.parts if what in said)


def kitchen_of(folder: Path, **keys: Any) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(folder, num_examples=64, batch_size=8, shifts=("far",)), **keys)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("recipe", SEARCHES, ids=lambda values: "-".join(map(str, values.values())))
def test_progress_of_a_search_and_of_its_soup_only_goes_on(tmp_path, monkeypatch, recipe, workers):
    without_processes(monkeypatch)
    keys: dict[str, Any] = {"executor": "processes", "workers": workers} if workers else {}
    told = Told()
    cook(kitchen_of(tmp_path, **keys), recipe, progress=told)
    assert told.fractions == sorted(told.fractions)
    assert 0 <= told.fractions[0] < 0.2
    assert told.first("scoring test") < 1
    assert told.fractions[-1] == 1


@pytest.mark.parametrize(
    ("recipe", "by"),
    [
        ({"method": "learned", "epochs": 4, "examples": 32}, "epoch"),
        ({"method": "fisher", "examples": 16}, "Fisher"),
        ({"method": "regmean", "examples": 16}, ""),
        ({"method": "rebasin", "repair": "no"}, "aligning"),
        ({"method": "distilled", "epochs": 4}, "distilling"),
        ({"method": "distilled", "epochs": 4, "teacher": "greedy ensemble"}, "distilling"),
    ],
    ids=lambda values: "-".join(map(str, values.values())) if isinstance(values, dict) else "",
)
def test_progress_of_what_learns_and_of_its_soup_only_goes_on(tmp_path, recipe, by):
    told = Told()
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=64, batch_size=8, train=64))
    cook(kitchen, recipe, progress=told)
    assert told.fractions == sorted(told.fractions)
    learning = {fraction for fraction, what in told.parts if by in what}
    assert len(learning) > 2
    assert told.first("scoring test") < 1
    assert told.fractions[-1] == 1


def test_where_nothing_is_searched_the_splits_are_all_there_is(tmp_path):
    told = Told()
    sv.uniform(kitchen_of(tmp_path), progress=told)
    assert told.fractions == sorted(told.fractions)
    assert told.fractions[0] < 0.1
    starts = [told.first(f"scoring {split}") for split in ("held_out", "shifts.far", "test")]
    assert sorted(starts) == pytest.approx([0, 1 / 3, 2 / 3], abs=0.05)
    assert told.fractions[-1] == 1


def test_progress_of_a_sweep_only_goes_on(tmp_path):
    told = Told()
    sv.sweep(kitchen_of(tmp_path), [0.1, 0.5], progress=told)
    assert told.fractions == sorted(told.fractions)
    assert told.fractions[-1] == 1


def test_a_stage_that_took_less_than_it_might_is_passed_over():
    told: list[float] = []
    first, second = stages(lambda done, total, _what: told.append(done / total), 3, 1)
    for stage, done in ((first, 0), (first, 2), (first, 1), (second, 0), (second, 5), (first, 10), (second, 10)):
        stage(done, 10, "")
    assert told == [0, 0.15, 0.15, 0.75, 0.875, 0.875, 1]


def test_a_stage_before_which_nothing_was_done_has_the_room_of_those_before_it():
    told: list[float] = []
    _, second = stages(lambda done, total, _what: told.append(done / total), 3, 1)
    for done in (0, 5, 10):
        second(done, 10, "")
    assert told == [0, 0.5, 1]
