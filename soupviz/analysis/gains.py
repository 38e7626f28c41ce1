"""What is made of two models, their midpoint or their ensemble, and what it gains over the mean of the two."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from soupviz.analysis.diversity import Names, Pair
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.tasks.judging import judged
from soupviz.tasks.metric import Metric
from soupviz.tasks.outcomes import Outcomes
from soupviz.types import Coefficients, Progress, part_of, quiet


def midpoints(kitchen: Kitchen, names: Sequence[str]) -> dict[Names, Coefficients]:
    """The plain average of each pair: the mix that a barrier is taken from. Two copies are their own average.

    Args:
        names: in kitchen order, which is part of what a score is kept under.
    """
    prints = {name: kitchen.weights.resolve(name).fingerprint for name in names}
    return {
        (a, b): mean_of([a, b]) if prints[a] != prints[b] else ((a, 1.0),) for a, b in itertools.combinations(names, 2)
    }


def score_midpoints(
    kitchen: Kitchen,
    mixes: Mapping[Names, Coefficients],
    split: str,
    aggregation: str = "average",
    *,
    progress: Progress = quiet,
    on_score: Callable[[Names, float | None], None] = lambda _names, _value: None,
) -> dict[Names, float | None]:
    """The objective of each midpoint: one evaluation for each that was not scored before.

    Args:
        on_score: told each value as soon as it is there; None where it is not finite.
    """
    found: dict[Names, float | None] = {}
    wanted = [(mixture, split, aggregation) for mixture in mixes.values()]
    for names, score in zip(mixes, kitchen.scores.each(wanted, progress), strict=True):
        found[names] = score.whole(kitchen.objective)
        on_score(names, found[names])
    return found


def without_logits(kitchen: Kitchen, names: Sequence[str], split: str) -> list[str]:
    """The ingredients whose logits are not kept: each takes an evaluation. The split must have been read."""
    keys = {name: kitchen.scores.key(((name, 1.0),), split, "average") for name in names}
    return [name for name, key in keys.items() if kitchen.store.logits(key) is None]


def score_ensembles(
    kitchen: Kitchen,
    names: Sequence[str],
    split: str,
    *,
    progress: Progress = quiet,
    on_score: Callable[[Names, float | None], None] = lambda _names, _value: None,
) -> dict[Names, float | None]:
    """The objective of the ensemble of each pair, from the answers of each ingredient; of a task that has ensembles."""
    labels = kitchen.splits.load(split).labels
    logits = {
        name: kitchen.scores.logits(((name, 1.0),), split, progress=part_of(progress, index, 2 * len(names)))
        for index, name in enumerate(names)
    }
    pairs = list(itertools.combinations(names, 2))
    found: dict[Names, float | None] = {}
    targets = kitchen.task.targets(labels)
    for index, (a, b) in enumerate(pairs):
        together = kitchen.task.averaged([logits[a], logits[b]], [0.5, 0.5], kitchen.task.outputs[0])
        value = kitchen.objective.value(Outcomes.of(judged(kitchen.task, together, labels, split), targets))
        found[a, b] = None if value is None else float(value)
        on_score((a, b), found[a, b])
        progress(len(pairs) + index + 1, 2 * len(pairs), f"asking {a} and {b} together")
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """A pair, and the objective of what was made of the two: of their midpoint, or of their ensemble.

    gain: by how much it is better than the two are on average; an error that falls is a gain.
    Source:
        Rame et al. 2022 (arXiv 2205.09739), figure 1: the gain of averaged weights over the mean of the two.
    """

    pair: Pair
    value: float
    gain: float


def gains(pairs: Sequence[Pair], values: Mapping[Names, float | None], metric: Metric) -> list[Gain]:
    """The pairs of which that is known."""
    found = []
    for pair in pairs:
        value, mean = values.get(pair.names), pair.mean_value
        if value is not None and mean is not None:
            found.append(Gain(pair, value, value - mean if metric.higher_is_better else mean - value))
    return found
