"""Logging a soup to the trackers that people have, each by its own library."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from soupviz.addresses import redacted
from soupviz.errors import TrackingError
from soupviz.extras import lacking
from soupviz.models.usercode import guarded
from soupviz.soups.soup import Soup
from soupviz.tracking import to_mlflow, to_tensorboard, to_trackio, to_wandb
from soupviz.tracking.tracked import Tracked, tracked
from soupviz.types import Progress, quiet

if TYPE_CHECKING:
    import pandas as pd


TRACKERS: dict[str, Callable[[Tracked, str], str]] = {
    "mlflow": to_mlflow.write,
    "wandb": to_wandb.write,
    "tensorboard": to_tensorboard.write,
    "trackio": to_trackio.write,
}
"""By the package that each needs: what logs a soup to a place, and tells where it is now."""


def log(
    soup: Soup,
    to: str | Sequence[str],
    *,
    curve: "pd.DataFrame | None" = None,
    report: bool = True,
    project: str | None = None,
    name: str | None = None,
    progress: Progress = quiet,
) -> list[str]:
    """Log a soup to experiment trackers: its recipe and coefficients as parameters, every metric under its split
    (`test/accuracy`), the decisions of the search and the curve as steps, its report and its recipe as artifacts.

    Args:
        to: mlflow, wandb, tensorboard or trackio, or several of them; behind `=` where to: `mlflow=http://localhost:5000`,
            or a folder (`wandb=FOLDER` is offline); default: as the library itself is told.
        curve: of `interpolate`; default: the line from the best ingredient to the soup, as far as it is known.
        report: whether it is made; it takes the ingredients' scores. project: default: the kitchen's name.
        name: of the run; default: the soup's title.
    Returns:
        Where each is now.
    Raises:
        TrackingError: no such tracker, one that is not installed, or that cannot be written to.
    """
    places = [parse_tracker(text) for text in ([to] if isinstance(to, str) else to)]
    with tempfile.TemporaryDirectory(prefix="soupviz-") as folder:
        told = tracked(
            soup, Path(folder), curve=curve, report=report, project=project, name=name, progress=progress
        )  # fmt: skip
        return [_written(told, tracker, place) for tracker, place in places]


def parse_tracker(text: str) -> tuple[str, str]:
    """A tracker's name and a place, from `NAME` or `NAME=PLACE`.

    Raises:
        TrackingError: no such tracker, or one that is not installed.
    """
    name, _, place = text.partition("=")
    if name not in TRACKERS:
        raise TrackingError(f"no tracker {name!r}; known are {', '.join(TRACKERS)}, each with =PLACE behind it or not.")
    if find_spec(name) is None:
        raise TrackingError(f"logging to {name} needs {lacking(name)}")
    return name, place


def _written(told: Tracked, name: str, place: str) -> str:
    def refusal(reason: str) -> TrackingError:
        return TrackingError(f"{name}{place and f'={place}'}: cannot be written to: {reason}")

    with guarded(refusal), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library about itself
        return redacted(f"{name}: {TRACKERS[name](told, place)}")
