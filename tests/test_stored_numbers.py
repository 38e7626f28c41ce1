"""Checkpoints in half precision and float8 are mixed in float32 and rounded once; quantised ones are refused."""

import json
from pathlib import Path

import pytest
import torch
from kitchens import MLP, build_model, change_yaml, perturbed, save, small_kitchen
from safetensors.torch import load_file
from torch import Tensor

import soupviz as sv
from soupviz.errors import CheckpointError, CompatibilityError
from soupviz.models.architecture import Architecture
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.weights.checkpoints import read
from soupviz.weights.fitting import fit
from soupviz.weights.ingredients import check_against_model, fingerprint

NARROW = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_narrow_numbers_are_mixed_in_float32_and_rounded_once(tmp_path, dtype, suffix):
    narrow = lambda tensors: {key: tensor.to(dtype) for key, tensor in tensors.items()}  # noqa: E731
    file = small_kitchen(tmp_path / "kitchen", suffix=suffix, num_ingredients=3, num_examples=40, change=narrow)
    kitchen = sv.Kitchen.load(file)
    soup = sv.uniform(kitchen)
    [written, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    found = load_file(written)
    for key, tensor in found.items():
        total = torch.zeros(tensor.shape)
        for item in kitchen.ingredients:
            total.add_(item.tensors[key].float(), alpha=1 / 3)
        assert tensor.dtype == dtype and torch.equal(tensor.float(), total.to(dtype).float())
    [baked, *_] = sv.bake(written, tmp_path / "baked.safetensors")
    assert read_record(baked).fingerprint == read_record(written).fingerprint == fingerprint(found)
    assert restore(kitchen, read_record(written), written).notes == {}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("method", ["ties", "dare", "model_stock", "karcher"])
def test_merges_of_narrow_numbers_are_merges_of_their_float32_values(tmp_path, dtype, method):
    narrow = lambda tensors: {key: tensor.to(dtype) for key, tensor in tensors.items()}  # noqa: E731
    wide = lambda tensors: {key: tensor.to(dtype).float() for key, tensor in tensors.items()}  # noqa: E731
    states = [
        sv.cook(sv.Kitchen.load(small_kitchen(tmp_path / name, num_ingredients=3, num_examples=40, change=change)),
                {"method": method}).state_dict()
        for name, change in (("narrow", narrow), ("wide", wide))
    ]  # fmt: skip
    for key, tensor in states[0].items():
        assert torch.equal(tensor.float(), states[1][key].to(dtype).float())


def test_a_widened_soup_of_float8_is_mixed_with_its_ingredients_in_their_own_numbers(tmp_path):
    narrow = lambda tensors: {key: tensor.to(torch.float8_e4m3fn) for key, tensor in tensors.items()}  # noqa: E731
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=40, change=narrow))
    [wide, *_] = sv.export(sv.uniform(kitchen), tmp_path / "wide.safetensors", dtype="float32")
    ends = {"a": "x", "b": "y", "mix_a": [[str(wide), 1.0]], "mix_b": [["m_0", 1.0]]}
    [soup, *_] = sv.export(
        sv.cook(kitchen, {"method": "interpolation", "alpha": 0.5} | ends), tmp_path / "s.safetensors"
    )
    assert read_record(sv.bake(soup, tmp_path / "b.safetensors")[0]).fingerprint == read_record(soup).fingerprint


# Quantised checkpoints


