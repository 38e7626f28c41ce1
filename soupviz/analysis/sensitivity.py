"""Which layers make the difference: one layer group at a time is taken from another model, or its update is scaled.

Scaling the update of a group by a factor, `base + factor * (a - base)`, is taking it from the base with a weight of
`1 - factor`: both questions are one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from soupviz.analysis.geometry import weight_keys
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import BatchNorm, combine, is_affine
from soupviz.models.layers import Grouping, keys_of
from soupviz.soups.blending import blend, groups_of
from soupviz.spec import HELD_OUT
from soupviz.tasks.paired import Comparison, compare
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients, Progress, part_of, quiet
from soupviz.weights.ingredients import COUNTER, same_bits


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of every layer group: what becomes of `a` when the group alone moves towards `b`.

    alpha: how far: 1 takes it from b; 1 - factor, where b is the base, scales its update. by: how coarse groups are.
    aggregation: what becomes of running statistics, which move with their group.
    """

    a: Coefficients
    b: Coefficients
    alpha: float = 1.0
    by: Grouping = "block"
    aggregation: str = "average"

    @property
    def statistics(self) -> BatchNorm:
        """What is done with running statistics while weights are mixed."""
        return "first" if self.aggregation == "first" else "average"

    def moved(self, kitchen: Kitchen, weights: Mapping[str, float]) -> Coefficients:
        """The mix in which every group has a weight of its own between a and b."""
        return blend(kitchen, self.a, self.b, weights, by=self.by, batchnorm=self.statistics)

    def one(self, kitchen: Kitchen, group: str) -> Coefficients:
        """The mix in which one group alone is moved."""
        names = keys_of(groups_of(kitchen, self.by))
        return self.moved(kitchen, {name: self.alpha if name == group else 0.0 for name in names})

    def key(self, kitchen: Kitchen) -> str:
        """The same for the same question about the same weights and data."""
        ends = [_content(kitchen, end) for end in (self.a, self.b)]
        data = [kitchen.splits.load(HELD_OUT).fingerprint, kitchen.model_fingerprint, *kitchen.evaluator.numerics]
        train = kitchen.spec.data.train  # what kitchen.yaml says of it: a key must not have to read it
        return digest([ends, data, self.alpha, self.by, self.aggregation, train.model_dump_json() if train else ""])


@dataclass(frozen=True, slots=True)
class Group:
    """A layer group of two models. parameters: how many weights it has. differs: whether anything that an answer
    depends on may differ between the two, running statistics among it."""

    name: str
    parameters: int
    differs: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """What moving one group does.

    distance: `|b - a| / |a|` over its weights, None where a's are all zero. value: of the mix, by the objective.
    change: of the objective against a; a group that does not differ changes nothing. changes: of every metric.
    """

    group: Group
    distance: float | None
    value: float | None
    change: Comparison
    changes: Mapping[str, float | None]


def changes(task: Task, new: Score, old: Score) -> dict[str, float | None]:
    """By metric the difference new - old; None where one of them says nothing of some answers."""
    pairs = {metric.name: (new.whole(metric), old.whole(metric)) for metric in task.metrics}
    return {name: None if now is None or was is None else now - was for name, (now, was) in pairs.items()}


def groups(kitchen: Kitchen, a: Coefficients, b: Coefficients, by: Grouping = "block") -> list[Group]:
    """The layer groups of two mixes, front to back, and which may differ; kept in the store.

    Running statistics and counters are no parameters; a tensor that is one with another in the model counts once.
    A group is said to be the same where every ingredient of both mixes has the same bits in it; nothing is mixed.
    """
    key = digest(["layer groups 1", *(_content(kitchen, end) for end in (a, b)), by, sorted(kitchen.architecture.ties)])
    found: list[list[Any]] | None = kitchen.store.finding(key)
    if found is None:
        ends = [kitchen.scores.resolved(end) for end in (a, b)]
        first, *others = [item.tensors for end in ends for item, _ in end]
        is_kept = a == b or all(is_affine(end) for end in ends)  # a mix that is affine keeps what its parts share

        def is_same(key: str) -> bool:
            # A counter says how long statistics were gathered: no answer depends on it.
            return key.endswith(COUNTER) or a == b or all(same_bits(other[key], first[key]) for other in others)

        found = []
        for name, keys in keys_of(groups_of(kitchen, by)).items():
            parameters = sum(first[key].numel() for key in weight_keys(first, kitchen.architecture.ties) if key in keys)
            found.append([name, parameters, not (is_kept and all(map(is_same, keys)))])
        kitchen.store.keep_finding(key, found)
    return [Group(*values) for values in found]


