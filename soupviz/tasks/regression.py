"""Regression: one or several real numbers for each example."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from soupviz.errors import DataError
from soupviz.models.building import tensor_of
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.task import NOTHING, Task

BAND = 1e-6
"""Of the value: what another batch size may change of a mean error."""


def rmse(squared: Any, finite: Any, _number: Any) -> Any:
    """Of summed squared errors, shape (..., outputs): over all outputs of the examples with finite answers."""
    return np.sqrt(np.asarray(squared, dtype=np.float64).mean(axis=-1) / _each(finite))


def mean_absolute(absolute: Any, finite: Any, _number: Any) -> Any:
    return np.asarray(absolute, dtype=np.float64).mean(axis=-1) / _each(finite)


def r2(squared: Any, target: Any, target_squared: Any, finite: Any, number: Any) -> Any:
    """Mean over the outputs of 1 - residual / total sum of squares; as scikit-learn's r2_score has it.

    Where some answers are not finite: 1 - their mean squared error over the others / the variance of all labels.
    """
    sums = [np.asarray(one, dtype=np.float64) for one in (squared, target, target_squared)]
    total = sums[2] - sums[1] ** 2 / np.asarray(_each(number))[..., None]
    share = np.asarray(_each(number) / _each(finite))[..., None]
    return (1.0 - share * sums[0] / total).mean(axis=-1)


def _each(number: Any) -> Any:
    """The number of examples, of one value or of each resample."""
    return np.asarray(number, dtype=np.float64)


ERRORS = {"squared": 0, "absolute": 0, FINITE: 1}
RMSE = SumMetric("rmse", "RMSE", "", False, ("squared", FINITE), rmse, ERRORS, BAND)
MAE = SumMetric("mae", "MAE", "", False, ("absolute", FINITE), mean_absolute, ERRORS, BAND)
R2 = SumMetric("r2", "R²", "", True, ("squared", "target", "target_squared", FINITE), r2, ERRORS, BAND)


class Regression(Task):
    """Outputs of shape (batch, outputs), or (batch,), against labels of the same shape."""

    name = "regression"
    labels = "numbers"
    metrics = (RMSE, MAE, R2)
    has_ensembles = True

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        target = _two_dimensional(labels).double().numpy()
        return {"target": target, "target_squared": target**2}

    def answers(self, output: Any) -> Tensor:
        return _two_dimensional(tensor_of(output))

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Of predictions, shape (batch, outputs).

        Raises:
            DataError: labels of another shape.
        """
        predictions, targets = answers.double().cpu().numpy(), _two_dimensional(labels).double().numpy()
        if predictions.shape != targets.shape:
            raise DataError(
                f"labels have {targets.shape[1]} numbers an example, the model says "
                f"{predictions.shape[1]}. Check the model's args and the data's labels."
            )
        finite = np.isfinite(predictions).all(axis=1)
        errors = np.where(finite[:, None], predictions - targets, np.nan)
        return {
            FINITE: finite,
            "prediction": predictions.astype(np.float32),
            "squared": errors**2,
            "absolute": np.abs(errors),
        }

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The mean squared error."""
        return F.mse_loss(answers, _two_dimensional(labels).to(answers))

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The mean squared difference; a temperature has no part in it."""
        return F.mse_loss(answers, teacher)

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """The summed squared error; without a finite answer, worse than any."""
        found: NDArray[np.float64] = outcomes["squared"].sum(axis=1)
        return np.where(outcomes[FINITE], found, np.inf)

    def errors(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """The residuals: prediction - target."""
        found: NDArray[np.float64] = outcomes["prediction"].astype(np.float64) - outcomes["target"]
        return found

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str | None:
        return ""

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        if not outcomes[FINITE][row]:
            return f"{NOTHING}, is {_numbers(outcomes['target'][row])}"
        return f"predicted {_numbers(outcomes['prediction'][row])}, is {_numbers(outcomes['target'][row])}"


def _two_dimensional(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values


def _numbers(values: Column) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
