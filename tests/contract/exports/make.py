"""Made the files beside it, once, with soupviz 0.1.0: `python tests/contract/exports/make.py`.

They are what users have on their disks: exported soups and a store. Not to be made anew: that today's program still
opens them is what they are for. Only what a later version added to them may be made beside them.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import soupviz as sv

HERE = Path(__file__).parent
MODEL = """from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
"""
SCALES = {"a": 0.25, "b": 0.3, "c": 0.35}
SIZES = {"held_out": 60, "test": 60, "train": 40}
SOUPS = {
    "uniform": ("kitchen.yaml", {"method": "uniform"}, ".safetensors"),
    "greedy_mean": ("kitchen.yaml", {"method": "greedy", "alpha": "mean"}, ".safetensors"),
    "greedy_alpha": ("kitchen.yaml", {"method": "greedy", "alpha": 0.1}, ".pt"),
    "averaged": ("averaged.yaml", {"method": "uniform"}, ".safetensors"),
    "sharded": ("sharded.yaml", {"method": "uniform"}, ".safetensors"),
    "task_arithmetic": ("kitchen.yaml", {"method": "task_arithmetic", "scale": 0.8}, ".safetensors"),
    "temperature": ("kitchen.yaml", {"method": "greedy"}, ".safetensors"),
    "recalibrated": ("kitchen.yaml", {"method": "uniform", "batchnorm": "recalibrate:40"}, ".safetensors"),
}
"""Each with the kitchen that it was cooked in, its recipe, and the suffix of its file."""


def near(state: dict[str, Tensor], scale: float, seed: int) -> dict[str, Tensor]:
    """Weights beside others; variances stay above 0, counters differ."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            found[key] = tensor + seed
        elif key.endswith("running_var"):
            found[key] = tensor * (scale * torch.randn(tensor.shape, generator=generator)).exp()
        else:
            found[key] = tensor + scale * torch.randn(tensor.shape, generator=generator)
    return found


def write_data(model: nn.Module) -> None:
    (HERE / "data").mkdir()
    for seed, (split, size) in enumerate(SIZES.items()):
        generator = torch.Generator().manual_seed(50 + seed)
        inputs = torch.randn(size, 1, 4, 4, generator=generator)
        with torch.no_grad():
            labels = model(inputs).argmax(1)
        wrong = torch.rand(size, generator=generator) < 0.1
        labels[wrong] = (labels[wrong] + 1) % 3
        save_file({"inputs": inputs, "labels": labels}, HERE / "data" / f"{split}.safetensors")


def write_checkpoints(state: dict[str, Tensor]) -> None:
    save_file(state, HERE / "base.safetensors")
    ingredients = {name: near(state, scale, seed) for seed, (name, scale) in enumerate(SCALES.items(), 1)}
    for name, tensors in ingredients.items():
        save_file(tensors, HERE / f"{name}.safetensors")
    for name in ("a", "b"):
        raw = {f"module.{key}": tensor for key, tensor in near(ingredients[name], 0.5, 9).items()}
        torch.save({"model": raw, "model_ema": ingredients[name], "epoch": 3}, HERE / f"averaged_{name}.pt")
    for name in ("b", "c"):
        folder = HERE / f"sharded_{name}"
        folder.mkdir()
        shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
        for number, (key, tensor) in enumerate(ingredients[name].items()):
            list(shards.values())[number % 2][key] = tensor
        for file, tensors in shards.items():
            save_file(tensors, folder / file)
        index = {"metadata": {}, "weight_map": {key: file for file, tensors in shards.items() for key in tensors}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def write_kitchens() -> None:
    splits = {split: {"format": "arrays", "path": f"data/{split}.safetensors"} for split in SIZES}
    plain = {
        "name": "kept", "model": {"factory": "model.py:build"},
        "ingredients": [f"{name}.safetensors" for name in SCALES], "base": "base.safetensors", "data": splits,
        "device": "cpu",
    }  # fmt: skip
    kitchens = {
        "kitchen.yaml": plain,  # kept in the repository as kitchen.yaml.kept
        "averaged.yaml": plain | {"ingredients": ["averaged_*.pt"], "weights": "ema"},
        "sharded.yaml": plain | {"ingredients": ["sharded_*"]},
    }
    for file, keys in kitchens.items():
        (HERE / file).write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")


def write_soups() -> None:
    from soupviz.soups.scaling import calibrate

    told = {}
    for name, (kitchen, recipe, suffix) in SOUPS.items():
        folder = HERE / "soups" / name
        folder.mkdir(parents=True)
        soup = sv.cook(sv.Kitchen.load(HERE / kitchen), recipe)
        scaled = {"temperature": calibrate(soup).temperature, "bake_temperature": True} if name == "temperature" else {}
        sv.export(soup, folder / f"soup{suffix}", **scaled)
        record = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        told[name] = {
            "kitchen": kitchen, "file": f"soups/{name}/soup{suffix}", "fingerprint": record["fingerprint"],
            "coefficients": record["coefficients"], "temperature": record["temperature"],
            "scores": {split: [score["correct"], score["loss"]] for split, score in record["scores"].items()},
        }  # fmt: skip
        assert all(score["num_close"] == 0 for score in record["scores"].values())
    (HERE / "expected.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def write_store() -> None:
    """A store of its own, with scores, three soups, a name that the user gave and a pin."""
    shutil.rmtree(HERE / ".soupviz")
    kitchen = sv.Kitchen.load(HERE / "kitchen.yaml")
    soups = [sv.uniform(kitchen), sv.greedy(kitchen), sv.greedy(kitchen, alpha=0.1)]
    place = HERE / ".soupviz" / "store.sqlite"
    connection = sqlite3.connect(place)
    connection.execute("UPDATE runs SET label = 'kept for the paper' WHERE id = 2")
    connection.execute("UPDATE runs SET pinned = 1 WHERE id = 3")
    connection.commit()
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    shutil.copy(place, HERE / "store.sqlite")
    kept = [{"title": soup.title, **{s: score.correct for s, score in soup.scores.items()}} for soup in soups]
    (HERE / "runs.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(HERE / ".soupviz")


def main() -> None:
    (HERE / "model.py").write_text(MODEL, encoding="utf-8")
    names: dict[str, object] = {"__name__": "model"}
    exec(MODEL, names)
    torch.manual_seed(35)  # with it both greedy soups are made of several
    model = names["build"]().eval()  # type: ignore[operator]
    with torch.no_grad():  # so that all three classes are answered
        model[5].weight *= 8
        model[5].bias.zero_()
        model[5].bias -= model(torch.randn(500, 1, 4, 4)).mean(0)
    write_data(model)
    write_checkpoints(model.state_dict())
    write_kitchens()
    write_soups()
    write_store()


if __name__ == "__main__":
    main()
