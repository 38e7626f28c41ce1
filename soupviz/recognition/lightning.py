"""Runs of Lightning: checkpoints/*.ckpt, hparams.yaml, metrics.csv. What builds the network, nobody can know."""

import re
from pathlib import Path

from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.weights.inert import plain, read_yaml
from soupviz.weights.names import natural_key

HPARAMS, METRICS = "hparams.yaml", "metrics.csv"


def recognise(folder: Path, may_read: MayRead) -> Run | None:
    """The run that a folder holds (`version_0`, or its `checkpoints`); None where it is none of Lightning's."""
    above = folder.parent
    if (
        folder.name == "checkpoints"
        and may_read(above)
        and any((above / name).is_file() for name in (HPARAMS, METRICS))
    ):
        folder = above
    inside = folder / "checkpoints"
    place = inside if any(inside.glob("*.ckpt")) else folder
    files = sorted(path.name for path in place.glob("*.ckpt"))
    if not files or not (place == inside or (folder / HPARAMS).is_file() or (folder / METRICS).is_file()):
        return None
    hyperparameters = plain(read_yaml(folder / HPARAMS)) if (folder / HPARAMS).is_file() else {}
    prefix = "checkpoints/" if place == inside else ""
    numbered = [name for name in files if re.search(r"\d", name.removesuffix(".ckpt")) and not name.startswith("last")]
    pattern = f"{prefix}*=*.ckpt" if numbered and all("=" in name for name in numbered) else f"{prefix}*.ckpt"
    copy = "; last.ckpt is a copy of one" if numbered and "last.ckpt" in files else ""
    found = {"ingredients": Found([pattern], f"{len(numbered) or len(files)} files{copy}")}
    named = hyperparameters.get("factory")
    if isinstance(named, str) and ":" in named:
        found["factory"] = Found(named, f"{HPARAMS}: factory")
    arch = next(
        (hyperparameters[key] for key in ("arch", "architecture", "backbone", "model_name") if key in hyperparameters),
        None,
    )
    notes = [
        f"{HPARAMS} names {arch!r}: if that is the whole network, the factory is torchvision:{arch} or timm:{arch}."
    ]
    return Run(
        "Lightning", folder, found, hyperparameters=hyperparameters,
        best=place / max(numbered or files, key=natural_key), notes=tuple(notes if arch else ()),
    )  # fmt: skip
