"""TensorBoard: scalars, texts and hyperparameters in a folder of event files; the report lies beside them."""

import re
import shutil
from pathlib import Path
from typing import Any

from soupviz.tracking.tracked import CURVE, RECIPE, Tracked

DEFAULT = "runs"
"""Where PyTorch's own writer puts them."""


def write(run: Tracked, place: str) -> str:
    """Log a soup.

    Args:
        place: the folder that TensorBoard is started on; default: runs.
    Source:
        https://docs.pytorch.org/docs/stable/tensorboard.html
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = _free(Path(place or DEFAULT, _plain(run.project), f"{_plain(run.name)}-{run.key[:8]}"))
    folder.mkdir(parents=True)
    writer: Any = SummaryWriter(str(folder))  # type: ignore[no-untyped-call,unused-ignore]
    for index, step in enumerate(run.steps):
        for name, value in step.items():
            writer.add_scalar(name, value, index)
    for point in run.curve:  # a step is a whole number: alpha in thousandths
        for name, value in point.items():
            writer.add_scalar(name, value, round(1000 * point[f"{CURVE}/alpha"]))
    writer.add_text("verdict", run.sentence)
    for file in run.files:
        shutil.copy(file, folder / file.name)
        if file.name == RECIPE:
            text = "\n".join(f"    {line}" for line in file.read_text(encoding="utf-8").splitlines())
            writer.add_text("recipe", text)
    # In the run's own folder: by default they are a run beside it.
    writer.add_hparams(dict(run.parameters), dict(run.metrics), run_name=".")
    writer.close()
    return str(folder)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", name).strip("-.") or "soup"


def _free(folder: Path) -> Path:
    """A folder that is not there yet: events of two runs in one are drawn as one."""
    number = 2
    found = folder
    while found.exists():
        found = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return found
