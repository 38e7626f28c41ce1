"""Scores as the store keeps them."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import Mix
from soupviz.store.database import KeptScore
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task

SCORED = "scored"
"""The column that says which units were scored."""


MOST_BYTES = 2**29
"""Answers of one mix on one split that are kept at all: ensembles hold those of every member at once."""


def check_room(split: str, num_bytes: int, unit: str) -> None:
    """Refuse to keep answers that are too many, such as one for each pixel of many images.

    Raises:
        RecipeError: with both sizes.
    """
    if num_bytes > MOST_BYTES:
        raise RecipeError(
            f"the answers on {split} take {num_bytes / 1e9:.1f} GB for each model, more than {MOST_BYTES / 1e9:.1f} "
            "GB: too much for ensembles, students and temperatures, which need all of them at once. Take a "
            f"soup, or fewer or smaller {unit}s (`part:`, `transform:`)."
        )


def columns_of(found: Outcomes) -> dict[str, NDArray[Any]]:
    return {SCORED: found.scored} | found.columns


def outcomes_in(
    columns: Mapping[str, NDArray[Any]], task: Task, split: Split, plain: Mapping[str, Any] | None
) -> Outcomes:
    """The outcomes whose columns were kept. plain: the score's summary; None where not all units are scored."""
    there = task.earlier_columns(plain, columns) if plain is not None else columns
    held = {name: values for name, values in there.items() if name != SCORED}
    return Outcomes(columns[SCORED], task.targets(split.labels), held, split.group_of)


def kept(score: Score, split: Split) -> KeptScore:
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


def content(items: Mix) -> list[list[str]]:
    """A mix by its fingerprints."""
    return [[item.fingerprint, weight.hex()] for item, weight in items]
