"""Folders of checkpoints that no framework's files explain."""

from pathlib import Path

from soupviz.recognition.files import first_readable
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.recognition.trainer import WEIGHTS

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".th", ".model", ".pkl")
NO_INGREDIENTS = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
BASES = ("base", "pretrained", "init", "initial", "zeroshot")


def recognise(folder: Path, _may_read: MayRead) -> Run | None:
    """The checkpoints of a folder, else those of its folders with one each; None where there are none."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_checkpoint(path))
    if files:
        suffixes = sorted({"".join(Path(path.name).suffixes[-1:]) for path in files})
        patterns = [f"*{suffix}" for suffix in suffixes]
    else:
        holders = [path for path in sorted(folder.iterdir()) if any((path / name).is_file() for name in WEIGHTS)]
        files = [path / name for path in holders for name in WEIGHTS if (path / name).is_file()]
        patterns = sorted({f"*/{path.name}" for path in files})
    if not files:
        return None
    found = {"ingredients": Found(patterns, f"{len(files)} checkpoints")}
    base = next((path for path in files if path.name.partition(".")[0].lower() in BASES), None)
    if base:
        found["base"] = Found(base, "the file's name")
    opened = first_readable(path for path in files if path != base)
    arch = opened.metadata.get("arch") if opened else None
    if opened and isinstance(arch, str):
        found["factory"] = Found(f"torchvision:{arch}", f"{opened.path.name}: arch")
    return Run("plain", folder, found)


def _is_checkpoint(path: Path) -> bool:
    return path.suffix in SUFFIXES and not path.name.startswith((".", *NO_INGREDIENTS))
