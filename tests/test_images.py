"""Folders of images as people have them: what lies between the images, deeper pixels, fewer classes, other orders."""

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import change_yaml, json_of, run_command, write_yaml
from PIL import Image
from torch import nn
from torchvision.datasets.folder import pil_loader

import soupviz as sv
from soupviz.analysis.readings import best_under, notes_of
from soupviz.data import sources, splits
from soupviz.data.classes import other_orders, restricted
from soupviz.data.images import imagefolder
from soupviz.data.images.pixels import eight_bits
from soupviz.data.split import Split
from soupviz.errors import CorruptImagesError, DataError
from soupviz.spec import SplitSpec


def load(folder: Path, name: str = "held_out", classes=None, **keys) -> Split:
    spec = SplitSpec(**{"format": "imagefolder", "path": "data"} | keys)
    return splits.load(name, spec, folder, nn.Identity(), classes=classes)


def write_images(root: Path, classes, per_class: int = 2, suffix: str = ".png") -> Path:
    """Pictures whose red channel is 10 for the first class, 20 for the second and so on."""
    for number, name in enumerate(classes, 1):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(root / name / f"{index}{suffix}")
    return root


# What lies between the images


@pytest.mark.parametrize(
    "place",
    ["ant/._0.png", "ant/.hidden.png", "ant/deep/.ipynb_checkpoints/0.png", "ant/__MACOSX/0.png", "__MACOSX/ant/0.png"],
)
def test_what_computers_leave_behind_is_no_example_and_no_class(tmp_path, place):
    root = write_images(tmp_path / "data", ("ant", "bee"))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(root / place)
    for harmless in ("ant/.DS_Store", "ant/Thumbs.db", "bee/desktop.ini"):
        (root / harmless).write_bytes(b"x")
    split = load(tmp_path)
    assert split.classes == ("ant", "bee")
    assert split.files == ("ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png")
    told = [note for note in split.notes if "passed over" in note]
    assert [place in note and "Thumbs" not in note for note in told] == ([] if place.startswith("__") else [True])


def test_files_that_are_no_images_by_their_name_and_images_of_no_class_are_told(tmp_path):
    root = write_images(tmp_path / "data", ("ant", "bee"))
    (root / "ant" / "2.heic").write_bytes(b"x")
    Image.new("RGB", (8, 8)).save(root / "loose.png")
    [note] = load(tmp_path).notes
    assert "ant/2.heic" in note
    assert "loose.png" in note


# Pixels of more than 8 bits


RAMP = np.linspace(0, 65535, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (RAMP.astype(np.uint16), ".png"),
        (RAMP.astype(np.uint16), ".tif"),
        (RAMP.astype(">u2"), ".tif"),
        (RAMP.astype(np.uint16), ".pgm"),
        ((RAMP / 65535).astype(np.float32), ".tif"),
    ],
)
def test_deeper_pixels_are_scaled_by_their_type_and_it_is_told(tmp_path, pixels, suffix):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for index in range(2):
        Image.fromarray(pixels).save(tmp_path / "data" / "a" / f"{index}{suffix}")
    split = load(tmp_path)
    expected = np.rint(RAMP / 257)
    assert np.abs(split.inputs[""][0].numpy().astype(int) - expected).max() <= 1
    assert split.notes == ("data.held_out: 2 images of 16 bits or of floats are scaled to 8 bits by their type.",)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RAMP.astype(np.int32), "integers of 32 bits or signed"),
        (RAMP.astype(np.float32), "run from 0 to 65535; expected 0 to 1"),
        (np.full((8, 8), np.nan, np.float32), "run from nan to nan"),
        (np.full((8, 8), -1, np.float32), "run from -1 to -1"),
    ],
)
def test_pixels_whose_white_nobody_knows_are_refused_by_name(tmp_path, pixels, message):
    write_images(tmp_path / "data", ("a",))
    Image.fromarray(pixels).save(tmp_path / "data" / "a" / "deep.tif")
    with pytest.raises(DataError, match=rf"1 of 3 images cannot be decoded: .*a/deep\.tif \(.*{message}"):
        load(tmp_path)


# Odd files


GRADIENT = Image.fromarray(np.add.outer(np.arange(0, 160, 10), np.arange(0, 96, 8)).astype(np.uint8)).convert("RGB")


