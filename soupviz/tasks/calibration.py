"""Temperature scaling: whether a model's confidence means what it says, and the one number that mends most of it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from soupviz.errors import RecipeError

BINS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What a model decides, each time for one of several options, by how likely softmax of its logits finds each.

    logits: shape (num_decisions, num_options); one that is not finite says nothing, with all of its decision.
    labels: which option is right, shape (num_decisions,). there: which options a decision has, of the shape of the
    logits, where some have fewer than others; None: all.
    """

    logits: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    there: NDArray[np.bool_] | None = None

    @classmethod
    def of_two(cls, logits: NDArray[np.floating[Any]], labels: NDArray[Any]) -> "Decisions":
        """Between no and yes, of what sigmoids are taken: each number of an array is a decision of its own."""
        yes = logits.reshape(-1)
        return cls(np.stack([np.zeros_like(yes), yes], axis=1), labels.reshape(-1).astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def finite(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, float64, -inf for an option that is not there, and labels, of those that say something.

        Raises:
            RecipeError: there are none.
        """
        known = np.isfinite(self.logits)
        keep = (known if self.there is None else known | ~self.there).all(axis=1)
        if not keep.any():
            raise RecipeError("no answer has finite logits, so there is nothing to calibrate; cook another soup.")
        logits = np.asarray(self.logits[keep], dtype=np.float64)
        if self.there is not None:
            logits = np.where(self.there[keep], logits, -np.inf)
        return torch.from_numpy(logits), torch.from_numpy(np.asarray(self.labels[keep]))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities fit what happens.

    accuracy: over all decisions; one whose logits are not finite is wrong. The others say nothing of those, of which
    there are num_nonfinite among num_examples, which is how many decisions there are.
    nll: mean negative log-likelihood of the label, nats. brier: mean squared distance from the label's one-hot vector,
    from 0 to 2. ece, adaptive_ece: expected calibration error in 15 bins of equal width, and of equally many examples.
    """

    temperature: float
    num_examples: int
    accuracy: float
    nll: float
    brier: float
    ece: float
    adaptive_ece: float
    num_nonfinite: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram: mean confidence of the examples in a range, and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float | None
    right: float | None


def fit_temperature(decisions: Decisions) -> float:
    """The temperature T whose softmax(logits / T) has the least negative log-likelihood, by LBFGS on log T.

    Raises:
        RecipeError: no decision is finite, or no finite temperature is best: everything is right, or nothing better
            than chance.
    Source:
        Guo et al. 2017 (arXiv 1706.04599), section 4.2.
    """
    from scipy.optimize import minimize  # loading it takes most of a second

    finite, answers = decisions.finite()
    _check_fits(finite, answers)
    there = finite.isfinite()

    def loss(log_temperature: NDArray[np.float64]) -> tuple[float, float]:
        """The mean negative log-likelihood, and its slope in log T: the label's logit less the expected one."""
        scaled = finite / float(np.exp(log_temperature[0]))
        told = scaled.gather(1, answers[:, None]).squeeze(1)
        expected = (scaled.softmax(dim=1) * scaled.where(there, 0.0)).sum(dim=1)
        return float((scaled.logsumexp(dim=1) - told).mean()), float((told - expected).mean())

    # torch's own LBFGS takes seconds to load, and this is one number.
    found = minimize(loss, np.zeros(1), jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-15})
    return float(np.exp(found.x[0]))


def _check_fits(logits: torch.Tensor, labels: torch.Tensor) -> None:
    """The log-likelihood is concave in 1 / T: it has a maximum where it rises at 0, and falls in the end."""
    told = logits.gather(1, labels[:, None]).squeeze(1)
    if bool((told == logits.amax(dim=1)).all()):
        raise RecipeError(
            "no temperature fits these logits: every answer is right, so that the smallest is best. Fit it on more, "
            "or other, examples."
        )
    there = logits.isfinite()
    if float((told - logits.where(there, 0.0).sum(dim=1) / there.sum(dim=1)).mean()) <= 0:
        raise RecipeError(
            "no temperature fits these logits: they say no more about the labels than chance, so that the largest is "
            "best. Fit it on more, or other, examples."
        )


def calibration_error(
    confidences: NDArray[np.float32], correct: NDArray[np.bool_], num_bins: int = 15, *, adaptive: bool = False
) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, bin by bin, weighed by their examples.

    Args:
        confidences: probability of the predicted class, shape (num_examples,), finite.
        adaptive: bins of as many examples each, instead of bins of equal width over [0, 1].
    Source:
        Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), equation 3; adaptive: Nguyen and O'Connor 2015.
    """
    if adaptive:
        order = np.argsort(confidences, kind="stable")
        parts = np.array_split(order, num_bins)
    else:
        bins = np.clip(np.ceil(confidences * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
        parts = [np.flatnonzero(bins == index) for index in range(num_bins)]
    gaps = [
        abs(float(confidences[part].mean()) - float(correct[part].mean())) * len(part) for part in parts if len(part)
    ]
    return sum(gaps) / len(confidences)


def measure(decisions: Decisions, temperature: float = 1.0) -> Calibration:
    """What softmax(logits / temperature) is worth.

    Source:
        Guo et al. 2017, equation 3 (ECE); Brier 1950.
    """
    finite, answers = decisions.finite()
    scaled = finite / temperature
    probabilities = scaled.softmax(dim=1)
    confidences, predictions = probabilities.max(dim=1)
    shown, correct = confidences.float().numpy(), (predictions == answers).numpy()
    return Calibration(
        temperature=temperature,
        num_examples=len(decisions),
        accuracy=float(correct.sum()) / len(decisions),
        nll=float(F.cross_entropy(scaled, answers)),
        brier=float((probabilities - F.one_hot(answers, probabilities.shape[1])).square().sum(dim=1).mean()),
        ece=calibration_error(shown, correct, BINS),
        adaptive_ece=calibration_error(shown, correct, BINS, adaptive=True),
        num_nonfinite=len(decisions) - len(answers),
    )


def reliability(decisions: Decisions, temperature: float = 1.0) -> list[Bin]:
    """The bars of a reliability diagram, from no confidence to all."""
    finite, answers = decisions.finite()
    confidences, predictions = (finite / temperature).softmax(dim=1).max(dim=1)
    shown, correct = confidences.float().numpy(), (predictions == answers).numpy()
    index = np.clip(np.ceil(shown * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for number in range(BINS):
        inside = index == number
        means = (float(shown[inside].mean()), float(correct[inside].mean())) if inside.any() else (None, None)
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(inside.sum()), *means))
    return bins
