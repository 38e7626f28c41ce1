"""Slices of a split: the table of them, what the kitchen's CSV may say, and recipes that look at them."""

from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import change_yaml, json_of, run_command, small_kitchen, write_arrays
from scores import a_regression, a_score

import soupviz as sv
from soupviz.data.slices import divided, fingerprint, read
from soupviz.data.split import Split
from soupviz.errors import DataError, KitchenError, RecipeError
from soupviz.recipes import Greedy, parse
from soupviz.soups.cooking import cook
from soupviz.soups.planning import cooking_cost
from soupviz.soups.soup import recall, run_key
from soupviz.soups.standing import is_current
from soupviz.spec import SplitSpec
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.regression import MAE, Regression
from soupviz.tasks.score import Score
from soupviz.tasks.slicing import by_class, slice_table, slices_of
from soupviz.yaml_file import validate

TASK = Classification()


def score_of(correct: list[int]) -> Score:
    """Which examples are right, as ones and zeros; of the rest nothing is looked at here."""
    return a_score(correct, "test")


def split_of(labels: list[int], classes=None, values: list[str] | None = None) -> Split:
    slices = divided("camera", values) if values else None
    inputs = {"": torch.zeros(len(labels), 1)}
    return Split("test", inputs, torch.tensor(labels), classes, None, "f", slices=slices)


# The table


def test_a_table_of_slices_by_hand():
    """p of (2 fixed, 0 broken) is 2 (1/4) = 1/2; of (0, 1) it is 1; of no difference 1."""
    split = split_of([0] * 7, values=["b", "a", "a", "b", "b", "c", "a"])
    old = score_of([1, 0, 0, 1, 0, 1, 1])
    new = score_of([0, 1, 1, 1, 0, 1, 1])
    a, b, c = slice_table(TASK, ACCURACY, new, old, split)
    assert a.as_dict() == {
        "name": "a", "num_units": 3, "value": 1.0, "old_value": 1 / 3, "difference": 1 - 1 / 3, "better": 2,
        "worse": 0, "p_value": 0.5,
    }  # fmt: skip
    assert (b.name, b.num_units, b.value, b.old_value) == ("b", 3, 1 / 3, 2 / 3)
    assert (b.difference, b.better, b.worse, b.p_value) == (1 / 3 - 2 / 3, 0, 1, 1.0)
    assert (c.difference, c.better, c.worse, c.p_value) == (0.0, 0, 0, 1.0)


def test_one_score_alone_has_accuracies_and_nothing_to_compare():
    (row, other) = slice_table(TASK, ACCURACY, score_of([1, 0, 1, 1]), None, split_of([0, 0, 1, 1]))
    assert (row.name, row.num_units, row.value) == ("0", 2, 0.5)
    assert (other.name, other.num_units, other.value) == ("1", 2, 1.0)
    assert {row.old_value, row.difference, row.better, row.worse, row.p_value} == {None}


def test_without_slices_a_table_is_by_class_and_leaves_out_classes_without_examples():
    rows = slice_table(TASK, ACCURACY, score_of([1, 0, 1]), None, split_of([2, 0, 2], classes=("ant", "bee", "cow")))
    assert [(row.name, row.value) for row in rows] == [("ant", 0.0), ("cow", 1.0)]


def test_the_kitchens_slices_come_before_classes():
    assert slices_of(TASK, split_of([0, 1], values=["x", "x"])).names == ("x",)
    assert slices_of(TASK, split_of([0, 1])).names == by_class(split_of([0, 1])).names == ("0", "1")


def test_slices_are_in_natural_order_and_every_one_has_an_example():
    slices = divided("camera", ["cam10", "cam2", "cam2"])
    assert (slices.column, slices.names, slices.index.tolist()) == ("camera", ("cam2", "cam10"), [1, 0, 0])


RESULTS = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("pqr")), min_size=2, max_size=60)


