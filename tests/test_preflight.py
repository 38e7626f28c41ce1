"""Which ingredients belong together: barriers, verdicts, the command, the page."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from kitchens import BATCHNORM, MLP, build_model, json_of, perturbed, run_command, save, small_kitchen
from safetensors.torch import load_file, save_file
from scores import a_score
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test
from test_pages import ROOT, Routed, errors, page, settle, trusted, wait

import soupviz as sv
from soupviz.analysis.barriers import Barriers, basin, compare, gather, measure, pairs_of, twins, wanted
from soupviz.analysis.preflight import inspect
from soupviz.demo import digits
from soupviz.errors import Cancelled, RecipeError
from soupviz.scoring.evaluator import Evaluator
from soupviz.soups.planning import cost
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS
from soupviz.tasks.score import Score
from soupviz.ui import work

INTRUDER = "digits_99"


def score(losses: list[float], correct: list[int], nonfinite: int = 0) -> Score:
    """A score with these losses; an infinite loss is one of an output that is not finite."""
    found = a_score(correct, losses=losses)
    assert found.num_nonfinite == nonfinite
    return found


END = score([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 0])


@pytest.mark.parametrize(
    ("middle", "rise", "drop", "separated"),
    [
        (score([1.4, 1.4, 1.4, 1.4], [1, 0, 0, 0]), 0.4, 0.5, True),
        (score([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]), -0.5, -0.25, False),
        (score([1.4, 1.4, 1.4, 1.4], [1, 1, 1, 0]), 0.4, 0.0, False),  # as many are right: only less sure
        (score([1.05, 1.05, 1.05, 1.05], [1, 0, 0, 0]), 0.05, 0.5, False),  # too low to matter
        (score([3.6, 0.8, 0.8, 0.8], [1, 0, 0, 0]), 0.5, 0.5, False),  # one example alone
        (score([1.0, 1.0, 1.0, np.nan], [1, 1, 1, 0], nonfinite=1), np.nan, 0.0, True),
    ],
)
def test_pairs_by_hand(middle: Score, rise: float, drop: float, separated: bool):
    found = compare(0, 1, (END, END), middle, metric=LOSS, objective=ACCURACY)
    assert found.rise == pytest.approx(rise, abs=1e-6, nan_ok=True)
    assert found.drop == pytest.approx(drop)
    assert found.separated is separated


def test_many_units_of_one_group_alone_separate_no_pair():
    """The case of one example alone, each example 50 times: as single units they would stand out."""
    middle = score(50 * [3.6, 0.8, 0.8, 0.8], 50 * [1, 0, 0, 0])
    end = score(50 * [1.0, 1.0, 1.0, 1.0], 50 * [1, 1, 1, 0])
    assert compare(0, 1, (end, end), middle, metric=LOSS, objective=ACCURACY).separated
    groups = np.arange(200) % 4
    middle, end = (replace(one, outcomes=replace(one.outcomes, groups=groups)) for one in (middle, end))
    assert not compare(0, 1, (end, end), middle, metric=LOSS, objective=ACCURACY).separated


def test_a_midpoint_with_nothing_finite_is_separated_and_its_height_unknown():
    found = compare(0, 1, (END, END), score([np.nan] * 4, [0] * 4, nonfinite=4), metric=LOSS, objective=ACCURACY)
    assert np.isnan(found.rise) and found.separated


def barriers_of(separated: list[tuple[int, int]], n: int) -> Barriers:
    matrix = np.zeros((n, n), dtype=bool)
    for i, j in separated:
        matrix[i, j] = matrix[j, i] = True
    return Barriers(tuple("abcdef"[:n]), "average", np.zeros((n, n)), np.zeros((n, n)), matrix, LOSS)


@pytest.mark.parametrize(
    ("separated", "n", "members"),
    [
        ([], 3, [0, 1, 2]),
        ([(0, 1), (0, 2), (0, 3)], 4, [1, 2, 3]),
        ([(0, 1)], 2, []),
        ([], 1, [0]),
        ([(i, j) for i in (0, 1) for j in (2, 3)], 4, [2, 3]),  # of two groups the one that holds the best
        ([(0, 3)], 4, [0, 1, 2, 3]),  # one barrier among many does not put anybody out
    ],
)
def test_the_basin_is_the_largest_group_that_can_be_averaged(separated, n, members):
    scores = {name: score([1.0 - 0.1 * index] * 2, [1, 1]) for index, name in enumerate("abcdef"[:n])}
    assert basin(barriers_of(separated, n), scores, range(n)) == members


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path_factory.mktemp("small"), num_ingredients=4))


def test_every_pair_is_evaluated_once_and_never_again(tmp_path: Path, evaluations: list[int]):
    opened = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=5))
    opened.scores.of_ingredients()
    assert cost(opened, wanted(opened)).evaluations == 10
    before = len(evaluations)
    seen: list[Any] = []
    measure(opened, on_pair=seen.append)
    assert len(evaluations) - before == 10 == len(seen)
    inspect(sv.Kitchen.load(tmp_path))
    assert len(evaluations) - before == 10
    assert cost(opened, wanted(opened)).evaluations == 0


def test_a_barrier_is_the_midpoints_loss_above_the_mean_of_the_ends(kitchen: sv.Kitchen):
    found = measure(kitchen)
    losses = [kitchen.scores.score(((name, 1.0),)).loss for name in kitchen.names]
    middle = kitchen.scores.score(((kitchen.names[0], 0.5), (kitchen.names[2], 0.5)))
    assert losses[0] is not None and losses[2] is not None and middle.loss is not None
    assert found.rises[0, 2] == pytest.approx(middle.loss - (losses[0] + losses[2]) / 2)
    assert found.heights.tolist() == found.heights.T.tolist()
    assert np.diagonal(found.heights).tolist() == [0.0] * 4 and found.heights.min() >= 0


def test_another_order_of_the_ingredients_gives_the_same_verdicts(tmp_path: Path):
    file = small_kitchen(tmp_path, num_ingredients=4)
    forward = inspect(sv.Kitchen.load(file))
    file = small_kitchen(tmp_path, num_ingredients=4, ingredients=[f"m_{index}.safetensors" for index in (2, 0, 3, 1)])
    other = inspect(sv.Kitchen.load(file))
    assert {one.name: one.verdict for one in other.verdicts} == {one.name: one.verdict for one in forward.verdicts}
    order = [forward.barriers.names.index(name) for name in other.barriers.names]
    assert other.barriers.heights == pytest.approx(forward.barriers.heights[np.ix_(order, order)], abs=1e-5)


def test_pairs_not_measured_yet_are_missing(kitchen: sv.Kitchen):
    found = gather(kitchen, "average", [])
    assert np.isnan(found.rises[0, 1]) and found.rises[1, 1] == 0.0 and not found.separated.any()


def test_what_was_measured_before_a_cancel_is_not_measured_again(tmp_path: Path, evaluations: list[int]):
    opened = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=4))

    def stop(pair: Any) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        inspect(opened, on_pair=stop)
    done = len(evaluations)
    assert done == 5
    inspect(opened)
    assert len(evaluations) == 4 + 6


def test_running_statistics_can_be_re_estimated_half_way(tmp_path: Path, kitchen: sv.Kitchen):
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 4, 4), num_ingredients=2, num_examples=40, train=64)
    opened = sv.Kitchen.load(file)
    averaged, estimated = inspect(opened), inspect(opened, "recalibrate")
    assert estimated.barriers.aggregation == "recalibrate"
    assert averaged.barriers.rises[0, 1] != estimated.barriers.rises[0, 1]
    with pytest.raises(RecipeError, match="keeps no running statistics"):
        inspect(kitchen, "recalibrate")


def intruder(folder: Path) -> None:
    """A DigitsNet of another seed, pre-trained and fine-tuned like the others."""
    splits = digits._splits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = digits.DigitsNet()
    digits._train(net, splits["pretrain"], digits.Tuning(2e-3, 0.0, 0.0, 7, epochs=15))
    digits._train(net, splits["train"], digits.Tuning(2e-3, 0.0, 0.2, 7))
    save_file(net.state_dict(), folder / f"{INTRUDER}.safetensors")


@pytest.fixture(scope="module")
def spoilt(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with an intruder, a copy, and a file of another shape."""
    folder = tmp_path_factory.mktemp("spoilt") / "digits"
    shutil.copytree(demo.parent, folder, ignore=shutil.ignore_patterns(".soupviz"))
    intruder(folder)
    shutil.copy(folder / "digits_03.safetensors", folder / "digits_50.safetensors")
    tensors = load_file(folder / "digits_00.safetensors")
    save_file(tensors | {"head.bias": torch.zeros(11)}, folder / "digits_60.safetensors")
    return folder / "kitchen.yaml"


