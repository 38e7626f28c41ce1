"""In-distribution against shift: the line of the individual models, and how far above it a soup lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from soupviz.analysis.score_tables import Model, Scores, read_scores
from soupviz.errors import CurveError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.soups.needs import lacking_for
from soupviz.soups.planning import summaries
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.spec import HELD_OUT, SHIFTS, TEST
from soupviz.store.runs import Run
from soupviz.types import Coefficients
from soupviz.weights.selection import BASE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Line", "Mixed", "Model", "Scores", "fit_line", "individuals", "mixes_of", "read_scores", "scores_of"]

Scale = Literal["linear", "logit"]
FEWEST = 3
"""Models that a line needs: through two there is always one."""

ENSEMBLE = "ensemble of all"


@dataclass(frozen=True, slots=True)
class Line:
    """`y = intercept + slope x`, on the values or on their logits.

    r_squared: the share of y's variance that it accounts for. num_models: that it was fitted to. low, high: the range
    of their x. spread: standard deviation of the models around it, with num_models - 2 degrees of
    freedom; centre and extent: mean of x and the sum of squares around it. All on the line's own scale but low, high.
    """

    slope: float
    intercept: float
    r_squared: float
    num_models: int
    low: float
    high: float
    scale: Scale
    spread: float
    centre: float
    extent: float

    def at(self, x: float) -> float:
        """What an individual model that has x in distribution has under shift, by the line."""
        return _from(self.intercept + self.slope * _to(x, self.scale), self.scale)

    def around(self, x: float, confidence: float = 0.95) -> tuple[float, float]:
        """Where another individual model lies with this confidence: the prediction interval of least squares."""
        place = _to(x, self.scale)
        middle = self.intercept + self.slope * place
        apart = math.sqrt(1 + 1 / self.num_models + (place - self.centre) ** 2 / self.extent)
        width = self.spread * apart * _quantile(confidence, self.num_models - 2)
        return _from(middle - width, self.scale), _from(middle + width, self.scale)

    def above(self, x: float, y: float) -> float:
        """Effective robustness: how much higher y is than the line at x; of an error, lower is better.

        Source:
            Taori et al. 2020 (arXiv 2007.00644), section 2; the line is fitted to this sweep's own models.
        """
        return y - self.at(x)


@lru_cache
def _quantile(confidence: float, freedom: int) -> float:
    """Of Student's distribution: a line is asked for it by thousands of models."""
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def logit(share: float) -> float:
    """`log(a / (1 - a))`. Source: Miller et al. 2021 (arXiv 2107.04649), section 2, beside the probit they prefer."""
    return math.log(share / (1 - share))


def expit(value: float) -> float:
    """The share of a logit."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _to(value: float, scale: Scale) -> float:
    return value if scale == "linear" else logit(value)


def _from(value: float, scale: Scale) -> float:
    return value if scale == "linear" else expit(value)


def fit_line(x: Sequence[float], y: Sequence[float], scale: Scale = "linear") -> Line:
    """Least squares of a metric under shift on the same in distribution.

    Args:
        x, y: one pair for each individual model. scale: `logit` fits the logits of both, which are shares.
    Raises:
        CurveError: fewer than three models, all of the same x, or a share of 0 or 1 on the logit scale.
    Source:
        Miller et al. 2021 (arXiv 2107.04649), "Accuracy on the line".
    """
    from scipy import stats

    if len(x) < FEWEST:
        raise CurveError(f"a line needs at least {FEWEST} individual models, got {len(x)}; score or add more of them.")
    if scale == "logit" and (worst := [value for value in (*x, *y) if not 0 < value < 1]):
        raise CurveError(f"a share of {worst[0]:.0%} has no logit; leave it out, or take linear axes.")
    xs, ys = ([_to(value, scale) for value in values] for values in (x, y))
    if max(xs) - min(xs) < 1e-12:
        raise CurveError(
            f"all {len(x)} individual models have the same value in distribution, {x[0]:.4g}: no line goes through "
            "them."
        )
    found = stats.linregress(xs, ys)
    left = np.asarray(ys) - found.intercept - found.slope * np.asarray(xs)
    centre = float(np.mean(xs))
    return Line(
        slope=float(found.slope), intercept=float(found.intercept), r_squared=float(found.rvalue) ** 2,
        num_models=len(x), low=min(x), high=max(x), scale=scale,
        spread=math.sqrt(float(left @ left) / (len(x) - 2)) if len(x) > 2 else 0.0,
        centre=centre, extent=float(np.sum((np.asarray(xs) - centre) ** 2)),
    )  # fmt: skip


def individuals(points: "pd.DataFrame") -> "pd.DataFrame":
    """The points that a line is fitted to: single fine-tuned models, the best among them; not the base."""
    return points[points["kind"].isin(["ingredient", "best"])]


@dataclass(frozen=True, slots=True)
class Mixed:
    """A point of a kitchen's scatter, and what has to be scored for it."""

    model: Model
    mix: Coefficients
    aggregation: str = "average"


def mixes_of(kitchen: Kitchen, runs: Sequence[Run]) -> list[Mixed]:
    """The base, the ingredients, the soups of these finished runs, and the ensemble of all ingredients."""
    found = [Mixed(Model(name, name, "ingredient"), ((name, 1.0),)) for name in kitchen.names]
    if kitchen.base:
        found.insert(0, Mixed(Model(BASE, BASE, "base"), ((BASE, 1.0),)))
    for run in runs:
        assert run.result is not None
        aggregation = aggregation_in(run)
        kind = "ensemble" if aggregation in OUTPUTS else "soup"
        selected_on = tuple(run.result.get("selected_on", [HELD_OUT]))
        mixture = mix_in(run)
        found.append(Mixed(Model(run.key, run.name, kind, selected_on=selected_on), mixture, aggregation))
    if together := ensemble_of_all(kitchen):
        found.append(Mixed(Model(ENSEMBLE, together.name, "ensemble"), together.mix, together.aggregation))
    return found


def scores_of(kitchen: Kitchen, mixes: Sequence[Mixed]) -> Scores:
    """What is known of them on held_out, test and the shifts; nothing is computed.

    Raises:
        CurveError: a kitchen without shifts.
    """
    import pandas as pd

    splits = kitchen.splits.reporting
    shifts = tuple(name for name in splits if name.startswith(SHIFTS))
    if not shifts:
        raise CurveError(f"{lacking_for(kitchen, {'shifts'})}.")
    found = summaries(kitchen, [(one.mix, split, one.aggregation) for one in mixes for split in splits])
    known = [[found.get((one.mix, split, one.aggregation)) for split in splits] for one in mixes]
    metric = kitchen.objective
    known_values = [[score.shown(metric.name) if score else None for score in row] for row in known]
    values = pd.DataFrame(known_values, index=[one.model.id for one in mixes], columns=splits, dtype=float)
    across = (TEST, HELD_OUT) if TEST in splits else (HELD_OUT,)
    models = tuple(one.model for one in mixes)
    counts = {split: number for split in splits if (number := kitchen.splits.num_examples(split)) is not None}
    return Scores(models, values, across, shifts, across[0], shifts, HELD_OUT, metric=metric, num_units=counts)
