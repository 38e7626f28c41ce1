"""Adapters made on the fly, as peft writes them: by hand over a small kitchen's model, or by peft itself over tiny
models of transformers."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from kitchens import save, small_kitchen, write_yaml
from safetensors.torch import load_file
from torch import Tensor

PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["0", "2"], "fan_in_fan_out": False}


def factors(seed: int, rank: int, sizes: Mapping[str, tuple[int, int]], scale: float = 0.1) -> dict[str, Tensor]:
    """Factors of some modules, (out, in) each, under peft's keys."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for module, (rows, columns) in sizes.items():
        made[f"{PREFIX}{module}.lora_A.weight"] = scale * torch.randn(rank, columns, generator=generator)
        made[f"{PREFIX}{module}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
    return made


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], suffix: str = ".safetensors", **config: Any) -> Path:
    """An adapter's folder."""
    save(tensors, folder / f"adapter_model{suffix}")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


SIZES = {"0": (16, 6), "2": (3, 16)}


def adapters_kitchen(folder: Path, number: int = 3, scale: float = 0.1, **keys: Any) -> Path:
    """A kitchen of adapters of different ranks over one base; adapters/a1 ... by hand."""
    file = small_kitchen(folder, num_ingredients=0, **({"ingredients": ["adapters/*"]} | keys))
    for index in range(1, number + 1):
        rank = 1 + index
        write_adapter(
            folder / "adapters" / f"a{index}", factors(index, rank, SIZES, scale), r=rank, lora_alpha=2 * rank
        )
    return file


def merged(base: Mapping[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """The textbook: each weight with its product added, in float64."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    whole = {key: tensor.clone() for key, tensor in base.items()}
    for key, a in tensors.items():
        if ".lora_A." in key:
            name = key.removeprefix(PREFIX).replace(".lora_A", "")
            product = tensors[key.replace(".lora_A.", ".lora_B.")].double() @ a.double()
            whole[name] = (whole[name].double() + config["lora_alpha"] / len(a) * product).to(whole[name].dtype)
    return whole


def tokenizer(folder: Path) -> None:
    """A tokenizer of a few words, as transformers saves it."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{index}" for index in range(34))]
    model = tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))


def bert_kitchen(folder: Path, number: int = 3, **keys: Any) -> Path:
    """A kitchen of peft's own adapters, with a head each, over a tiny BERT that was never trained for the task."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    peft = pytest.importorskip("peft", reason="needs peft")
    folder.mkdir(parents=True, exist_ok=True)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=24,
        max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertForPreTraining(config).save_pretrained(folder / "base")
    for index in range(number):
        torch.manual_seed(10 + index)
        model = transformers.BertForSequenceClassification.from_pretrained(folder / "base", num_labels=3)
        lora = peft.LoraConfig(
            task_type="SEQ_CLS", r=2 + index, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers and peft about each other
            peft.get_peft_model(model, lora).save_pretrained(folder / "runs" / f"r{index}")
    head = folder / "model"
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(head)
    for seed, split in enumerate(("held_out", "test")):
        generator = torch.Generator().manual_seed(seed)
        words = [" ".join(f"w{int(one)}" for one in torch.randint(0, 34, (6,), generator=generator)) for _ in range(60)]
        labels = torch.randint(0, 3, (60,), generator=generator).tolist()
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip(words, labels, strict=True)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    tokenizer(folder / "model")
    text = {"format": "text", "text": "text", "label": "label", "tokenizer": "model"}
    data = {split: {**text, "path": f"{split}.jsonl"} for split in ("held_out", "test")}
    document: dict[str, Any] = {
        "model": {"factory": "transformers:model"}, "ingredients": ["runs/*"], "base": "base", "data": data,
        "device": "cpu",
    }  # fmt: skip
    return write_yaml(folder, **(document | keys))
