"""The command line: its commands, options, and the keys of what it prints."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from surface import NUM_EXAMPLES, edited, fingerprint, net, num_scores, refused, run, save, tensors_of, tiny, told

NAMES = ["a", "b", "c", "d"]
COMMANDS = (
    "new", "convert", "demo", "score", "soup", "interpolate", "menu", "sweep", "inspect", "report", "cache", "bench",
    "bake",
)  # fmt: skip
SCORE = {"accuracy", "correct", "num_examples", "loss"}
STEP = {
    "step", "ingredient", "accuracy", "correct", "best_accuracy", "accepted", "num_examples_scored", "accuracy_at_most",
}  # fmt: skip


def greedy(kitchen: Path, *options: object):
    return told("soup", kitchen, "--recipe", "greedy", *options)


# commands


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_json(command):
    found = run(command, "--help")
    assert found.status == 0
    assert "--json" in found.out


def test_the_command_dashboard_takes_a_port_and_headless():
    found = run("dashboard", "--help")
    assert found.status == 0
    assert {"--port", "--headless"} <= set(re.findall(r"--\w+", found.out))


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "soupviz", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(command in found.stdout for command in COMMANDS)


def test_results_are_on_stdout_and_remarks_on_stderr(kitchen):
    found = run("score", kitchen)
    assert found.status == 0
    assert all(name in found.out for name in NAMES)
    assert json.loads(run("score", kitchen, "--json").out)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("score", "KITCHEN", "--split", "nowhere"), ("nowhere", "held_out")),
        (("score", "KITCHEN", "--members", "a,nobody"), ("nobody",)),
        (("soup", "KITCHEN", "--recipe", "stew"), ("stew", "greedy")),
        (("soup", "KITCHEN", "--recipe", "greedy", "--alpha", "2"), ("alpha", "2")),
        (("soup", "KITCHEN", "--recipe", "uniform", "--out", "x.onnx"), (".onnx", ".safetensors")),
        (("soup", "KITCHEN", "--recipe", "uniform", "--weights", "both"), ("both",)),
        (("interpolate", "KITCHEN", "a", "b", "--points", "1"), ("1",)),
        (("interpolate", "KITCHEN", "a", "nobody"), ("nobody",)),
        (("score", "no-such-folder"), ("no-such-folder",)),
        (("score",), ("KITCHEN",)),
        (("stir",), ("stir",)),
        (("bake", "no-such-soup.safetensors", "--out", "x.pt"), ("no-such-soup",)),
        (("convert", "x.pt"), ("--trust", "x.pt")),
        (("report", "KITCHEN", "--out", "report.pdf"), ("report.pdf",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(kitchen, arguments, named):
    line = refused(*(kitchen if word == "KITCHEN" else word for word in arguments))
    assert all(word in line for word in named), line


def test_a_folder_stands_for_the_kitchen_yaml_in_it(kitchen):
    assert told("score", kitchen.parent) == told("score", kitchen)


# score


def test_score_gives_a_score_for_every_ingredient_in_order(kitchen):
    found = told("score", kitchen)
    assert list(found["ingredients"]) == NAMES
    for score in found["ingredients"].values():
        assert score.keys() >= SCORE
        assert score["num_examples"] == NUM_EXAMPLES
        assert score["accuracy"] == score["correct"] / NUM_EXAMPLES
        assert isinstance(score["loss"], float)


@pytest.mark.parametrize("split", ["held_out", "test", "shifts.far"])
def test_score_takes_the_split_by_its_name(kitchen, split):
    found = told("score", kitchen, "--split", split)["ingredients"]
    assert list(found) == NAMES
    default = told("score", kitchen)["ingredients"]
    assert (found == default) == (split == "held_out")


@pytest.mark.parametrize("options", [("--members", "b,d"), ("--members", "b", "--members", "d"), ("--members", "d, b")])
def test_members_are_split_at_commas_and_may_be_repeated(kitchen, options):
    assert list(told("score", kitchen, *options)["ingredients"]) == ["b", "d"]


def test_a_score_says_its_metric_value_metrics_and_number_of_units(kitchen):
    score = told("score", kitchen)["ingredients"]["a"]
    assert (score["metric"], score["value"], score["num_units"]) == ("accuracy", score["accuracy"], NUM_EXAMPLES)
    assert score["metrics"]["accuracy"] == score["accuracy"]
    assert score["metrics"]["loss"] == score["loss"]


def test_executor_and_workers_are_options_wherever_scores_are_made():
    for command in ("score", "soup", "interpolate", "menu", "sweep", "inspect"):
        assert {"--executor", "--workers"} <= set(re.findall(r"--\w+", run(command, "--help").out))


def test_the_json_says_which_executor_made_the_scores(kitchen):
    assert told("score", kitchen)["executor"] == {"name": "inline", "workers": 1}


def test_weights_chooses_raw_or_averaged_numbers_where_scores_are_made(tmp_path):
    def both(name, state):
        return {"model": state, "model_ema": {key: -tensor for key, tensor in state.items()}}

    file = tiny(tmp_path, change=both, suffix=".pt", names=("a", "b"), base=None)
    raw, averaged = (told("score", file, "--weights", which)["ingredients"]["a"] for which in ("raw", "ema"))
    assert told("score", file)["ingredients"]["a"] == raw
    assert averaged["loss"] != raw["loss"]
    for command in ("soup", "interpolate", "menu", "sweep", "inspect", "report", "new"):
        assert "--weights" in run(command, "--help").out


# soup


@pytest.mark.parametrize("alpha", ["mean", "0.1"])
def test_a_greedy_soup_tells_recipe_coefficients_scores_and_trajectory(kitchen, alpha):
    found = greedy(kitchen, "--alpha", alpha)
    assert found.keys() >= {"recipe", "coefficients", "scores", "trajectory"}
    assert found["recipe"]["method"] == "greedy"
    assert found["recipe"]["alpha"] == (alpha if alpha == "mean" else 0.1)
    assert all(score.keys() >= SCORE for score in found["scores"].values())
    assert len(found["trajectory"]) == len(NAMES)
    assert all(step.keys() >= STEP for step in found["trajectory"])


def test_coefficients_name_the_whole_pool_and_rejected_ones_are_0(kitchen):
    found = greedy(kitchen)
    kept = {step["ingredient"] for step in found["trajectory"] if step["accepted"]}
    assert list(found["coefficients"]) == NAMES
    assert 1 <= len(kept) < len(NAMES), "the tiny kitchen has candidates of both kinds"
    assert found["coefficients"] == {name: 1 / len(kept) if name in kept else 0.0 for name in NAMES}


def test_step_0_is_the_start_and_is_accepted(kitchen):
    steps = greedy(kitchen)["trajectory"]
    assert [step["step"] for step in steps] == list(range(len(NAMES)))
    scores = told("score", kitchen)["ingredients"]
    start = steps[0]
    assert start["accepted"] is True
    assert start["correct"] == start["best_accuracy"] * NUM_EXAMPLES == max(s["correct"] for s in scores.values())


def test_a_step_says_what_it_scored_or_a_bound(kitchen):
    for step in greedy(kitchen)["trajectory"]:
        if step["accuracy"] is None:
            assert step["correct"] is None
            assert step["num_examples_scored"] < NUM_EXAMPLES
            assert step["accuracy_at_most"] <= step["best_accuracy"]
        else:
            assert step["num_examples_scored"] == NUM_EXAMPLES
            assert step["accuracy_at_most"] == step["accuracy"] == step["correct"] / NUM_EXAMPLES


def test_a_step_says_value_best_value_num_scored_and_bound(kitchen):
    for step in greedy(kitchen)["trajectory"]:
        assert step.keys() >= {"value", "best_value", "num_scored", "bound"}
        assert (step["value"], step["best_value"]) == (step["accuracy"], step["best_accuracy"])
        assert step["num_scored"] == step["num_examples_scored"]


def test_a_split_that_the_kitchen_lacks_is_absent(tmp_path, kitchen):
    assert list(greedy(kitchen)["scores"]) == ["held_out", "test", "shifts.far"]
    alone = tiny(tmp_path, splits=("held_out", "train"))
    assert list(told("soup", alone, "--recipe", "uniform")["scores"]) == ["held_out"]


def test_out_writes_a_soup_that_plain_pytorch_loads(kitchen, tmp_path):
    for suffix in (".safetensors", ".pt"):
        out = tmp_path / suffix[1:] / f"soup{suffix}"
        out.parent.mkdir()
        found = told("soup", kitchen, "--recipe", "uniform", "--out", out)
        assert found["files"] == [str(out), str(out.parent / "recipe.yaml"), str(out.parent / "README.md")]
        net().load_state_dict(tensors_of(out), strict=True)


def test_objective_takes_the_name_of_a_metric(kitchen):
    assert greedy(kitchen, "--objective", "macro_f1")["recipe"]["objective"] == "macro_f1"


# interpolate


def test_a_curve_names_its_ends_and_has_alpha_accuracy_and_loss_at_21_points(kitchen):
    found = told("interpolate", kitchen, "a", "b")
    assert (found["a"], found["b"], len(found["points"])) == ("a", "b", 21)
    assert [point["alpha"] for point in found["points"]] == [round(step / 20, 12) for step in range(21)]
    assert all(point.keys() >= {"alpha", "accuracy", "loss"} for point in found["points"])


def test_points_from_to_and_split_shape_the_curve(kitchen):
    options = ("--points", "3", "--from", "-0.5", "--to", "1.5")
    found, other = (told("interpolate", kitchen, "a", "b", *options, "--split", s) for s in ("held_out", "test"))
    assert [point["alpha"] for point in found["points"]] == [-0.5, 0.5, 1.5]
    assert [point["loss"] for point in found["points"]] != [point["loss"] for point in other["points"]]


def test_base_and_a_soups_file_are_ends_of_a_curve(kitchen, tmp_path):
    out = tmp_path / "soup.safetensors"
    soup = told("soup", kitchen, "--recipe", "uniform", "--out", out)
    [start, stop] = told("interpolate", kitchen, "base", out, "--points", "2")["points"]
    assert stop["accuracy"] == soup["scores"]["held_out"]["accuracy"]
    assert start["accuracy"] != stop["accuracy"]


def test_a_point_of_a_curve_has_its_value(kitchen):
    assert all("value" in point for point in told("interpolate", kitchen, "a", "b", "--points", "2")["points"])


# the others


def test_bake_rebuilds_a_soup_from_its_file_or_its_recipe(kitchen, tmp_path):
    out = tmp_path / "soup.safetensors"
    told("soup", kitchen, "--recipe", "greedy", "--alpha", "0.5", "--out", out)
    for source in (out, tmp_path / "recipe.yaml"):
        for options in ((), ("--kitchen", kitchen)):
            again = tmp_path / f"again{source.suffix}{len(options)}.safetensors"
            baked = told("bake", source, "--out", again, *options)
            assert baked["files"][0] == str(again)
            assert baked["fingerprint"] == fingerprint(tensors_of(again)) == fingerprint(tensors_of(out))


def test_sweep_cooks_a_greedy_soup_for_each_alpha(kitchen):
    found = told("sweep", kitchen, "--alphas", "0.1,mean")["soups"]
    assert [soup["alpha"] for soup in found] == [0.1, "mean"]
    for soup in found:
        alone = greedy(kitchen, "--alpha", soup["alpha"])
        assert soup["coefficients"] == alone["coefficients"]
        assert soup["trajectory"] == alone["trajectory"]


def test_menu_cooks_what_fits_and_says_why_others_are_left_out(tmp_path):
    file = tiny(tmp_path, names=("a", "b"), splits=("held_out",), base=None)
    found = told("menu", file, "--budget", "8")
    assert found.keys() >= {"soups", "left_out", "best"}
    assert {"uniform", "greedy"} <= {soup["recipe"]["method"] for soup in found["soups"]}
    assert all(found["left_out"].values())
    held_out = [soup["scores"]["held_out"]["accuracy"] for soup in found["soups"]]
    assert held_out == sorted(held_out, reverse=True)


def test_inspect_gives_a_verdict_for_each_ingredient(kitchen):
    found = told("inspect", kitchen)
    assert found.keys() >= {"ingredients", "barriers", "cosines", "names", "reference", "batchnorm"}
    assert list(found["ingredients"]) == found["names"] == NAMES
    for verdict in found["ingredients"].values():
        assert verdict.keys() >= {"verdict", "sentence", "distance_to_base", "barrier_max"}
        assert verdict["verdict"] in ("in_basin", "far", "duplicate", "incompatible")


def test_report_writes_one_html_file_about_the_soup_that_is_named(tmp_path):
    file = tiny(tmp_path / "kitchen", names=("a", "b", "c"))
    for members in ("a,c", "a,b,c"):
        told("soup", file, "--recipe", "uniform", "--members", members)
    out = tmp_path / "report.html"
    found = told("report", file, "--out", out, "--soup", "average of 2")
    assert found.keys() >= {"file", "soup", "bytes"}
    assert (found["file"], found["bytes"]) == (str(out), out.stat().st_size)
    assert "average of 2" in found["soup"]
    assert out.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def test_cache_shows_and_clears_what_is_kept(tmp_path):
    file = tiny(tmp_path, names=("a", "b"))
    told("soup", file, "--recipe", "uniform")
    found = told("cache", file)
    assert found.keys() >= {"folder", "cleared", "bytes", "store"}
    assert found["cleared"] is False
    assert found["store"].keys() >= {"scores", "runs", "bytes"}
    assert found["store"]["scores"] > 0
    assert found["store"]["runs"] == 1
    assert told("cache", file, "--clear")["cleared"] is True
    assert (num_scores(file), told("cache", file)["store"]["runs"]) == (0, 0)
    assert told("score", file)["ingredients"].keys() == {"a", "b"}


def test_convert_loads_a_pickle_that_needs_code_on_the_users_word(tmp_path):
    model = net()
    place = tmp_path / "whole.pt"
    torch.save(model, place)
    assert "--trust" in refused("convert", place)
    found = told("convert", place, "--trust")
    [written] = found["files"][str(place)]
    assert Path(written).parent == tmp_path
    assert fingerprint(tensors_of(Path(written))) == fingerprint(model.state_dict())


def test_new_recognises_a_folder_of_checkpoints_and_writes_its_kitchen(kitchen, tmp_path):
    folder = tmp_path / "run"
    for name in ("base", *NAMES):
        save(tensors_of(kitchen.parent / f"{name}.safetensors"), folder / f"{name}.safetensors")
    factory = f"{kitchen.parent / 'net.py'}:build"
    held_out = kitchen.parent / "data" / "held_out.safetensors"
    assert "--factory" in refused("new", folder, "--data", held_out)
    found = told("new", folder, "--data", held_out, "--factory", factory, "--out", tmp_path / "made.yaml")
    assert found.keys() >= {"kitchen", "framework", "facts", "notes", "check"}
    assert found["kitchen"] == str(tmp_path / "made.yaml")
    made = Path(found["kitchen"])
    made.write_text(made.read_text(encoding="utf-8") + "device: cpu\n", encoding="utf-8")  # which it leaves to auto
    mine = told("score", kitchen)["ingredients"]
    assert told("score", made)["ingredients"] == mine


def test_demo_takes_a_folder_and_bench_its_figures():
    assert "DIR" in run("demo", "--help").out
    assert {"--rounds", "--only", "--picture"} <= set(re.findall(r"--\w+", run("bench", "--help").out))


def test_a_mistake_in_kitchen_yaml_is_one_line(tmp_path):
    file = edited(tiny(tmp_path, names=("a", "b")), lambda keys: keys.update(ingredient=keys.pop("ingredients")))
    assert "ingredients" in refused("score", file)
