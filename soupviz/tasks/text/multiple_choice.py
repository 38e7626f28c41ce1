"""Multiple choice: of several options the one that a language model finds likeliest after their context."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from soupviz.data.labels import PADDING
from soupviz.data.text.choices import letter
from soupviz.data.text.windows import TARGETS
from soupviz.errors import DataError
from soupviz.tasks.calibration import Decisions
from soupviz.tasks.classes.class_metrics import ACCURACY, CLOSE_LOGITS, LOSS
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, LABEL, Column, Outcomes
from soupviz.tasks.right_or_wrong import RightOrWrong
from soupviz.tasks.task import NOTHING
from soupviz.tasks.text import likelihood, options_head

BY_LENGTH = SumMetric(
    "accuracy_by_length", "accuracy by length", "%", True, ("right_by_length",),
    lambda right, number: right / number, {"right_by_length": 1}, judges_nonfinite=True, is_share=True,
)  # fmt: skip


class MultipleChoice(RightOrWrong):
    """Logits of the next token, of shape (batch, tokens, vocabulary), or of options, against questions with options.

    An option's likelihood is the sum of the logarithms of its tokens' probabilities after the context. `accuracy`
    takes the option with the largest; `accuracy_by_length` that with the largest for each byte of its text; of equals
    the first. `loss` is of the right option among the others, by the softmax of their likelihoods.

    A model with a head for multiple choice (transformers' ...ForMultipleChoice) gives a number for each option, which
    stands in place of its likelihood.
    """

    name = "multiple_choice"
    unit = "question"
    labels = "options"
    metrics = (ACCURACY, BY_LENGTH, LOSS)
    has_ensembles = True  # of the likelihoods: what it averages are logarithms of what models hold an option for
    decides = "question"
    divides = ("what the model says of the options (likelihoods, as logarithms)", "softmax")
    lacks: ClassVar[Mapping[str, str]] = {
        "soft_loss": "a teacher's likelihoods of few options say little of a language; distil on documents elsewhere",
        "information": "the options of a question are no classes",
        "division": "a language model's last layer says how likely tokens are, and what is divided is how likely "
        "options are, whose tokens are summed; a head of options is not looked for",
    }

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """The likelihoods of the options, or what a head of the model's says of them; shape (batch, options), 0 behind
        the last."""
        if TARGETS not in batch:
            return options_head.scores(model, batch)
        return pad_sequence([-of_options for of_options in likelihood.nats(model, batch)], batch_first=True)

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return likelihood.inputs(batch) if TARGETS in batch else options_head.inputs(batch)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        return {LABEL: labels[:, 0].numpy(), "options": (labels[:, 1:] != PADDING).sum(1).numpy()}

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Of likelihoods, shape (batch, options); not finite counts as wrong.

        Raises:
            DataError: what the labels say is of no questions with so many options.
        """
        likely, there = _options(answers.cpu(), labels)
        right = labels[:, 0]
        finite = (likely.isfinite() | ~there).all(1)
        safe = likely.where(there, -torch.inf).where(finite[:, None], 0.0)
        sizes = labels[:, 1 : 1 + likely.shape[1]].clamp(min=1)
        prediction = safe.argmax(1).where(finite, -1)
        by_length = (safe / sizes).argmax(1).where(finite, -1)
        top = safe.topk(2, dim=1).values
        confidence = (top[:, 0] - safe.logsumexp(1)).exp()
        return {
            FINITE: finite.numpy(),
            "right": (prediction == right).numpy(),
            "right_by_length": (by_length == right).numpy(),
            "prediction": prediction.to(torch.int32).numpy(),
            "loss": F.cross_entropy(safe, right, reduction="none").where(finite, torch.nan).numpy(),
            "margin": (top[:, 0] - top[:, 1]).where(finite, torch.inf).numpy(),
            "confidence": confidence.where(finite, torch.nan).numpy(),
        }

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of the right option among the others."""
        likely, there = _options(answers, labels.to(answers.device))
        return F.cross_entropy(likely.where(there, -torch.inf), labels[:, 0].to(answers.device))

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        likely, there = _options(torch.from_numpy(np.array(answers)), labels)
        return Decisions(likely.numpy(), labels[:, 0].numpy(), there.numpy())

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        return letter(int(outcomes[LABEL][row]))

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """Right or wrong, the option that is chosen, and its share of all options' likelihood."""
        prediction = int(outcomes["prediction"][row])
        if prediction < 0:
            return NOTHING
        mark = "✓" if outcomes["right"][row] else "✗"
        return f"{mark} {letter(prediction)}, {100 * float(outcomes['confidence'][row]):.0f} %"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        return {"num_close": int((outcomes["margin"] < CLOSE_LOGITS).sum())}


def _options(answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Likelihoods, float64, as wide as the labels, and where there is an option.

    Raises:
        DataError: more options than the labels say, or fewer.
    """
    there = labels[:, 1:] != PADDING
    widest = int(there.sum(1).max()) if labels.ndim == 2 else -1
    if widest < 2 or answers.shape[1] < widest:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} are of no questions with options, as format choices has."
        )
    return answers[:, :widest].double(), there[:, :widest]
