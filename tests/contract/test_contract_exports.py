"""Soups that were exported by soupviz 0.1.0 open, bake and load back, to the same bits; its store is still read.

The files lie in `exports/`; `exports/make.py` made them. What came then is in expected.json and runs.json.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import dashboard
import pytest
import torch
import yaml
from streamlit.testing.v1 import AppTest
from surface import fingerprint, num_scores, refused, tensors_of, told

import soupviz as sv
from soupviz.recipes import parse
from soupviz.soups.soup import run_key

KEPT = Path(__file__).parent / "exports"
EXPECTED: dict[str, dict[str, Any]] = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))
RUNS: list[dict[str, Any]] = json.loads((KEPT / "runs.json").read_text(encoding="utf-8"))
RUN_KEYS: list[tuple[dict[str, Any], str]] = json.loads((KEPT / "run_keys.json").read_text(encoding="utf-8"))
"""What 0.1.0 kept runs of these recipes under, in this kitchen."""

NEEDS_DATA = "recalibrated"
"""Statistics that were estimated on train are made again with the kitchen only, up to rounding."""

STATISTICS = ("running_mean", "running_var")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, to which stores and baked files are added."""
    folder = tmp_path_factory.mktemp("kept") / "exports"
    shutil.copytree(KEPT, folder)
    (folder / "kitchen.yaml.kept").rename(folder / "kitchen.yaml")  # so called that the dashboard of a clone finds none
    return folder


