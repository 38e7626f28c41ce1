"""The model as a graph: BatchNorm folded into the convolution before it, and the prefix that soups have in common."""

import inspect
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from soupviz.errors import ModelError, SoupError
from soupviz.models.usercode import guarded

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
COUNTER = "num_batches_tracked"
VARIADIC = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
HIDDEN = (
    "its forward takes any number of arguments behind a decorator that hides what they are, as the models of "
    "transformers have it, and torch.fx cannot follow that"
)


@dataclass(frozen=True, slots=True)
class Fold:
    """A convolution and the BatchNorm after it, which at inference are one convolution."""

    convolution: Any
    norm: Any
    folded: Any

    def update(self) -> None:
        """Compute the folded weights anew, after other weights were loaded."""
        norm = self.norm
        weight, bias = fuse_conv_bn_weights(
            self.convolution.weight, self.convolution.bias,
            norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        )  # fmt: skip
        self.folded.weight.copy_(weight)
        self.folded.bias.copy_(bias)


@dataclass(frozen=True, slots=True)
class Traced:
    """A model's graph. keys: which entries of the state dict each node reads itself."""

    module: fx.GraphModule
    folds: tuple[Fold, ...]
    keys: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Cut:
    """The graph in two: `prefix` gives the boundary that `suffix` takes; num_layers of all lie before it."""

    prefix: fx.GraphModule
    suffix: fx.GraphModule
    num_layers: int
    num_all: int


def symbolic_graph(model: nn.Module, refusal: Callable[[str], SoupError]) -> fx.GraphModule:
    """The graph that torch.fx makes of a model, sharing its weights.

    Args:
        refusal: makes the error, from why there is none.
    """
    with guarded(refusal):  # tracing runs the model's own code, which may raise anything
        if _hides_arguments(type(model).forward):
            raise refusal(HIDDEN)
        return fx.symbolic_trace(model)


def _hides_arguments(forward: Callable[..., Any]) -> bool:
    """Whether torch.fx would call a decorator with the arguments of the function behind it, which the decorator lacks.

    It does so of a function that takes *args, **kwargs or arguments by name alone, and rebuilds the outer code for it.
    """
    inner = inspect.unwrap(forward).__code__
    is_rebuilt = inner.co_kwonlyargcount > 0 or inner.co_flags & VARIADIC
    return bool(is_rebuilt) and _arguments_of(forward.__code__) != _arguments_of(inner)


def _arguments_of(code: CodeType) -> tuple[int, int]:
    return code.co_argcount + code.co_kwonlyargcount, code.co_flags & VARIADIC


def trace(model: nn.Module) -> Traced | str:
    """The model's graph with BatchNorm folded, sharing the model's own weights; or why it has none.

    Source:
        Markuš 2018, "Fusing batch normalization and convolution in runtime": w' = w g / sqrt(v + eps).
    """
    try:
        traced = symbolic_graph(model, ModelError)
    except ModelError as error:
        return str(error)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    keys = {node.name: _keys_read(node, model) for node in traced.graph.nodes}
    folds: list[Fold] = []
    for node in list(traced.graph.nodes):
        found = _foldable(node, traced, calls)
        if found is None:
            continue
        convolution, norm = found
        name = f"folded_{len(folds)}"
        fold = Fold(convolution, norm, _with_bias(convolution))
        traced.add_module(name, fold.folded)
        before = node.args[0]
        with traced.graph.inserting_after(node):
            both = traced.graph.call_module(name, before.args, before.kwargs)
        node.replace_all_uses_with(both)
        keys[both.name] = keys[before.name] | keys[node.name]
        traced.graph.erase_node(node)
        traced.graph.erase_node(before)
        folds.append(fold)
    traced.recompile()
    return Traced(traced, tuple(folds), keys)


def _foldable(node: fx.Node, traced: fx.GraphModule, calls: list[Any]) -> tuple[nn.Module, nn.Module] | None:
    before = node.args[0] if node.op == "call_module" and node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    norm, convolution = traced.get_submodule(str(node.target)), traced.get_submodule(str(before.target))
    if not isinstance(norm, _BatchNorm) or not isinstance(convolution, CONVOLUTIONS) or norm.running_var is None:
        return None
    is_used_once = calls.count(node.target) == 1 and calls.count(before.target) == 1
    return (convolution, norm) if is_used_once else None


