"""kitchen.yaml: every key that it has, every format of data, every step of a transform."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from surface import (
    NUM_EXAMPLES,
    decided,
    edited,
    losses,
    near,
    net,
    refused,
    save,
    tensors_of,
    text_kitchen,
    tiny,
    told,
    write_kitchen,
)  # fmt: skip

import soupviz as sv

PICTURES = """
from torch import nn

def build(channels=3, classes=3, side=6):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))
"""

CLASSES = ["ant", "bee", "cat"]
SHAPE = (3, 6, 6)


def pixels(seed: int, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with val, test, train/CLASS/N.png, a model for six pixels a side, and two checkpoints with a base."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "net.py").write_text(PICTURES, encoding="utf-8")
    base = dict(net(PICTURES).state_dict())
    save(base, folder / "base.safetensors")
    for seed, name in enumerate(("ft_a", "ft_b"), 1):
        save(near(base, 0.1, seed), folder / f"{name}.safetensors")
    for number, split in enumerate(("val", "test", "train")):
        for index, label in enumerate(CLASSES):
            place = folder / split / label
            place.mkdir(parents=True)
            for picture in range(3):
                Image.fromarray(pixels(100 * number + 10 * index + picture)).save(place / f"{picture}.png")
    return folder


def shown(folder: Path, transform: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """The kitchen.yaml of pictures, as plain data."""
    steps = {"resize": 6} if transform is None else transform
    document: dict[str, Any] = {
        "model": {"factory": "net.py:build"}, "ingredients": ["ft_*.safetensors"], "base": "base.safetensors",
        "data": {"held_out": {"format": "imagefolder", "path": "val", "transform": steps}}, "device": "cpu",
    }  # fmt: skip
    return document | keys


def kitchen_of(folder: Path, stem: str, **keys: Any) -> Path:
    return write_kitchen(folder, **keys).rename(folder / f"{stem}.yaml")


# keys


def test_the_documented_kitchen_opens_with_every_key_it_has(pictures):
    steps = {"resize": 6, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    splits = {name: {"format": "imagefolder", "path": path, "transform": steps}
              for name, path in (("held_out", "val"), ("test", "test"), ("train", "train"))}  # fmt: skip
    blur = splits["test"] | {"transform": steps | {"corrupt": "gaussian_blur", "severity": 3}}
    file = kitchen_of(
        pictures, "documented", name="a name", model={"factory": "net.py:build", "args": {"classes": 3}},
        ingredients=["ft_*.safetensors"], weights="raw", base="base.safetensors", classes=CLASSES,
        data=splits | {"shifts": {"blur": blur}}, device="auto", precision="float32", batch_size=256,
    )  # fmt: skip
    assert sv.Kitchen.load(file).name == "a name"
    found = told("soup", file, "--recipe", "uniform")["scores"]
    assert list(found) == ["held_out", "test", "shifts.blur"]
    assert found["test"]["loss"] != found["shifts.blur"]["loss"]
    assert told("score", file, "--split", "train")["ingredients"].keys() == {"ft_a", "ft_b"}


@pytest.mark.parametrize(
    ("place", "wrong", "right"),
    [
        ((), "ingredient", "ingredients"), ((), "prescision", "precision"), (("model",), "factry", "factory"),
        (("data",), "heldout", "held_out"), (("data", "held_out"), "transfrom", "transform"),
        (("data", "held_out", "transform"), "resise", "resize"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_and_the_nearest_known_one_named(pictures, place, wrong, right):
    document = json.loads(json.dumps(shown(pictures)))
    within = document
    for key in place:
        within = within[key]
    within[wrong] = 1
    line = refused("score", kitchen_of(pictures, "unknown", **document))
    assert wrong in line
    assert repr(right) in line


@pytest.mark.parametrize("key", ["model", "ingredients", "data"])
def test_a_key_that_is_missing_is_named(pictures, key):
    document = {name: value for name, value in shown(pictures).items() if name != key}
    assert repr(key) in refused("score", kitchen_of(pictures, "missing", **document))


def test_without_a_name_a_kitchen_is_called_by_its_folder(tmp_path):
    assert sv.Kitchen.load(tiny(tmp_path / "fine tunes")).name == "fine tunes"


def test_ingredients_are_globs_files_or_folders_or_a_mapping(tmp_path):
    file = tiny(tmp_path)
    (tmp_path / "c.safetensors").rename(tmp_path / "model.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.safetensors").rename(tmp_path / "folder" / "model.safetensors")
    edited(file, lambda keys: keys.update(ingredients=["[ab].safetensors", "d.safetensors", "folder"]))
    assert list(told("score", file)["ingredients"]) == ["a", "b", "d", "folder"]
    edited(file, lambda keys: keys.update(ingredients={"one": "a.safetensors", "two": "folder/model.safetensors"}))
    assert list(told("score", file)["ingredients"]) == ["one", "two"]


def test_weights_reads_raw_or_averaged_numbers(tmp_path):
    def both(_name, state):
        return {"state_dict": state, "ema_state_dict": {key: -tensor for key, tensor in state.items()}}

    raw, ema = (
        losses(tiny(tmp_path / name, change=both, suffix=".pt", names=("a",), base=None, weights=name))
        for name in ("raw", "ema")
    )
    assert raw != ema
    assert raw == losses(tiny(tmp_path / "plain", suffix=".pt", names=("a",), base=None))


def test_classes_give_the_order_of_the_labels(pictures):
    usual = shown(pictures)
    plain = kitchen_of(pictures, "plain", **usual)
    listed = kitchen_of(pictures, "listed", **usual | {"classes": CLASSES})
    turned = kitchen_of(pictures, "turned", **usual | {"classes": CLASSES[::-1]})
    assert losses(plain) == losses(listed) != losses(turned)


def test_precision_is_of_the_evaluation_and_mixing_stays_float32(tmp_path):
    plain = tiny(tmp_path / "plain", names=("a", "b"), splits=("held_out",))
    mixed, exact = sv.uniform(sv.Kitchen.load(plain)).state_dict(), losses(plain)
    for precision in ("tf32", "bfloat16", "float16"):
        other = tiny(tmp_path / precision, names=("a", "b"), splits=("held_out",), precision=precision)
        again = sv.uniform(sv.Kitchen.load(other)).state_dict()
        assert all(torch.equal(tensor, mixed[key]) for key, tensor in again.items())
        assert losses(other) == pytest.approx(exact, rel=0.05)
        assert (losses(other) == exact) == (precision == "tf32"), "on a CPU tf32 is float32"


def test_a_device_that_is_no_device_is_refused(tmp_path):
    assert "device" in refused("score", tiny(tmp_path, device="abacus"))


@pytest.mark.parametrize("task", ["classification", {"name": "classification"}], ids=["name", "mapping"])
def test_task_names_what_the_outputs_mean(tmp_path, kitchen, task):
    assert losses(tiny(tmp_path, task=task)) == losses(kitchen)


def test_metric_sets_the_objective(tmp_path):
    found = told("soup", tiny(tmp_path, metric="loss"), "--recipe", "greedy")
    assert found["scores"]["held_out"]["metric"] == "loss"


def test_regression_is_a_task(tmp_path):
    file = tiny(tmp_path, task="regression", model={"factory": "net.py:build", "args": {"classes": 1}}, splits=())
    for name in ("a", "b", "c", "d", "base"):
        place = tmp_path / f"{name}.safetensors"
        save({key: value[:1] if key.startswith("2.") else value for key, value in tensors_of(place).items()}, place)
    inputs = torch.randn(20, 5)
    save({"inputs": inputs, "labels": inputs.sum(1)}, tmp_path / "held_out.safetensors")
    edited(file, lambda k: k.update(data={"held_out": {"format": "arrays", "path": "held_out.safetensors"}}))
    assert told("score", file)["ingredients"]["a"]["metric"] == "rmse"


# factories


def test_a_function_in_a_file_or_in_a_package_builds_the_model(tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "contract_nets.py").write_text(PICTURES.replace("build", "make"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    args = {"channels": 1, "side": 2}
    ours, theirs = (
        tiny(tmp_path / name, source=PICTURES.replace("side=6", "side=2").replace("channels=3", "channels=1"),
             shape=(1, 2, 2), model={"factory": factory, "args": args})
        for name, factory in (("ours", "net.py:build"), ("theirs", "contract_nets:make"))
    )  # fmt: skip
    assert losses(ours) == losses(theirs)


def library_kitchen(folder: Path, factory: str, model: Any, inputs: torch.Tensor, **args: Any) -> Path:
    """A kitchen of one ingredient that a library's model builds."""
    save(dict(model.state_dict()), folder / "one.safetensors")
    labels = torch.arange(len(inputs)) % 3
    save({"inputs": inputs, "labels": labels}, folder / "held_out.safetensors")
    data = {"held_out": {"format": "arrays", "path": "held_out.safetensors"}}
    return write_kitchen(
        folder, model={"factory": factory, "args": args}, ingredients=["one.safetensors"], data=data, device="cpu"
    )


