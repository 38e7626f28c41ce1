"""A soup is baked from files as they were read when it was cooked, whatever their layout, with or without a kitchen."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from kitchens import BATCHNORM, MLP, TIED, change_yaml, json_of, small_kitchen
from safetensors.torch import load_file, save_file
from torch import Tensor

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.reports.rebuilding import instructions
from soupviz.soups.provenance import Record, read_record
from soupviz.soups.restore import restore
from soupviz.weights.key_maps import Constant

VIT = """
from torchvision.models import VisionTransformer

def build(classes=3):
    return VisionTransformer(8, 4, 1, 1, 8, 8, num_classes=classes)
"""

WEIGHT_NORM = """
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

def build(features=6, classes=3):
    return nn.Sequential(weight_norm(nn.Linear(features, 8)), nn.ReLU(), nn.Linear(8, classes))
"""

COPYING = """
import torch
from torch import nn

class Copying(nn.Linear):
    def load_state_dict(self, state_dict, strict=True):
        with torch.no_grad():
            self.weight.copy_(state_dict["kernel"]SPELT)
            self.bias.copy_(state_dict["shift"])

def build(features=40, classes=40):
    return Copying(features, classes)
"""
"""A model whose own code loads files with other keys, by copying."""

ORIGINAL = "parametrizations.weight.original"


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def renamed(tensors: Mapping[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    for old, new in pairs:
        tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
    return dict(tensors)


def without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if "num_batches_tracked" not in key}


def lit_ema(raw: Mapping[str, Tensor], ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    averaged = {"model_ema." + key.replace(".", ""): ema[key] for key in ema if ema[key].is_floating_point()}
    return prefixed("model.", raw) | averaged | {"model_ema.decay": torch.tensor(0.9)}


def mmcv(raw: Mapping[str, Tensor], ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**raw, **{"ema_" + key.replace(".", "_"): tensor for key, tensor in ema.items()}}


LAYOUTS: dict[str, tuple[str, Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], object]]] = {
    "plain": (MLP, lambda raw, _: raw),
    "lightning": (MLP, lambda raw, _: {"state_dict": prefixed("model.net.", raw) | {"loss.weight": torch.ones(3)}}),
    "data parallel": (MLP, lambda raw, _: {"model": prefixed("module.", raw)}),
    "compiled in the middle": (BATCHNORM, lambda raw, _: renamed(raw, (".weight", "._orig_mod.weight"))),
    "averaged model": (MLP, lambda raw, _: {"n_averaged": torch.tensor(3), **prefixed("module.", raw)}),
    "constants left over": (MLP, lambda raw, _: {"net.ids": torch.arange(2), **prefixed("net.", raw)}),
    "no counters": (BATCHNORM, lambda raw, _: without_counters(raw)),
    "mmcv": (BATCHNORM, mmcv),
    "LitEma": (BATCHNORM, lambda raw, ema: {"state_dict": lit_ema(raw, ema)}),
    "timm": (MLP, lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}),
    "ema under a prefix": (MLP, lambda raw, ema: {**prefixed("net.", raw), **prefixed("ema_net.", ema)}),
    "bfloat16": (BATCHNORM, lambda raw, _: {k: t.bfloat16() if t.is_floating_point() else t for k, t in raw.items()}),
    "tied": (TIED, lambda raw, _: {key: raw[key] for key in raw if key != "first.weight"}),
    "torchvision's ViT": (VIT, lambda raw, _: renamed(raw, ("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2."))),
    "weight norm": (
        WEIGHT_NORM,
        lambda raw, _: renamed(raw, (f"{ORIGINAL}0", "weight_g"), (f"{ORIGINAL}1", "weight_v")),
    ),
}  # fmt: skip
HAVE_TWINS = ("mmcv", "LitEma", "timm", "ema under a prefix")
SHAPES = {MLP: (6,), TIED: (6,), WEIGHT_NORM: (6,), BATCHNORM: (3, 8, 8), VIT: (3, 8, 8)}


def of_layout(folder: Path, layout: str) -> Path:
    """A kitchen whose two ingredients' files are laid out so."""
    source, write = LAYOUTS[layout]
    file = small_kitchen(folder, source=source, shape=SHAPES[source], suffix=".pt", num_ingredients=2, num_examples=40)
    for path in folder.glob("m_*.pt"):
        raw = torch.load(path, weights_only=True)
        ema = {key: tensor + 0.05 if tensor.is_floating_point() else tensor for key, tensor in raw.items()}
        torch.save(write(raw, ema), path)
    return change_yaml(file, lambda document: document.pop("base"))


