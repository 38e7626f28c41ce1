"""Averages of outputs: what an ensemble says, from the logits of its members. Each example costs a pass for each."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PROBABILITIES, LOGITS, AS_THEY_ARE = "probabilities", "logits", "outputs"
"""What can be averaged of answers: of those that are logits, both; of others, such as a regression's, what they are."""


def combined(logits: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
    """The logits of an ensemble.

    Args:
        logits: of each member, shape (num_examples, num_classes), or (num_examples, ...) where they are averaged as
            they are. weights: one for each, in the same order, above 0.
        output: "logits" averages them as they are; "probabilities" averages softmax(logits), and the result is the
            logarithm of that average, whose softmax it is again.
    Returns:
        float32, of the shape of one member's; not finite where a member's are not.
    Source:
        Lakshminarayanan et al. 2017 (arXiv 1612.01474): probabilities. Wortsman et al. 2022, appendix: logits.
    """
    is_logits = output == LOGITS
    total = torch.full(logits[0].shape, 0.0 if is_logits else -torch.inf)
    finite = torch.ones(len(total), dtype=torch.bool)
    for one, weight in zip(logits, weights, strict=True):
        member = torch.from_numpy(np.array(one))
        finite &= member.flatten(1).isfinite().all(dim=1)
        # As logarithms: what all members hold for all but impossible would be 0 as a float32, and not finite after log.
        total = total + weight * member if is_logits else total.logaddexp(member.log_softmax(dim=1) + math.log(weight))
    return total.where(finite.view(-1, *[1] * (total.ndim - 1)), torch.nan)