def save_rotated(place: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    GRADIENT.save(place.with_suffix(".jpg"), exif=exif)


def save_animated(place: Path) -> None:
    frames = [Image.new("P", GRADIENT.size, number) for number in range(3)]
    GRADIENT.quantize(16).save(place.with_suffix(".gif"), save_all=True, append_images=frames)


def with_alpha() -> Image.Image:
    picture = GRADIENT.convert("RGBA")
    picture.putalpha(GRADIENT.convert("L").point(lambda value: 255 - value))
    return picture


ODD = {
    "a palette with one transparent colour": lambda place: GRADIENT.quantize(16).save(
        place.with_suffix(".png"), transparency=3
    ),
    "a palette with the transparency of each colour": lambda place: GRADIENT.quantize(16).save(
        place.with_suffix(".png"), transparency=bytes(range(0, 160, 10))
    ),
    "a CMYK JPEG": lambda place: GRADIENT.convert("CMYK").save(place.with_suffix(".jpg")),
    "a CMYK TIFF": lambda place: GRADIENT.convert("CMYK").save(place.with_suffix(".tif")),
    "a JPEG that EXIF turns": save_rotated,
    "an animated GIF": save_animated,
    "RGBA": lambda place: with_alpha().save(place.with_suffix(".png")),
    "grey with alpha": lambda place: with_alpha().convert("LA").save(place.with_suffix(".png")),
    "two colours": lambda place: GRADIENT.convert("1").save(place.with_suffix(".png")),
    "LAB": lambda place: Image.merge("LAB", GRADIENT.split()).save(place.with_suffix(".tif")),
    "YCbCr": lambda place: GRADIENT.convert("YCbCr").save(place.with_suffix(".tif")),
    "a lossy WebP": lambda place: with_alpha().save(place.with_suffix(".webp")),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_picture_is_what_torchvisions_loader_makes_of_it(tmp_path, kind):
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    for name in "xy":
        ODD[kind](folder / name)
    try:
        with warnings.catch_warnings(action="ignore"):
            expected = np.asarray(pil_loader(str(next(folder.iterdir()))))
    except OSError as error:
        pytest.skip(f"this Pillow cannot read what it wrote: {error}")
    split = load(tmp_path)
    assert np.array_equal(split.inputs[""][0].numpy().transpose(1, 2, 0), expected)
    assert split.notes == ()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("empty.png", lambda _: b"", "cannot identify image file"),
        ("cut.jpg", lambda data: data[: len(data) // 2], "image file is truncated"),
        ("cut.png", lambda data: data[:-40], ""),
        ("page.png", lambda _: b"<html>not found</html>", "cannot identify image file"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_by_name_or_left_out_on_demand(tmp_path, name, damage, message):
    write_images(tmp_path / "data", ("a",))
    path = tmp_path / "data" / "a" / name
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CorruptImagesError, match=rf"1 of 3 images cannot be decoded: .*a/{re.escape(name)} \(.*{message}"
    ):
        load(tmp_path)
    assert len(load(tmp_path, skip_corrupt=True)) == 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
def test_pictures_of_8_bits_are_left_alone(mode):
    picture = Image.new(mode, (4, 4))
    assert eight_bits(picture) is picture


def test_12_bits_run_to_4095():
    picture = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    picture.tag_v2 = {258: (12,)}
    assert np.asarray(eight_bits(picture)).tolist() == [[0, 128, 255]]


# Fewer classes


def test_a_test_split_may_lack_classes_and_says_by_which_it_is_judged(tmp_path):
    write_images(tmp_path / "data", ("ant", "cow"))
    (tmp_path / "data" / "bee").mkdir()
    classes = ("ant", "bee", "cow", "dog")
    for name in ("test", "shifts.few"):
        split = load(tmp_path, name, classes)
        assert split.classes == classes
        assert split.labels.tolist() == [0, 0, 2, 2]
        assert split.allowed is None
        [note] = split.notes
        assert note.startswith(f"data.{name}: 2 of 4 classes have examples, none of bee, dog; ")
        assert "best of all 4" in note
    few = load(tmp_path, "test", classes, restrict_classes=True)
    assert few.allowed == (0, 2)
    assert few.fingerprint != split.fingerprint
    assert "best of those 2 (restrict_classes)" in few.notes[0]


@pytest.mark.parametrize(("name", "classes"), [("held_out", ("ant", "bee", "cow")), ("train", ("ant", "bee", "cow"))])
def test_what_selects_and_what_is_learned_from_has_every_class(tmp_path, name, classes):
    write_images(tmp_path / "data", ("ant", "bee"))
    with pytest.raises(DataError, match=r"lacks \['cow'\]"):
        load(tmp_path, name, classes)


def test_a_folder_that_is_no_class_is_refused_in_a_test_too(tmp_path):
    write_images(tmp_path / "data", ("ant", "emu"))
    with pytest.raises(DataError, match=r"has \['emu'\] besides"):
        load(tmp_path, "shifts.few", ("ant", "bee"))


def test_an_empty_class_folder_of_held_out_is_told(tmp_path):
    (write_images(tmp_path / "data", ("ant", "bee")) / "cow").mkdir()
    assert "2 of 3 classes have examples, none of cow" in load(tmp_path).notes[0]


def test_restricted_logits_predict_only_what_is_allowed_and_have_its_probabilities():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    logits[0, 1] = torch.nan
    found = restricted(logits, (0, 2))
    assert torch.isfinite(found).all()
    assert set(found.argmax(1).tolist()) <= {0, 2}
    torch.testing.assert_close(found.softmax(1)[:, [0, 2]], logits[:, [0, 2]].softmax(1))
    assert restricted(logits, None) is logits


# Orders


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (["a", "b", "c"], ()),
        (["n01", "n02", "n10"], ()),
        (["0", "1", "10", "2"], (("0", "1", "2", "10"),)),
        (["Bee", "ant"], (("ant", "Bee"),)),
        (
            ["B10", "B2", "a1"],
            (("B2", "B10", "a1"), ("a1", "B10", "B2"), ("a1", "B2", "B10")),
        ),
    ],
)
def test_names_that_can_be_sorted_otherwise_by_hand(names, others):
    assert other_orders(names) == others


RED = """
import torch
from torch import nn

class Red(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.classes = classes

    def forward(self, x):
        number = (x[:, 0].mean((1, 2)) * 25.5).round().long() - 1
        return (nn.functional.one_hot(number, self.classes).float() - 1) * self.scale

def build(classes):
    return Red(classes)
"""


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A kitchen of folders 0 to 11 for a model that was trained on them in the order of numbers."""
    (tmp_path / "model.py").write_text(RED)
    write_images(tmp_path / "data", [str(number) for number in range(12)])
    for scale in (1.0, 2.0):
        torch.save({"scale": torch.tensor([scale])}, tmp_path / f"m{scale:.0f}.pt")
    return write_yaml(
        tmp_path, model={"factory": "model.py:build", "args": {"classes": 12}}, ingredients=["*.pt"], device="cpu",
        data={"held_out": {"format": "imagefolder", "path": "data"}},
    )  # fmt: skip


def test_orders_that_can_be_read_two_ways_are_told_with_the_accuracy_under_each(numbered, capsys):
    status, _, err = run_command(capsys, "score", numbered)
    assert status == 0
    [told] = [line for line in err.splitlines() if "order of the classes" in line]
    assert "Here it is 0, 1, 10, 11, … (best ingredient m1: 16.7 %)" in told
    assert "it could be 0, 1, 2, 3, … (best ingredient m1: 100.0 %)" in told
    assert "`classes:`" in told


def test_once_the_kitchen_names_its_classes_nothing_is_left_to_tell(numbered, capsys):
    change_yaml(numbered, lambda document: document.update(classes=[str(number) for number in range(12)]))
    status, _, err = run_command(capsys, "score", numbered, "--json")
    assert status == 0
    assert "order" not in err
    assert json_of(capsys, "score", numbered)["ingredients"]["m1"]["correct"] == 24


def test_notes_cost_nothing(numbered, evaluations):
    kitchen = sv.Kitchen.load(numbered)
    assert notes_of(kitchen) == []
    kitchen.splits.load("held_out")
    [note] = notes_of(kitchen)
    assert "order of the classes" in note
    assert "best ingredient" not in note
    assert best_under(kitchen, kitchen.splits.load("held_out").classes) is None
    assert evaluations == []


def test_a_shift_with_fewer_classes_is_scored_by_all_or_by_its_own(numbered, capsys):
    root = numbered.parent / "few"
    for name, red in (("2", 40), ("3", 20)):  # which the model takes for 3 and 1
        (root / name).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (8, 8), (red, 0, 0)).save(root / name / f"{index}.png")
    few = {"format": "imagefolder", "path": "few"}

    def change(document):
        document["classes"] = [str(number) for number in range(12)]
        document["data"]["shifts"] = {"few": few, "own": few | {"restrict_classes": True}}

    change_yaml(numbered, change)
    split = {name: json_of(capsys, "score", numbered, "--split", f"shifts.{name}") for name in ("few", "own")}
    losses = {name: found["ingredients"]["m1"]["loss"] for name, found in split.items()}
    # Of one wrong answer among 12, and of one among 2; where the answer is none of the two they are tied.
    one, other = np.log(np.e + 11), np.log(np.e + 1)
    assert losses["few"] == pytest.approx(one, abs=1e-5)
    assert losses["own"] == pytest.approx((other + np.log(2)) / 2, abs=1e-5)


# Identities


def test_the_same_names_sizes_and_times_elsewhere_are_other_pictures(tmp_path, empty_cache):
    for part, red in (("val", 1), ("test", 2)):
        (tmp_path / part / "a").mkdir(parents=True)
        for index in range(2):
            file = tmp_path / part / "a" / f"{index}.bmp"
            Image.new("RGB", (8, 8), (red, 0, 0)).save(file)
            os.utime(file, (0, 0))
    found = [load(tmp_path, path=part).inputs[""][:, 0].unique().tolist() for part in ("val", "test")]
    assert found == [[1], [2]]


@pytest.mark.parametrize("settled", [0, 2 * 10**9])
def test_a_picture_that_was_replaced_under_its_old_time_is_decoded_anew(tmp_path, empty_cache, monkeypatch, settled):
    monkeypatch.setattr(sources, "SETTLED", settled)
    file = write_images(tmp_path / "data", ("a",), suffix=".bmp") / "a" / "0.bmp"
    os.utime(file, (0, 0))
    assert load(tmp_path).inputs[""][0, 0].unique().tolist() == [10]
    Image.new("RGB", (8, 8), (99, 0, 0)).save(file)
    os.utime(file, (0, 0))
    assert load(tmp_path).inputs[""][0, 0].unique().tolist() == [99]


def test_contents_that_did_not_change_are_not_read_again(tmp_path, empty_cache, monkeypatch):
    monkeypatch.setattr(sources, "SETTLED", 0)
    write_images(tmp_path / "data", ("a",))
    first = load(tmp_path)
    monkeypatch.setattr(sources, "content", None)
    monkeypatch.setattr(imagefolder, "decode", None)
    assert load(tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize("place", [0, 500_000, 999_999])
def test_large_files_are_told_apart_by_samples_their_size_and_their_time(tmp_path, place):
    data = bytearray(1_000_000)
    (tmp_path / "x").write_bytes(data)
    os.utime(tmp_path / "x", (0, 0))
    first = sources.content(tmp_path / "x")
    data[place] = 1
    (tmp_path / "x").write_bytes(data)
    os.utime(tmp_path / "x", (0, 0))
    assert sources.content(tmp_path / "x") != first


def test_a_preset_replaced_by_its_own_numbers_does_not_keep_its_pixels(tmp_path, empty_cache):
    (tmp_path / "data" / "a").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), dtype=np.uint8)
    for index in range(2):
        Image.fromarray(pixels).save(tmp_path / "data" / "a" / f"{index}.png")
    preset = load(tmp_path, transform={"preset": "ResNet50_Weights.IMAGENET1K_V2"})
    mean, std = preset.normalization
    numbers = load(tmp_path, transform={"resize": 232, "crop": 224, "mean": mean, "std": std})
    assert not torch.equal(preset.inputs[""], numbers.inputs[""])  # one is rounded twice
    assert preset.fingerprint != numbers.fingerprint


def test_a_picture_is_named_a_few_times_and_not_once_for_each_other_one(tmp_path, empty_cache, monkeypatch):
    write_images(tmp_path / "data", ["cat", "dog"], per_class=30)
    relative_to, asked = Path.relative_to, []
    monkeypatch.setattr(Path, "relative_to", lambda self, *other: asked.append(self) or relative_to(self, *other))
    assert len(load(tmp_path)) == 60
    assert len(asked) < 5 * 60