def test_the_demo_is_judged_and_who_spoils_it_is_named(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    found = json_of(capsys, "inspect", spoilt)
    verdicts = {name: values["verdict"] for name, values in found["ingredients"].items()}
    sentences = {name: values["sentence"] for name, values in found["ingredients"].items()}
    assert verdicts == {f"digits_{index:02d}": "in_basin" for index in range(11)} | {
        "digits_11": "far", INTRUDER: "far", "digits_50": "duplicate", "digits_60": "incompatible",
    }  # fmt: skip
    assert sentences[INTRUDER].startswith("far: barrier 0.")
    assert sentences[INTRUDER].endswith("to all others, probably another initialisation; try permutation alignment")
    assert "probably trained too far" in sentences["digits_11"]
    assert sentences["digits_50"] == "identical to digits_03"
    assert "head.bias of shape (11,)" in sentences["digits_60"]
    assert sentences["digits_00"].startswith("in the basin: no barrier to the 10 others there; its highest, ")
    assert sentences["digits_00"].endswith(" nats, is to digits_11, which is not there")
    highest = found["barriers"][found["names"].index("digits_00")]
    assert found["names"][highest.index(max(highest))] == "digits_11"


def test_the_json_of_the_command_keeps_its_contract(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    found = json_of(capsys, "inspect", spoilt)
    names = found["names"]
    assert set(found["ingredients"]) - set(names) == {"digits_60"}
    for values in found["ingredients"].values():
        assert set(values) == {"verdict", "sentence", "distance_to_base", "barrier_max"}
    assert found["ingredients"]["digits_60"]["distance_to_base"] is None
    assert found["ingredients"]["digits_60"]["barrier_max"] is None
    nats, cosines = np.array(found["barriers"]), np.array(found["cosines"])
    assert nats.shape == cosines.shape == (14, 14)
    assert (nats == nats.T).all() and (np.diagonal(nats) == 0).all() and (nats >= 0).all()
    assert (cosines == cosines.T).all() and (np.diagonal(cosines) == 1).all()
    assert [found["ingredients"][name]["barrier_max"] for name in names] == nats.max(1).tolist()
    assert found["ingredients"]["digits_11"]["distance_to_base"] > 10
    assert nats[names.index("digits_03"), names.index("digits_50")] == 0.0


def test_copies_cost_no_evaluation(spoilt: Path):
    opened = sv.Kitchen.load(spoilt, skip_incompatible=True)
    assert twins(opened)[opened.names.index("digits_50")] == opened.names.index("digits_03")
    assert len(pairs_of(opened)) == 13 * 12 // 2


def test_the_table_for_people_ends_in_sentences(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    status, out, err = run_command(capsys, "inspect", spoilt)
    assert status == 0 and "left out" in err
    assert f"{INTRUDER}: far: barrier" in out and "in basin" in out
    status, _, err = run_command(capsys, "inspect", spoilt, "--batchnorm", "recalibrate")
    assert status == 2 and "keeps no running statistics" in err
    status, _, err = run_command(capsys, "inspect", spoilt, "--batchnorm", "best")
    assert status == 2 and "expected average" in err


def test_without_a_base_there_is_no_distance_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = small_kitchen(tmp_path, base=None)
    found = json_of(capsys, "inspect", file)
    assert {values["distance_to_base"] for values in found["ingredients"].values()} == {None}
    assert found["reference"] == "mean"


def test_where_all_are_in_the_basin_nobody_outside_is_named(tmp_path: Path):
    found = inspect(sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=40)))
    assert {one.verdict for one in found.verdicts} == {"in_basin"}
    assert not any("which is not there" in one.sentence for one in found.verdicts)


def test_a_single_ingredient_is_in_a_basin_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = json_of(capsys, "inspect", small_kitchen(tmp_path, num_ingredients=1))
    assert found["ingredients"]["m_0"]["verdict"] == "in_basin" and found["ingredients"]["m_0"]["barrier_max"] == 0.0
    assert found["barriers"] == [[0.0]]


def test_two_that_cannot_be_averaged_are_both_far(spoilt: Path, tmp_path: Path):
    shutil.copytree(spoilt.parent, tmp_path / "k", ignore=shutil.ignore_patterns(".soupviz"))
    file = tmp_path / "k" / "kitchen.yaml"
    text = file.read_text(encoding="utf-8").replace(
        "digits_*.safetensors", f"digits_00.safetensors\n- {INTRUDER}.safetensors"
    )
    file.write_text(text, encoding="utf-8")
    found = inspect(sv.Kitchen.load(file))
    assert [one.verdict for one in found.verdicts] == ["far", "far"]
    assert "to the other, probably another initialisation" in found.verdicts[1].sentence


def test_classes_in_another_order_are_named(tmp_path: Path):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=300, classes=["cat", "dog", "fox"])
    tensors = load_file(tmp_path / "m_2.safetensors")
    turned = {key: tensors[key][[1, 2, 0]] for key in ("2.weight", "2.bias")}
    save(tensors | turned, tmp_path / "m_2.safetensors")
    found = inspect(sv.Kitchen.load(file))
    assert found.reordered == ("m_2",)
    assert [one.verdict for one in found.verdicts] == ["in_basin", "in_basin", "far"]
    assert "probably another class order (what it calls" in found.verdicts[2].sentence


