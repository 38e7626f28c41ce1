"""Folders of checkpoints that no framework's files explain: of one run, or of several, a folder for each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from soupviz.errors import CheckpointError
from soupviz.extras import needed
from soupviz.recognition import timm, trainer
from soupviz.recognition.files import BASES, first_readable, head_size, levels
from soupviz.recognition.runs import Found, Run
from soupviz.weights.containers import checkpoints_in, without_suffix
from soupviz.weights.names import natural_key
from soupviz.weights.selection import MAGIC, no_ingredient

BEST = ("best", "model_best", "best_model")
"""Names of the one checkpoint that stands for a run."""


def recognise(folder: Path) -> Run | None:
    """The checkpoints of a folder, else those of the folders below it, on one level; None where there are none."""
    for level in levels(folder):
        held = {place: files for place in level if (files := _checkpoints(place))}
        if held:
            return _run(folder, held)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    try:
        found = checkpoints_in(folder)
    except (OSError, CheckpointError):  # it may not be read
        return []
    return sorted((path for path in found if not no_ingredient(path)), key=lambda path: natural_key(path.name))


def _run(folder: Path, held: Mapping[Path, Sequence[Path]]) -> Run:
    base = next((path for place, files in held.items() for path in files if _is_base(path, place)), None)
    own = {place: kept for place, files in held.items() if (kept := [path for path in files if path != base])}
    held = own or held
    if len(held) == 1:
        [(folder, files)] = held.items()
        ingredients = Found(_patterns(folder, files), f"{len(files)} checkpoints")
    else:
        files = [_standing(files) for files in held.values()]
        ingredients = _of_each(folder, held, files)
    found = {"ingredients": ingredients}
    if base and own:
        found["base"] = Found(base, "its name")
    opened = first_readable(files)
    described, notes = trainer.described(files[0].parent)
    found |= timm.described(files[0].parent) | described
    arch = opened.metadata.get("arch") if opened else None
    if opened and isinstance(arch, str):
        found.setdefault("factory", Found(f"{_library_of(arch)}:{arch}", f"{opened.path.name}: arch"))
    return Run("plain", folder, found, num_outputs=head_size(opened) if opened else None, notes=notes)


def _is_base(path: Path, folder: Path) -> bool:
    return without_suffix(path.name).lower() in BASES or folder.name.lower() in BASES


def _library_of(arch: str) -> str:
    with needed(f"a run of the architecture {arch}"):
        from torchvision import models  # loading it takes a second
    return "torchvision" if arch in models.list_models() else "timm"


def _patterns(folder: Path, files: Sequence[Path]) -> list[str]:
    """A glob for each suffix; files without one are named, for a glob would match everything."""
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for path in files:
        by_suffix[path.name.removeprefix(without_suffix(path.name))].append(path.name)
    return [one for suffix, names in by_suffix.items() for one in ([f"*{suffix}"] if suffix else names)]


def _standing(files: Sequence[Path]) -> Path:
    """Of one run's checkpoints the best, where a name says so, else the last."""
    return next((path for path in files if without_suffix(path.name).lower() in BEST), files[-1])


def _of_each(folder: Path, held: Mapping[Path, Sequence[Path]], files: Sequence[Path]) -> Found:
    """The checkpoint of each of several folders: by one glob, where that matches them and nothing else."""
    source = f"{len(held)} folders with a checkpoint each"
    if any(len(several) > 1 for several in held.values()):
        source = f"{len(held)} folders, of each its best checkpoint, or its last where none is called best"
    depth = len(files[0].relative_to(folder).parts) - 1
    pattern = "/".join([*["*"] * depth, files[0].name])
    if not any(sign in files[0].name for sign in MAGIC) and set(folder.glob(pattern)) == set(files):
        return Found([pattern], source)
    return Found({path.parent.relative_to(folder).as_posix(): path for path in files}, source)
