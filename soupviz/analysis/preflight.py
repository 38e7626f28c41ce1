"""Before cooking: which ingredients belong together, and why not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from soupviz.analysis import barriers as between
from soupviz.analysis import geometry as space
from soupviz.analysis import regime as regimes
from soupviz.analysis.barriers import Barriers, Pair
from soupviz.analysis.geometry import Geometry
from soupviz.analysis.regime import Regime
from soupviz.kitchen import Kitchen
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Score
from soupviz.tasks.wording import factor, gap_unit
from soupviz.types import Progress, quiet
from soupviz.weights.selection import BASE

Kind = Literal["in_basin", "far", "duplicate", "incompatible"]

SAME_START = 0.5
"""Share of another net's weights that is still in a net: near 1 for nets of one initialisation however far they were
trained, near 0 for nets of different ones (measured: 0.7 to 1.2, and -0.02 to 0.02)."""

NATS = "nats"

LONG = 3.0
"""Times the usual distance from the base: an update that is longer was trained too far."""

REORDERED = 0.2
"""Share of the examples that other names for its classes must set right before an ingredient's classes count as in
another order."""

NO_BARRIER = 0.005
"""What is told as none: nats, or a share of what the ingredients have."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one file of the kitchen. distance_to_base: None without a base, or where the file was refused.
    barrier_max: to any other ingredient, in the metric of barriers; None where nothing was measured."""

    name: str
    verdict: Kind
    sentence: str
    distance_to_base: float | None
    barrier_max: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict, "sentence": self.sentence,
            "distance_to_base": self.distance_to_base, "barrier_max": self.barrier_max,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The verdicts, one per file, and what they rest on. reordered: ingredients whose classes are in another order.
    regime: whether averaging pays among those of the basin; None where there are no two."""

    verdicts: tuple[Verdict, ...]
    reordered: tuple[str, ...]
    barriers: Barriers
    geometry: Geometry
    regime: Regime | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the command line prints it; a barrier that is not finite is null."""
        heights = [[None if np.isnan(value) else float(value) for value in row] for row in self.barriers.heights]
        return {
            "ingredients": {one.name: one.as_dict() for one in self.verdicts},
            "metric": self.barriers.metric.name,
            "barriers": heights,
            "cosines": self.geometry.cosines.tolist(),
            "names": list(self.barriers.names),
            "reference": self.geometry.reference_name,
            "batchnorm": self.barriers.aggregation,
            "regime": self.regime.as_dict() if self.regime else None,
        }


def inspect(
    kitchen: Kitchen,
    aggregation: str = "average",
    *,
    progress: Progress = quiet,
    on_pair: Callable[[Pair], None] = lambda _pair: None,
) -> Report:
    """Measure the barriers and the geometry of a kitchen, and judge every file of it.

    Args:
        aggregation: what becomes of running statistics at the midpoints.
    Raises:
        RecipeError: an aggregation that this kitchen has no data or no layers for. Cancelled: from progress.
    """
    kitchen.scores.aggregation(aggregation)
    geometry = space.gram(kitchen, progress=progress)
    measured = between.measure(kitchen, aggregation, progress=progress, on_pair=on_pair)
    scores = {name: kitchen.scores.score(((name, 1.0),), HELD_OUT) for name in kitchen.names}
    reordered = reordered_classes(kitchen, scores) if kitchen.task.has_classes else {}
    judged = tuple(verdicts(kitchen, measured, geometry, scores, reordered))
    members = [one.name for one in judged if one.verdict == "in_basin"]
    regime = regimes.before(kitchen.objective, measured, scores, members)
    return Report(judged, tuple(reordered), measured, geometry, regime)


def verdicts(
    kitchen: Kitchen,
    measured: Barriers,
    geometry: Geometry,
    scores: Mapping[str, Score],
    reordered: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """A verdict for every ingredient, in kitchen order, and for every refused file.

    `duplicate`: the weights are those of an earlier ingredient, bit for bit. `in_basin`: it belongs to the largest
    group that can be averaged (`barriers.basin`). `far`: it does not, or its classes are in another order.
    `incompatible`: the file was refused.

    Args:
        reordered: what `reordered_classes` found.
    """
    firsts = between.twins(kitchen)
    distinct = list(dict.fromkeys(firsts))
    # A head in another order spoils every mix, even where its own high loss hides the barrier.
    ordered = [index for index in distinct if kitchen.names[index] not in (reordered or {})]
    members = between.basin(measured, scores, ordered or distinct)
    found = []
    for index, name in enumerate(kitchen.names):
        kind: Kind
        if firsts[index] != index:
            kind, sentence = "duplicate", f"identical to {kitchen.names[firsts[index]]}"
        elif index in members:
            kind, sentence = "in_basin", _in_basin(index, members, measured, scores)
        else:
            kind, sentence = "far", _far(index, members, distinct, measured, geometry, (reordered or {}).get(name, ""))
        others = np.delete(measured.heights[index], index)
        highest = float(np.nanmax(others)) if np.isfinite(others).any() else None if len(others) else 0.0
        found.append(Verdict(name, kind, sentence, float(geometry.norms[index]) if kitchen.base else None, highest))
    refused = [one for one in kitchen.refused if one.name != BASE]
    return [*found, *(Verdict(one.name, "incompatible", one.reason, None, None) for one in refused)]


def _in_basin(index: int, members: Sequence[int], measured: Barriers, scores: Mapping[str, Score]) -> str:
    others = [other for other in members if other != index]
    if not others:
        return "in the basin: there is no other ingredient to compare it with"
    highest = float(measured.heights[index, others].max())
    metric = measured.metric
    usual = 1.0 if metric.unit == NATS else abs(scores[measured.names[index]].shown(metric.name) or 1.0)
    told = "no barrier" if highest < NO_BARRIER * usual else f"a barrier of at most {height(metric, highest)}"
    told = f"in the basin: {told} to {_counted(len(others), len(others), 'other there', 'others there')}"
    outside = np.where(
        np.isin(np.arange(len(measured.names)), members), -np.inf, np.nan_to_num(measured.heights[index])
    )
    farthest = int(outside.argmax())
    if outside[farthest] > max(highest, NO_BARRIER * usual):  # the table tells that of all
        most = height(metric, float(outside[farthest]))
        told += f"; its highest, {most}, is to {measured.names[farthest]}, which is not there"
    return told


def height(metric: Metric, value: float) -> str:
    """A barrier in words: "0.31 nats", "2.1 points", "0.8 RMSE"."""
    if metric.unit == NATS:
        return f"{value:.2f} nats"
    return f"{factor(metric) * value:.3g} {gap_unit(metric) or metric.label}"


def _far(
    index: int,
    members: Sequence[int],
    distinct: Sequence[int],
    measured: Barriers,
    geometry: Geometry,
    reordered: str,
) -> str:
    others = [other for other in distinct if other != index]
    apart = [other for other in others if measured.separated[index, other]]
    heights = measured.heights[index, apart]
    if reordered:
        return f"far: probably another class order ({reordered}); reorder its head"
    told = "outputs that are not finite"
    if not np.isnan(heights).all():
        told = f"barrier {height(measured.metric, float(np.nanmean(heights)))}"
    start = f"far: {told} to {_counted(len(apart), len(others), 'other', 'others')}, "
    # A net is compared with those that it would be mixed with; only where there are none, with the base or with all.
    relatives = [other for other in members if other != index] or ([-1] if geometry.reference_name == BASE else others)
    if _kept(geometry, index, relatives) < SAME_START:
        return start + "probably another initialisation; try permutation alignment"
    usual = float(np.median(geometry.norms[[other for other in members or others if other != index]]))
    times = geometry.norms[index] / usual if usual > 0 else 0.0
    if times > LONG:
        said = f"{times:.0f} times as far from the {geometry.reference_name} as the others usually are"
        return start + f"probably trained too far ({said}); take an earlier checkpoint of it, or leave it out"
    return start + "though its weights come from the same start; leave it out"


def _counted(count: int, total: int, one: str, many: str) -> str:
    if count < total:
        return f"{count} of {total} {many}"
    return f"the {one}" if total == 1 else f"all {many}" if many == "others" else f"the {total} {many}"


def _kept(geometry: Geometry, index: int, others: Sequence[int]) -> float:
    """How much of other nets' matrices is in this one's: its projection on each, as a share of it; the median.

    A net that training took far away still holds its start as a summand, where its cosine with it is near 0.
    """
    products = geometry.matrices
    shares = [products[index, other] / products[other, other] for other in others if products[other, other] > 0]
    return float(np.median(shares)) if shares else 1.0


def reordered_classes(kitchen: Kitchen, scores: Mapping[str, Score]) -> dict[str, str]:
    """The ingredients that have many more right once their classes are named otherwise, each with an example of it.

    Of a task whose units have one class each.

    The best naming is that of the assignment problem on the table of what was said against what is right.
    """
    from scipy.optimize import linear_sum_assignment  # loads slowly

    split = kitchen.splits.load(HELD_OUT)
    labels, width = split.labels.numpy(), kitchen.scores.width(split)
    classes = split.classes or tuple(str(number) for number in range(width))
    found = {}
    for name, score in scores.items():
        assert score.outcomes is not None
        said = score.outcomes["prediction"]
        finite = said >= 0
        counts = np.zeros((width, width), dtype=np.int64)
        np.add.at(counts, (said[finite], labels[finite]), 1)
        rows, columns = linear_sum_assignment(counts, maximize=True)
        if (counts[rows, columns].sum() - np.trace(counts)) / score.num_units > REORDERED:
            moved = max(
                (pair for pair in zip(rows, columns, strict=True) if pair[0] != pair[1]), key=counts.__getitem__
            )
            found[name] = f"what it calls {classes[moved[0]]} is labelled {classes[moved[1]]}"
    return found
