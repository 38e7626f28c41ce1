"""Every recipe and every picture is the same with one, two and three workers, in whatever order they answer."""

import itertools
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import pytest
from kitchens import save
from safetensors.torch import load_file
from test_executors import afresh, decisions, kitchen_file
from workers import without_processes

import soupviz as sv
from soupviz.analysis import barriers, crossfit, grids
from soupviz.analysis.planes import CORNERS, scan
from soupviz.recipes import MENU, PATHS, parse
from soupviz.soups.cooking import cook
from soupviz.types import Coefficients

NUMBERS = (1, 2, 3)
A: Coefficients = (("m_0", 1.0),)
B: Coefficients = (("m_1", 0.5), ("m_2", 0.5))
C: Coefficients = (("m_3", 1.0),)
RECIPES: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy"},
    "greedy, fixed alpha": {"method": "greedy", "alpha": 0.3},
    "greedy, by loss": {"method": "greedy", "objective": "loss"},
    "greedy, worst class": {"method": "greedy", "objective": "worst_class"},
    "greedy, with shifts": {"method": "greedy", "objective": "with_shifts"},
    "greedy, recalibrated": {"method": "greedy", "batchnorm": "recalibrate:40"},
    "alpha search": {"method": "alpha_search"},
    "own alpha each": {"method": "line_search", "steps": 3},
    "exhaustive": {"method": "exhaustive"},
    "pruned": {"method": "pruned", "passes": 2},
    "beam": {"method": "beam", "width": 2},
    "restarts": {"method": "restarts", "starts": 3},
    "windows, by loss": {"method": "windows", "objective": "loss"},
    "ensemble": {"method": "ensemble"},
    "ties": {"method": "ties"},
    "wise": {"method": "wise_ft", "alpha": "best"},
    "named copies": {"method": "greedy", "members": ("m_0", "m_1", "m_2", "m_3", "copy"), "order": "listed"},
    "learned": {"method": "learned", "epochs": 1, "examples": 32},
    "uniform": {"method": "uniform"},
    "weighted": {"method": "weighted"},
    "n best": {"method": "nbest"},
    "bayesian": {"method": "bayesian"},
    "task arithmetic": {"method": "task_arithmetic"},
    "DARE": {"method": "dare"},
    "breadcrumbs": {"method": "breadcrumbs"},
    "model stock": {"method": "model_stock"},
    "SLERP": {"method": "slerp", "members": ("m_0", "m_1")},
    "Karcher": {"method": "karcher"},
    "Fisher": {"method": "fisher", "examples": 16},
    "RegMean": {"method": "regmean", "examples": 16},
    "rebasin": {"method": "rebasin", "members": ("m_0", "m_1"), "repair": "no"},
    "rebasin, repaired": {"method": "rebasin", "members": ("m_0", "m_1")},
    "distilled": {"method": "distilled", "epochs": 1},
    "SWA": {"method": "swa", "start": 200},
    "EMA": {"method": "ema"},
    "LAWA": {"method": "lawa", "last": 3},
    "WSM": {"method": "wsm"},
    "running means": {"method": "running_means", "last": 2},
    "windows": {"method": "windows"},
    "interpolation": {"method": "interpolation", "a": "a", "b": "b", "mix_a": A, "mix_b": B, "alpha": 0.25},
    "layers": {"method": "blocks", "a": "a", "b": "b", "mix_a": A, "mix_b": B, "weights": {"0": 0.0, "1": 0.5, "5": 1}},
    "point": {
        "method": "point", "a": "a", "b": "b", "c": "c", "mix_a": A, "mix_b": B, "mix_c": C, "beta": 0.25, "gamma": 0.5,
    },
    "merge": {"method": "merge", "formula": "ties", "parts": [["m_0", 0.7], ["m_1", 0.3]], "base": "base"},
}  # fmt: skip