def exported_and_baked(file: Path, out: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> list[Record]:
    """The records of a soup that the command line exported, and that it baked without the kitchen and with it."""
    soup, alone, within = (out / f"{name}.safetensors" for name in ("soup", "alone", "within"))
    json_of(capsys, "soup", file, "--recipe", "uniform", "--out", soup, "--weights", weights)
    json_of(capsys, "bake", soup, "--out", alone)
    json_of(capsys, "bake", soup, "--out", within, "--kitchen", file)
    return [read_record(path) for path in (soup, alone, within)]


CASES = [(layout, "raw") for layout in LAYOUTS] + [(layout, "ema") for layout in HAVE_TWINS]
AVERAGE = "averaged model"
"""The layout that holds an average alone, whichever is asked for."""


@pytest.mark.parametrize(("layout", "weights"), CASES)
def test_a_soup_of_any_layout_is_baked_and_loaded_back(tmp_path, capsys, layout, weights):
    """And what was baked can be baked, for it says how its files were read, too."""
    file = of_layout(tmp_path / "kitchen", layout)
    (tmp_path / "out").mkdir()
    exported, alone, within = exported_and_baked(file, tmp_path / "out", weights, capsys)
    assert exported.fingerprint == alone.fingerprint == within.fingerprint
    assert exported == alone == within
    read = "ema" if layout == AVERAGE else weights
    assert {origin.weights for origin in exported.ingredients.values()} == {read}
    json_of(capsys, "bake", tmp_path / "out" / "within.safetensors", "--out", tmp_path / "again.safetensors")
    kitchen = sv.Kitchen.load(file, weights=weights)
    restored = restore(kitchen, exported, tmp_path / "out" / "soup.safetensors")
    assert restored.notes == {}
    assert restored.scores["test"].correct == exported.scores["test"]["correct"]


def test_a_soup_of_sharded_folders_is_baked(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen", num_ingredients=2, num_examples=40)
    for path in tmp_path.glob("kitchen/m_*.safetensors"):
        tensors, folder = load_file(path), path.with_suffix("")
        folder.mkdir()
        shards = {key: f"model-0000{at}-of-00004.safetensors" for at, key in enumerate(tensors, 1)}
        for key, shard in shards.items():
            save_file({key: tensors[key]}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        path.unlink()
    change_yaml(file, lambda document: document.update(ingredients=["m_*"]))
    (tmp_path / "out").mkdir()
    exported, alone, within = exported_and_baked(file, tmp_path / "out", "raw", capsys)
    assert exported == alone == within


@pytest.mark.parametrize("recipe", [{"method": "task_arithmetic"}, {"method": "ties", "density": 0.5}])
def test_a_soup_over_a_base_with_another_head_is_baked(tmp_path, recipe):
    file = small_kitchen(tmp_path / "kitchen", suffix=".pt", num_ingredients=2, num_examples=40)
    base = torch.load(tmp_path / "kitchen" / "base.pt", weights_only=True)
    base |= {"2.weight": torch.ones(10, 16), "2.bias": torch.ones(10)}
    torch.save({"state_dict": prefixed("module.", base)}, tmp_path / "kitchen" / "base.pt")
    kitchen = sv.Kitchen.load(file)
    [soup, *_] = sv.export(sv.cook(kitchen, recipe), tmp_path / "soup.safetensors")
    sv.bake(soup, tmp_path / "alone.safetensors")
    sv.bake(soup, tmp_path / "within.safetensors", kitchen=kitchen)
    assert (
        read_record(soup) == read_record(tmp_path / "alone.safetensors") == read_record(tmp_path / "within.safetensors")
    )
    assert restore(kitchen, read_record(soup), soup).notes == {}


def test_a_soup_over_a_soup_that_was_widened_is_baked(tmp_path):
    """A float32 file of a bfloat16 soup is mixed with its ingredients in their own dtype."""
    narrow = lambda tensors: {key: tensor.bfloat16() for key, tensor in tensors.items()}  # noqa: E731
    file = small_kitchen(tmp_path / "kitchen", num_ingredients=3, num_examples=40, change=narrow)
    kitchen = sv.Kitchen.load(file)
    wide = [sv.export(sv.uniform(kitchen, pair), tmp_path / f"{pair[0]}.safetensors", dtype="float32")[0]
            for pair in (["m_0", "m_1"], ["m_1", "m_2"])]  # fmt: skip
    ends = {"a": "one", "b": "two", "mix_a": [[str(wide[0]), 1.0]], "mix_b": [[str(wide[1]), 1.0]]}
    [soup, *_] = sv.export(
        sv.cook(kitchen, {"method": "interpolation", "alpha": 0.3} | ends), tmp_path / "soup.safetensors"
    )
    [baked, *_] = sv.bake(soup, tmp_path / "baked.safetensors")
    assert read_record(baked).fingerprint == read_record(soup).fingerprint


@pytest.mark.parametrize(("spelt", "needs_kitchen"), [("", False), (".T", True), (" * 2", True)])
def test_what_only_the_models_own_code_can_read_is_baked_with_its_kitchen(tmp_path, spelt, needs_kitchen):
    """Code that calls keys otherwise needs no model to be followed; code that computes does."""
    source = COPYING.replace("SPELT", spelt)
    file = small_kitchen(
        tmp_path / "kitchen", source=source, shape=(40,), suffix=".pt", num_ingredients=2, num_examples=40,
        change=lambda t: {"kernel": t["weight"], "shift": t["bias"]},
    )  # fmt: skip
    kitchen = sv.Kitchen.load(change_yaml(file, lambda document: document.pop("base")))
    made = sv.uniform(kitchen)
    [soup, recipe, card] = sv.export(made, tmp_path / "soup.pt")
    sv.bake(soup, tmp_path / "within.pt", kitchen=kitchen)
    assert ("--kitchen KITCHEN" in card.read_text()) is needs_kitchen
    assert ("--kitchen kitchen.yaml" in instructions(made, tmp_path)["command"]) is needs_kitchen
    if needs_kitchen:
        with pytest.raises(ExportError, match=r"ingredient 'm_0' .* model's own loading code; name the kitchen"):
            sv.bake(recipe, tmp_path / "alone.pt")
    else:
        sv.bake(recipe, tmp_path / "alone.pt")


def moved_apart(content):
    return {"model": content["state_dict"]}


def other_prefix(content):
    return {"state_dict": renamed(content["state_dict"], ("model.", "net."))}


def without_one(content):
    return {"state_dict": {key: tensor for key, tensor in content["state_dict"].items() if "2.bias" not in key}}


def other_numbers(content):
    return {"state_dict": {key: tensor + 1 for key, tensor in content["state_dict"].items()}}


@pytest.mark.parametrize("change", [moved_apart, other_prefix, without_one, other_numbers])
def test_a_file_that_is_no_longer_what_was_read_is_refused_by_name(tmp_path, change):
    file = small_kitchen(tmp_path / "kitchen", suffix=".pt", num_ingredients=2, num_examples=40)
    for path in tmp_path.glob("kitchen/m_*.pt"):
        torch.save({"state_dict": prefixed("model.", torch.load(path, weights_only=True))}, path)
    [soup, *_] = sv.export(sv.uniform(sv.Kitchen.load(file)), tmp_path / "soup.safetensors")
    torch.save(change(torch.load(path, weights_only=True)), path)
    with pytest.raises(ExportError, match=rf"{path.name}.*|ngredient '{path.stem}'") as refused:
        sv.bake(soup, tmp_path / "baked.safetensors")
    assert path.name in str(refused.value)
    assert f"ngredient {path.stem!r}" in str(refused.value)
    assert not (tmp_path / "baked.safetensors").exists()


def earlier(recipe: Path, ignored: list[str]) -> Path:
    """As versions wrote it that did not keep how files were read."""
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    del values["key_maps"]
    for origin in values["ingredients"].values():
        del origin["key_map"], origin["weights"]
        origin["ignored"] = ignored
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    return recipe


@pytest.mark.parametrize("layout", ["plain", "lightning", "compiled in the middle", "constants left over", "tied"])
def test_recipes_of_earlier_versions_are_baked_as_they_were(tmp_path, layout):
    kitchen = sv.Kitchen.load(of_layout(tmp_path / "kitchen", layout))
    [soup, recipe, _] = sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors")
    [baked, *_] = sv.bake(earlier(recipe, ["ids"]), tmp_path / "baked.safetensors")
    assert read_record(baked).fingerprint == read_record(soup).fingerprint
    [again, *_] = sv.bake(baked, tmp_path / "again.safetensors")
    assert read_record(again).fingerprint == read_record(soup).fingerprint


def test_a_soup_of_averages_says_so_where_only_the_raw_weights_are_open(tmp_path):
    file = of_layout(tmp_path / "kitchen", "timm")
    soup = sv.uniform(sv.Kitchen.load(file, weights="ema"))
    [path, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    with pytest.raises(ExportError, match=r"'m_0' .*made from ema weights; open the kitchen with weights: ema"):
        restore(sv.Kitchen.load(file), read_record(path), path)


@pytest.mark.parametrize("tensor", [torch.tensor(3), torch.tensor([[1.5, -0.0]]), torch.tensor([True]),
                                    torch.tensor([1.5]).bfloat16()])  # fmt: skip
def test_constants_are_kept_bit_for_bit(tensor):
    again = Constant.model_validate_json(Constant.of(tensor).model_dump_json()).tensor()
    assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(again, tensor)


@pytest.mark.parametrize(
    "values", [{"dtype": "int64", "shape": [2], "data": "00"}, {"dtype": "evil", "shape": [], "data": ""},
               {"dtype": "uint8", "shape": [1], "data": "zz"}, {"dtype": "uint8", "shape": [-1], "data": "00"}],
)  # fmt: skip
def test_a_constant_that_is_none_is_refused(values):
    with pytest.raises(ValueError, match=r"tensor|bytes"):
        Constant.model_validate(values)
