"""Runs of Ultralytics' training, of classification and of detection: weights/*.pt, args.yaml, results.csv."""

from pathlib import Path

from soupviz.recognition.files import places
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.weights.inert import read_yaml

ARGS = "args.yaml"
FACTORIES = {"classify": "soupviz.models.yolo:classifier", "detect": "soupviz.models.yolo:detector"}
"""By what args.yaml calls the task."""
SIZES = {"classify": 224, "detect": 640}
"""Of images, where args.yaml says none."""


def recognise(folder: Path, may_read: MayRead) -> Run | None:
    """The run that a folder, or its `weights`, holds; None where it is none of Ultralytics', or of a
    task that has no factory here."""
    if folder.name == "weights" and may_read(folder.parent) and (folder.parent / ARGS).is_file():
        folder = folder.parent
    if not (folder / ARGS).is_file() or not (folder / "weights").is_dir():
        return None
    args = read_yaml(folder / ARGS)
    task = str(args.get("task"))
    if task not in FACTORIES:
        return None
    size = args.get("imgsz") or SIZES[task]
    model = str(args.get("model") or "")
    kept = sorted((folder / "weights").glob("*.pt")) or sorted((folder / "weights").glob("*.safetensors"))
    if not kept:
        return None
    found = {
        "ingredients": Found([f"weights/*{kept[0].suffix}"], f"{len(kept)} files"),
        "factory": Found(FACTORIES[task], f"{ARGS}: task"),
        "args": Found({"model": f"{Path(model).stem}.yaml"}, f"{ARGS}: model"),
    }
    if task == "classify":
        found["transform"] = Found({"resize": size, "crop": size}, f"{ARGS}: imgsz; bilinear, no mean and std")
    else:  # its model scales images itself
        found["task"] = Found("detection", f"{ARGS}: task")
        found["args"] = Found({"model": f"{Path(model).stem}.yaml", "size": size}, f"{ARGS}: model, imgsz")
    named = args.get("data")
    return Run(
        "Ultralytics", folder, found, data=places(folder, named) if named else (),
        held_out=(str(args.get("split") or "val"),), counted="num_classes",
        best=next((path for path in kept if path.stem == "best"), kept[-1]),
    )  # fmt: skip
