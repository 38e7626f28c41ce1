import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kitchens import change_yaml, json_of, run_command, small_kitchen, write_arrays
from safetensors.torch import load_file, save_file

import soupviz as sv
from soupviz.analysis.verdicts import verdict_of
from soupviz.store.cache import KEPT
from soupviz.tasks.wording import in_percent

FIGURES = {"accuracy", "correct", "num_examples", "loss"}
STEP = {
    "step", "ingredient", "accuracy", "correct", "best_accuracy", "accepted", "num_examples_scored",
    "accuracy_at_most",
}  # fmt: skip
NAMES = ["m_0", "m_1", "m_2", "m_3"]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small kitchen whose scores gather in its store; tests that write into its folder make their own."""
    return small_kitchen(tmp_path_factory.mktemp("kitchen"), num_ingredients=4)


def assert_figures(score: dict, num_examples: int = 200) -> None:
    assert score.keys() >= FIGURES
    assert score["num_examples"] == num_examples
    assert score["accuracy"] == score["correct"] / num_examples
    assert score["loss"] > 0


# demo


def test_demo_builds_a_kitchen_in_the_folder_and_names_its_file(tmp_path, capsys, monkeypatch):
    # the training is tested elsewhere
    monkeypatch.setattr("soupviz.demo.digits._train", lambda *_args, **_options: None)
    found = json_of(capsys, "demo", tmp_path / "digits")
    assert found == {"kitchen": str(tmp_path / "digits" / "kitchen.yaml")}
    assert sv.Kitchen.load(found["kitchen"]).splits.names[:2] == ["held_out", "test"]
    status, out, _ = run_command(capsys, "demo", tmp_path / "digits")
    assert (status, out.strip()) == (0, found["kitchen"])


def test_demo_without_a_folder_goes_to_the_cache(empty_cache, capsys, monkeypatch):
    monkeypatch.setattr("soupviz.demo.digits._train", lambda *_args, **_options: None)
    assert Path(json_of(capsys, "demo")["kitchen"]).is_relative_to(empty_cache / "demo")


# score


def test_score_gives_four_figures_for_every_ingredient_in_kitchen_order(kitchen, capsys):
    found = json_of(capsys, "score", kitchen)
    assert list(found) == ["ingredients", "executor"]
    assert list(found["ingredients"]) == NAMES
    for score in found["ingredients"].values():
        assert_figures(score)
    table = sv.Kitchen.load(kitchen).score()
    assert [score["correct"] for score in found["ingredients"].values()] == table["correct"].tolist()


def test_a_folder_stands_for_the_kitchen_file_in_it(kitchen, capsys):
    assert json_of(capsys, "score", kitchen.parent) == json_of(capsys, "score", kitchen)


def test_score_takes_another_split_and_a_choice_of_members(kitchen, capsys):
    held_out = json_of(capsys, "score", kitchen)["ingredients"]
    test = json_of(capsys, "score", kitchen, "--split", "test", "--members", "m_3, m_1")["ingredients"]
    assert list(test) == ["m_1", "m_3"]
    assert {score["split"] for score in test.values()} == {"test"}
    assert any(test[name]["loss"] != held_out[name]["loss"] for name in test)


def test_a_shift_is_a_split_like_the_others(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    change_yaml(file, lambda document: document["data"].update(shifts={"far": document["data"]["test"]}))
    found = json_of(capsys, "score", file, "--split", "shifts.far")
    assert_figures(found["ingredients"]["m_0"])
    assert list(json_of(capsys, "soup", file, "--recipe", "uniform")["scores"]) == ["held_out", "test", "shifts.far"]


# soup


@pytest.mark.parametrize("alpha", ["mean", "0.3"])
def test_a_greedy_soup_tells_recipe_coefficients_scores_and_trajectory(kitchen, capsys, alpha):
    found = json_of(capsys, "soup", kitchen, "--recipe", "greedy", "--alpha", alpha)
    assert found.keys() >= {"recipe", "coefficients", "scores", "trajectory"}
    assert found["recipe"] == {
        "batchnorm": "average", "method": "greedy", "members": None,
        "alpha": alpha if alpha == "mean" else 0.3, "objective": "accuracy", "order": "best", "seed": 0,
    }  # fmt: skip
    assert list(found["coefficients"]) == NAMES
    assert sum(found["coefficients"].values()) == pytest.approx(1.0)
    assert list(found["scores"]) == ["held_out", "test"]
    for score in found["scores"].values():
        assert_figures(score)
    steps = found["trajectory"]
    assert len(steps) == 4
    assert all(step.keys() >= STEP | {"mix"} for step in steps)
    assert [step["step"] for step in steps] == [0, 1, 2, 3]
    assert steps[0]["accepted"] is True
    assert {step["ingredient"] for step in steps} == set(NAMES)


def test_rejected_ingredients_have_coefficient_0_and_accepted_ones_more(kitchen, capsys):
    found = json_of(capsys, "soup", kitchen, "--recipe", "greedy")
    accepted = {step["ingredient"] for step in found["trajectory"] if step["accepted"]}
    assert 1 <= len(accepted) < len(NAMES)
    assert {name for name, weight in found["coefficients"].items() if weight == 0} == set(NAMES) - accepted
    assert {weight for name, weight in found["coefficients"].items() if name in accepted} == {1 / len(accepted)}


def test_a_trajectory_agrees_with_itself(kitchen, capsys):
    """The best rises exactly when a candidate is accepted, and ends as the soup's own score."""
    found = json_of(capsys, "soup", kitchen, "--recipe", "greedy", "--alpha", "0.5")
    best = 0.0
    for step in found["trajectory"]:
        assert step["accuracy"] == step["correct"] / 200 == step["accuracy_at_most"]
        assert step["num_examples_scored"] == 200
        assert step["accepted"] == (step["accuracy"] > best)
        best = max(best, step["accuracy"])
        assert step["best_accuracy"] == best
    assert found["scores"]["held_out"]["accuracy"] == best