def test_outputs_that_are_not_finite_are_null_and_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = small_kitchen(tmp_path, num_ingredients=3)
    huge = {key: tensor * 1e30 for key, tensor in load_file(tmp_path / "m_2.safetensors").items()}
    save(huge, tmp_path / "m_2.safetensors")
    found = json_of(capsys, "inspect", file)
    assert found["ingredients"]["m_2"]["verdict"] == "far"
    assert found["barriers"][0][2] is None and found["ingredients"]["m_2"]["barrier_max"] is None
    assert "outputs that are not finite" in found["ingredients"]["m_2"]["sentence"]


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(app_test, "PagesManager", Routed)
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def opened_page(file: Path) -> AppTest:
    return page("preflight.py", trusted(file))


def settled(at: AppTest) -> AppTest:
    settle(at.run())
    assert not at.exception and errors(at) == []
    return at


def everything(at: AppTest) -> str:
    return " ".join([*(one.value for one in [*at.markdown, *at.warning, *at.success, *at.caption, *at.info])])


def test_the_page_tells_the_cost_then_judges_and_draws(tmp_path: Path, dashboard: None, evaluations: list[int]):
    file = small_kitchen(tmp_path / "k", num_ingredients=4)
    far = perturbed(build_model(MLP).state_dict(), 2.0, seed=77)
    save(far, tmp_path / "k" / "m_3.safetensors")
    save({**far, "2.bias": torch.zeros(4)}, tmp_path / "k" / "m_4.safetensors")
    file.write_text(
        file.read_text(encoding="utf-8").replace("- m_3.saf", "- m_4.safetensors\n- m_3.saf"), encoding="utf-8"
    )
    at = opened_page(file)
    assert at.title[0].value == "Preflight"
    assert "evaluations of" in everything(at)
    wait(lambda: not work.jobs().active())  # the ingredients are scored ahead
    before = len(evaluations)
    next(button for button in at.button if button.label == "Measure 6 barriers and judge").click()
    settled(at)
    assert "of 5 checkpoints belong together" in everything(at) and "m_4" in everything(at)
    assert len(evaluations) == before + 6
    table = at.dataframe[0].value
    assert table["verdict"].tolist()[:3] == ["in the basin"] * 3 and table["verdict"].tolist()[4] == "incompatible"
    assert len(at.get("vega_lite_chart")) >= 4
    next(button for button in at.button if button.label.startswith("Draw the curve")).click()
    settled(at)
    assert len(evaluations) == before + 6 + 8, "both ends and the midpoint are known"


def test_the_layers_of_two_checkpoints_can_be_searched(tmp_path: Path, dashboard: None):
    at = opened_page(small_kitchen(tmp_path / "k", num_ingredients=2))
    layers = at.dataframe[-1].value
    assert sorted(layers["name"]) == ["0", "2"]
    at.segmented_control(key="level").set_value("tensors")
    settled(at)
    assert len(at.dataframe[-1].value) == 4
    at.text_input(key="search").set_value("bias")
    settled(at)
    assert sorted(at.dataframe[-1].value["name"]) == ["0.bias", "2.bias"]
    at.text_input(key="search").set_value("nothing")
    settled(at)
    assert "No name has these words" in everything(at)


def test_nothing_is_asked_twice_where_all_is_known(tmp_path: Path, dashboard: None, monkeypatch: pytest.MonkeyPatch):
    file = small_kitchen(tmp_path / "k", num_ingredients=3, base=None)
    inspect(sv.Kitchen.load(file))
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_: pytest.fail("evaluated"))
    at = opened_page(file)
    assert "3 of 3 checkpoints belong together" in everything(at)
    assert "mean" in everything(at)
