"""Folders as training frameworks leave them, written by hand: what recognition reads, with tiny weights."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from kitchens import MLP, build_model, labelled, perturbed, save, write_arrays
from PIL import Image

TIMM_ARGS = {
    "model": "test_vit", "checkpoint_hist": 5, "num_classes": 3, "model_kwargs": {"img_size": 32, "patch_size": 4},
    "input_size": [3, 32, 32], "mean": None, "std": None, "interpolation": "", "crop_pct": None, "model_ema": True,
    "data_dir": "data", "val_split": "validation", "lr": 0.003, "opt": "adamw", "seed": 1, "eval_metric": "top1",
}  # fmt: skip
SUMMARY = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n0,2.3,2.2,50.0,100.0,1e-05\n1,2.1,2.0,75.0,100.0,0.002\n"


def images(folder: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), each: int = 2) -> Path:
    """An image folder of grey squares."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            Image.new("RGB", (32, 32), (40 * number, 9 * index, 7)).save(folder / name / f"{index}.png")
    return folder


def timm_run(root: Path, **args: Any) -> Path:
    """output/vit with args.yaml, summary.csv and two checkpoints; data/validation beside it."""
    folder = root / "output" / "vit"
    folder.mkdir(parents=True)
    (folder / "args.yaml").write_text(yaml.safe_dump(TIMM_ARGS | args))
    (folder / "summary.csv").write_text(SUMMARY)
    for epoch in range(2):
        torch.save({"epoch": epoch, "state_dict": {"w": torch.ones(2)}}, folder / f"checkpoint-{epoch}.pth.tar")
    images(root / "data" / "validation")
    return folder


def trainer_run(root: Path, **config: Any) -> Path:
    """output/checkpoint-10 and checkpoint-20 with trainer_state.json and config.json; held_out.csv beside it."""
    known = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"} | config
    for number, step in enumerate((10, 20)):
        folder = root / "output" / f"checkpoint-{step}"
        save({"w": torch.ones(2)}, folder / "model.safetensors")
        history = [
            {"step": 5, "learning_rate": 0.01, "loss": 1.0},
            {"step": step, "epoch": number + 1.0, "eval_accuracy": 0.5 + number / 4, "eval_runtime": 1.0},
        ]
        state = {"global_step": step, "epoch": number + 1.0, "log_history": history}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        (folder / "config.json").write_text(json.dumps(known))
        (folder / "tokenizer.json").write_text("{}")
    (root / "held_out.csv").write_text("sentence,label\nfine,1\nbad,0\n")
    return root / "output"


def lightning_run(root: Path, accuracy: float = 0.9) -> Path:
    """version_0 with two checkpoints of an MLP, hparams.yaml, metrics.csv; model.py and val.npz beside it."""
    model = build_model(MLP)
    run = root / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "hparams.yaml").write_text("lr: 0.001\nfeatures: 6\nlayers: !!python/tuple [1, 2]\n")
    rows = ["epoch,step,train_loss,val_acc"]
    for epoch in range(2):
        step = 5 * (epoch + 1)
        weights = perturbed(model.state_dict(), 0.01, epoch)
        torch.save(
            {"state_dict": weights, "epoch": epoch, "global_step": step},
            run / "checkpoints" / f"epoch={epoch}-step={step}.ckpt",
        )
        rows += [f"{epoch},{step - 1},1.5,", f"{epoch},{step - 1},,{accuracy}"]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    (root / "model.py").write_text(MLP)
    write_arrays(root / "val.npz", *labelled(model, (6,), 200, 0, wrong=0.1))
    return run


def ultralytics_run(root: Path) -> Path:
    """output with args.yaml, results.csv and weights/best.pt and epoch1.pt."""
    folder = root / "output"
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").write_text("task: classify\nmodel: yolo11n-cls.yaml\nimgsz: 64\ndata: data\nlr0: 0.05\n")
    rows = ["epoch,  metrics/accuracy_top1, metrics/accuracy_top5", "1, 0.5, 1", "2, 0.25, 1", "3, 0.5, 1"]
    (folder / "results.csv").write_text("\n".join(rows) + "\n")
    for name in ("best", "epoch1", "last"):
        torch.save({"model": None, "ema": partial(max, 1)}, folder / "weights" / f"{name}.pt")
    images(root / "data" / "val")
    return folder
