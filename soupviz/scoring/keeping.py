"""Scores as the store keeps them."""

from typing import Any

from numpy.typing import NDArray

from soupviz.data.splits import Split
from soupviz.store.database import KeptScore
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score

SCORED = "scored"
"""The column that says which units were scored."""


def columns_of(found: Outcomes) -> dict[str, NDArray[Any]]:
    return {SCORED: found.scored} | found.columns


def kept(score: Score, split: Split) -> KeptScore:
    """A finished score, with its units."""
    assert score.outcomes is not None
    return KeptScore(
        split=split.name,
        metric=score.metric,
        value=score.shown(score.metric),
        num_units=score.num_units,
        precision=score.precision,
        device=score.device,
        data=split.fingerprint,
        summary=score.as_plain(),
        columns=columns_of(score.outcomes),
    )