@given(RESULTS)
def test_a_table_is_a_group_by(examples):
    frame = pd.DataFrame(examples, columns=["new", "old", "slice"])
    new, old = score_of(frame["new"].tolist()), score_of(frame["old"].tolist())
    split = split_of([0] * len(frame), values=frame["slice"].tolist())
    rows = {row.name: row for row in slice_table(TASK, ACCURACY, new, old, split)}
    for name, group in frame.groupby("slice"):
        row = rows.pop(name)
        fixed, broken = int((group["new"] & ~group["old"]).sum()), int((~group["new"] & group["old"]).sum())
        n = fixed + broken
        tail = sum(comb(n, k) for k in range(min(fixed, broken) + 1)) / 2**n
        assert (row.num_units, row.better, row.worse) == (len(group), fixed, broken)
        assert row.value == pytest.approx(group["new"].mean())
        assert row.difference == pytest.approx(group["new"].mean() - group["old"].mean())
        assert row.p_value == pytest.approx(min(1.0, 2 * tail))
        assert row.old_value == pytest.approx(group["old"].mean())
    assert not rows


def test_a_table_of_an_error_by_hand():
    """Of one unit in each of two slices: 3 and 4 wrong become 1 and 5."""
    new, old = a_regression([1.0, -5.0]), a_regression([3.0, 4.0])
    split = split_of([0, 0], values=["a", "b"])
    first, second = slice_table(Regression(), MAE, new, old, split)
    assert (first.value, first.old_value, first.difference, first.better, first.worse) == (1.0, 3.0, -2.0, 1, 0)
    assert (second.value, second.old_value, second.difference, second.better, second.worse) == (5.0, 4.0, 1.0, 0, 1)
    assert first.p_value == second.p_value == 1.0  # one unit swapped is as far apart as before


def test_without_slices_and_classes_there_is_nothing_to_look_at_one_by_one():
    with pytest.raises(RecipeError, match="test has no slices, and the task regression has no classes"):
        slice_table(Regression(), MAE, a_regression([1.0, 2.0]), None, split_of([0, 0]))


def test_a_fingerprint_tells_which_example_is_in_which_slice():
    first = divided("camera", ["a", "b", "b"])
    assert fingerprint(first) == fingerprint(divided("device", ["a", "b", "b"]))
    assert len({fingerprint(divided("camera", list(values))) for values in ("abb", "bab", "acc", "aab")}) == 4


# The CSV


def table(folder: Path, text: str, files=(), *, places=range(3), column="camera", **keys) -> list[str]:
    (folder / "meta.csv").write_text(text, encoding="utf-8")
    keys = keys or {"format": "arrays", "path": "x.npz"}
    spec = SplitSpec(slices={"file": "meta.csv", "column": column}, **keys)
    return read("held_out", spec, folder, files, places, 3)


FOLDER = {"format": "imagefolder", "path": "data/val"}
FILES = ("ant/0.png", "bee/0.png", "bee/1.png")


def test_without_files_rows_are_in_the_examples_order(tmp_path):
    assert table(tmp_path, "id,camera\n7,b\n8, a \n9,b\n") == ["b", "a", "b"]


def test_a_mark_at_the_start_of_the_file_is_no_part_of_the_columns_name(tmp_path):
    assert table(tmp_path, "\ufeffcamera,id\na,1\nb,2\nb,3\n") == ["a", "b", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "file,camera\nbee/1.png,z\nant/0.png,x\nbee/0.png,y\n",
        "camera,Path\nx,data/val/ant/0.png\ny,data/val/bee/0.png\nz,data/val/bee/1.png\nq,data/test/ant/0.png\n",
        "filename,camera\n./ant/0.png,x\nbee\\0.png,y\n1.png,z\nelsewhere.png,\n",
        "name,camera,file\nAnn,x,ant/0.png\nAnn,y,bee/0.png\nBob,z,bee/1.png\nBob,z,bee/1.png\n",
    ],
    ids=["relative path", "path from the kitchen", "file name", "file before name"],
)
def test_files_are_matched_by_path_or_name_whatever_the_order(tmp_path, text):
    assert table(tmp_path, text, FILES, **FOLDER) == ["x", "y", "z"]


