"""Averages of outputs: what an ensemble says, from the logits of its members. Each example costs a pass for each."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def combined(logits: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
    """The logits of an ensemble.

    Args:
        logits: of each member, shape (num_examples, num_classes). weights: one for each, in the same order.
        output: "logits" averages them as they are; "probabilities" averages softmax(logits), and the result is the
            logarithm of that average, whose softmax it is again.
    Returns:
        float32, shape (num_examples, num_classes); not finite where a member's are not.
    Source:
        Lakshminarayanan et al. 2017 (arXiv 1612.01474): probabilities. Wortsman et al. 2022, appendix: logits.
    """
    total = torch.zeros(logits[0].shape, dtype=torch.float32)
    for one, weight in zip(logits, weights, strict=True):
        member = torch.from_numpy(np.array(one))
        total += weight * (member.softmax(dim=1) if output == "probabilities" else member)
    return total.log() if output == "probabilities" else total
