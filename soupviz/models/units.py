"""How units pass through one node of a model's graph: a rule for each kind of layer and function."""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupviz.models.graph import CONVOLUTIONS, COUNTER
from soupviz.models.wiring import FIXED, Axis, Layout, Wiring

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softmax, nn.LogSoftmax, nn.Identity, nn.Dropout,
    nn.AlphaDropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
ELEMENTWISE = set(
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid softplus hardtanh hardswish hardsigmoid "
    "dropout dropout1d dropout2d dropout3d alpha_dropout stochastic_depth clamp abs neg exp sqrt rsqrt square pow "
    "contiguous clone detach float to add iadd sub isub mul imul div truediv itruediv maximum minimum where "
    "softmax log_softmax layer_norm".split()
)
"""Functions and methods that take an element, or elements in one place, to one; torch's own and torchvision's.

The last three are like them: their sums are blind to the order of the units, and layer_norm's weight and bias lie
along the last dimensions.
"""
RESHAPES = {"flatten", "reshape", "view", "squeeze", "unsqueeze"}
REDUCTIONS = {"mean", "sum", "amax"}
POOLS = {kind: count for count in (1, 2, 3) for kind in (f"max_pool{count}d", f"avg_pool{count}d")}
POOLS |= {f"adaptive_{name}": count for name, count in POOLS.items()}
"""Functions that pool, and over how many last dimensions."""

POOL_MODULES = {
    getattr(nn, f"{kind}Pool{count}d"): count
    for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")
    for count in (1, 2, 3)
}
LAYER_KEYS = {"weight", "bias", "running_mean", "running_var", COUNTER}


def layout_of(wiring: Wiring, node: fx.Node, traced: fx.GraphModule) -> Layout:
    """What lies along each dimension of a node's value."""
    if node.op == "call_module":
        return _of_module(wiring, node, traced.get_submodule(str(node.target)))
    if node.op in ("call_function", "call_method"):
        return _of_function(wiring, node)
    fixed = (FIXED,) * len(wiring.shape(node))
    if node.op == "get_attr" and node.target in wiring.state:
        return wiring.attribute(str(node.target), node)
    for source in node.all_input_nodes:  # of the output; an input has none
        for axis in wiring.layouts[source]:
            wiring.join(FIXED, axis, node)
    return fixed


def _of_module(wiring: Wiring, node: fx.Node, module: nn.Module) -> Layout:
    source = node.all_input_nodes[0]
    if isinstance(module, ACTIVATIONS):
        return wiring.layouts[source]
    if isinstance(module, nn.Flatten):
        return _reshaped(wiring, node)
    if type(module) in POOL_MODULES and wiring.shapes[node] is not None:
        return _pooled(wiring, node, POOL_MODULES[type(module)])
    for kinds, rule in LAYERS.items():
        if isinstance(module, kinds) and set(module.state_dict()) <= LAYER_KEYS:
            return rule(wiring, node, module)
    if any(True for _ in module.parameters()):
        wiring.refuse(node, f"is a layer of type {type(module).__name__}, whose units are not followed")
    return _opaque(wiring, node)


def _of_function(wiring: Wiring, node: fx.Node) -> Layout:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    name = name if name.startswith("_") else name.rstrip("_")  # relu_ is relu in place
    if wiring.shapes[node] is None and name in ("getattr", "size", "dim", "numel"):
        return ()
    if wiring.shapes[node] is None:
        return _opaque(wiring, node)
    if name in ELEMENTWISE:
        return _elementwise(wiring, node)
    if name in RESHAPES:
        return _reshaped(wiring, node)
    if name in POOLS:
        return _pooled(wiring, node, POOLS[name])
    if name in REDUCTIONS and len(node.all_input_nodes) == 1:  # the dimensions are known numbers
        return _reduced(wiring, node)
    if name in ("permute", "transpose") and len(node.all_input_nodes) == 1:
        return _moved(wiring, node, name)
    return _opaque(wiring, node)


def _opaque(wiring: Wiring, node: fx.Node, reason: str = "takes the units of GROUP and may reorder them") -> Layout:
    for source in node.all_input_nodes:
        wiring.doubt(wiring.layouts[source], node, reason)
    return (FIXED,) * len(wiring.shape(node))


def _elementwise(wiring: Wiring, node: fx.Node) -> Layout:
    """Dimensions are matched from the last, as in broadcasting."""
    shape = wiring.shape(node)
    layout: list[Axis] = []
    for place in range(1, len(shape) + 1):
        met = [
            wiring.layouts[source][-place]
            for source in node.all_input_nodes
            if len(wiring.shape(source)) >= place and wiring.shape(source)[-place] == shape[-place]
        ]
        axis = met[0]
        for other in met[1:]:
            axis = wiring.join(axis, other, node)
        layout.insert(0, axis)
    return tuple(layout)


