"""Small kitchens made on the fly: a model file, checkpoints near one base, data that the base labels, kitchen.yaml."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from soupviz.cli.run import main

MLP = """
from torch import nn

def build(features=6, classes=3):
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))
"""

BATCHNORM = """
from torch import nn

def build(channels=3, classes=3):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes),
    )
"""

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())

def build(features=6, classes=3):
    return Tied(features, classes)
"""


def build_model(source: str, **args: Any) -> nn.Module:
    """The model that `build` in a source text makes, seeded, in evaluation mode."""
    names: dict[str, Any] = {"__name__": "model_of_a_test"}
    exec(source, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return names["build"](**args).eval()


def perturbed(state: Mapping[str, Tensor], scale: float, seed: int) -> dict[str, Tensor]:
    """A state dict near another: noise on every floating-point tensor, variances positive, counters set apart."""
    generator = torch.Generator().manual_seed(seed)
    near: dict[str, Tensor] = {}
    made: dict[int, Tensor] = {}
    for key, tensor in state.items():
        place = tensor.data_ptr()
        if place in made:  # tied
            near[key] = made[place]
            continue
        if not tensor.is_floating_point():
            near[key] = tensor + seed if key.endswith("num_batches_tracked") else tensor.clone()
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.dtype)
        near[key] = (tensor * (scale * noise).exp()) if key.endswith("running_var") else tensor + scale * noise
        made[place] = near[key]
    return near


def save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a state dict as .safetensors (each tensor whole), or with torch.save."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata=metadata)
    else:
        torch.save(dict(tensors), path)
    return path


def labelled(
    model: nn.Module, shape: Sequence[int], num_examples: int, seed: int, wrong: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Random inputs with the model's own answers as labels, a share of them replaced by random ones."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_examples, *shape, generator=generator)
    with torch.no_grad():
        logits = model(inputs)
    labels = logits.argmax(1)
    replaced = torch.rand(num_examples, generator=generator) < wrong
    labels[replaced] = torch.randint(0, logits.shape[1], (int(replaced.sum()),), generator=generator)
    return inputs, labels


def write_arrays(path: Path, inputs: Tensor, labels: Tensor) -> Path:
    """An `arrays` split, .safetensors or .npz by suffix."""
    if path.suffix == ".npz":
        np.savez(path, inputs=inputs.numpy(), labels=labels.numpy())
    else:
        save_file({"inputs": inputs.contiguous(), "labels": labels}, path)
    return path


def write_yaml(folder: Path, **keys: Any) -> Path:
    """A kitchen.yaml with these keys."""
    file = folder / "kitchen.yaml"
    file.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return file


def small_kitchen(
    folder: Path,
    *,
    source: str = MLP,
    args: Mapping[str, Any] | None = None,
    shape: Sequence[int] = (6,),
    num_ingredients: int = 4,
    num_examples: int = 200,
    scale: float = 0.1,
    suffix: str | Sequence[str] = ".safetensors",
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors,
    train: int = 0,
    shifts: Sequence[str] = (),
    **keys: Any,
) -> Path:
    """A whole kitchen: model.py, base, m_0 ... m_N, held_out and test as arrays; returns its kitchen.yaml.

    Args:
        scale: of the noise on the first checkpoint; each next one has a bit more.
        suffix: of the checkpoints; several are used in turn.
        change: applied to each ingredient's and the base's state dict before it is written.
        train: how many examples of train; 0: the kitchen has none. shifts: names of further test splits.
        keys: further keys of kitchen.yaml, which replace those written here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(source, encoding="utf-8")
    model = build_model(source, **(args or {}))
    suffixes = [suffix] if isinstance(suffix, str) else list(suffix)
    base = model.state_dict()
    save(change(dict(base)), folder / f"base{suffixes[0]}")
    files = {}
    for index in range(num_ingredients):
        name = f"m_{index}"
        tensors = perturbed(base, scale * (1 + 0.3 * index), seed=index + 1)
        files[name] = save(change(tensors), folder / f"{name}{suffixes[index % len(suffixes)]}").name
    splits = {"held_out": num_examples, "test": num_examples} | ({"train": train} if train else {})
    for number, (split, size) in enumerate((splits | dict.fromkeys(shifts, num_examples)).items()):
        write_arrays(folder / f"{split}.safetensors", *labelled(model, shape, size, seed=100 + number))
    data: dict[str, Any] = {split: {"format": "arrays", "path": f"{split}.safetensors"} for split in splits}
    if shifts:
        data["shifts"] = {shift: {"format": "arrays", "path": f"{shift}.safetensors"} for shift in shifts}
    document: dict[str, Any] = {
        "name": "small",
        "model": {"factory": "model.py:build", "args": dict(args or {})},
        "ingredients": list(files.values()),
        "base": f"base{suffixes[0]}",
        "data": data,
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def regression_kitchen(folder: Path, *, outputs: int = 1, num_examples: int = 120, **keys: Any) -> Path:
    """A whole kitchen of the task regression: the base's own answers, with noise, are the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    file = small_kitchen(folder, args={"classes": outputs}, task="regression", **keys)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    shifts = document["data"].get("shifts", {})
    model = build_model(MLP, classes=outputs)
    for number, split in enumerate(document["data"] | shifts):
        if split == "shifts":
            continue
        generator = torch.Generator().manual_seed(200 + number)
        inputs = torch.randn(num_examples, 6, generator=generator)
        with torch.no_grad():
            answers = model(inputs)
        noisy = answers + 0.1 * torch.randn(answers.shape, generator=generator)
        write_arrays(folder / f"{split}.safetensors", inputs, noisy[:, 0].contiguous() if outputs == 1 else noisy)
    return file


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: (exit code, what it wrote to stdout, what to stderr)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, captured.out, captured.err


def json_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command prints with --json: the whole of stdout is one JSON document."""
    status, out, err = run_command(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def change_yaml(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Edit a kitchen.yaml in place."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file