def _with_bias(convolution: Any) -> Any:
    weight = convolution.weight
    made = type(convolution)(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size, stride=convolution.stride,
        padding=convolution.padding, dilation=convolution.dilation, groups=convolution.groups, bias=True,
        padding_mode=convolution.padding_mode, device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    made.weight.data = torch.empty_like(weight)  # keeps its memory layout
    return made.eval().requires_grad_(False)


def _keys_read(node: fx.Node, model: nn.Module) -> frozenset[str]:
    if node.op == "get_attr":
        return frozenset([str(node.target)])
    if node.op != "call_module":
        return frozenset()
    state = model.get_submodule(str(node.target)).state_dict()
    return frozenset(f"{node.target}.{key}" for key in state if not key.endswith(COUNTER))


class NotesShapes(fx.Interpreter):
    """Runs a graph and notes the shape of every value; None of what is no tensor."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...] | None] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        self.shapes[node] = tuple(value.shape) if isinstance(value, Tensor) else None
        return value


def cut(traced: Traced, shared: Set[str], example: Callable[[int], Mapping[str, Tensor]]) -> Cut | None:
    """Cut the graph behind the layers whose weights are all shared; None where that leaves no layer before the cut.

    Args:
        shared: keys of the state dict that have the same bits in every soup.
        example: that many examples as the model takes them, by argument name or under ""; shows what has one row each.
    """
    nodes = list(traced.module.graph.nodes)
    rows = []
    for number in (2, 3):
        run = NotesShapes(traced.module)
        run.run(*_arguments(nodes, example(number)))
        rows.append({node: shape[0] if shape else None for node, shape in run.shapes.items()})
    is_kept = {node: rows[0][node] == 2 and rows[1][node] == 3 for node in nodes}
    depends = {node for node in nodes if node.op == "placeholder"}
    fixed = set(depends)
    for node in nodes:
        if node.op in ("placeholder", "output"):
            continue
        if any(source in depends for source in node.all_input_nodes):
            depends.add(node)
        if traced.keys.get(node.name, frozenset()) <= shared and all(n in fixed for n in node.all_input_nodes):
            fixed.add(node)
    while True:
        boundary = [n for n in nodes if n in fixed & depends and any(user not in fixed for user in n.users)]
        # What cannot be kept row by row is computed again behind the cut, from what can.
        again = {node for node in boundary if not is_kept[node] and node.op != "placeholder"}
        if not again:
            break
        fixed -= again
    layers = [node for node in nodes if traced.keys.get(node.name)]
    before = [node for node in layers if node in fixed & depends]
    if not before or not all(is_kept[node] for node in boundary):
        return None
    prefix, suffix = _prefix(nodes, fixed, boundary), _suffix(nodes, fixed, boundary)
    return Cut(_module(traced, prefix), _module(traced, suffix), num_layers=len(before), num_all=len(layers))


def _module(traced: Traced, graph: fx.Graph) -> fx.GraphModule:
    module = fx.GraphModule(traced.module, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _arguments(nodes: list[fx.Node], batch: Mapping[str, Tensor]) -> list[Any]:
    if "" in batch:
        return [batch[""]]
    named = [node for node in nodes if node.op == "placeholder"]
    return [batch[str(node.target)] if node.target in batch else node.args[0] for node in named]


def _prefix(nodes: list[fx.Node], fixed: Set[fx.Node], boundary: list[fx.Node]) -> fx.Graph:
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node in fixed:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(tuple(copied[node] for node in boundary))
    return graph


def _suffix(nodes: list[fx.Node], fixed: Set[fx.Node], boundary: list[fx.Node]) -> fx.Graph:
    graph = fx.Graph()
    copied = {node: graph.placeholder(f"boundary_{index}") for index, node in enumerate(boundary)}
    for node in nodes:
        # Shared weights that are read behind the cut, and what is made of them alone, are copied too.
        reads_nothing_lost = all(source in copied for source in node.all_input_nodes)
        if node not in copied and node.op != "placeholder" and (node not in fixed or reads_nothing_lost):
            copied[node] = graph.node_copy(node, copied.__getitem__)
    return graph
