"""Language models: documents, of which each token is predicted from those before it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from soupviz.errors import DataError
from soupviz.tasks import likelihood
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.task import NOTHING, Task

BAND = 1e-6
"""Of nats: what another batch size may change of their mean."""

LARGEST = 700.0
"""Nats whose exponential a float still holds."""


def per_token(summed: Any, lost: Any, tokens: Any, _number: Any) -> Any:
    """All nats over all tokens that are predicted, but those of documents without a finite answer."""
    return summed / (tokens - lost)


def perplexity(summed: Any, lost: Any, tokens: Any, number: Any) -> Any:
    return np.exp(np.minimum(np.asarray(per_token(summed, lost, tokens, number), dtype=np.float64), LARGEST))


def bits_per_byte(summed: Any, lost: Any, size: Any, _number: Any) -> Any:
    return summed / math.log(2) / (size - lost)


PERFECT = {"nats": 0, "lost_tokens": 0, "lost_bytes": 0}
OF_TOKENS, OF_BYTES = ("nats", "lost_tokens", "tokens"), ("nats", "lost_bytes", "bytes")
NATS = SumMetric("nats_per_token", "loss per token", "nats", False, OF_TOKENS, per_token, PERFECT, BAND)
PERPLEXITY = SumMetric("perplexity", "perplexity", "", False, OF_TOKENS, perplexity, PERFECT, 100 * BAND)
BITS = SumMetric("bits_per_byte", "bits per byte", "", False, OF_BYTES, bits_per_byte, PERFECT, BAND)


class LanguageModel(Task):
    """Logits of the next token, of shape (batch, tokens, vocabulary), against the documents themselves."""

    name = "language_model"
    unit = "document"
    labels = "none"
    metrics = (NATS, PERPLEXITY, BITS)
    has_ensembles = False
    lacks: ClassVar[Mapping[str, str]] = {
        "ensembles": "the chances of each token's successors, which one would average, are not kept: they are as many "
        "as there are tokens, times the vocabulary",
        "soft_loss": "a teacher's chances of each token's successors, which a student would learn, are not kept",
        "information": "a document has no class",
        "temperature": "it is judged by nats, and keeps no logits to divide",
    }

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """The nats of each document, shape (batch, 1)."""
        return torch.stack([of_windows.sum() for of_windows in likelihood.nats(model, batch)])[:, None]

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return likelihood.inputs(batch)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        tokens, size = labels.numpy().T
        return {"tokens": tokens, "bytes": size}

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Of nats, shape (batch, 1).

        Raises:
            DataError: what the labels say is of no documents.
        """
        if labels.ndim != 2 or labels.shape[1] != 2:
            raise DataError(f"labels have shape {tuple(labels.shape)}; expected documents, as format text reads them.")
        summed = answers[:, 0].double().cpu().numpy()
        finite = np.isfinite(summed)
        tokens, size = labels.numpy().T
        return {
            FINITE: finite,
            "nats": np.where(finite, summed, np.nan),
            "lost_tokens": np.where(finite, 0, tokens),
            "lost_bytes": np.where(finite, 0, size),
        }

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The mean nats of a token that is predicted."""
        return answers.sum() / labels[:, 0].sum().clamp(min=1).to(answers.device)

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str | None:
        return ""

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """The document's own nats for each token."""
        if not outcomes[FINITE][row]:
            return NOTHING
        tokens = int(outcomes["tokens"][row])
        if not tokens:
            return "nothing is predicted: it has one token or none"
        return f"{outcomes['nats'][row] / tokens:.3f} nats per token, {tokens:,} tokens"