def distances(
    kitchen: Kitchen, a: Coefficients, b: Coefficients, by: Grouping = "block", progress: Progress = quiet
) -> dict[str, float | None]:
    """How far two mixes are apart in each layer group, `|b - a| / |a|` over its weights; kept in the store.

    Returns:
        By group, in float64; None where a's weights are all zero, or where the group has none.
    """
    key = digest(
        ["layer distances 1", *(_content(kitchen, end) for end in (a, b)), by, sorted(kitchen.architecture.ties)]
    )
    found: dict[str, float | None] | None = kitchen.store.finding(key)
    if found is None:
        members = groups_of(kitchen, by)
        squares = {name: torch.zeros(2, dtype=torch.float64) for name in members.values()}
        keys = weight_keys(kitchen.weights.resolve(a[0][0]).shapes, kitchen.architecture.ties)
        pairs = zip(kitchen.scores.mixed(a, keys=keys), kitchen.scores.mixed(b, keys=keys), strict=True)
        for index, ((key_of, old), (_, new)) in enumerate(pairs):
            progress(index, len(keys), "comparing weights")
            wide = old.double()
            squares[members[key_of]] += torch.stack([(new.double() - wide).square().sum(), wide.square().sum()])
        roots = {name: (float(apart) ** 0.5, float(size) ** 0.5) for name, (apart, size) in squares.items()}
        found = {name: apart / size if size else None for name, (apart, size) in roots.items()}
        kitchen.store.keep_finding(key, found)
    return found


def _content(kitchen: Kitchen, mixture: Coefficients) -> list[list[str]]:
    """A mix by its fingerprints."""
    return [[item.fingerprint, weight.hex()] for item, weight in kitchen.scores.resolved(mixture)]


def wanted(kitchen: Kitchen, probe: Probe, found: Sequence[Group]) -> list[tuple[Coefficients, str, str]]:
    """The scores that it takes: of a, and of one mix for each group that differs; for `planning.cost`."""
    mixes = [probe.a, *(probe.one(kitchen, group.name) for group in found if group.differs)]
    return [(mixture, HELD_OUT, probe.aggregation) for mixture in mixes]


def sensitivity(
    kitchen: Kitchen,
    probe: Probe,
    *,
    on_effect: Callable[[Effect], None] = lambda _effect: None,
    progress: Progress = quiet,
) -> list[Effect]:
    """What moving each layer group alone does on held_out, against a.

    One evaluation for each group that differs; a group whose weights are identical changes nothing, and costs nothing.

    Args:
        on_effect: told of each effect, front to back.
    Raises:
        SoupError: what does not fit. Cancelled: from progress; the scores so far are in the store.
    """
    found = groups(kitchen, probe.a, probe.b, probe.by)
    apart = distances(kitchen, probe.a, probe.b, probe.by, part_of(progress, 0, 2))
    mixes = [probe.a, *(probe.one(kitchen, group.name) for group in found if group.differs)]
    scores = kitchen.scores.each([(one, HELD_OUT, probe.aggregation) for one in mixes], part_of(progress, 1, 2))
    whole = next(scores)
    effects: list[Effect] = []
    nothing: Comparison | None = None
    for group in found:
        score = whole
        if group.differs:
            score = next(scores)
            change = compare(kitchen.task, kitchen.objective, score, whole)
        else:
            change = nothing = nothing or compare(kitchen.task, kitchen.objective, whole, whole)
        told = changes(kitchen.task, score, whole)
        effects.append(Effect(group, apart[group.name], score.shown(kitchen.objective.name), change, told))
        on_effect(effects[-1])
    return effects


def half(probe: Probe) -> Coefficients:
    """The plain mean of both ends: what one alpha for all layers gives."""
    return combine(probe.a, probe.b, 0.5)