def test_a_greedy_soup_starts_from_the_best_and_walks_by_accuracy(kitchen, capsys):
    scores = json_of(capsys, "score", kitchen)["ingredients"]
    by_accuracy = sorted(NAMES, key=lambda name: -scores[name]["correct"])
    steps = json_of(capsys, "soup", kitchen, "--recipe", "greedy")["trajectory"]
    assert [step["ingredient"] for step in steps] == by_accuracy
    assert steps[0]["correct"] == scores[by_accuracy[0]]["correct"]


def test_order_and_seed_reach_the_search_and_the_recipe(kitchen, capsys):
    def walked(*options: str) -> list[str]:
        found = json_of(capsys, "soup", kitchen, "--recipe", "greedy", *options)
        return [step["ingredient"] for step in found["trajectory"]]

    listed = walked("--order", "listed")
    assert listed[1:] == sorted(listed[1:])
    shuffles = {tuple(walked("--order", "random", "--seed", str(seed))) for seed in range(6)}
    assert len(shuffles) > 1
    found = json_of(capsys, "soup", kitchen, "--recipe", "greedy", "--order", "random", "--seed", "5")
    assert (found["recipe"]["order"], found["recipe"]["seed"]) == ("random", 5)


def test_a_uniform_soup_has_equal_coefficients_and_an_empty_trajectory(kitchen, capsys):
    found = json_of(capsys, "soup", kitchen, "--recipe", "uniform")
    assert found["recipe"] == {"batchnorm": "average", "method": "uniform", "members": None}
    assert found["coefficients"] == dict.fromkeys(NAMES, 0.25)
    assert found["trajectory"] == []
    assert list(found["scores"]) == ["held_out", "test"]
    status, out, _ = run_command(capsys, "soup", kitchen, "--recipe", "uniform")
    assert status == 0 and out.strip().startswith("uniform: average"), "the recipe is called what was asked for"