def test_torchvision_builds_the_model(tmp_path):
    import torchvision

    model = torchvision.models.squeezenet1_1(num_classes=3)
    file = library_kitchen(tmp_path, "torchvision:squeezenet1_1", model, torch.randn(3, 3, 32, 32), num_classes=3)
    assert told("score", file)["ingredients"]["one"]["num_examples"] == 3


@pytest.mark.extras
def test_timm_builds_the_model(tmp_path):
    timm = pytest.importorskip("timm")
    args = {"num_classes": 3, "img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", **args)
    file = library_kitchen(tmp_path, "timm:vit_tiny_patch16_224", model, torch.randn(3, 3, 32, 32), **args)
    assert told("score", file)["ingredients"]["one"]["num_examples"] == 3


@pytest.mark.extras
def test_transformers_builds_the_class_that_a_folders_configuration_names(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=8, max_position_embeddings=16, num_labels=2, **sizes)
    model = transformers.BertForSequenceClassification(config)
    file = text_kitchen(tmp_path)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(tmp_path / "bert")
    save(dict(model.state_dict()), tmp_path / "one.safetensors")
    keys = {"model": {"factory": "transformers:bert"}, "ingredients": ["one.safetensors"], "base": None}
    edited(file, lambda document: document.update(keys))
    assert told("score", file)["ingredients"]["one"]["num_examples"] == 5


