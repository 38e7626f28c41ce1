"""Splits whose inputs are made otherwise than those of held_out are told, once for each split."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from speech_kitchens import write_table
from torch import nn

from soupviz.data.agreeing import differences
from soupviz.data.loading import Splits
from soupviz.data.split import Split
from soupviz.spec import KitchenSpec, SplitSpec


class Plain(nn.Module):
    def forward(self, x):
        return x


def splits_of(folder, **data):
    spec = KitchenSpec(model={"factory": "m.py:build"}, ingredients=["a"], data=data)
    return Splits(spec, folder / "kitchen.yaml", Plain(), lambda split, _place: split)


def told(folder, name, **data):
    """What is told of a split because of held_out."""
    known = splits_of(folder, **data)
    known.load("held_out")
    return [note for note in known.load(name).notes if "otherwise than those of held_out" in note]


def recordings(folder, name, rate):
    for index in range(2):
        soundfile.write(folder / f"{name}{index}.wav", np.full(400, 0.1, dtype=np.float32), rate)
    write_table(folder, name, [{"file": f"{name}{index}.wav", "label": f"c{index}"} for index in range(2)])


def pictures(folder, name):
    for place in ("a", "b"):
        (folder / name / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / name / place / "0.png")


@pytest.mark.parametrize("says", [{"sample_rate": 8000}, {}], ids=["kitchen.yaml", "the files"])
def test_another_sample_rate_is_told_with_both_whoever_says_it(tmp_path, says):
    recordings(tmp_path, "val", 16_000)
    recordings(tmp_path, "test", 8000)
    own = {"format": "audio", "path": "val.csv"}
    (line,) = told(tmp_path, "test", held_out=own, test={"format": "audio", "path": "test.csv"} | says)
    assert "data.test" in line and "sample_rate is 8000, there 16000" in line
    assert not told(tmp_path, "test", held_out=own, test={"format": "audio", "path": "test.csv", "sample_rate": 16_000})


def test_another_normalisation_or_size_is_told_but_not_a_shift_of_another_size(tmp_path):
    for name in ("val", "test"):
        pictures(tmp_path, name)
    own = {"format": "imagefolder", "path": "val", "transform": {"resize": 8, "mean": [0.5] * 3, "std": [0.5] * 3}}
    bare = {"format": "imagefolder", "path": "test", "transform": {"resize": 8}}
    (line,) = told(tmp_path, "test", held_out=own, test=bare)
    assert "transform.mean is None, there (0.5, 0.5, 0.5); transform.std is None" in line
    small = own | {"path": "test", "transform": own["transform"] | {"resize": 4, "corrupt": "gaussian_blur"}}
    assert "transform.resize is 4, there 8" in told(tmp_path, "test", held_out=own, test=small)[0]
    assert not told(tmp_path, "shifts.small", held_out=own, shifts={"small": small})


@pytest.mark.parametrize(
    ("one", "other"),
    [({"resize": 8}, {"resize": 8, "crop": 8}), ({"mean": [0.0] * 3, "std": [1.0] * 3}, {})],
    ids=["crop", "normalisation"],
)
def test_what_is_said_and_what_is_left_at_the_same_are_no_difference(tmp_path, one, other):
    for name in ("val", "test"):
        pictures(tmp_path, name)
    own = {"format": "imagefolder", "path": "val", "transform": one}
    assert not told(tmp_path, "test", held_out=own, test=own | {"path": "test", "transform": other})


def test_a_length_that_the_tokenizer_says_too_is_no_difference(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    left, said, shorter = (
        SplitSpec(format="text", path="x.csv", tokenizer="a", **keys)
        for keys in ({}, {"max_length": 64}, {"max_length": 32})
    )
    split = Split("test", {}, torch.zeros(2), None, None, "")
    assert not differences(split, said, left, tmp_path, None)
    assert "max_length is 32, there 64" in differences(split, shorter, left, tmp_path, None)[0]


def test_another_tokenizer_is_one_with_another_content_and_one_that_is_missing_is_not_told_here(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(text)

    def spec(place):
        return SplitSpec(format="text", path="x.csv", tokenizer=place)

    split = Split("test", {}, torch.zeros(2), None, None, "")
    assert not differences(split, spec("a"), spec("b"), tmp_path, None)
    assert not differences(split, spec("a"), spec("gone"), tmp_path, None)
    (line,) = differences(split, spec("a"), spec("c"), tmp_path, None)
    assert "tokenizer holds another one" in line


def test_splits_that_are_made_alike_are_told_nothing_of(tmp_path):
    for name in ("val", "test"):
        pictures(tmp_path, name)
    own = {"format": "imagefolder", "path": "val", "transform": {"resize": 8}}
    assert not told(tmp_path, "test", held_out=own, test=own | {"path": "test"})
