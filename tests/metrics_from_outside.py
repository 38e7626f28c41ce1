"""Metrics of tasks that the package does not have: detection, transcription, language models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import Outcomes, records
from soupviz.tasks.task import Task

WER = SumMetric(
    "wer", "word error rate", "%", False, ("edits", "words"), lambda edits, words, _number: edits / words, {"edits": 0}
)
NATS = SumMetric(
    "nats", "loss per token", "nats", False, ("nats", "tokens"), lambda nats, tokens, _number: nats / tokens,
    {"nats": 0}, 1e-9,
)  # fmt: skip


@dataclass(frozen=True)
class ToyMap:
    """Average precision over 101 recalls of all detections of all images, ranked together: no sum over units.

    found: of each image its detections, rows of (score, whether it hits). truths: how many objects each image has.
    """

    name: str = "map"
    label: str = "mAP"
    unit: str = "%"
    higher_is_better: bool = True
    judges_nonfinite: bool = False

    def value(self, outcomes: Outcomes) -> float | None:
        return float(self.values(outcomes, np.ones((1, len(outcomes))))[0])

    def values(self, outcomes: Outcomes, weights: np.ndarray) -> np.ndarray:
        found = outcomes["found"]
        image = np.repeat(np.arange(len(found)), [len(one) for one in found])
        ranked = np.concatenate(list(found))
        order = np.argsort(-ranked[:, 0], kind="stable")
        image, hits = image[order], ranked[order, 1]
        values = []
        for row, truths in zip(weights, weights @ outcomes["truths"].astype(float), strict=True):
            right, wrong = np.cumsum(row[image] * hits), np.cumsum(row[image] * (1 - hits))
            precision = np.maximum.accumulate((right / np.maximum(right + wrong, 1e-12))[::-1])[::-1]
            at = np.searchsorted(right, np.linspace(0, 1, 101) * truths - 1e-9)
            values.append(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())
        return np.array(values)

    def bound(self, outcomes: Outcomes) -> float | None:
        """Every object of the images that wait is found, before all else."""
        if not outcomes.num_scored:
            return None
        perfect = [np.array([[np.inf, 1.0]] * int(number)).reshape(-1, 2) for number in outcomes.targets["truths"]]
        found = [
            own if done else best for own, done, best in zip(outcomes["found"], outcomes.scored, perfect, strict=True)
        ]
        return self.value(Outcomes.of({"found": records(found)}, outcomes.targets))

    def ties(self) -> float:
        return 1e-9


MAP = ToyMap()


class ToyDetection(Task):
    """Every class whose logit is above 0 is found in an image, which has one: none, one or several records a unit."""

    unit = "image"
    labels = "classes"
    metrics = (MAP,)

    def targets(self, labels: Tensor) -> dict[str, Any]:
        return {"truths": np.ones(len(labels), dtype=np.int64)}

    def outcomes(self, answers: Tensor, labels: Tensor) -> dict[str, Any]:
        found = []
        for logits, label in zip(answers.cpu().numpy(), labels.numpy(), strict=True):
            [classes] = np.nonzero(logits > 0)
            found.append(np.stack([logits[classes], classes == label], axis=1).astype(np.float64))
        return {"found": records(found)}


def transcribed(edits: Sequence[int], words: Sequence[int]) -> Outcomes:
    return Outcomes.of({"edits": np.array(edits)}, {"words": np.array(words)})


def targets_of(kind: str, number: int, random: np.random.Generator) -> dict[str, Any]:
    """What is known before anything is scored: words, tokens, objects."""
    lengths = random.integers(2, 12, number)
    return {{"wer": "words", "nats": "tokens", "map": "truths"}[kind]: lengths}


def some_of(kind: str, targets: dict[str, Any], random: np.random.Generator, skill: float = 0.5) -> Outcomes:
    """What a model of some skill, from 0 to 1, made of the units."""
    [lengths] = targets.values()
    if kind == "wer":
        return Outcomes.of({"edits": random.binomial(lengths, 1 - skill)}, targets)
    if kind == "nats":
        return Outcomes.of({"nats": lengths * (1.5 - skill + random.random(len(lengths)))}, targets)
    found = []
    for number in lengths:
        hits = random.random(number) < skill
        found.append(np.stack([random.random(number) + 0.3 * hits, hits.astype(float)], axis=1))
    return Outcomes.of({"found": records(found)}, targets)
