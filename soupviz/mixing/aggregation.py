"""What becomes of ingredients and their coefficients: averaged weights, or averaged outputs."""

import re
from dataclasses import dataclass
from typing import Any

from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import BatchNorm

RECALIBRATE = "recalibrate"
EXAMPLES = 4000
"""Of train, for re-estimating running statistics, unless told otherwise."""

BY_LENGTH = "by length"
"""In keys where batches of a re-estimation are of examples of about one length; earlier ones were not."""

WEIGHTS: tuple[str, ...] = ("average", "first", RECALIBRATE)
OUTPUTS: tuple[str, ...] = ("logits", "probabilities", "outputs")


def check_batchnorm(text: Any) -> str:
    """What a recipe says of running statistics: average, first, recalibrate, or recalibrate:NUMBER.

    Raises:
        RecipeError: none of these.
    """
    if text in WEIGHTS or re.fullmatch(rf"{RECALIBRATE}:([2-9]|[1-9][0-9]+)", str(text)):
        return str(text)
    raise RecipeError(
        f"batchnorm is {text!r}; expected average, first, {RECALIBRATE} ({EXAMPLES:,} examples of train), or "
        f"{RECALIBRATE}:NUMBER, at least 2."
    )


def num_examples(text: str) -> int:
    """How many examples a re-estimation takes; 0 where there is none."""
    kind, _, number = text.partition(":")
    return int(number or EXAMPLES) if kind == RECALIBRATE else 0


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An aggregation with what it needs: `train` where statistics are re-estimated."""

    name: str
    train: Split | None = None

    @property
    def is_output(self) -> bool:
        """Whether outputs are averaged instead of weights: an ensemble."""
        return self.name in OUTPUTS

    @property
    def of_statistics(self) -> BatchNorm:
        """What is done with running statistics while weights are mixed."""
        return "first" if self.name == "first" else "average"

    @property
    def key(self) -> Any:
        """What scores are kept under."""
        if self.train is None:
            return self.name
        by_length = [BY_LENGTH] if self.train.lengths is not None else []
        return [RECALIBRATE, num_examples(self.name), self.train.fingerprint, *by_length]
