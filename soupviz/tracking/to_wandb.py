"""Weights & Biases: a run of a project, online as the user is signed in, or offline in a folder, to be synced later."""

import re
from pathlib import Path
from typing import Any

from soupviz.tracking.tracked import CURVE, REPORT, SEARCH, Tracked

REFUSED = re.compile(r"[/\\#?%:]")
LONGEST = 128
"""What the name of a project may not hold, and how long it may be."""


def write(run: Tracked, place: str) -> str:
    """Log a soup.

    Args:
        place: a folder in which the run is kept offline; empty: as wandb itself is told.
    Source:
        https://docs.wandb.ai/ref/python/sdk/functions/init
    """
    import wandb

    options: dict[str, Any] = {}
    if place:
        Path(place).mkdir(parents=True, exist_ok=True)
        options = {"dir": place, "mode": "offline"}
    kept: Any = wandb.init(
        project=REFUSED.sub("-", run.project)[:LONGEST],
        name=run.name,
        config=dict(run.parameters),
        notes=run.sentence,
        job_type="soup",
        reinit="create_new",  # a run that is open in this process stays open
        settings=wandb.Settings(console="off", silent=True),
        **options,
    )
    kept.define_metric(f"{SEARCH}/*", step_metric=f"{SEARCH}/step")
    kept.define_metric(f"{CURVE}/*", step_metric=f"{CURVE}/alpha")
    for point in (*run.steps, *run.curve):
        kept.log(dict(point))
    for name, value in run.metrics.items():
        kept.summary[name] = value
    artifact = wandb.Artifact(f"soup-{run.key[:12]}", type="soup", description=run.name)
    for file in run.files:
        artifact.add_file(str(file))
        if file.name == REPORT:
            kept.log({"report": wandb.Html(file.read_text(encoding="utf-8"), inject=False)})
    kept.log_artifact(artifact)
    told = str(kept.url or Path(kept.dir).parent)
    kept.finish()
    return told
