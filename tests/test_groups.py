"""Units that belong together: read from every format, kept whole in parts and halves, and drawn as one."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import change_yaml, json_of, run_command, small_kitchen
from PIL import Image
from safetensors.torch import load_file, save_file
from scores import some_outcomes
from torch import nn

import soupviz as sv
from soupviz.analysis import crossfit, folds
from soupviz.analysis.decisions import log
from soupviz.analysis.verdicts import Verdict, verdict_of
from soupviz.data import splits
from soupviz.data.classes import stratified_part
from soupviz.data.split import Split
from soupviz.data.splitting import split_held_out
from soupviz.errors import DataError, RecipeError
from soupviz.reports.page import report
from soupviz.soups.cooking import cook
from soupviz.soups.selecting import examples_in
from soupviz.spec import SplitSpec
from soupviz.tasks.resampling import Drawn, swapped_p
from soupviz.tasks.significance import mcnemar, wilson

SPEAKERS = ["ann", "ben", "ann", "cid", "ben", "ann"]


class Taking(nn.Module):
    """A model that takes one tensor."""

    def forward(self, x):
        return x


def load(folder: Path, **keys) -> Split:
    return splits.load("held_out", SplitSpec(**keys), folder, Taking())


def groups_in(split: Split) -> list[str]:
    assert split.group is not None
    return [split.group.names[place] for place in split.group.index.tolist()]


def write_csv(path: Path, header: list[str], rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


# Every format


def test_an_array_beside_the_inputs_says_what_belongs_together(tmp_path):
    inputs, labels = torch.rand(6, 2), torch.arange(6) % 2
    numbers = torch.tensor([7, 3, 7, 12, 3, 7], dtype=torch.int32)
    save_file({"inputs": inputs, "labels": labels, "speaker": numbers}, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", inputs=inputs.numpy(), labels=labels.numpy(), speaker=np.array(SPEAKERS))
    split = load(tmp_path, format="arrays", path="x.safetensors", group="speaker")
    assert groups_in(split) == ["7", "3", "7", "12", "3", "7"]
    assert (split.grouped.column, split.grouped.number, split.group_of.dtype) == ("speaker", 3, np.int64)
    assert groups_in(load(tmp_path, format="arrays", path="x.npz", group="speaker")) == SPEAKERS
    with pytest.raises(DataError, match=r"lacks the array 'patient'.*inputs, labels, speaker"):
        load(tmp_path, format="arrays", path="x.npz", group="patient")


@pytest.mark.parametrize("values", [np.arange(5), np.arange(12).reshape(6, 2), np.arange(6) / 4])
def test_an_array_that_names_no_groups_is_refused(tmp_path, values):
    np.savez(tmp_path / "x.npz", inputs=np.ones((6, 2)), labels=np.arange(6) % 2, speaker=values)
    with pytest.raises(DataError, match=r"speaker.*expected 6 whole numbers or names"):
        load(tmp_path, format="arrays", path="x.npz", group="speaker")


SETS = """
import torch
from pathlib import Path

SPEAKERS = {speakers}

