"""An adapter's weights are those that peft's own merge_and_unload makes of it, whatever its configuration."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kitchens import save
from torch import Tensor, nn

from soupviz.errors import CompatibilityError
from soupviz.mixing.averaging import mix_tensors
from soupviz.models.architecture import Architecture
from soupviz.soups.as_adapter import as_adapter
from soupviz.store.database import open_store
from soupviz.weights.discovery import read_ingredient
from soupviz.weights.ingredients import Ingredient

pytestmark = pytest.mark.extras


def bert(**changes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=24,
        max_position_embeddings=16, num_labels=3, **changes,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def llama(**changes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=24, **changes
    )
    return transformers.LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, n_embd=16, n_head=2, n_layer=2))


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(2), nn.Conv1d(4, 5, 3))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (bert, {"target_modules": ["query", "value"], "r": 4, "lora_alpha": 16}),
    "rslora": (bert, {"target_modules": ["query", "value"], "r": 4, "lora_alpha": 16, "use_rslora": True}),
    "patterns": (
        llama,
        {
            "target_modules": "all-linear", "r": 4, "lora_alpha": 8, "rank_pattern": {"layers.1.self_attn.q_proj": 7},
            "alpha_pattern": {"mlp.*": 3, "^model.layers.0.self_attn.k_proj": 31},
        },
    ),
    "a head of its own": (bert, {"target_modules": ["query"], "modules_to_save": ["classifier"]}),
    "all biases": (bert, {"target_modules": ["query", "dense"], "bias": "all"}),
    "biases of adapted layers": (bert, {"target_modules": ["query"], "bias": "lora_only"}),
    "a bias of B": (bert, {"target_modules": ["query", "dense"], "lora_bias": True}),
    "Conv1D": (gpt2, {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "embeddings": (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied embeddings": (lambda: llama(tie_word_embeddings=True), {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied head": (lambda: llama(tie_word_embeddings=True), {"target_modules": ["lm_head", "q_proj"]}),
    "saved embeddings": (llama, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
    "convolutions": (convolutions, {"target_modules": ["0", "2", "4"], "r": 2}),
    "one square layer": (bert, {"target_modules": ["pooler.dense"], "r": 3}),
}  # fmt: skip


def made(
    build: Any, folder: Path, name: str = "adapter", dtype: torch.dtype = torch.float32, seed: int = 1, **config: Any
) -> tuple[Path, dict[str, Tensor]]:
    """An adapter that was trained as far as random numbers are, and what peft merges it into."""
    peft = pytest.importorskip("peft", reason="needs peft")
    torch.manual_seed(1)
    base = build().to(dtype)
    torch.save(base.state_dict(), folder / "base.pt")
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft has its own to say of ties and directions
        model = peft.get_peft_model(base, peft.LoraConfig(**{"init_lora_weights": False, **config}))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter.data += 0.1 * torch.randn(parameter.shape)
        model.save_pretrained(folder / name, save_embedding_layers=False)
        return folder / name, model.merge_and_unload().state_dict()


def read(build: Any, folder: Path, adapter: Path) -> Ingredient:
    """The adapter as soupviz reads it."""
    architecture = Architecture(build().eval(), build)
    store = open_store(folder / "kitchen.yaml")
    base = read_ingredient("base", folder / "base.pt", architecture, store, is_base=True)
    return read_ingredient("a", adapter / "adapter_model.safetensors", architecture, store, base=base)


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_is_what_peft_merges_it_into(tmp_path: Path, case: str) -> None:
    build, config = CASES[case]
    adapter, expected = made(build, tmp_path, **config)
    found = read(build, tmp_path, adapter)
    assert found.tensors.keys() == expected.keys()
    changed = 0
    base = torch.load(tmp_path / "base.pt")
    for key, tensor in expected.items():
        torch.testing.assert_close(found.tensors[key], tensor, rtol=1e-6, atol=1e-6, msg=key)
        changed += not torch.equal(found.tensors[key], base[key])
    assert changed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_of_16_bits_is_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    build = CASES["plain"][0]
    adapter, expected = made(lambda: build().to(dtype), tmp_path, dtype=dtype, **CASES["plain"][1])
    found = read(build, tmp_path, adapter)
    for key, tensor in expected.items():
        assert found.tensors[key].dtype == tensor.dtype == dtype
        torch.testing.assert_close(found.tensors[key], tensor)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [None, 3])
def test_peft_loads_the_adapter_of_a_soup_and_merges_it_into_the_soup(
    tmp_path: Path, case: str, rank: int | None
) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    build, config = CASES[case]
    given = [config, config | {"r": 5, "lora_alpha": 3, "use_rslora": True, "rank_pattern": {}}]
    items = {
        name: replace(read(build, tmp_path, made(build, tmp_path, name, seed=seed, **one)[0]), name=name)
        for seed, (name, one) in enumerate(zip("ab", given, strict=True))
    }
    mix = (("a", 0.75), ("b", 0.25))
    one = as_adapter(mix, rank, lambda _name: None, items.__getitem__)
    (tmp_path / "soup").mkdir()
    save(dict(one.content().tensors()), tmp_path / "soup" / "adapter_model.safetensors")
    (tmp_path / "soup" / "adapter_config.json").write_text(one.description())
    if rank is None:
        expected = dict(mix_tensors([(items[name], weight) for name, weight in mix]))
    else:
        assert one.form().lost > 0.01
        expected = dict(read(build, tmp_path, tmp_path / "soup").tensors)
    base = build()
    base.load_state_dict(torch.load(tmp_path / "base.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(missing|unexpected) adapter keys")
        model = peft.PeftModel.from_pretrained(base, tmp_path / "soup").merge_and_unload()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-5, atol=1e-5, msg=key)


def test_what_is_counted_differently_by_pefts_versions_is_refused(tmp_path: Path) -> None:
    adapter, _ = made(Attending, tmp_path, target_modules=["attention", "head"])
    with pytest.raises(CompatibilityError, match=r"attention\.base_layer\.out_proj.*merge_and_unload"):
        read(Attending, tmp_path, adapter)
