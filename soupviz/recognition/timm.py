"""Runs of timm's train.py: args.yaml, summary.csv, checkpoint-N.pth.tar, model_best and last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.data.classes import natural_order
from soupviz.recognition.files import mapping_in, places
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.weights.inert import read_yaml
from soupviz.weights.names import natural_key

ARGS = "args.yaml"
PREPROCESSING = ("input_size", "mean", "std", "interpolation", "crop_pct")


def recognise(folder: Path, may_read: MayRead) -> Run | None:
    """The run that a folder holds; None where it is none of timm's."""
    if not (folder / ARGS).is_file():
        return None
    args = read_yaml(folder / ARGS)
    if not isinstance(args.get("model"), str) or "checkpoint_hist" not in args:
        return None
    found = {
        "factory": Found(f"timm:{args['model']}", f"{ARGS}: model"),
        "args": Found(*_arguments(args)),
        "ingredients": _ingredients(folder),
        "transform": Found({"preset": "timm"}, f"the model's own, with what {ARGS} sets"),
    }
    if args.get("model_ema"):
        found["weights"] = Found(
            "raw", "the files hold raw weights and their moving average (ema), whose scores summary.csv has"
        )
    start = args.get("initial_checkpoint")
    base = (
        next((place for place in places(folder, start) if may_read(place) and place.is_file()), None) if start else None
    )
    if base:
        found["base"] = Found(base, f"{ARGS}: initial_checkpoint")
    notes = (
        [f"{ARGS} has a class_map ({args['class_map']}): give its order as `classes:`."]
        if args.get("class_map")
        else []
    )
    named = args.get("data_dir") or args.get("data")
    return Run(
        "timm", folder, found, data=places(folder, named) if named else (),
        held_out=(str(args.get("val_split") or "validation"),), ema_scores=bool(args.get("model_ema")),
        notes=tuple(notes), best=next(iter([*_kept(folder), *_epochs(folder)]), None), class_order=natural_order,
    )  # fmt: skip


def described(folder: Path) -> dict[str, Found]:
    """What timm wrote beside a model's weights for the hub: its name, classes and preprocessing."""
    config = mapping_in(folder / "config.json")
    own = config.get("pretrained_cfg")
    if not isinstance(config.get("architecture"), str) or not isinstance(own, Mapping):
        return {}
    overlay = {key: own[key] for key in PREPROCESSING if own.get(key)}
    arguments = {"num_classes": config.get("num_classes", own.get("num_classes", 1000))}
    return {
        "factory": Found(f"timm:{config['architecture']}", "config.json: architecture"),
        "args": Found(arguments | {"pretrained_cfg_overlay": overlay}, "config.json: num_classes, pretrained_cfg"),
        "transform": Found({"preset": "timm"}, "the model's own, with what config.json sets"),
    }


def _arguments(args: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What train.py hands to create_model, as far as the built model depends on it."""
    names = {"num_classes": "num_classes", "in_chans": "in_chans", "gp": "global_pool", "bn_eps": "bn_eps"}
    chosen = {new: args[old] for old, new in names.items() if args.get(old) is not None}
    used = [old for old in names if args.get(old) is not None]
    own = args.get("model_kwargs")
    if isinstance(own, Mapping) and own:
        chosen |= own
        used.append("model_kwargs")
    overlay = {key: args[key] for key in PREPROCESSING if args.get(key)}
    if "input_size" not in overlay and args.get("img_size"):
        size = args["img_size"]
        overlay["input_size"] = [args.get("in_chans") or 3, size, size]
    for key in ("mean", "std"):  # one value stands for every channel
        if len(overlay.get(key, ())) == 1:
            overlay[key] = list(overlay[key]) * (args.get("in_chans") or 3)
    if overlay:  # the model's own preprocessing, which transform's preset takes, is then the run's
        chosen["pretrained_cfg_overlay"] = overlay
        used += overlay
    return chosen, f"{ARGS}: {', '.join(used)}"


def _ingredients(folder: Path) -> Found:
    if _epochs(folder):
        return Found(["checkpoint-*.pth.tar"], "one for each epoch that was kept; model_best and last are copies")
    return Found([path.name for path in _kept(folder)], "the files that are there")


def _epochs(folder: Path) -> list[Path]:
    """The last first."""
    return sorted(folder.glob("checkpoint-*.pth.tar"), key=lambda path: natural_key(path.name), reverse=True)


def _kept(folder: Path) -> list[Path]:
    return [folder / name for name in ("model_best.pth.tar", "last.pth.tar") if (folder / name).is_file()]