def check_same(name: str, file: Path) -> None:
    """Whether a file has the weights that were exported."""
    if name != NEEDS_DATA:
        assert fingerprint(tensors_of(file)) == EXPECTED[name]["fingerprint"]
        return
    was = tensors_of(KEPT / EXPECTED[name]["file"])
    for key, tensor in tensors_of(file).items():
        if key.endswith(STATISTICS):
            assert torch.allclose(tensor, was[key], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(tensor, was[key])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_files_themselves_are_what_they_were(name):
    assert fingerprint(tensors_of(KEPT / EXPECTED[name]["file"])) == EXPECTED[name]["fingerprint"]
    recipe = yaml.safe_load((KEPT / "soups" / name / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["fingerprint"] == EXPECTED[name]["fingerprint"]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_export_opens_as_the_end_of_a_curve_with_the_score_it_had(kept, name):
    was = EXPECTED[name]
    found = told("interpolate", kept / was["kitchen"], "base", kept / was["file"], "--points", "2")
    point = found["points"][-1]
    correct, loss = was["scores"]["held_out"]
    assert point["accuracy"] == correct / 60
    if was["temperature"] is None:
        assert point["loss"] == pytest.approx(loss, abs=1e-6)
    else:
        assert point["loss"] < loss, "the temperature is in the weights"


@pytest.mark.parametrize("name", EXPECTED)
def test_an_export_bakes_to_the_same_bits_with_its_kitchen(kept, tmp_path, name):
    was = EXPECTED[name]
    out = tmp_path / "again.safetensors"
    baked = told("bake", kept / was["file"], "--out", out, "--kitchen", kept / was["kitchen"])
    assert baked["fingerprint"] == fingerprint(tensors_of(out))
    check_same(name, out)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != NEEDS_DATA])
def test_a_recipe_yaml_bakes_to_the_same_bits_from_its_ingredients_alone(kept, tmp_path, name):
    out = tmp_path / "again.pt"
    baked = told("bake", kept / "soups" / name / "recipe.yaml", "--out", out)
    assert baked["fingerprint"] == EXPECTED[name]["fingerprint"] == fingerprint(tensors_of(out))


def test_what_was_estimated_on_data_needs_its_kitchen_to_be_baked(kept, tmp_path):
    line = refused("bake", kept / EXPECTED[NEEDS_DATA]["file"], "--out", tmp_path / "again.pt")
    assert "--kitchen" in line


def test_the_same_recipes_still_make_the_same_soups(kept):
    for name in ("uniform", "greedy_mean", "greedy_alpha", "averaged", "sharded", "task_arithmetic"):
        was = EXPECTED[name]
        recipe = yaml.safe_load((kept / "soups" / name / "recipe.yaml").read_text(encoding="utf-8"))["recipe"]
        soup = sv.cook(sv.Kitchen.load(kept / was["kitchen"]), recipe)
        assert fingerprint(soup.state_dict()) == was["fingerprint"]
        assert (soup.coefficients and dict(soup.coefficients)) == was["coefficients"]
        for split, (correct, loss) in was["scores"].items():
            assert soup.scores[split].correct == correct
            assert soup.scores[split].loss == pytest.approx(loss, abs=1e-6)


def soups_called(at: AppTest, title: str) -> list[str]:
    """The soups of that title in the page's choice."""
    choices = [box.options for box in at.selectbox if box.label == "Soup"]
    return [option for options in choices for option in options if option.startswith(f"{title} · ")]


@pytest.mark.parametrize("kitchen", sorted({was["kitchen"] for was in EXPECTED.values()}))
def test_an_export_loads_back_and_is_exported_again_to_the_same_bits(kept, tmp_path, monkeypatch, kitchen):
    """On the Export page: loaded by its path, then written anew (a temperature is fitted anew, and so left out)."""
    folder = tmp_path / "exports"
    shutil.copytree(kept, folder, ignore=shutil.ignore_patterns(".soupviz"))
    dashboard.start(folder, monkeypatch)
    at = dashboard.page("export", folder / kitchen)
    dashboard.until(at, lambda at: any(one.label == "or its path" for one in at.text_input))
    for name, was in EXPECTED.items():
        if was["kitchen"] != kitchen or was["temperature"] is not None:
            continue
        at.text_input(key="load path").set_value(str(folder / was["file"])).run()
        dashboard.labelled(at.button, "Load").click().run()
        title = yaml.safe_load((folder / "soups" / name / "recipe.yaml").read_text(encoding="utf-8"))["title"]
        dashboard.until(
            at, lambda at, title=title: any(f"Loaded: {title}." in dashboard.shown(one) for one in at.success)
        )
        dashboard.until(at, lambda at, title=title: soups_called(at, title))
        [loaded] = soups_called(at, title)
        dashboard.labelled(at.selectbox, "Soup").select(loaded).run()
        next(one for one in at.text_input if one.label == "File name").set_value(f"again_{name}")
        dashboard.labelled(at.button, "Write").click().run()
        out = folder / f"again_{name}.safetensors"
        dashboard.until(at, lambda at, out=out: any(out.name in one.value for one in at.success))
        check_same(name, out)


# the store


@pytest.fixture(scope="module")
def opened(kept: Path) -> sv.Kitchen:
    return sv.Kitchen.load(kept / "kitchen.yaml")


@pytest.fixture
def stored(kept: Path, tmp_path: Path) -> Path:
    """The kitchen.yaml of a copy whose store is the one that soupviz 0.1.0 wrote."""
    folder = tmp_path / "stored"
    shutil.copytree(kept, folder, ignore=shutil.ignore_patterns(".soupviz"))
    (folder / ".soupviz").mkdir()
    shutil.copy(KEPT / "store.sqlite", folder / ".soupviz" / "store.sqlite")
    return folder / "kitchen.yaml"


def test_an_old_stores_runs_are_there_under_their_names(stored, tmp_path):
    assert told("cache", stored)["store"]["runs"] == len(RUNS)
    line = refused("report", stored, "--out", tmp_path / "x.html", "--soup", "no such soup")
    for name in ("1: average", "2: kept for the paper", "3: greedy (alpha = 0.1)"):
        assert name in line


def test_an_old_stores_scores_are_read_where_their_keys_still_agree(stored):
    before = num_scores(stored)
    assert before > 0
    for number, recipe in enumerate(({"method": "uniform"}, {"method": "greedy"}, {"method": "greedy", "alpha": 0.1})):
        soup = sv.cook(sv.Kitchen.load(stored), recipe)
        assert soup.title == RUNS[number]["title"]
        assert {split: score.correct for split, score in soup.scores.items()} == {
            split: RUNS[number][split] for split in ("held_out", "test")
        }
    assert num_scores(stored) == before, "nothing was scored anew"
    assert told("cache", stored)["store"]["runs"] == len(RUNS), "the runs that were there are these"


@pytest.mark.parametrize("number", range(len(RUN_KEYS)), ids=lambda number: f"{number}-{RUN_KEYS[number][0]['method']}")
def test_a_run_of_any_recipe_is_found_under_the_key_that_it_had(opened, number):
    recipe, key = RUN_KEYS[number]
    assert run_key(opened, parse(recipe)) == key


def test_an_old_stores_runs_stand_in_history_with_name_pin_and_scores(stored, monkeypatch):
    dashboard.start(stored.parent, monkeypatch)
    at = dashboard.page("history", stored)
    dashboard.until(at, lambda at: len(at.dataframe) > 0)
    rows = {row["no"]: row for row in at.dataframe[0].value.to_dict("records")}
    assert {number: row["name"] for number, row in rows.items()} == {
        1: "average", 2: "kept for the paper", 3: "greedy (alpha = 0.1)",
    }  # fmt: skip
    assert [number for number, row in rows.items() if row["pin"]] == [3]
    for number, row in rows.items():
        assert row["state"] == "finished"
        for split in ("held_out", "test"):
            assert row[split] == pytest.approx(100 * RUNS[number - 1][split] / 60)
