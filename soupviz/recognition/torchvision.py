"""Runs of torchvision's reference scripts: model_N.pth and checkpoint.pth, with their arguments inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.recognition.files import first_readable, head_size, places
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.weights.names import natural_key

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def recognise(folder: Path, _may_read: MayRead) -> Run | None:
    """The run that a folder holds; None where no file has the references' arguments."""
    files = [*sorted(folder.glob("model_*.pth")), *sorted(folder.glob("checkpoint.pth"))]
    opened = first_readable(files)
    if opened is None:
        return None
    values = opened.metadata
    name = values.get("model", values.get("arch"))
    if not isinstance(name, str) or ("val_crop_size" not in values and "data_path" not in values):
        return None
    inside = f"{opened.path.name}: args"
    found = {
        "factory": Found(f"torchvision:{name}", f"{inside}.model"),
        "ingredients": Found(
            ["model_*.pth"] if files[0].name != "checkpoint.pth" else ["checkpoint.pth"],
            "one for each epoch; checkpoint.pth is a copy of the last",
        ),
        "transform": Found(_transform(values), f"{inside}.val_resize_size, val_crop_size; ImageNet's mean and std"),
    }
    if size := head_size(opened):
        found["args"] = Found({"num_classes": size}, f"{opened.path.name}: the last layer's outputs")
    if values.get("model_ema"):
        found["weights"] = Found("raw", "the files hold raw weights and their moving average (ema)")
    data = values.get("data_path")
    return Run(
        "torchvision", folder, found, data=places(folder, data) if data else (), held_out=("val",),
        best=max(files, key=lambda path: natural_key(path.name)),
    )  # fmt: skip


def _transform(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resize": int(values.get("val_resize_size", 256)),
        "crop": int(values.get("val_crop_size", 224)),
        "interpolation": str(values.get("interpolation", "bilinear")),
        "mean": MEAN,
        "std": STD,
    }
