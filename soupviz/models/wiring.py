"""Groups of units: which dimensions of which tensors carry the same ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import fx, nn

from soupviz.errors import CompatibilityError
from soupviz.models.architecture import weights_of
from soupviz.models.building import tied_keys

SUPPORTED = (
    "Units are followed through Linear, Embedding, Conv1d to Conv3d (groups=1 or depthwise), BatchNorm, LayerNorm, "
    "GroupNorm of one group, activations, dropout, pooling, flattening, means, sums and products: mix without alignment"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension along which a group's units lie, each of them `block` entries in a row."""

    group: str
    block: int = 1


Layout = tuple[Axis, ...]
FIXED = Axis("")
"""A dimension whose entries keep their places."""


@dataclass(frozen=True, slots=True)
class PermutationSpec:
    """What may be permuted without changing what the model computes.

    A group is named by the first layer that makes its units; what an addition joins is one group.
    axes: by key of the state dict and dimension; what is not in it keeps its order. sizes: units of each group.
    """

    axes: Mapping[str, Mapping[int, Axis]]
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a node is refused: at once, or if the units along an axis turn out to be free."""

    node: fx.Node
    reason: str
    axis: Axis | None = None

    def about(self, group: str) -> str:
        target = self.node.target
        name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
        named = repr(self.node.name) if name == self.node.name else f"{self.node.name!r} ({name})"
        return f"{named} {self.reason.replace('GROUP', repr(group))}"


class Wiring:
    """Groups are joined as node after node is looked at; which are free is known at the end."""

    def __init__(self, model: nn.Module, shapes: Mapping[fx.Node, tuple[int, ...] | None]):
        self.state = weights_of(model)
        self.ties = tied_keys(model)
        self.shapes = shapes
        self.layouts: dict[fx.Node, Layout] = {}
        self._parameters = dict(model.named_parameters(remove_duplicate=False)).keys()
        self._sizes: dict[str, int] = {}
        self._parents = {"": ""}
        self._axes: dict[tuple[str, int], Axis] = {}
        self._doubts: list[Doubt] = []

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """A tensor's shape; of anything else, that of a scalar."""
        return self.shapes[node] or ()

    def made(self, layer: str, size: int) -> Axis:
        """The units that a layer makes."""
        self._sizes[layer] = size
        self._parents.setdefault(layer, layer)
        return Axis(layer)

    def attribute(self, key: str, node: fx.Node) -> Layout:
        """A tensor of the state dict that is read by itself: its entries follow the units that they meet, if any."""
        layout = []
        for dim, size in enumerate(self.shape(node)):
            name = f"{key}[{dim}]"
            self._parents.setdefault(name, name)
            layout.append(Axis(name) if size > 1 else FIXED)
            self.read(key, dim, layout[-1], node)
        return tuple(layout)

    def join(self, one: Axis, other: Axis, node: fx.Node) -> Axis:
        """Say that two dimensions have their units in one order; what is joined to a fixed one is fixed."""
        first, second = self._root(one), self._root(other)
        if not first or not second:
            self._parents[first] = self._parents[second] = ""
            return FIXED
        if one.block != other.block:
            self.doubt([one, other], node, "brings together units of GROUP and units of another size")
        self._parents[second] = first
        return one

    def read(self, key: str, dim: int, axis: Axis, node: fx.Node) -> None:
        """Say that a dimension of a tensor lies along these units; not every layer has every tensor."""
        if key in self.state:
            place = (self.ties[key] if key in self.ties else key, dim)
            self._axes[place] = self.join(self._axes[place], axis, node) if place in self._axes else axis

    def doubt(self, axes: Iterable[Axis], node: fx.Node, reason: str) -> None:
        """Refuse this node, unless it turns out that these units keep their places anyway."""
        self._doubts += [Doubt(node, reason, axis) for axis in axes]

    def refuse(self, node: fx.Node, reason: str) -> None:
        self._doubts.append(Doubt(node, reason))

    def spec(self) -> PermutationSpec:
        """What was found.

        Raises:
            CompatibilityError: the first node whose effect on units that are free is unknown; or no such units.
        """
        names: dict[str, str] = {}
        for layer in self._sizes:
            names.setdefault(self._root(Axis(layer)), layer)
        names.pop("", None)
        self._check(names)
        axes: dict[str, dict[int, Axis]] = {}
        for key in self.state:
            places = [(self.ties[key] if key in self.ties else key, dim) for dim in range(self.state[key].ndim)]
            found = {place[1]: self._axes[place] for place in places if place in self._axes}
            free = {
                dim: (names[root], axis.block) for dim, axis in found.items() if (root := self._root(axis)) in names
            }
            if free:
                axes[key] = {dim: Axis(*group_and_block) for dim, group_and_block in free.items()}
        if not axes:
            raise CompatibilityError(
                "the model cannot be aligned: it has no hidden units whose order is free. Mix without alignment."
            )
        return PermutationSpec(axes, {name: self._sizes[name] for name in names.values()})

    def _check(self, names: Mapping[str, str]) -> None:
        """Layers' units first; then parameters that are in no layer, such as an attention's."""
        parameters = {self._root(axis): key for (key, _), axis in self._axes.items() if key in self._parameters}
        parameters.pop("", None)
        for groups in (names, parameters):
            for doubt in self._doubts:
                if doubt.axis is None or self._root(doubt.axis) in groups:
                    group = groups[self._root(doubt.axis)] if doubt.axis else ""
                    raise CompatibilityError(f"the model cannot be aligned: {doubt.about(group)}. {SUPPORTED}.")

    def _root(self, axis: Axis) -> str:
        name = axis.group
        while self._parents[name] != name:
            name = self._parents[name]
        return name
