"""Dealing held_out in two where a kitchen has no test split."""

from pathlib import Path

import pytest
import yaml
from kitchens import change_yaml, small_kitchen

import soupviz as sv
from soupviz.data import splitting
from soupviz.data.splitting import split_held_out
from soupviz.errors import KitchenError
from soupviz.soups.standing import is_current
from soupviz.yaml_file import read_kitchen_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kitchen of 120 held-out examples and no test split."""
    held_out = {"format": "arrays", "path": "held_out.safetensors"}
    return small_kitchen(tmp_path / "small", num_examples=120, data={"held_out": held_out})


def test_the_halves_are_disjoint_and_together_the_whole(file: Path) -> None:
    (whole,) = sv.Kitchen.load(file).splits.load("held_out").inputs.values()
    split_held_out(file)
    kitchen = sv.Kitchen.load(file)
    halves = [next(iter(kitchen.splits.load(name).inputs.values())) for name in ("held_out", "test")]
    rows = [{tuple(row) for row in half.flatten(1).tolist()} for half in halves]
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {tuple(row) for row in whole.flatten(1).tolist()}


def test_the_old_file_is_kept_and_the_other_keys_stay(file: Path) -> None:
    before = file.read_bytes()
    old = read_kitchen_file(file)
    kept = split_held_out(file, seed=3)
    new = read_kitchen_file(file)
    assert kept == file.with_name("kitchen.yaml.bak")
    assert kept.read_bytes() == before
    assert new.model_copy(update={"data": old.data}) == old
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["test"]["part"] == {"index": 1, "of": 2, "seed": 3}


def test_every_older_file_is_kept(file: Path) -> None:
    first = file.read_bytes()
    document = read_kitchen_file(file).model_dump(mode="json", exclude_defaults=True)
    splitting.write_document(document | {"name": "second"}, file)
    second = file.read_bytes()
    splitting.write_document(document | {"name": "third"}, file)
    assert file.with_name("kitchen.yaml.bak").read_bytes() == first
    assert file.with_name("kitchen.yaml.bak2").read_bytes() == second


def test_a_transform_is_written_twice_and_not_as_an_anchor(file: Path) -> None:
    spec = read_kitchen_file(file).model_dump(mode="json", exclude_defaults=True)
    spec["data"]["held_out"] = {"format": "imagefolder", "path": "val", "transform": {"resize": 8, "mean": [0.5] * 3}}
    splitting.write_document(spec, file)
    split_held_out(file)
    text = file.read_text(encoding="utf-8")
    assert "&" not in text
    assert text.count("resize: 8") == 2


def test_a_soup_selected_on_the_whole_is_no_longer_among_the_soups(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen)
    run = kitchen.store.runs()[0]
    assert is_current(kitchen, run)
    split_held_out(file)
    assert not is_current(sv.Kitchen.load(file), run)


def test_a_kitchen_with_a_test_split_is_refused_and_its_file_left_alone(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "small", num_examples=40)
    before = file.read_bytes()
    with pytest.raises(KitchenError, match="has a test split already"):
        split_held_out(file)
    assert file.read_bytes() == before


def test_a_part_is_not_split_again(file: Path) -> None:
    change_yaml(file, lambda document: document["data"]["held_out"].update(part={"index": 0, "of": 2}))
    with pytest.raises(KitchenError, match="a part of its data already"):
        split_held_out(file)


def test_a_folder_that_cannot_be_written_is_one_message(file: Path) -> None:
    with pytest.raises(KitchenError, match="cannot be written"):
        splitting.write_document({}, file.parent / "nowhere" / "kitchen.yaml")
