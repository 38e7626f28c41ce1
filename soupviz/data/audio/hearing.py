"""How a model takes recordings of varying length: under which argument, told of padding how, and whether that helps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from soupviz.data.arguments import arguments_of
from soupviz.data.labels import Kind
from soupviz.data.sources import LENGTHS, MASK
from soupviz.errors import ModelError
from soupviz.models.building import tensor_of
from soupviz.models.frames import counter_of, lengths_of, norms_over_time
from soupviz.models.functional import evaluating
from soupviz.models.usercode import guarded

AGREES = {"cpu": 1e-4}
"""How far answers with and without padding may lie apart, as a share of the largest; rounding is about 1e-6."""

ELSEWHERE = 1e-3
"""Where convolutions may round to TF32."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a model does with recordings.

    wave: the argument of the samples; "" where it takes them alone. told: the arguments that tell it of padding.
    inexact: why its answer may be another where it is padded more; empty: it is the same, and a batch may be padded to
    its own longest. count: of numbers of samples the frames that they become; None: not known beforehand.
    """

    wave: str
    told: tuple[str, ...]
    inexact: str
    count: Callable[[Tensor], Tensor] | None


def hearing_of(model: nn.Module, kind: Kind, rate: int) -> Hearing:
    """Ask a model's forward, and try it on noise, of which a part is padded.

    Args:
        kind: of the labels; of texts, each frame has an answer. rate: samples a second.
    """
    known, _ = arguments_of(model)
    told = tuple(name for name in (LENGTHS, MASK) if name in known and not (name == MASK and norms_over_time(model)))
    wave = next((name for name in known if name not in (LENGTHS, MASK)), "") if told else ""
    count = counter_of(model)
    if told:
        inexact = _inexact(model, wave, told, count, rate, of_frames=kind == "texts")
    elif norms_over_time(model):
        inexact = "the model normalises over whole recordings, padding too (feat_extract_norm: group)"
    else:
        inexact = "the model takes no lengths and no attention_mask"
    return Hearing(wave, told, inexact, count)


def mask_of(length: int) -> Tensor:
    """Of one recording without padding."""
    return torch.ones(length, dtype=torch.int8)


def _inexact(
    model: nn.Module,
    wave: str,
    told: Sequence[str],
    count: Callable[[Tensor], Tensor] | None,
    rate: int,
    *,
    of_frames: bool,
) -> str:
    """Why the shorter of two recordings has another answer than alone; empty where it has not."""
    lengths = torch.tensor([rate, 5 * rate // 8])
    noise = 0.1 + 0.1 * torch.randn(2, rate, generator=torch.Generator().manual_seed(0))  # a mean that zeros change
    noise[1, lengths[1] :] = 0
    try:
        with guarded(ModelError), evaluating(model), torch.inference_mode():
            both, alone = (
                _called(model, _batch(model, wave, told, waves, of)) for waves, of in (
                    (noise, lengths), (noise[1:, : lengths[1]], lengths[1:])
                )
            )  # fmt: skip
            padded, bare = tensor_of(both)[1], tensor_of(alone)[0]
            if of_frames:
                frames = [_frames(output, count, of) for output, of in ((both, lengths), (alone, lengths[1:]))]
                if frames[0] is None:
                    return "the model does not say how many frames a recording has"
                padded, bare = padded[: frames[0]], bare[: frames[0]]
            near = AGREES.get(bare.device.type, ELSEWHERE) * bare.abs().max()
            is_same = padded.shape == bare.shape and bool((padded - bare).abs().max() <= near)
            return "" if is_same else "the model's answers change with the silence behind a recording"
    except ModelError:  # scoring says what it does not take
        return "the model does not take recordings of varying length"


def _frames(output: Any, count: Callable[[Tensor], Tensor] | None, lengths: Tensor) -> int | None:
    """Of the last recording."""
    found = lengths_of(output)
    if found is None and count is not None:
        found = count(lengths)
    return None if found is None else int(found[-1])


def _batch(model: nn.Module, wave: str, told: Sequence[str], waves: Tensor, lengths: Tensor) -> Mapping[str, Tensor]:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    mask = torch.arange(waves.shape[1]) < lengths[:, None]
    every = {wave: waves, LENGTHS: lengths, MASK: mask.long()}
    return {name: tensor.to(device) for name, tensor in every.items() if name in (wave, *told)}


def _called(model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
    """With something in place of what a new model holds at zero: padding shows where biases leak into it."""
    generator = torch.Generator().manual_seed(1)
    filled = {
        name: 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and not parameter.any()
    }
    return functional_call(model, filled, (), dict(batch))
