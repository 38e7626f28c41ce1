"""The frozen records that the core passes around: scores, decisions and mixes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

Progress = Callable[[int, int, str], None]
"""Called as (done, total, what is being done), at least once a batch; raises Cancelled to stop the work."""

Coefficients = tuple[tuple[str, float], ...]
"""A mix by name: ingredients with their coefficients, in the order in which they are accumulated."""

Alpha = Literal["mean"] | float
Order = Annotated[
    Literal["best", "listed", "random"], BeforeValidator(lambda value: "best" if value == "accuracy" else value)
]
"""In which candidates are tried; `accuracy` is what `best` was once called."""

BESIDE = ("per_example", "further")
"""What a score carries beside its summary."""

GIVEN_UP = "rejected early"
"""What became of a candidate that was not scored whole, as it could no longer win."""

CLOSE_LOGITS = 1e-4
"""Two top logits closer than this may be ranked differently by another batch size or memory layout."""


def mix_from(values: Iterable[Sequence[Any]]) -> Coefficients:
    """A mix from plain data, as JSON keeps it."""
    return tuple((str(name), float(weight)) for name, weight in values)


def quiet(done: int, total: int, what: str) -> None:
    """The progress callback of a caller who wants none."""


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one of several equal parts, as progress of the whole."""
    return lambda done, total, what: progress(index * total + done, count * total, what)


@dataclass(frozen=True, slots=True, eq=False)
class PerExample:
    """What an evaluation says of each example, arrays of shape (num_examples,).

    predictions: class index, -1 where the logits are not all finite. correct: whether it is the label.
    losses: cross-entropy in nats, nan where not finite. margins: top logit less the second, inf where not finite.
    confidences: probability of the predicted class, nan where not finite.
    top5: whether the label is among the five top logits. scored: whether the example was evaluated at all; of one
    that was not, the others say nothing.
    """

    predictions: NDArray[np.int32]
    correct: NDArray[np.bool_]
    losses: NDArray[np.float32]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float32]
    top5: NDArray[np.bool_]
    scored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.predictions)

    @classmethod
    def blank(cls, num_examples: int) -> "PerExample":
        """Nothing scored yet; an evaluation writes into these arrays."""
        flags = [np.zeros(num_examples, dtype=np.bool_) for _ in range(3)]
        losses, margins, confidences = (np.zeros(num_examples, dtype=np.float32) for _ in range(3))
        predictions = np.zeros(num_examples, dtype=np.int32)
        return cls(predictions, flags[0], losses, margins, confidences, flags[1], flags[2])

    def write(self, rows: NDArray[np.int64], part: "PerExample") -> None:
        """Fill in the results of some examples."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(part, name)

    @property
    def num_scored(self) -> int:
        return int(self.scored.sum())

    @property
    def num_errors(self) -> int:
        """How many of the scored examples are wrong."""
        return int((self.scored & ~self.correct).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """A split divided into parts by which performance is looked at.

    column: what divides it. names: of the slices; each has an example. index: of each example's slice, int64, shape
    (num_examples,).
    """

    column: str
    names: tuple[str, ...]
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """How one set of weights did on one split.

    correct and top5_correct are counts of examples; loss is the mean cross-entropy in nats over the examples
    whose logits are finite (None when none are); class_correct and class_count have one entry a class. ece is the
    expected calibration error in 15 equal bins of confidence, over the same examples as the loss. device: the type of
    what computed it. further: scores of
    the same weights on further splits, where a search looks at them; they are not kept with this one.
    """

    split: str
    correct: int
    num_examples: int
    loss: float | None
    macro_f1: float
    class_correct: tuple[int, ...]
    class_count: tuple[int, ...]
    top5_correct: int | None = None
    num_nonfinite: int = 0
    num_close: int = 0
    precision: str = "float32"
    device: str = "cpu"
    ece: float | None = None
    per_example: PerExample | None = field(default=None, compare=False, repr=False)
    further: tuple["Score", ...] = field(default=(), compare=False, repr=False)

    @property
    def accuracy(self) -> float:
        return self.correct / self.num_examples

    @property
    def accuracy_at_most(self) -> float:
        return self.accuracy

    @property
    def num_scored(self) -> int:
        return self.num_examples

    @classmethod
    def from_summary(cls, values: Mapping[str, Any], per_example: PerExample | None = None) -> "Score":
        """The score that `summary` gave, as JSON keeps it."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name not in BESIDE and name in values}
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**plain, per_example=per_example)

    def summary(self) -> dict[str, Any]:
        """The score as plain data, the four figures of the command line's contract first."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in BESIDE}
        first = {
            "accuracy": self.accuracy,
            "correct": self.correct,
            "num_examples": self.num_examples,
            "loss": self.loss,
        }
        return first | values


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of weights that were given up because they provably cannot win: at most so many are correct."""

    split: str
    num_examples: int
    num_scored: int
    num_errors: int

    @property
    def accuracy(self) -> None:
        return None

    @property
    def correct(self) -> None:
        return None

    @property
    def accuracy_at_most(self) -> float:
        return (self.num_examples - self.num_errors) / self.num_examples


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of a search; accuracy and correct are None where scoring stopped early.

    mix: what was tried; None for the epochs of a training, whose weights nobody keeps, and in runs of earlier versions.
    It was compared with the mix of the last step before it that was accepted.
    """

    step: int
    ingredient: str
    accuracy: float | None
    correct: int | None
    best_accuracy: float
    accepted: bool
    num_examples_scored: int
    accuracy_at_most: float
    mix: Coefficients | None = None

    @classmethod
    def of(
        cls,
        number: int,
        ingredient: str,
        result: Score | Bound,
        best: Score,
        *,
        accepted: bool,
        mix: Coefficients | None = None,
    ) -> "Step":
        """The decision on a result; `best` is what stands after it."""
        return cls(
            step=number,
            ingredient=ingredient,
            accuracy=result.accuracy,
            correct=result.correct,
            best_accuracy=best.accuracy,
            accepted=accepted,
            num_examples_scored=result.num_scored,
            accuracy_at_most=result.accuracy_at_most,
            mix=mix,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Step":
        """The step that `as_dict` gave, as JSON keeps it."""
        mix = values.get("mix")
        return cls(**{**values, "mix": mix and mix_from(mix)})

    @property
    def outcome(self) -> str:
        """What became of it: start, accepted, rejected, or rejected early."""
        if self.step == 0:
            return "start"
        return "accepted" if self.accepted else "rejected" if self.accuracy is not None else GIVEN_UP

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file of the kitchen that cannot join a soup, and why.

    remedy: a sentence that ends with a command, which mends all files with this remedy.
    """

    name: str
    file: str
    reason: str
    remedy: str = ""


def refusals_in_words(refused: Sequence[Refusal]) -> list[str]:
    """Why files are refused; what one command mends is told once, with the command at the end, to be copied."""
    told = []
    for remedy in dict.fromkeys(one.remedy or one.name for one in refused):
        first, *others = [one for one in refused if (one.remedy or one.name) == remedy]
        more = f" {len(others)} more files need the same." if others else ""
        told.append(f"{first.reason}{more} {first.remedy}".rstrip())
    return told
