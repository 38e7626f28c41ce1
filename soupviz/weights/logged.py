"""The accuracy that a run logged of a checkpoint, and whether ours can be the same."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from soupviz.weights.ingredients import Ingredient
from soupviz.weights.logs import EMA_MARK
from soupviz.weights.metadata import as_number

CHANCE = 1e-3
"""How rare a difference has to be, two-sided, before it is told."""

ACCURACY = re.compile(
    r"^(?:metrics/)?(?:(?:eval|val|valid|validation|dev|test|held_out)[-_/ ]?)?"
    r"(?:acc|accuracy|top1|top-1|acc1|acc@1|accuracy_top1|top1_acc|top1_accuracy|multiclassaccuracy)(?:[-_/ ]?epoch)?$"
)
LESS_LIKELY = ("test", "acc", "accuracy", "top1")
"""Names that begin so come after those of a validation split."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An accuracy as a fraction, the name it was logged under, and whether it is that of the moving average."""

    name: str
    accuracy: float
    is_ema: bool


def logged_accuracy(metadata: Mapping[str, Any]) -> Logged | None:
    """The accuracy on a validation split among what is known of a checkpoint; percents become fractions."""
    found = []
    for key, value in metadata.items():
        name, is_ema = key.removesuffix(EMA_MARK), key.endswith(EMA_MARK)
        number = as_number(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not ACCURACY.match(name.lower()):
            continue
        # timm counts in percent always; elsewhere what is above 1 can be nothing else.
        fraction = number / 100 if number > 1 or name == "eval_top1" else float(number)
        if 0 <= fraction <= 1:
            found.append(Logged(name, fraction, is_ema))
    return min(found, key=lambda one: one.name.lower().startswith(LESS_LIKELY), default=None)


def differs(correct: int, num_examples: int, accuracy: float) -> bool:
    """Whether a count differs from a logged accuracy by more than chance: exact binomial test, two-sided."""
    from scipy.stats import binomtest  # loading scipy.stats takes most of a second

    return bool(binomtest(correct, num_examples, accuracy).pvalue < CHANCE)


def disagreements(scores: Iterable[tuple[Ingredient, int, int]]) -> list[str]:
    """A sentence for each ingredient whose logged accuracy differs from ours by more than chance.

    Args:
        scores: an ingredient, how many examples of held_out it has right, and of how many. A score that was logged of
            other weights (the moving average, or not) than those that were read is not compared.
    """
    told = []
    for item, correct, num_examples in scores:
        logged = logged_accuracy(item.metadata)
        is_ema = item.fitted is not None and item.fitted.weights == "ema"
        if logged and logged.is_ema == is_ema and differs(correct, num_examples, logged.accuracy):
            told.append(f"{item.name}: {compared(logged, correct, num_examples)}: other preprocessing, or other data?")
    return told


def compared(logged: Logged, correct: int, num_examples: int) -> str:
    """Both figures in words."""
    return f"logged {logged.accuracy:.3f} ({logged.name}), here {correct / num_examples:.3f} on held_out"