# formats


def test_arrays_are_one_npz_or_safetensors_file_with_inputs_and_labels(tmp_path, kitchen):
    file = tiny(tmp_path)
    place = tmp_path / "data" / "held_out.safetensors"
    np.savez(tmp_path / "data" / "held_out.npz", **{key: value.numpy() for key, value in tensors_of(place).items()})
    before = losses(file)
    edited(file, lambda keys: keys["data"]["held_out"].update(path="data/held_out.npz"))
    assert losses(file) == before


PYTHON = """
from pathlib import Path
import torch
from safetensors.torch import load_file

class Rows(torch.utils.data.Dataset):
    def __init__(self, style):
        self.arrays = load_file(Path(__file__).parent / "data" / "held_out.safetensors")
        self.style = style

    def __len__(self):
        return len(self.arrays["labels"])

    def __getitem__(self, index):
        x, y = self.arrays["inputs"][index], int(self.arrays["labels"][index])
        return {"x": x, "labels": y} if self.style == "dict" else (x, y)

def rows(style="pair"):
    return Rows(style)
"""


@pytest.mark.parametrize("style", ["pair", "dict"])
def test_python_names_a_function_that_returns_a_dataset(tmp_path, style):
    file = tiny(tmp_path)
    before = losses(file)
    (tmp_path / "rows.py").write_text(PYTHON, encoding="utf-8")
    spec = {"format": "python", "path": "rows.py:rows", "args": {"style": style}}
    edited(file, lambda keys: keys["data"].update(held_out=spec))
    assert losses(file) == before


