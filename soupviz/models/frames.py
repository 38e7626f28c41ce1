"""Models that say something of each frame of a recording: how many frames of their output a recording has."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

LENGTHS = "lengths"
"""Under which a model returns how many frames of its logits are those of each recording."""


def lengths_of(output: Any) -> Tensor | None:
    """How many frames each recording has in what a model returned, int64; None where it does not say.

    They are under `lengths`, or the second of several as torchaudio's models return them.
    """
    if isinstance(output, Mapping):
        found = output.get(LENGTHS)
    elif isinstance(output, (tuple, list)) and len(output) > 1 and not hasattr(output, LENGTHS):
        found = output[1]
    else:
        found = getattr(output, LENGTHS, None)
    if not isinstance(found, Tensor) or found.ndim != 1 or found.is_floating_point() or found.is_complex():
        return None
    return found.long()


def counter_of(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What tells of numbers of samples how many frames they become; None where a model has no such function.

    transformers' models of speech have one, for padding that they are told by a mask.
    """
    count = getattr(model, "_get_feat_extract_output_lengths", None)
    if not callable(count):
        return None
    return lambda samples: torch.as_tensor(count(samples)).long()


def norms_over_time(model: nn.Module) -> bool:
    """Whether a model of transformers normalises over the whole of a padded recording, whatever its mask says.

    Such models, wav2vec2-base among them, were trained without masks, and are to be given none.
    """
    return getattr(getattr(model, "config", None), "feat_extract_norm", None) == "group"