def test_images_with_masks_are_files_too(tmp_path):
    rows = "file,camera\nb.png,y\na.png,x\n"
    assert table(tmp_path, rows, ("a.png", "b.png"), format="masks", path="i", masks="m") == ["x", "y"]


def test_a_torchvision_dataset_is_matched_by_order_before_anything_was_left_out(tmp_path):
    names = ("CIFAR10[0]", "CIFAR10[2]")
    assert table(tmp_path, "camera\na\nb\nc\n", names, places=(0, 2), format="torchvision:CIFAR10") == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camra,id\na,1\n", r"meta\.csv has no column 'camera'; did you mean 'camra'\?"),
        ("lens,id\na,1\n", r"no column 'camera'; it has lens, id\."),
        ("", r"no column 'camera'; it has none\."),
        ("camera,id\na,1\nb,2\n", r"has 2 rows, the split has 3 examples; expected a row for each example, in their"),
        ("id,camera\n1,a\n2,\n3,b\n", r"meta\.csv, line 3: the column 'camera' is empty; .* Fill it in"),
        ("id,camera\n1,a\n2\n3,b\n", r"meta\.csv, line 3: the column 'camera' is empty"),
    ],
)
def test_a_csv_that_does_not_fit_the_order_is_one_clear_message(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"data\.held_out\.slices: .*{message}"):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera\na\nb\nc\n", r"no column that names files; expected one called .* or name, .* such as ant/0\.png"),
        ("file,camera\nbee/0.png,y\n", r"has no row for ant/0\.png and for 1 more files; expected one for every file"),
        (
            "file,camera\n0.png,x\n1.png,z\n",
            r"line 2: 0\.png names 2 files of the split; expected one\. Write ant/0\.p",
        ),
        ("file,camera\n0.png,x\n0.png,y\n", r"line 3: 0\.png is 'y', but 'x' in line 2; .* write CLASS/FILE"),
        ("file,camera\nant/0.png,x\nbee/0.png,\nbee/1.png,z\n", r"line 3: the column 'camera' is empty"),
    ],
)
def test_a_csv_that_does_not_fit_the_files_is_one_clear_message(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"data\.held_out\.slices: .*meta\.csv.*{message}"):
        table(tmp_path, text, FILES, **FOLDER)


