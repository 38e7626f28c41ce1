"""Which framework's run a folder holds, or which runs side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from soupviz.errors import KitchenError
from soupviz.pretrained import architecture
from soupviz.recognition import lightning, plain, timm, torchvision, trainer, ultralytics
from soupviz.recognition.runs import Found, MayRead, Run

FRAMEWORKS = (timm, trainer, lightning, ultralytics, torchvision)
DEPTH = 3
"""How many folders deep a run is looked for."""


def find_run(folder: Path, may_read: MayRead) -> Run:
    """The run at or below a folder, or its several runs of one model as a sweep.

    Raises:
        KitchenError: no checkpoints, or runs of different models.
    """
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [run for place in level if (run := _framework_run(place, may_read))]
        runs = list({run.folder: run for run in found}.values())  # several checkpoints may name one run
        if len(runs) == 1:
            return runs[0]
        if runs:
            return _sweep(folder, runs)
        level = [child for place in level for child in sorted(place.iterdir()) if _is_plain_folder(child)][:200]
    run = plain.recognise(folder, may_read)
    if run is None:
        raise KitchenError(f"{folder}: holds no checkpoints and no run; expected files such as *.safetensors or *.pt.")
    return run


def _sweep(folder: Path, runs: Sequence[Run]) -> Run:
    """Runs of one model side by side: of each the one checkpoint that stands for it."""
    names = [run.folder.relative_to(folder).as_posix() for run in runs]
    if len({_model_of(run) for run in runs}) > 1 or not all(run.best for run in runs):
        listed = f"{', '.join(names[:5])}{', ...' * (len(runs) > 5)}"
        raise KitchenError(f"{folder}: holds {len(runs)} runs of different models ({listed}); name one of them.")
    best = {name: run.best for name, run in zip(names, runs, strict=True)}
    files = Found(best, f"{len(runs)} runs, of each its best checkpoint, or its last where none is kept as the best")
    first = runs[0]
    convert = tuple(path for run in runs for path in run.convert)
    return replace(first, folder=folder, found={**first.found, "ingredients": files}, convert=convert)


def _model_of(run: Run) -> str:
    """What has to be the same in all runs of a sweep."""
    factory = run.found.get("factory")
    if factory and isinstance(factory.value, tuple):
        return f"{run.framework} {architecture(factory.value[1])}"
    arguments = run.found.get("args")
    return f"{run.framework} {factory and factory.value} {arguments and arguments.value}"


def _framework_run(folder: Path, may_read: MayRead) -> Run | None:
    return next((run for framework in FRAMEWORKS if (run := framework.recognise(folder, may_read))), None)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith((".", "__"))