@pytest.mark.parametrize("recipe", ["uniform", "greedy"])
def test_members_restrict_the_pool_whose_best_is_the_start(kitchen, capsys, recipe):
    scores = json_of(capsys, "score", kitchen)["ingredients"]
    best = max(NAMES, key=lambda name: scores[name]["correct"])
    others = [name for name in NAMES if name != best]
    found = json_of(capsys, "soup", kitchen, "--recipe", recipe, "--members", ",".join(reversed(others)))
    assert list(found["coefficients"]) == others
    if recipe == "greedy":
        start = found["trajectory"][0]["ingredient"]
        assert scores[start]["correct"] == max(scores[name]["correct"] for name in others)
        assert {step["ingredient"] for step in found["trajectory"]} == set(others)


def test_a_split_that_the_kitchen_lacks_is_absent(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    change_yaml(file, lambda document: document["data"].pop("test"))
    assert list(json_of(capsys, "soup", file, "--recipe", "uniform")["scores"]) == ["held_out"]


def test_the_training_split_is_not_reported(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    change_yaml(file, lambda document: document["data"].update(train=document["data"]["test"]))
    assert list(json_of(capsys, "soup", file, "--recipe", "uniform")["scores"]) == ["held_out", "test"]


def test_out_writes_the_soup_and_names_the_files(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen")
    target = tmp_path / "soup.safetensors"
    found = json_of(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    assert found["files"] == [str(target), str(tmp_path / "recipe.yaml"), str(tmp_path / "README.md")]
    assert all(Path(path).is_file() for path in found["files"])
    parts = [load_file(tmp_path / "kitchen" / f"{name}.safetensors")["0.bias"] for name in NAMES]
    assert torch.allclose(load_file(target)["0.bias"], torch.stack(parts).mean(0), atol=1e-7)


def test_dtype_float32_widens_what_is_written(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen", change=lambda tensors: {k: t.bfloat16() for k, t in tensors.items()})
    for dtype, written in (("ingredients", torch.bfloat16), ("float32", torch.float32)):
        json_of(capsys, "soup", file, "--recipe", "uniform", "--out", tmp_path / f"{dtype}.pt", "--dtype", dtype)
        tensors = torch.load(tmp_path / f"{dtype}.pt", weights_only=True)
        assert {tensor.dtype for tensor in tensors.values()} == {written}


# sweep


def test_a_sweep_gives_a_greedy_soup_for_each_alpha(kitchen, capsys):
    found = json_of(capsys, "sweep", kitchen, "--alphas", "0.1, 0.5,mean")
    assert list(found) == ["soups", "executor"]
    assert [soup["alpha"] for soup in found["soups"]] == [0.1, 0.5, "mean"]
    for soup in found["soups"]:
        alone = json_of(capsys, "soup", kitchen, "--recipe", "greedy", "--alpha", str(soup.pop("alpha")))
        assert soup == alone


def test_a_sweep_takes_the_parameters_of_greedy(kitchen, capsys):
    options = ["--order", "random", "--seed", "3", "--members", "m_0,m_1,m_2"]
    [soup] = json_of(capsys, "sweep", kitchen, "--alphas", "0.2", *options)["soups"]
    assert soup["recipe"]["order"] == "random"
    [soup] = json_of(capsys, "sweep", kitchen, "--alphas", "0.2", "--objective", "loss")["soups"]
    assert soup["recipe"]["objective"] == "loss"
    [soup] = json_of(capsys, "sweep", kitchen, "--alphas", "0.2", *options)["soups"]
    assert soup["recipe"]["members"] == ["m_0", "m_1", "m_2"]
    assert list(soup["coefficients"]) == ["m_0", "m_1", "m_2"]


# interpolate


def test_a_curve_has_21_points_from_0_to_1(kitchen, capsys):
    found = json_of(capsys, "interpolate", kitchen, "m_0", "m_1")
    assert list(found) == ["a", "b", "points", "executor"]
    assert (found["a"], found["b"]) == ("m_0", "m_1")
    assert [point["alpha"] for point in found["points"]] == [round(step / 20, 12) for step in range(21)]
    assert all(list(point)[:4] == ["alpha", "value", "accuracy", "loss"] for point in found["points"])
    assert all(point["value"] == point["accuracy"] for point in found["points"])


def test_the_ends_of_a_curve_are_the_ends(kitchen, capsys):
    scores = json_of(capsys, "score", kitchen, "--split", "test")["ingredients"]
    points = json_of(capsys, "interpolate", kitchen, "m_2", "m_1", "--points", "3", "--split", "test")["points"]
    for point, name in ((points[0], "m_2"), (points[2], "m_1")):
        assert (point["accuracy"], point["loss"]) == (scores[name]["accuracy"], scores[name]["loss"])


def test_a_curve_may_go_beyond_its_ends(kitchen, capsys):
    options = ["--from", "-0.5", "--to", "1.5", "--points", "5"]
    points = json_of(capsys, "interpolate", kitchen, "m_0", "m_1", *options)["points"]
    assert [point["alpha"] for point in points] == [-0.5, 0.0, 0.5, 1.0, 1.5]
    inside = json_of(capsys, "interpolate", kitchen, "m_0", "m_1", "--points", "3")["points"]
    assert points[1:4] == inside
    assert len({point["loss"] for point in points}) == 5


def test_the_base_is_an_end(kitchen, capsys):
    points = json_of(capsys, "interpolate", kitchen, "base", "m_0", "--points", "2")["points"]
    swapped = json_of(capsys, "interpolate", kitchen, "m_0", "base", "--points", "2")["points"]
    assert [point["loss"] for point in points] == [point["loss"] for point in reversed(swapped)]
    assert points[0]["loss"] != points[1]["loss"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_an_exported_soups_file_is_an_end(tmp_path, capsys, suffix):
    file = small_kitchen(tmp_path / "kitchen")
    target = tmp_path / f"soup{suffix}"
    cooked = json_of(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    points = json_of(capsys, "interpolate", file, target, "m_0", "--points", "2")["points"]
    assert points[0]["accuracy"] == cooked["scores"]["held_out"]["accuracy"]
    assert points[0]["loss"] == cooked["scores"]["held_out"]["loss"]


def test_a_file_may_be_named_relative_to_the_kitchen(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen")
    json_of(capsys, "soup", file, "--recipe", "uniform", "--out", tmp_path / "kitchen" / "soup.pt")
    by_path = json_of(capsys, "interpolate", file, tmp_path / "kitchen" / "soup.pt", "m_0", "--points", "2")
    by_name = json_of(capsys, "interpolate", file, "soup.pt", "m_0", "--points", "2")
    assert by_path["points"] == by_name["points"]


def test_a_point_without_any_finite_logit_has_loss_null(tmp_path, capsys):
    """NaN would not be JSON; `json_of` refuses it. Such a point may stand alone, or beside others."""
    file = small_kitchen(tmp_path, scale=1.0)
    for first in ("0", "1e37"):
        options = ["--points", "2", "--from", first, "--to", "1e38"]
        points = json_of(capsys, "interpolate", file, "m_0", "m_1", *options)["points"]
        assert (points[1]["accuracy"], points[1]["loss"]) == (0.0, None)
        assert (points[0]["loss"] is None) == (first == "1e37")
        status, out, _ = run_command(capsys, "interpolate", file, "m_0", "m_1", *options)
        assert status == 0
        assert "–" in out


# bake, cache


def test_bake_writes_and_names_the_files(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen")
    json_of(capsys, "soup", file, "--recipe", "uniform", "--out", tmp_path / "soup.safetensors")
    target = tmp_path / "again.safetensors"
    found = json_of(capsys, "bake", tmp_path / "recipe.yaml", "--out", target)
    assert list(found) == ["files", "fingerprint", "is_checked", "selecting_data"]
    assert found["files"][0] == str(target)
    assert target.is_file()


def test_cache_shows_what_is_kept_and_clears_it(tmp_path, empty_cache, capsys):
    file = small_kitchen(tmp_path)
    run_command(capsys, "soup", file, "--recipe", "uniform")
    found = json_of(capsys, "cache", file)
    assert found["folder"] == str(empty_cache)
    assert found["cleared"] is False
    assert found["bytes"]["decoded"] > 200 * 6 * 4
    assert found["store"]["scores"] == 2
    assert found["store"]["runs"] == 1
    assert found["store"]["bytes"] > 0
    found = json_of(capsys, "cache", file, "--clear")
    assert found["cleared"] is True
    assert found["bytes"] == dict.fromkeys(KEPT, 0)
    assert json_of(capsys, "cache", file)["store"]["scores"] == 0
    assert (tmp_path / "m_0.safetensors").is_file()
    assert len(json_of(capsys, "score", file)["ingredients"]) == 4


def test_clearing_the_cache_alone_leaves_a_kitchens_scores(tmp_path, empty_cache, capsys):
    file = small_kitchen(tmp_path)
    run_command(capsys, "score", file)
    assert json_of(capsys, "cache", "--clear") == {
        "folder": str(empty_cache), "cleared": True, "bytes": dict.fromkeys(KEPT, 0), "store": None,
    }  # fmt: skip
    assert json_of(capsys, "cache", file.parent)["store"]["scores"] == 4


# All commands


def commands(file: Path, folder: Path) -> dict[str, list[object]]:
    return {
        "score": ["score", file],
        "soup": ["soup", file, "--recipe", "greedy"],
        "sweep": ["sweep", file, "--alphas", "0.1,0.2"],
        "interpolate": ["interpolate", file, "m_0", "m_1", "--points", "3"],
        "bake": ["bake", folder / "soup.pt", "--out", folder / "again.pt"],
        "cache": ["cache", file],
    }


@pytest.mark.parametrize("name", ["score", "soup", "sweep", "interpolate", "bake", "cache"])
def test_json_is_all_there_is_on_stdout_and_nothing_on_stderr(kitchen, tmp_path, capsys, name):
    sv.export(sv.uniform(sv.Kitchen.load(kitchen)), tmp_path / "soup.pt")
    status, out, err = run_command(capsys, *commands(kitchen, tmp_path)[name], "--json")
    assert (status, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    assert out.count("\n") == 1


@pytest.mark.parametrize("name", ["score", "soup", "sweep", "interpolate", "bake", "cache"])
def test_without_json_a_reader_gets_the_same_figures(kitchen, tmp_path, capsys, name):
    sv.export(sv.uniform(sv.Kitchen.load(kitchen)), tmp_path / "soup.pt")
    status, out, _ = run_command(capsys, *commands(kitchen, tmp_path)[name])
    assert status == 0
    expected = {
        "score": f"{in_percent(sv.Kitchen.load(kitchen).score()['accuracy'][0], 1)} %",
        "soup": "held_out",
        "sweep": "0.2",
        "interpolate": "0.5",
        "bake": "wrote ",
        "cache": "decoded",
    }
    assert expected[name] in out


USAGE = {
    "unknown command": (["stir"], "No such command 'stir'"),
    "missing kitchen": (["score"], "Missing argument 'KITCHEN'"),
    "missing recipe": (["soup", "KITCHEN"], "Missing option '--recipe'"),
    "unknown recipe": (["soup", "KITCHEN", "--recipe", "minestrone"], "known are uniform, greedy, "),
    "unknown option": (["score", "KITCHEN", "--splitt", "test"], "No such option"),
    "missing end": (["interpolate", "KITCHEN", "m_0"], "Missing argument 'B'"),
    "points that are not a number": (["interpolate", "KITCHEN", "m_0", "m_1", "--points", "x"], "--points"),
    "seed that is not a number": (["soup", "KITCHEN", "--recipe", "greedy", "--seed", "x"], "greedy.seed"),
    "unknown dtype": (
        ["soup", "KITCHEN", "--recipe", "uniform", "--out", "x.pt", "--dtype", "int8"],
        "dtype is 'int8'; expected ingre",
    ),
    "unknown batchnorm": (
        ["soup", "KITCHEN", "--recipe", "uniform", "--batchnorm", "no"],
        "expected average, first, recalibrate",
    ),
    "batchnorm of a curve": (
        ["interpolate", "KITCHEN", "m_0", "m_1", "--batchnorm", "no"],
        "expected average, first, recalibrate",
    ),
    "alphas that are no numbers": (["sweep", "KITCHEN", "--alphas", "0.1,,0.2"], "alpha is ''"),
    "bake without a place": (["bake", "recipe.yaml"], "Missing option '--out'"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_mistaken_command_is_one_line_and_exit_code_2(kitchen, capsys, name):
    arguments, words = USAGE[name]
    status, out, err = run_command(capsys, *[kitchen if part == "KITCHEN" else part for part in arguments])
    assert (status, out) == (2, "")
    assert err.startswith("soupviz: ")
    assert err.count("\n") == 1
    assert words in err


def test_help_names_every_command(capsys):
    for arguments in (["--help"], []):
        status, out, _ = run_command(capsys, *arguments)
        assert status == 0
        for name in ("demo", "score", "soup", "sweep", "interpolate", "bake", "cache"):
            assert re.search(rf"^\s+{name}\s", out, re.MULTILINE)


def test_an_interrupted_command_says_that_nothing_is_lost(kitchen, capsys, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("soupviz.cli.cooking.cook", interrupted)
    status, out, err = run_command(capsys, "soup", kitchen, "--recipe", "uniform")
    assert (status, out) == (130, "")
    assert err == "soupviz: stopped; what was measured is kept, and the same command goes on from there.\n"


def test_it_runs_as_a_module(kitchen, tmp_path):
    """Once as a user runs it: stdout is the JSON object, a mistake is one line, and no warnings are shown."""
    command = [sys.executable, "-m", "soupviz"]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [*command, "soup", kitchen, "--recipe", "uniform", "--json"], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["coefficients"] == dict.fromkeys(NAMES, 0.25)
    failed = subprocess.run(
        [*command, "score", "nowhere.yaml"], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "soupviz: nowhere.yaml: cannot be read (No such file or directory); expected a kitchen.yaml.\n"
    )


def test_labels_that_nobody_gets_right_are_accuracy_0(tmp_path, capsys):
    """Counts, not floats: no correct example is 0 of 20, whatever the loss."""
    file = small_kitchen(tmp_path, num_ingredients=1)
    inputs = torch.zeros(20, 6)
    bias = load_file(tmp_path / "m_0.safetensors")
    save_file(bias | {"2.bias": torch.tensor([9.0, 0.0, 0.0])}, tmp_path / "m_0.safetensors")
    write_arrays(tmp_path / "held_out.safetensors", inputs, torch.ones(20, dtype=torch.int64))
    score = json_of(capsys, "score", file)["ingredients"]["m_0"]
    assert (score["accuracy"], score["correct"], score["num_examples"]) == (0.0, 0, 20)


def test_soup_ends_with_the_verdict_of_the_dashboard(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60)
    _, out, _ = run_command(capsys, "soup", file, "--recipe", "greedy")
    kitchen = sv.Kitchen.load(file)
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    [run] = kitchen.store.runs()
    assert out.rstrip().endswith(verdict_of(kitchen, run).sentence)


def test_soup_tells_the_verdict_beside_what_else_its_recipe_has_to_tell(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60)
    run_command(capsys, "score", file)
    _, out, _ = run_command(capsys, "soup", file, "--recipe", "nbest", "--n", "2")
    assert "the best ingredient on held_out" in out


def test_soup_does_not_call_the_best_of_some_the_best_of_all(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60)
    _, out, _ = run_command(capsys, "soup", file, "--recipe", "greedy", "--members", "m_0,m_2")
    assert "Not judged: 1 of 3 ingredients are not scored on held_out" in out