def test_a_csv_that_cannot_be_read_is_one_clear_message(tmp_path):
    spec = SplitSpec(format="arrays", path="x.npz", slices={"file": "gone.csv", "column": "camera"})
    with pytest.raises(DataError, match=r"gone\.csv: no such file; expected a CSV with a column 'camera'"):
        read("test", spec, tmp_path, (), range(3), 3)
    (tmp_path / "gone.csv").write_bytes(b"camera\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"gone\.csv cannot be read as a CSV: .*; save it as UTF-8"):
        read("test", spec, tmp_path, (), range(3), 3)


def test_an_unknown_key_of_slices_is_refused_with_the_nearest(tmp_path):
    held_out = {"format": "arrays", "path": "x.npz", "slices": {"file": "x.csv", "colum": "a"}}
    document = {"model": {"factory": "x"}, "ingredients": ["*"], "data": {"held_out": held_out}}
    with pytest.raises(KitchenError, match=r"'data\.held_out\.slices\.colum'; did you mean 'column'\?"):
        validate(document, tmp_path)


# Kitchens with slices


def sliced_kitchen(folder: Path, num_slices: int = 3) -> Path:
    """A kitchen whose held_out and test are divided by `camera`, and that has two shifts."""
    file = small_kitchen(folder, num_ingredients=5)
    write_cameras(folder, num_slices)
    for number in (1, 2):
        arrays = torch.Generator().manual_seed(number)
        inputs = torch.randn(150, 6, generator=arrays) * (1 + number)
        write_arrays(folder / f"far_{number}.npz", inputs, torch.randint(0, 3, (150,), generator=arrays))

    def change(document):
        for split in document["data"].values():
            split["slices"] = {"file": "meta.csv", "column": "camera"}
        document["data"]["shifts"] = {f"far{n}": {"format": "arrays", "path": f"far_{n}.npz"} for n in (1, 2)}

    return change_yaml(file, change)


def write_cameras(folder: Path, num_slices: int, seed: int = 0) -> list[str]:
    cameras = [f"cam{number}" for number in np.random.default_rng(seed).integers(0, num_slices, 200)]
    (folder / "meta.csv").write_text("camera\n" + "\n".join(cameras) + "\n", encoding="utf-8")
    return cameras


@pytest.fixture(scope="module")
def sliced(tmp_path_factory) -> Path:
    return sliced_kitchen(tmp_path_factory.mktemp("sliced"))


def test_slices_change_no_score_and_no_fingerprint(tmp_path):
    plain = sv.Kitchen.load(small_kitchen(tmp_path / "plain", num_ingredients=5))
    kitchen = sv.Kitchen.load(sliced_kitchen(tmp_path / "sliced"))
    for split in ("held_out", "test"):
        assert kitchen.splits.load(split).slices.names == ("cam0", "cam1", "cam2")
        assert plain.splits.load(split).slices is None
        assert kitchen.splits.load(split).fingerprint == plain.splits.load(split).fingerprint
    assert kitchen.score()["correct"].tolist() == plain.score()["correct"].tolist()


def test_a_changed_csv_is_another_run_only_where_the_recipe_looks_at_slices(tmp_path):
    file = sliced_kitchen(tmp_path)
    recipes = [
        Greedy(), parse({"method": "uniform"}), parse({"method": "weighted"}),
        Greedy(objective="worst_slice"), parse({"method": "weighted", "per": "slice"}),
        parse({"method": "weighted", "metric": "mean_slice"}), parse({"method": "bayesian", "objective": "mean_slice"}),
    ]  # fmt: skip
    before = sv.Kitchen.load(file)
    keys = [run_key(before, recipe) for recipe in recipes]
    write_cameras(tmp_path, 3, seed=1)
    after = sv.Kitchen.load(file)
    assert [key == run_key(after, recipe) for key, recipe in zip(keys, recipes, strict=True)] == [True] * 3 + [
        False
    ] * 4


def test_a_soup_chosen_by_slices_is_no_longer_current_when_they_change(tmp_path):
    file = sliced_kitchen(tmp_path)
    kitchen = sv.Kitchen.load(file)
    for objective in ("accuracy", "worst_slice"):
        sv.greedy(kitchen, objective=objective)
    assert [is_current(kitchen, run) for run in kitchen.store.runs()] == [True, True]
    write_cameras(tmp_path, 2)
    assert [is_current(sv.Kitchen.load(file), run) for run in kitchen.store.runs()] == [True, False]


@pytest.mark.parametrize(("objective", "of"), [("worst_slice", min), ("mean_slice", np.mean)])
def test_greedy_by_slices_raises_what_a_group_by_says(sliced, objective, of):
    kitchen = sv.Kitchen.load(sliced)
    cameras = (sliced.parent / "meta.csv").read_text().split()[1:]

    def value(names) -> float:
        score = kitchen.scores.score(tuple((name, 1 / len(names)) for name in names))
        return of(pd.Series(score.outcomes["right"]).groupby(cameras).mean().tolist())

    first, *others = sorted(kitchen.names, key=lambda name: -value([name]))
    kept = [first]
    for name in others:
        if value([*kept, name]) > value(kept):
            kept.append(name)
    assert [name for name, _ in sv.greedy(kitchen, objective=objective).mix] == kept


def test_slices_or_shifts_that_are_missing_are_named_before_anything_is_scored(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    kitchen = sv.Kitchen.load(file)
    for values in (
        {"method": "greedy", "objective": "worst_slice"},
        {"method": "weighted", "per": "slice"},
        {"method": "bayesian", "objective": "mean_slice"},
    ):
        with pytest.raises(RecipeError, match=r"has no slices; add `slices: \{file: .*\}` under `held_out:` to it, or"):
            cook(kitchen, values)
    with pytest.raises(RecipeError, match=r"has no shifts; add `shifts:` under `data:` to it"):
        sv.greedy(kitchen, objective="with_shifts")
    assert kitchen.store.size()["scores"] == 0
    status, _, err = run_command(capsys, "soup", file, "--recipe", "greedy", "--objective", "worst_slice")
    assert status == 2
    assert "worst_slice" in err


# Shifts that select


def test_a_soup_chosen_with_shifts_says_what_it_was_selected_on(sliced):
    kitchen = sv.Kitchen.load(sliced)
    soup = sv.greedy(kitchen, objective="with_shifts", shift_weight=0.75)
    assert list(soup.selected_on) == soup.as_dict()["selected_on"] == ["held_out", "shifts.far1", "shifts.far2"]
    assert list(soup.scores) == ["held_out", "test", "shifts.far1", "shifts.far2"]
    assert recall(kitchen, kitchen.store.run(soup.key)).selected_on == soup.selected_on
    for other in (sv.greedy(kitchen), sv.uniform(kitchen)):
        assert other.as_dict()["selected_on"] == ["held_out"]


def test_the_command_line_cooks_with_shifts(sliced, capsys):
    found = json_of(capsys, "soup", sliced, "--recipe", "greedy", "--objective", "with_shifts", "--shift-weight", "0.3")
    assert found["selected_on"] == ["held_out", "shifts.far1", "shifts.far2"]
    assert found["recipe"]["shift_weight"] == 0.3


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_greedy_with_shifts_raises_the_weighted_sum(sliced, weight):
    kitchen = sv.Kitchen.load(sliced)

    def value(names) -> float:
        mixture = tuple((name, 1 / len(names)) for name in names)
        splits = ("held_out", "shifts.far1", "shifts.far2")
        own, *shifts = [kitchen.scores.score(mixture, split).accuracy for split in splits]
        return round((1 - weight) * own + weight * np.mean(shifts), 12)

    first, *others = sorted(kitchen.names, key=lambda name: -value([name]))
    kept = [first]
    for name in others:
        if value([*kept, name]) > value(kept):
            kept.append(name)
    soup = sv.greedy(kitchen, objective="with_shifts", shift_weight=weight)
    assert [name for name, _ in soup.mix] == kept
    assert soup.trajectory[0].accuracy == kitchen.scores.score(((first, 1.0),)).accuracy


def test_cooking_with_shifts_takes_what_was_planned_and_tells_progress_up_to_the_end(tmp_path):
    kitchen = sv.Kitchen.load(sliced_kitchen(tmp_path))
    for split in kitchen.splits.reporting:
        kitchen.splits.load(split)
    told: list[tuple[int, int]] = []
    recipe = Greedy(objective="with_shifts")
    bound = cooking_cost(kitchen, recipe)
    assert bound.evaluations == 3 * (5 + 4) + 1
    assert bound.examples == (200 + 150 + 150) * (5 + 4) + 200
    soup = cook(kitchen, recipe, progress=lambda done, total, _what: told.append((done, total)))
    assert soup.evaluations == bound.evaluations
    assert kitchen.store.size()["scores"] == bound.evaluations
    assert all(done <= total for done, total in told)
    again = cooking_cost(kitchen, Greedy(objective="with_shifts", shift_weight=0.1))
    assert (again.evaluations, again.known) == (3 * 4 + 1, 3 * 5)
    assert cooking_cost(kitchen, recipe).evaluations == 0


def test_other_shifts_are_another_run_and_slices_of_a_shift_are_not(tmp_path):
    file = sliced_kitchen(tmp_path)
    recipe = Greedy(objective="with_shifts")
    key = run_key(sv.Kitchen.load(file), recipe)
    (tmp_path / "far.csv").write_text("x\n" + "a\n" * 150)
    far = {"file": "far.csv", "column": "x"}
    change_yaml(file, lambda document: document["data"]["shifts"]["far1"].update(slices=far))
    assert run_key(sv.Kitchen.load(file), recipe) == key
    change_yaml(file, lambda document: document["data"]["shifts"].pop("far2"))
    assert run_key(sv.Kitchen.load(file), recipe) != key
