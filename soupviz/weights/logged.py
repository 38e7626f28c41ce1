"""The accuracy and the loss that a run logged of a checkpoint, and whether our accuracy can be the same."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from soupviz.weights.ingredients import Ingredient
from soupviz.weights.logs import EMA_MARK
from soupviz.weights.metadata import as_number

CHANCE = 1e-3
"""How rare a difference has to be, two-sided, before it is told."""

ACCURACIES = {"acc", "accuracy", "top1", "acc1", "prec1", "multiclassaccuracy", "binaryaccuracy"}
VALIDATION = {"eval", "val", "valid", "validation", "dev", "heldout"}
TEST = {"test"}
BEST = {"best", "max"}
FILLING = {"metrics", "metric", "epoch", "multiclass", "binary", "score", "dataloader0"}
"""Words that say nothing of what was scored. A name with a word that is in none of these sets is of something else."""

LOSS = {"loss", "total", "metrics", "metric", "epoch", "dataloader0"}
"""Words of a name that stands for the whole loss, not for a part of it, nor for the lowest so far."""

LOSS_OF = VALIDATION | {"cv"}
"""Whose loss it is: wenet calls its validation split so."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An accuracy as a fraction, the name it was logged under, and whether it is that of the moving average.

    is_best: the name says that it is the highest so far, which may be an earlier epoch's.
    """

    name: str
    accuracy: float
    is_ema: bool
    is_best: bool = False


def words_of(name: str) -> list[str]:
    """The words of a metric's name in small letters, whatever stands between them: val/acc@1 and valAcc1 alike."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name).lower()
    spaced = (
        re.sub(r"dataloader_idx_0", "dataloader0", spaced).replace("held_out", "heldout").replace("held-out", "heldout")
    )
    spaced = re.sub(r"\b(acc|accuracy|top|prec)[-_@ ]?1(?![0-9])", r"\g<1>1", re.sub("_", " ", spaced))
    words = re.findall(r"[^\W_]+", spaced)
    return ["acc1" if word == "accuracy1" else word for word in words]


def logged_accuracy(metadata: Mapping[str, Any]) -> Logged | None:
    """The accuracy on a validation split among what is known of a checkpoint; percents become fractions."""
    found = []
    for key, value in metadata.items():
        name, is_ema = key.removesuffix(EMA_MARK), key.endswith(EMA_MARK)
        number = as_number(value)
        words = set(words_of(name))
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not _is_accuracy(words):
            continue
        # timm counts in percent always; elsewhere what is above 1 can be nothing else.
        fraction = number / 100 if number > 1 or name == "eval_top1" else float(number)
        if 0 <= fraction <= 1:
            found.append((_likelihood(words), Logged(name, fraction, is_ema, bool(words & BEST))))
    return min(found, key=lambda one: one[0], default=(None, None))[1]


def _is_accuracy(words: set[str]) -> bool:
    return bool(words & ACCURACIES) and words <= ACCURACIES | VALIDATION | TEST | BEST | FILLING


def logged_loss(metadata: Mapping[str, Any]) -> tuple[str, float] | None:
    """The loss on a validation split among what is known of a checkpoint, and the name it was logged under.

    Neither that of training, nor the lowest so far, nor that of the moving average.
    """
    found = []
    for key, value in metadata.items():
        words, number = set(words_of(key)), as_number(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            continue
        if not key.endswith(EMA_MARK) and "loss" in words and words & LOSS_OF and words <= LOSS | LOSS_OF:
            found.append((key, float(number)))
    return min(found, key=lambda one: len(words_of(one[0])), default=None)


def _likelihood(words: set[str]) -> tuple[bool, bool, bool]:
    """Sorts names: of a validation split first, of a test split last, this epoch's before the best so far."""
    return bool(words & TEST), not words & VALIDATION, bool(words & BEST)


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
            told.append(f"{item.name}: {compared(logged, correct, num_examples)}: {doubt(logged)}")
    return told


def doubt(logged: Logged) -> str:
    """What may be the reason that ours is another figure."""
    if logged.is_best:
        return "the score of another epoch, other preprocessing, or other data?"
    return "other preprocessing, or other data?"


def compared(logged: Logged, correct: int, num_examples: int) -> str:
    """Both figures in words."""
    return f"logged {logged.accuracy:.3f} ({logged.name}), here {correct / num_examples:.3f} on held_out"
