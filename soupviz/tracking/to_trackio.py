"""trackio: a run of a project, in a local database, on a server of its own, or on a Space."""

import os
import re
from pathlib import Path
from typing import Any

from soupviz.errors import TrackingError
from soupviz.tracking.tracked import CURVE, Tracked

SPACE = re.compile(r"spaces/([\w.-]+/[\w.-]+)")
HOME = "TRACKIO_DIR"


def write(run: Tracked, place: str) -> str:
    """Log a soup.

    Args:
        place: a folder, a server's address, or spaces/ORGANISATION/NAME; empty: as trackio itself is told.
    Source:
        https://huggingface.co/docs/trackio/api
    """
    options = _where(place)
    import trackio

    if HOME in options and trackio.TRACKIO_DIR != options[HOME]:
        raise TrackingError(
            f"trackio={place}: trackio was loaded before in this process, and keeps its runs in {trackio.TRACKIO_DIR}; "
            f"set {HOME} before, or give no folder."
        )
    kept: Any = trackio.init(
        project=run.project,
        name=f"{run.name} · {run.key[:8]}",
        config=dict(run.parameters) | {"verdict": run.sentence},
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
        **{name: value for name, value in options.items() if name != HOME},
    )
    for index, step in enumerate(run.steps):
        kept.log(dict(step), step=index)
    for point in run.curve:  # a step is a whole number: alpha in thousandths
        kept.log(dict(point), step=round(1000 * point[f"{CURVE}/alpha"]))
    kept.log(dict(run.metrics))
    for file in run.files:
        kept.log_artifact(str(file), name=f"{file.stem}-{run.key[:8]}", type="soup")
    trackio.finish()
    return f"{kept.name!r} of {run.project!r}, {place or trackio.TRACKIO_DIR}"


def _where(place: str) -> dict[str, Any]:
    """What trackio is told of a place. Its folder it reads from the environment, once, when it is loaded."""
    if not place:
        return {}
    if "://" in place:
        return {"server_url": place}
    if space := SPACE.fullmatch(place):
        return {"space_id": space[1]}
    folder = Path(place).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[HOME] = str(folder)
    return {HOME: folder}
