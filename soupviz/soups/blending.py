"""A mix of two mixes with a weight of its own for every layer group."""

from collections.abc import Mapping, Sequence

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import BatchNorm, combine
from soupviz.mixing.formulas import Formula
from soupviz.models.layers import Grouping, check_weights, layer_groups
from soupviz.types import Coefficients


def groups_of(kitchen: Kitchen, by: Grouping = "block") -> dict[str, str]:
    """The layer group of each key of a kitchen's model."""
    return layer_groups(kitchen.ingredients[0].tensors, kitchen.architecture.ties, by)


def blend(
    kitchen: Kitchen,
    a: Coefficients,
    b: Coefficients,
    weights: Mapping[str, float],
    *,
    by: Grouping = "block",
    batchnorm: BatchNorm = "average",
) -> Coefficients:
    """`(1 - alpha_g) * a + alpha_g * b` in every layer group g; running statistics go with their group.

    Args:
        weights: alpha of each group. by: which groups. batchnorm: what becomes of running statistics within a group.
    Returns:
        The plain interpolation where all alphas are equal, else a mix that consists of a formula, which is kept.
        Where alpha is 0 or 1 a group is a's or b's bit for bit.
    Raises:
        RecipeError: a group without a weight, or a weight without a group.
    """
    groups = groups_of(kitchen, by)
    check_weights(weights, groups.values())
    alphas = {key: weights[group] for key, group in groups.items()}
    if len(set(alphas.values())) == 1:
        return combine(a, b, next(iter(alphas.values())))
    blocks = groups_of(kitchen)
    by_block = {block: alphas[key] for key, block in blocks.items()}
    if all(alphas[key] == by_block[block] for key, block in blocks.items()):
        weights, by = by_block, "block"  # one mix has one formula, and so one score, however it was asked for
    names, places = _parts(a, b)
    shares = {group: _shares(a, b, alpha, places, len(names)) for group, alpha in weights.items()}
    parameters = {"groups": shares, "ties": kitchen.architecture.ties} | ({"by": by} if by != "block" else {})
    parts = tuple((name, 1.0 / len(names)) for name in names)
    return kitchen.weights.adopt(Formula(kind="layered", parts=parts, parameters=parameters, batchnorm=batchnorm))


def _parts(a: Coefficients, b: Coefficients) -> tuple[list[str], list[int]]:
    """The formula's ingredients, and where b's stand among them.

    Where b has them in another order than a path from a does, they stand there twice: a group that is b's alone is
    then accumulated in b's own order, and is b's bit for bit.
    """
    names = [name for name, _ in combine(a, b, 0.5)]
    own = [name for name, _ in b]
    places = [names.index(name) for name in own]
    if places == sorted(places):
        return names, places
    return names + own, [len(names) + place for place in range(len(own))]


def _shares(a: Coefficients, b: Coefficients, alpha: float, places: list[int], count: int) -> list[float]:
    """The weight of each of the formula's ingredients in a group."""
    mixed = [0.0] * count
    if alpha == 1.0:
        for place, (_, weight) in zip(places, b, strict=True):
            mixed[place] = weight
        return mixed
    order = {name: place for place, (name, _) in enumerate(combine(a, b, 0.5))}
    for name, weight in combine(a, b, alpha):
        mixed[order[name]] = weight
    return mixed


def presets(names: Sequence[str]) -> dict[str, list[float]]:
    """Weights to start from, by name: one for each layer group, front to back."""
    count = len(names)
    third = -(-count // 3)
    ramp = [index / max(1, count - 1) for index in range(count)]
    return {
        "All A": [0.0] * count,
        "All B": [1.0] * count,
        "Half": [0.5] * count,
        "Early": [1.0] * third + [0.0] * (count - third),
        "Late": [0.0] * (count - third) + [1.0] * third,
        "Ramp up": ramp,
        "Ramp down": ramp[::-1],
        "Head only": [0.0] * (count - 1) + [1.0],
    }