def dicts():
    seen = Path(__file__).with_name("reads")
    seen.write_text(seen.read_text() + "x" if seen.exists() else "x")
    return [
        {{"x": torch.full((3,), float(i)), "labels": i % 2, "speaker": name, "text": f"says {{i}}",
          "room": torch.tensor(i // 2)}}
        for i, name in enumerate(SPEAKERS)
    ]

def pairs():
    return [(torch.full((3,), float(i)), i % 2) for i in range(6)]

def holes():
    return [example | {{"speaker": None}} for example in dicts()]
"""


@pytest.fixture
def sets(tmp_path, empty_cache) -> Path:
    (tmp_path / "sets.py").write_text(SETS.format(speakers=SPEAKERS), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("group", "expected"), [("speaker", SPEAKERS), ("room", ["0", "0", "1", "1", "2", "2"])])
def test_a_key_of_a_data_sets_dictionaries_says_what_belongs_together_and_is_not_fed(sets, group, expected):
    split = load(sets, format="python", path="sets.py:dicts", group=group)
    assert groups_in(split) == expected
    assert list(split.inputs) == [""] or "x" in split.inputs
    assert group not in split.inputs
    assert split.texts[0] == ("says 0" if group == "speaker" else "ann")
    assert (sets / "reads").read_text() == "x"


def test_a_group_named_later_reads_a_kept_data_set_once_for_it_and_its_content_is_the_same(sets):
    keys = {"format": "python", "path": "sets.py:dicts", "version": "1"}
    before = load(sets, **keys)
    for _ in range(2):
        after = load(sets, **keys, group="speaker")
        assert groups_in(after) == SPEAKERS
        assert (sets / "reads").read_text() == "xx"
    assert before.group is None
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("path", "told"), [("sets.py:pairs", "is no dictionary"), ("sets.py:holes", "'speaker' of example 0 is 'None'")]
)
def test_a_data_set_without_the_key_is_refused(sets, path, told):
    with pytest.raises(DataError, match=told):
        load(sets, format="python", path=path, group="speaker")


OPEN = Taking(), type("Open", (nn.Module,), {"forward": lambda _self, **inputs: inputs})()


def test_inputs_are_the_same_whether_or_not_they_were_kept_before_a_group_was_named(sets, monkeypatch, tmp_path):
    """Of a model that takes everything, which would be fed the column that says what belongs together."""

    def opened(**keys) -> Split:
        spec = SplitSpec(format="python", path="sets.py:dicts", version="1", **keys)
        return splits.load("held_out", spec, sets, OPEN[1])

    before = set(opened().arrays)
    later = opened(group="room")
    monkeypatch.setenv("SOUPVIZ_CACHE", str(tmp_path / "another"))
    fresh = opened(group="room")
    assert before == {"x", "room"}
    assert set(later.arrays) == set(fresh.arrays) == {"x"}
    assert later.fingerprint == fresh.fingerprint


def test_a_csv_says_it_for_every_format(sets):
    write_csv(sets / "who.csv", ["speaker"], [[name] for name in SPEAKERS])
    group = {"file": "who.csv", "column": "speaker"}
    assert groups_in(load(sets, format="python", path="sets.py:pairs", group=group)) == SPEAKERS


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two classes of two pictures each, of two patients; the last is broken."""
    for label in "ab":
        (tmp_path / "val" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (4, 4), (9 * number,) * 3).save(tmp_path / "val" / label / f"{number}.png")
    (tmp_path / "val" / "a" / "2.png").write_bytes(b"no picture")
    rows = [[f"{label}/{number}.png", f"p{number}", "left"] for number in (2, 1, 0) for label in "ba"]
    write_csv(tmp_path / "meta.csv", ["file", "patient", "side"], rows)
    return tmp_path


def test_pictures_belong_together_by_a_column_of_the_csv_that_has_their_slices_or_of_another(pictures):
    keys = {"format": "imagefolder", "path": "val", "skip_corrupt": True}
    slices = {"file": "meta.csv", "column": "side"}
    split = load(pictures, **keys, slices=slices, group="patient")
    assert groups_in(split) == ["p0", "p1", "p0", "p1", "p2"]
    assert split.slices.names == ("left",)
    assert groups_in(load(pictures, **keys, group={"file": "meta.csv", "column": "patient"})) == groups_in(split)
    with pytest.raises(DataError, match=r"no columns of its own to find 'patient' in; .*group: \{file"):
        load(pictures, **keys, group="patient")
    with pytest.raises(DataError, match=r"held_out.group: .*meta.csv has no column 'patents'; did you mean 'patient'"):
        load(pictures, **keys, group={"file": "meta.csv", "column": "patents"})


def test_groups_of_one_are_none(tmp_path):
    np.savez(tmp_path / "x.npz", inputs=np.ones((6, 2)), labels=np.arange(6) % 2, row=np.arange(6))
    split = load(tmp_path, format="arrays", path="x.npz", group="row")
    assert split.group is None
    assert any("each example has its own row" in note for note in split.notes)


# Parts


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=60), st.integers(2, 4))
def test_parts_cover_everything_and_share_no_group(units, of):
    labels, groups = torch.tensor([label for label, _ in units]), np.array([group for _, group in units])
    parts = [stratified_part(labels, index, of, 0, groups) for index in range(of)]
    assert sorted(torch.cat(parts).tolist()) == list(range(len(units)))
    owners = [set(groups[part.numpy()].tolist()) for part in parts]
    assert sum(len(owner) for owner in owners) == len(set(groups.tolist()))


def test_parts_of_many_groups_share_classes_evenly_and_depend_on_the_seed():
    random = np.random.default_rng(1)
    groups = random.integers(0, 60, 600)
    labels = torch.from_numpy((groups + random.integers(0, 2, 600)) % 3)
    parts = [stratified_part(labels, index, 2, 0, groups) for index in (0, 1)]
    counts = [np.bincount(labels[part].numpy(), minlength=3) for part in parts]
    assert abs(counts[0] - counts[1]).max() <= 12
    assert not torch.equal(parts[0], stratified_part(labels, 0, 2, 1, groups))
    numbers = torch.rand(600)  # of no classes
    sizes = [len(stratified_part(numbers, index, 2, 0, groups)) for index in (0, 1)]
    assert abs(sizes[0] - sizes[1]) <= 12


# A kitchen


COPIES = 20


def with_groups(folder: Path, split: str, rows: torch.Tensor, names: torch.Tensor) -> None:
    """Some rows of a split's arrays in their order, with a speaker each."""
    arrays = load_file(folder / f"{split}.safetensors")
    kept = {"inputs": arrays["inputs"][rows].contiguous(), "labels": arrays["labels"][rows], "speaker": names}
    save_file(kept, folder / f"{split}.safetensors")


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory) -> Path:
    """A kitchen whose test split holds 30 examples 20 times each: of those that tell greedy from the best, 5 to 1.

    Its held_out has 40 speakers of five examples each.
    """
    folder = tmp_path_factory.mktemp("groups")
    file = small_kitchen(folder, num_ingredients=5, num_examples=200, scale=0.35)
    kitchen = sv.Kitchen.load(file)
    soup = cook(kitchen, sv.recipes.parse({"method": "uniform"}))
    best = max(kitchen.names, key=lambda name: kitchen.scores.score(((name, 1.0),), "held_out").accuracy)
    new, old = (kitchen.scores.score(mix, "test").outcomes["right"] for mix in (soup.mix, ((best, 1.0),)))
    only = [np.flatnonzero(new & ~old), np.flatnonzero(old & ~new)]
    most, least = (only[0], only[1]) if len(only[0]) >= len(only[1]) else (only[1], only[0])
    assert len(most) >= 4
    same = np.flatnonzero(new == old)[:25]
    chosen = torch.from_numpy(np.concatenate([most[:4], least[:1], same]))
    with_groups(folder, "test", chosen.repeat_interleave(COPIES), torch.arange(len(chosen)).repeat_interleave(COPIES))
    with_groups(folder, "held_out", torch.arange(200), torch.arange(200) // 5)
    return file


@pytest.fixture
def respecting(ignoring) -> Path:
    """The same kitchen, told of its groups in a file of its own, with the same store beside it."""

    def tell(document):
        for split in document["data"].values():
            split["group"] = "speaker"

    copy = ignoring.with_name("grouped.yaml")
    copy.write_text(ignoring.read_text(encoding="utf-8"), encoding="utf-8")
    return change_yaml(copy, tell)


UNIFORM = sv.recipes.parse({"method": "uniform"})


def judged(file: Path) -> Verdict:
    """The verdict on the uniform soup, everything scored."""
    kitchen = sv.Kitchen.load(file)
    for split in kitchen.splits.reporting:
        kitchen.scores.of_ingredients(split)
    return verdict_of(kitchen, cook(kitchen, UNIFORM))


def test_ignoring_groups_claims_what_respecting_them_does_not(ignoring, respecting):
    alone, grouped = judged(ignoring), judged(respecting)
    claimed, told = (one.best.differences["test"] for one in (alone, grouped))
    assert (claimed.better, claimed.worse, claimed.difference) == (told.better, told.worse, told.difference)
    sign = 1 if told.difference > 0 else -1
    assert claimed.p_value == mcnemar(claimed.better, claimed.worse) < 0.001
    assert claimed.judgement in ("better", "worse")
    units = [sign * COPIES] * 4 + [-sign * COPIES] * (min(told.better, told.worse) // COPIES)
    assert told.p_value == pytest.approx(swapped_p(np.array(units)))
    assert told.p_value > 0.05
    assert not told.is_shown
    assert told.low < claimed.low < claimed.high < told.high
    assert told.smallest > 2 * claimed.smallest
    assert "No evidence" in grouped.sentence
    assert "resampled by speaker" in grouped.sentence
    assert "by speaker" in " ".join(grouped.sizes)
    assert "speaker" not in alone.sentence


def test_values_have_intervals_over_groups_and_not_wilsons(ignoring, respecting):
    alone, grouped = judged(ignoring), judged(respecting)
    one, other = alone.values["test"], grouped.values["test"]
    assert (one.low, one.high) == wilson(one.right, one.num_units)
    assert (other.value, other.right, other.grouped.number) == (one.value, one.right, one.num_units // COPIES)
    assert other.high - other.low > 2 * (one.high - one.low)


def test_scores_are_found_again_once_groups_are_named(ignoring, respecting, evaluations):
    cook(sv.Kitchen.load(ignoring), UNIFORM)
    evaluations.clear()
    soup = cook(sv.Kitchen.load(respecting), UNIFORM)
    assert evaluations == []
    assert soup.scores["test"].grouped.column == "speaker"


def test_decisions_are_tested_by_groups(respecting):
    kitchen = sv.Kitchen.load(respecting)
    soup = cook(kitchen, sv.recipes.parse({"method": "greedy"}))
    scores = {name: kitchen.scores.score(((name, 1.0),), "held_out").outcomes for name in kitchen.names}
    first = next(one for one in log(kitchen, soup.recipe, soup.trajectory) if one.p_value is not None)
    before = scores[soup.trajectory[0].ingredient.removeprefix("start: ")]
    tried = kitchen.scores.known(first.mix, "held_out").outcomes
    apart = tried["right"].astype(int) - before["right"]
    assert first.p_value == pytest.approx(swapped_p(apart.reshape(40, 5).sum(axis=1)))


def test_halves_of_a_cross_fit_share_no_group(respecting, monkeypatch):
    kitchen = sv.Kitchen.load(respecting)
    halves = []
    cut = folds.halved

    def halved(whole, recipe, rows, seed, folder):
        own = cut(whole, recipe, rows, seed, folder)
        halves.append({name: set(groups_in(own.splits.load(name))) for name in ("held_out", "test")})
        return own

    monkeypatch.setattr(crossfit, "halved", halved)
    found = crossfit.crossfit(kitchen, sv.recipes.parse({"method": "greedy"}))
    assert found.num_units == 200
    for half in halves:
        assert not half["held_out"] & half["test"]
        assert len(half["held_out"] | half["test"]) == 40
    assert len(halves) == 2


def test_both_searches_of_a_cross_fit_are_held_against_the_best_by_the_groups_of_the_whole(respecting, monkeypatch):
    """Uniform is the same soup on both halves, so that its groups are those of held_out."""
    kitchen = sv.Kitchen.load(respecting)
    compared = []

    def compare(_task, metric, new, old):
        compared.append((new.outcomes, old.outcomes))
        return crossfit_compare(_task, metric, new, old)

    crossfit_compare = crossfit.compare
    monkeypatch.setattr(crossfit, "compare", compare)
    crossfit.crossfit(kitchen, UNIFORM)
    [(new, old)] = compared
    assert new.groups.tolist() == old.groups.tolist()
    assert np.bincount(new.groups).tolist() == [5] * 40


def test_outcomes_of_other_groups_are_not_compared():
    labels, right = np.zeros(4, dtype=np.int64), np.array([True, True, False, False])
    one, other = (
        replace(some_outcomes(right, labels=labels), groups=np.array(groups)) for groups in ([0, 0, 1, 1], [0, 1, 1, 1])
    )
    for pair in ((one, other), (one, replace(other, groups=None)), (replace(one, groups=None), other)):
        with pytest.raises(ValueError, match="other groups"):
            Drawn.of(*pair)
    assert Drawn.of(one, one).number == 2


def test_one_group_cannot_be_halved(respecting):
    with_groups(respecting.parent, "held_out", torch.arange(200), torch.zeros(200, dtype=torch.int64))
    try:
        kitchen = sv.Kitchen.load(respecting)
        with pytest.raises(RecipeError, match="held_out has one speaker"):
            crossfit.crossfit(kitchen, UNIFORM)
    finally:
        with_groups(respecting.parent, "held_out", torch.arange(200), torch.arange(200) // 5)


def test_soup_and_report_and_card_say_by_what_they_resample(respecting, tmp_path, capsys):
    told = json_of(capsys, "soup", respecting, "--recipe", "uniform", "--out", tmp_path / "soup.safetensors")
    assert told["scores"]["test"]["grouped"] == {"column": "speaker", "number": 30}
    assert "resampled by speaker" in (tmp_path / "README.md").read_text(encoding="utf-8")
    kitchen = sv.Kitchen.load(respecting)
    page = report(cook(kitchen, UNIFORM), tmp_path / "soup.html").read_text(encoding="utf-8")
    assert "resampled by speaker, 30 groups" in page
    assert "exact permutation test by speaker" in page
    assert "Wilson" not in page and "McNemar" not in page
    status, out, _ = run_command(capsys, "menu", respecting)
    assert status == 0
    assert "permutation test by speaker" in out


def test_held_out_is_dealt_in_two_by_groups_and_a_deal_of_single_examples_is_another(tmp_path):
    held_out = {"format": "arrays", "path": "held_out.safetensors", "group": "speaker"}
    file = small_kitchen(tmp_path, num_examples=60, data={"held_out": held_out})
    with_groups(tmp_path, "held_out", torch.arange(60), torch.arange(60) // 6)
    split_held_out(file)
    kitchen = sv.Kitchen.load(file)
    owners = [set(groups_in(kitchen.splits.load(name))) for name in ("held_out", "test")]
    assert not owners[0] & owners[1]
    assert len(owners[0] | owners[1]) == 10
    dealt = [examples_in(kitchen, name) for name in ("held_out", "test")]
    assert not dealt[0].meets(dealt[1])
    change_yaml(file, lambda document: document["data"]["test"].pop("group"))
    singly = examples_in(sv.Kitchen.load(file), "test")
    assert singly.meets(dealt[0])