def quantised(kind: str) -> dict[str, Tensor]:
    """A state dict whose first layer is stored as libraries that quantise store it."""
    state = perturbed(build_model(MLP).state_dict(), 0.1, 1)
    weight = state.pop("0.weight")
    codes, scales = torch.zeros(48, 1, dtype=torch.uint8), torch.ones(2)
    return state | {
        "bitsandbytes 4": {
            "0.weight": codes, "0.weight.absmax": scales, "0.weight.quant_map": scales,
            "0.weight.quant_state.bitsandbytes__nf4": codes,
        },
        "bitsandbytes 8": {"0.weight": weight.to(torch.int8), "0.SCB": scales},
        "GPTQ": {"0.qweight": codes.int(), "0.qzeros": codes.int(), "0.scales": scales.half(), "0.g_idx": codes.int()},
        "AWQ": {"0.qweight": codes.int(), "0.qzeros": codes.int(), "0.scales": scales.half()},
        "compressed-tensors": {"0.weight_packed": codes.int(), "0.weight_scale": scales, "0.weight_shape": codes.int()},
        "torchao": {"0.weight:_data:qdata": codes, "0.weight:_data:scale": scales},
        "HQQ": {"0.W_q": codes, "0.meta": scales},
        "with scales": {"0.weight": weight.to(torch.float8_e4m3fn), "0.weight_scale_inv": scales},
    }[kind]  # fmt: skip


KINDS = {
    "bitsandbytes 4": "4 bits, by bitsandbytes", "bitsandbytes 8": "8 bits, by bitsandbytes", "GPTQ": "by GPTQ or AWQ",
    "AWQ": "by GPTQ or AWQ", "compressed-tensors": "by compressed-tensors", "torchao": "by torchao", "HQQ": "by HQQ",
    "with scales": "with scales beside its numbers",
}  # fmt: skip


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return Architecture(build_model(MLP), lambda: build_model(MLP))


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_checkpoint_is_refused_with_how_it_is_and_the_remedy(tmp_path, architecture, kind):
    file = save(quantised(kind), tmp_path / "m.safetensors")
    with pytest.raises(CompatibilityError, match=rf"is quantised \({KINDS[kind]}: 0\..*whose mean is not.*dequantised"):
        fit(read(file), architecture)


def test_the_config_beside_it_names_the_method(tmp_path, architecture):
    file = save(quantised("GPTQ"), tmp_path / "m.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq", "bits": 4}}))
    with pytest.raises(CompatibilityError, match=r"config\.json beside it says awq"):
        fit(read(file), architecture)


def test_a_model_whose_own_weights_are_called_alike_is_no_quantised_one(tmp_path):
    source = """
import torch
from torch import nn

class Scaled(nn.Linear):
    def __init__(self, features, classes):
        super().__init__(features, classes)
        self.weight_scale = nn.Parameter(torch.ones(1))

def build(features=6, classes=3):
    return nn.Sequential(Scaled(features, classes))
"""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=source, num_ingredients=2, num_examples=30))
    assert kitchen.names == ["m_0", "m_1"] and "0.weight_scale" in kitchen.ingredients[0].tensors


def test_codes_in_place_of_weights_are_refused_with_the_remedy():
    state = build_model(MLP).state_dict()
    codes = {key: tensor.to(torch.int8) for key, tensor in state.items()}
    with pytest.raises(CompatibilityError, match=r"0\.weight of type torch\.int8.*codes of a quantised.*dequantised"):
        check_against_model(codes, state, {})


def test_a_kitchen_goes_on_without_a_quantised_checkpoint_and_lists_it(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=30)
    save(quantised("bitsandbytes 4"), tmp_path / "q.safetensors")
    change_yaml(file, lambda document: document["ingredients"].append("q.safetensors"))
    kitchen = sv.Kitchen.load(file, skip_incompatible=True)
    [refusal] = kitchen.refused
    assert refusal.name == "q" and "is quantised (4 bits, by bitsandbytes" in refusal.reason
    with pytest.raises(CompatibilityError, match="is quantised"):
        sv.Kitchen.load(file)


@pytest.mark.parametrize("module", ["torchao.dtypes.affine_quantized_tensor", "bitsandbytes.nn.modules"])
def test_a_pickle_of_quantised_tensors_is_not_offered_to_be_converted(tmp_path: Path, module: str) -> None:
    file = tmp_path / "m.pt"
    named = f"c{module}\nTensor\n".encode()
    file.write_bytes(b"\x80\x02}X\x08\x00\x00\x000.weight" + named + b")\x81s.")  # {"0.weight": Tensor()}
    with pytest.raises(CheckpointError, match=rf"holds {module}\.Tensor, tensors that .* has quantised; save") as told:
        read(file)
    assert "convert" not in str(told.value)
