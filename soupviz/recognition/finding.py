"""Which framework's run a folder holds, or which runs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from soupviz.errors import CheckpointError, KitchenError
from soupviz.models.pretrained import architecture
from soupviz.recognition import lightning, peft, plain, timm, torchvision, trainer, ultralytics
from soupviz.recognition.files import levels
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.weights.checkpoints import read
from soupviz.weights.containers import kind_of, without_suffix
from soupviz.weights.conversions import stand_ins
from soupviz.weights.pickles import NeedsCodeError
from soupviz.weights.selection import file_in, no_ingredient

FRAMEWORKS = (timm, trainer, lightning, ultralytics, torchvision, peft)


def find_run(folder: Path, may_read: MayRead) -> Run:
    """The run at or below a folder, or its several runs of one model as a sweep.

    Raises:
        KitchenError: no checkpoints, or runs of different models.
    """
    run = _of_a_framework(folder, may_read) or plain.recognise(folder)
    if run is None:
        others = "".join(f" {told}." for told in _no_checkpoints(folder))
        raise KitchenError(
            f"{folder}: holds no checkpoints and no run; expected files such as *.safetensors or *.pt.{others}"
        )
    refused = {path: error for path in _files_of(run) if (error := _why_unreadable(path))}
    convert = tuple(path for path, error in refused.items() if isinstance(error, NeedsCodeError))
    damaged = [
        f"Until it is mended, open the kitchen with --skip-incompatible: {error}"
        for path, error in refused.items()
        if path not in convert
    ]
    return replace(run, convert=convert, notes=(*run.notes, *damaged))


def _no_checkpoints(folder: Path) -> list[str]:
    """What the files are that are named as checkpoints are."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and without_suffix(path.name) != path.name]
    return [f"{path.name} is {kind_of(path).value}" for path in files[:3]]


def _of_a_framework(folder: Path, may_read: MayRead) -> Run | None:
    for level in levels(folder):
        found = [run for place in level if (run := _framework_run(place, may_read))]
        runs = list({run.folder: run for run in found}.values())  # several checkpoints may name one run
        if len(runs) == 1:
            return runs[0]
        if runs:
            return _sweep(folder, runs)
    return None


def _files_of(run: Run) -> list[Path]:
    """The files of the proposed ingredients and of the base."""
    named = run.found["ingredients"].value
    files = named.values() if isinstance(named, Mapping) else (path for one in named for path in run.folder.glob(one))
    base = [run.found["base"].value] if "base" in run.found else []
    taken = (path for path in dict.fromkeys([*sorted(files), *base]) if not no_ingredient(path))
    return [file_in(path) for path in taken]


def _why_unreadable(path: Path) -> CheckpointError | None:
    try:
        read(next(iter(stand_ins(path).values()), path))
    except CheckpointError as error:
        return error
    return None


def _sweep(folder: Path, runs: Sequence[Run]) -> Run:
    """Runs of one model side by side: of each the one checkpoint that stands for it."""
    names = [run.folder.relative_to(folder).as_posix() for run in runs]
    if len({_model_of(run) for run in runs}) > 1 or not all(run.best for run in runs):
        listed = f"{', '.join(names[:5])}{', ...' * (len(runs) > 5)}"
        raise KitchenError(f"{folder}: holds {len(runs)} runs of different models ({listed}); name one of them.")
    best = {name: run.best for name, run in zip(names, runs, strict=True)}
    files = Found(best, f"{len(runs)} runs, of each its best checkpoint, or its last where none is kept as the best")
    first = runs[0]
    return replace(first, folder=folder, found={**first.found, "ingredients": files})


def _model_of(run: Run) -> str:
    """What has to be the same in all runs of a sweep."""
    factory = run.found.get("factory")
    if factory and isinstance(factory.value, tuple):
        return f"{run.framework} {architecture(factory.value[1])}"
    arguments = run.found.get("args")
    return f"{run.framework} {factory and factory.value} {arguments and arguments.value}"


def _framework_run(folder: Path, may_read: MayRead) -> Run | None:
    return next((run for framework in FRAMEWORKS if (run := framework.recognise(folder, may_read))), None)