def _reshaped(wiring: Wiring, node: fx.Node) -> Layout:
    """A dimension is found again where as many entries lie before it; what was merged into it makes its block."""
    source = node.all_input_nodes[0]
    old, new = wiring.shape(source), wiring.shape(node)
    layout = [FIXED] * len(new)
    for dim, axis in enumerate(wiring.layouts[source]):
        if axis == FIXED:
            continue
        places = [i for i in range(len(new)) if prod(new[:i]) == prod(old[:dim]) and new[i] % old[dim] == 0]
        if places:
            layout[places[-1]] = Axis(axis.group, axis.block * (new[places[-1]] // old[dim]))
        else:
            wiring.doubt([axis], node, "splits the units of GROUP, or merges them into other dimensions")
    return tuple(layout)


def _pooled(wiring: Wiring, node: fx.Node, count: int) -> Layout:
    layout = wiring.layouts[node.all_input_nodes[0]]
    wiring.doubt(layout[-count:], node, "takes the units of GROUP for positions")
    return (*layout[:-count], *[FIXED] * count)


def _reduced(wiring: Wiring, node: fx.Node) -> Layout:
    """A sum is blind to the order of what is summed."""
    layout = wiring.layouts[node.all_input_nodes[0]]
    dims: Any = node.args[1] if len(node.args) > 1 else node.kwargs["dim"] if "dim" in node.kwargs else None
    if dims in (None, (), []):
        return (FIXED,) * len(wiring.shape(node))
    gone = {dim % len(layout) for dim in (dims if isinstance(dims, Iterable) else [dims])}
    if len(wiring.shape(node)) == len(layout):
        return tuple(FIXED if dim in gone else axis for dim, axis in enumerate(layout))
    return tuple(axis for dim, axis in enumerate(layout) if dim not in gone)


def _moved(wiring: Wiring, node: fx.Node, name: str) -> Layout:
    layout = wiring.layouts[node.all_input_nodes[0]]
    given: Any = [*node.args[1:], *(value for key, value in node.kwargs.items() if key != "input")]
    order = list(given[0]) if len(given) == 1 else list(given)
    if name == "transpose":
        one, other = (dim % len(layout) for dim in order)
        order = list(range(len(layout)))
        order[one], order[other] = other, one
    return tuple(layout[dim] for dim in order)


def _linear(wiring: Wiring, node: fx.Node, module: Any) -> Layout:
    layout = wiring.layouts[node.all_input_nodes[0]]
    made = wiring.made(str(node.target), module.out_features)
    wiring.read(f"{node.target}.weight", 1, layout[-1], node)
    wiring.read(f"{node.target}.weight", 0, made, node)
    wiring.read(f"{node.target}.bias", 0, made, node)
    return (*layout[:-1], made)


def _embedding(wiring: Wiring, node: fx.Node, module: Any) -> Layout:
    made = wiring.made(str(node.target), module.embedding_dim)
    wiring.read(f"{node.target}.weight", 0, FIXED, node)
    wiring.read(f"{node.target}.weight", 1, made, node)
    return (*wiring.layouts[node.all_input_nodes[0]], made)


def _convolution(wiring: Wiring, node: fx.Node, module: Any) -> Layout:
    layout = wiring.layouts[node.all_input_nodes[0]]
    count = len(module.kernel_size)
    channels = layout[-count - 1]
    wiring.doubt(layout[-count:], node, "takes the units of GROUP for positions")
    if module.groups == 1:
        made = wiring.made(str(node.target), module.out_channels)
        wiring.read(f"{node.target}.weight", 1, channels, node)
    elif module.groups == module.in_channels == module.out_channels:
        made = channels
    else:
        wiring.refuse(node, f"is a convolution in {module.groups} groups, which is neither groups=1 nor depthwise")
        made = FIXED
    wiring.read(f"{node.target}.weight", 0, made, node)
    wiring.read(f"{node.target}.bias", 0, made, node)
    return (*layout[: -count - 1], made, *[FIXED] * count)


def _per_channel(wiring: Wiring, node: fx.Node, module: Any) -> Layout:
    """BatchNorm, and GroupNorm of one group, which is blind to the order of its channels."""
    layout = wiring.layouts[node.all_input_nodes[0]]
    if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
        wiring.refuse(node, f"is a GroupNorm of {module.num_groups} groups, which a permutation would mix up")
    for name in LAYER_KEYS - {COUNTER}:
        wiring.read(f"{node.target}.{name}", 0, layout[1], node)
    return layout


def _layer_norm(wiring: Wiring, node: fx.Node, module: Any) -> Layout:
    layout = wiring.layouts[node.all_input_nodes[0]]
    for dim, axis in enumerate(layout[-len(module.normalized_shape) :]):
        wiring.read(f"{node.target}.weight", dim, axis, node)
        wiring.read(f"{node.target}.bias", dim, axis, node)
    return layout


LAYERS: dict[Any, Callable[[Wiring, fx.Node, Any], Layout]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    CONVOLUTIONS: _convolution,
    (_BatchNorm, nn.GroupNorm): _per_channel,
    nn.LayerNorm: _layer_norm,
}