def test_torchvision_names_a_dataset(tmp_path):
    """MNIST's own files, written by hand: four pictures of two pixels a side."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    digits = np.arange(4, dtype=np.uint8)
    for stem, array, kind in (("images-idx3", images, 3), ("labels-idx1", digits, 1)):
        header = bytes([0, 0, 8, kind]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        for part in ("train", "t10k"):
            (folder / f"{part}-{stem}-ubyte").write_bytes(header + array.tobytes())
    source = PICTURES.replace("channels=3, classes=3, side=6", "channels=1, classes=10, side=2")
    spec = {"format": "torchvision:MNIST", "path": ".", "args": {"train": False}, "transform": {"channels": 1}}
    file = tiny(tmp_path, source=source, shape=(1, 2, 2), splits=(), data={"held_out": spec})
    assert told("score", file)["ingredients"]["a"]["num_examples"] == 4


def test_text_is_a_table_of_sentences_in_any_of_four_kinds(tmp_path):
    pytest.importorskip("tokenizers")
    pandas = pytest.importorskip("pandas")
    file = text_kitchen(tmp_path)
    table = pandas.read_csv(tmp_path / "val.csv")
    before = losses(file)
    table.to_csv(tmp_path / "val.tsv", sep="\t", index=False)
    table.to_json(tmp_path / "val.jsonl", orient="records", lines=True)
    for suffix in (".tsv", ".jsonl"):
        edited(file, lambda keys, suffix=suffix: keys["data"]["held_out"].update(path=f"val{suffix}"))
        assert losses(file) == before


@pytest.mark.extras
def test_text_may_be_a_parquet_file(tmp_path):
    pytest.importorskip("tokenizers")
    pytest.importorskip("pyarrow")
    import pandas

    file = text_kitchen(tmp_path)
    before = losses(file)
    pandas.read_csv(tmp_path / "val.csv").to_parquet(tmp_path / "val.parquet")
    edited(file, lambda keys: keys["data"]["held_out"].update(path="val.parquet"))
    assert losses(file) == before


def test_text_takes_the_names_of_its_columns_and_a_length(tmp_path):
    pytest.importorskip("tokenizers")
    file = text_kitchen(tmp_path)
    before = losses(file)
    rows = (tmp_path / "val.csv").read_text(encoding="utf-8").splitlines()
    renamed = ["sentence,answer,speaker", *(f"{row},{number % 3}" for number, row in enumerate(rows[1:]))]
    (tmp_path / "val.csv").write_text("\n".join(renamed) + "\n", encoding="utf-8")
    columns = {"text": "sentence", "label": "answer", "group": "speaker"}
    edited(file, lambda keys: keys["data"]["held_out"].update(columns))
    assert losses(file) == before
    edited(file, lambda keys: keys["data"]["held_out"].update(max_length=1))
    assert losses(file) != before
    edited(file, lambda keys: keys["data"]["held_out"].update(pair="sentence", max_length=9))
    assert losses(file) != before


def test_slices_divide_a_split_by_a_column_of_a_table(tmp_path):
    file = tiny(tmp_path)
    rows = ["camera", *("left" if row % 2 else "right" for row in range(NUM_EXAMPLES))]
    (tmp_path / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    spec = {"slices": {"file": "meta.csv", "column": "camera"}}
    assert "slices" in refused("soup", file, "--recipe", "greedy", "--objective", "worst_slice")
    edited(file, lambda keys: keys["data"]["held_out"].update(spec))
    assert told("soup", file, "--recipe", "greedy", "--objective", "worst_slice")["trajectory"]


def test_every_format_takes_a_group(tmp_path):
    file = tiny(tmp_path)
    arrays = tensors_of(tmp_path / "data" / "held_out.safetensors")
    save(arrays | {"patient": torch.arange(NUM_EXAMPLES) // 4}, tmp_path / "data" / "held_out.safetensors")
    edited(file, lambda keys: keys["data"]["held_out"].update(group="patient"))
    assert told("score", file)["ingredients"]


@pytest.mark.parametrize("data_format", ["audio", "coco", "yolo"])
def test_speech_and_detection_have_formats_of_their_own(tmp_path, data_format):
    file = tiny(tmp_path, splits=(), data={"held_out": {"format": data_format, "path": "data"}})
    assert f"format is '{data_format}'" not in refused("score", file)


def test_a_test_split_or_a_shift_may_have_fewer_classes(pictures, tmp_path):
    for place in ("few/ant/0.png", "few/cat/0.png"):
        target = pictures / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((pictures / place.replace("few", "val")).read_bytes())
    document = shown(pictures)
    few = {"format": "imagefolder", "path": "few", "transform": {"resize": 6}}
    document["data"] |= {"test": few, "shifts": {"few": few}}
    scores = told("soup", kitchen_of(pictures, "few", **document), "--recipe", "uniform")["scores"]
    assert [scores[name]["num_examples"] for name in ("held_out", "test", "shifts.few")] == [9, 2, 2]


# transforms


def by_hand(pictures: Path, resize=(6, 6), mean=0.0, std=1.0, crop=None, channels=3) -> torch.Tensor:
    """The documented steps, in their order, one by one."""
    from torchvision.transforms import functional

    found = []
    for label in CLASSES:
        for picture in range(3):
            image = Image.open(pictures / "val" / label / f"{picture}.png").convert("RGB" if channels == 3 else "L")
            tensor = functional.pil_to_tensor(image)
            tensor = functional.resize(tensor, list(resize), antialias=True)
            assert tensor.dtype == torch.uint8
            if crop:
                tensor = functional.center_crop(tensor, [crop, crop])
            found.append((tensor.float() / 255 - mean) / std)
    return torch.stack(found)


@pytest.mark.parametrize(
    ("transform", "hand"),
    [
        ({"resize": 6}, {"resize": (6,), "crop": 6}),
        ({"resize": 8, "crop": 6}, {"resize": (8,), "crop": 6}),
        ({"resize": 6, "mean": [0.5] * 3, "std": [0.25] * 3}, {"resize": (6,), "crop": 6, "mean": 0.5, "std": 0.25}),
    ],
    ids=["crop is resize", "crop", "mean and std"],
)
def test_the_steps_are_resize_crop_division_mean_std(pictures, tmp_path, transform, hand):
    expected = by_hand(pictures, **hand)
    labels = torch.arange(9) // 3
    save({"inputs": expected, "labels": labels}, tmp_path / "held_out.safetensors")
    spec = {"format": "arrays", "path": str(tmp_path / "held_out.safetensors")}
    plain = kitchen_of(pictures, "plain", **shown(pictures) | {"data": {"held_out": spec}})
    found = kitchen_of(pictures, "steps", **shown(pictures, transform))
    assert losses(found) == pytest.approx(losses(plain), abs=1e-6)


def test_channels_1_is_greyscale(pictures, tmp_path):
    args = {"model": {"factory": "net.py:build", "args": {"channels": 1}}, "base": None}
    state = dict(net(PICTURES, channels=1).state_dict())
    save(state, pictures / "grey.safetensors")
    document = shown(pictures, {"resize": 6, "channels": 1}) | args | {"ingredients": ["grey.safetensors"]}
    [found] = losses(kitchen_of(pictures, "grey", **document))
    model = net(PICTURES, channels=1)
    with torch.no_grad():
        logits = model(by_hand(pictures, (6,), crop=6, channels=1))
    assert found == pytest.approx(float(torch.nn.functional.cross_entropy(logits, torch.arange(9) // 3)), abs=1e-6)


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_interpolation_changes_the_resize_whose_default_is_bilinear(pictures, interpolation):
    usual, named, other = (
        losses(kitchen_of(pictures, "resized", **shown(pictures, {"resize": 6} | steps)))
        for steps in ({}, {"interpolation": "bilinear"}, {"interpolation": interpolation})
    )
    assert usual == named != other


CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "rotate", "jpeg")


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_changes_the_picture_and_more_with_its_severity(pictures, corruption):
    clean = losses(kitchen_of(pictures, "clean", **shown(pictures)))
    weak, strong = (
        losses(kitchen_of(pictures, "bad", **shown(pictures, {"resize": 6, "corrupt": corruption, "severity": level})))
        for level in (1, 5)
    )
    assert strong != clean
    assert weak != strong


@pytest.mark.parametrize("severity", [0, 6])
def test_a_severity_is_from_1_to_5(pictures, severity):
    steps = {"resize": 6, "corrupt": "jpeg", "severity": severity}
    assert "severity" in refused("score", kitchen_of(pictures, "severe", **shown(pictures, steps)))


def test_a_preset_of_torchvision_is_its_own_preprocessing(pictures):
    import torchvision

    preset = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    model = net(PICTURES, side=224)
    save(dict(model.state_dict()), pictures / "preset.safetensors")
    document = shown(pictures, {"preset": str(preset)}) | {
        "model": {"factory": "net.py:build", "args": {"side": 224}}, "ingredients": ["preset.safetensors"],
        "base": None,
    }  # fmt: skip
    images = [Image.open(place).convert("RGB") for place in sorted((pictures / "val").glob("*/*.png"))]
    with torch.no_grad():
        logits = model(torch.stack([preset.transforms()(image) for image in images]))
    [found] = losses(kitchen_of(pictures, "preset", **document))
    assert found == pytest.approx(float(torch.nn.functional.cross_entropy(logits, torch.arange(9) // 3)), abs=1e-4)


@pytest.mark.extras
def test_the_preset_timm_is_the_models_own_preprocessing(pictures):
    timm = pytest.importorskip("timm")
    args = {"num_classes": 3, "img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", **args).eval()
    save(dict(model.state_dict()), pictures / "vit.safetensors")
    document = shown(pictures, {"preset": "timm", "args": {"input_size": [3, 32, 32]}}) | {
        "model": {"factory": "timm:vit_tiny_patch16_224", "args": args}, "ingredients": ["vit.safetensors"],
        "base": None,
    }  # fmt: skip
    settings = timm.data.resolve_data_config({"input_size": (3, 32, 32)}, model=model)
    prepare = timm.data.create_transform(**settings, is_training=False)
    images = [Image.open(place).convert("RGB") for place in sorted((pictures / "val").glob("*/*.png"))]
    with torch.no_grad():
        logits = model(torch.stack([prepare(image) for image in images]))
    [found] = losses(kitchen_of(pictures, "timm", **document))
    assert found == pytest.approx(float(torch.nn.functional.cross_entropy(logits, torch.arange(9) // 3)), abs=1e-4)


def test_the_picture_before_the_division_is_what_is_kept(pictures):
    """A byte for each of its numbers, whatever becomes of them later."""
    side = 64
    save(dict(net(PICTURES, side=side).state_dict()), pictures / "large.safetensors")
    model = {"factory": "net.py:build", "args": {"side": side}}
    document = shown(pictures, {"resize": side, "mean": [0.1] * 3, "std": [0.5] * 3}) | {
        "model": model, "ingredients": ["large.safetensors"], "base": None,
    }  # fmt: skip
    before = told("cache")["bytes"]["decoded"]
    losses(kitchen_of(pictures, "large", **document))
    whole = 9 * 3 * side * side
    assert whole <= told("cache")["bytes"]["decoded"] - before < 1.2 * whole


# how the model is called


OUTPUTS = """
from types import SimpleNamespace
from torch import nn

class Net(nn.Module):
    def __init__(self, style):
        super().__init__()
        self.style, self.head = style, nn.Linear(5, 3)

    def forward(self, x):
        logits = self.head(x)
        if self.style == "attribute":
            return SimpleNamespace(logits=logits, hidden=x)
        return {"logits": logits, "hidden": x} if self.style == "key" else logits

def build(style="tensor"):
    return Net(style)
"""


def test_the_output_is_the_tensor_its_attribute_logits_or_its_key_logits(tmp_path):
    found = [
        losses(tiny(tmp_path / style, source=OUTPUTS, model={"factory": "net.py:build", "args": {"style": style}}))
        for style in ("tensor", "attribute", "key")
    ]
    assert found[0] == found[1] == found[2]


def test_the_helpers_net_answers_every_class():
    answers = decided(net(), (5,))(torch.randn(300, 5, generator=torch.Generator().manual_seed(0))).argmax(1)
    assert set(answers.tolist()) == {0, 1, 2}
