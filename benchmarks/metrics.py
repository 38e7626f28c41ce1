"""python -m benchmarks.metrics: what metrics and their statistics cost, once the outcomes of two models are there."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from soupviz.tasks.finding import TASKS
from soupviz.tasks.metric import Metric
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.resampling import bootstrap_differences

ROUNDS = 5
DRAWS = 1_000
UNITS = 5_000
IMAGES, DETECTIONS, OBJECTS, CLASSES = 500, 100, 7, 3

Random = np.random.Generator


def transcripts(random: Random, number: int) -> tuple[Outcomes, Outcomes]:
    """Of utterances of 1 to 30 words."""
    words = random.integers(1, 31, number)
    targets = {"words": words, "characters": 5 * words}

    def heard() -> Outcomes:
        [wer, cer] = TASKS["transcription"].metrics
        columns = {name: random.integers(0, 4, number) for name in (*wer.columns, *cer.columns) if name not in targets}
        return Outcomes.of(columns, targets)

    return heard(), heard()


def documents(random: Random, number: int) -> tuple[Outcomes, Outcomes]:
    """Of texts of 10 to 1,000 tokens."""
    tokens = random.integers(10, 1001, number)
    targets = {"tokens": tokens, "bytes": 4 * tokens}
    lost = {name: np.zeros(number, dtype=np.int64) for name in ("lost_tokens", "lost_bytes")}
    one, other = (Outcomes.of({"nats": tokens * random.uniform(2, 4, number), **lost}, targets) for _ in range(2))
    return one, other


def images(random: Random, number: int) -> tuple[Outcomes, Outcomes]:
    """Of pictures with as many objects as COCO's have on average, and as many detections as it counts."""
    truths = []
    for _ in range(number):
        corners = random.uniform(0, 500, (OBJECTS, 2))
        sides = random.uniform(10, 120, (OBJECTS, 2))
        labels = random.integers(1, CLASSES + 1, (OBJECTS, 1))
        rows = [corners, corners + sides, labels, np.zeros((OBJECTS, 1)), sides.prod(axis=1, keepdims=True)]
        truths.append(np.concatenate(rows, axis=1))
    one, other = (_detected(random, truths) for _ in range(2))
    return one, other


def _detected(random: Random, truths: list[Any]) -> Outcomes:
    import torch

    answers = np.ones((len(truths), DETECTIONS, 7), dtype=np.float32)
    for row, objects in enumerate(truths):
        meant = random.integers(0, OBJECTS, DETECTIONS)
        answers[row, :, :4] = objects[meant, :4] + random.normal(0, 8, (DETECTIONS, 4))
        answers[row, :, 4] = random.uniform(0.001, 1, DETECTIONS)
        answers[row, :, 5] = objects[meant, 4]
    task, labels = TASKS["detection"](), torch.from_numpy(np.stack(truths).astype(np.float32))
    return Outcomes.of(task.outcomes(torch.from_numpy(answers), labels), task.targets(labels))


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds, medians of some rounds. value: of the metric over all units. resamples: of the paired bootstrap."""

    metric: str
    num_units: int
    value: float
    resamples: float


def measured(metric: Metric, pair: tuple[Outcomes, Outcomes]) -> Figure:
    value = _median(lambda: metric.value(pair[0]))
    resamples = _median(lambda: bootstrap_differences(metric, *pair, draws=DRAWS))
    return Figure(metric.label, len(pair[0]), value, resamples)


def _median(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def figures(units: int = UNITS, pictures: int = IMAGES) -> list[Figure]:
    """Of each task whose metric is not of classes, the objective and what is told beside it."""
    random = np.random.default_rng(0)
    pairs: Mapping[str, tuple[Outcomes, Outcomes]] = {
        "transcription": transcripts(random, units),
        "language_model": documents(random, units),
        "detection": images(random, pictures),
    }
    return [measured(metric, pair) for task, pair in pairs.items() for metric in TASKS[task].metrics[:2]]


def main() -> None:
    import rich
    from rich.table import Table

    table = Table("metric", "units", "value, ms", f"{DRAWS:,} paired resamples, ms")
    for one in figures():
        table.add_row(one.metric, f"{one.num_units:,}", f"{1e3 * one.value:.1f}", f"{1e3 * one.resamples:.0f}")
    rich.print(table)


if __name__ == "__main__":
    main()