SLOW = {
    "ties", "DARE", "breadcrumbs", "model stock", "SLERP", "Karcher", "bayesian", "Fisher", "RegMean", "rebasin",
    "rebasin, repaired", "distilled", "SWA", "EMA", "WSM", "running means", "weighted", "interpolation", "point",
    "merge", "plane", "barrier", "cross_fit", "grid",
}  # fmt: skip
"""With whatever number of workers: they ask for scores as others do that are tried each time."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of five checkpoints, which say of which step they are."""
    file = kitchen_file(tmp_path / "k")
    for index in range(5):
        place = file.with_name(f"m_{index}.safetensors")
        save(load_file(place), place, {"step": str(100 * (index + 1))})
    return file


def numbered(names: Iterable[str], slow: Container[str]) -> list[Any]:
    """Each with one number of workers in turn, unless it is slow; with the others all take long together."""
    return [
        pytest.param(name, number, marks=[pytest.mark.slow] if name in slow or number != in_turn else [])
        for name, in_turn in zip(names, itertools.cycle(NUMBERS), strict=False)
        for number in NUMBERS
    ]


@pytest.mark.parametrize(("name", "number"), numbered(RECIPES, SLOW))
def test_every_recipe_is_the_same_with_one_two_and_three_workers(file, monkeypatch, name, number):
    alone = cook(sv.Kitchen.load(file), RECIPES[name])
    afresh(file)
    started = without_processes(monkeypatch, seed=number)
    found = cook(sv.Kitchen.load(file, executor="processes", workers=number), RECIPES[name])
    assert decisions(found) == decisions(alone)
    assert sum(started[0].answered) > 0


def test_no_recipe_is_left_out():
    assert {values["method"] for values in RECIPES.values()} == {*MENU, *PATHS}


def swept(kitchen: sv.Kitchen) -> Any:
    return [decisions(soup) for soup in sv.sweep(kitchen, [0.1, 0.3, 0.5])]


def curve(kitchen: sv.Kitchen) -> Any:
    return sv.interpolate(kitchen, "m_0", "m_1", points=5).to_dict()


def plane(kitchen: sv.Kitchen) -> Any:
    return scan(kitchen, (A, B, C), [*CORNERS, (0.25, 0.25), (0.5, 0.25), (1.5, -0.25)])


def barrier(kitchen: sv.Kitchen) -> Any:
    return barriers.measure(kitchen).rises.tolist()


def cross_fit(kitchen: sv.Kitchen) -> Any:
    return crossfit.crossfit(kitchen, parse({"method": "greedy"}))


def grid(kitchen: sv.Kitchen) -> Any:
    asked = grids.Grid("lawa", "last", "end", (2, 3), (300.0, 500.0), {}, tuple(kitchen.names))
    return grids.cook_grid(kitchen, asked)


PICTURES = {each.__name__: each for each in (swept, curve, plane, barrier, cross_fit, grid)}


@pytest.mark.parametrize(("name", "number"), numbered(PICTURES, SLOW))
def test_every_picture_is_the_same_with_one_two_and_three_workers(file, monkeypatch, name, number):
    alone = PICTURES[name](sv.Kitchen.load(file))
    afresh(file)
    started = without_processes(monkeypatch, seed=number)
    assert PICTURES[name](sv.Kitchen.load(file, executor="processes", workers=number)) == alone
    assert sum(started[0].answered) > 0


@pytest.mark.parametrize("name", ["greedy", "greedy, by loss", "beam", "alpha search"])
def test_a_search_is_the_same_where_one_worker_is_far_slower_than_the_others(file, monkeypatch, name):
    """What it is given comes back long after what the others began later."""
    alone = cook(sv.Kitchen.load(file), RECIPES[name])
    afresh(file)
    started = without_processes(monkeypatch, seed=3, slow=1)
    found = cook(sv.Kitchen.load(file, executor="processes", workers=3), RECIPES[name])
    assert decisions(found) == decisions(alone)
    first, slow, third = started[0].answered
    assert 0 < slow < min(first, third) / 3
