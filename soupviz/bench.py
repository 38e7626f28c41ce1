"""Times soupviz against the textbook's loops, in turn, in one process, and checks that both decide the same."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from soupviz.cooking import SWEEP_ALPHAS, greedy, sweep
from soupviz.curves import grid, interpolate
from soupviz.errors import RecipeError
from soupviz.evaluation import Task
from soupviz.kitchen import Kitchen
from soupviz.measuring import cold_cache, fresh, peak_of_mixing, read_files, run_bare, timed
from soupviz.mixing import mean_of, mix_tensors
from soupviz.records import PerExample, Progress, Score, quiet
from soupviz.textbook import Count, Textbook, average

FIGURES = ("score", "uniform", "greedy_alpha", "greedy_mean", "sweep", "curve", "warm", "forward", "mixing", "memory")
ALPHA = 0.1
POINTS = 21
BATCH_SIZES = (64, 128, 256, 512)
TOLD = 3
"""Candidates of a sweep that the textbook really scores; the rest of its time is their mean."""


@dataclass(slots=True)
class Figure:
    """One comparison: seconds of each round. unit is s, examples/s, GB/s or MB; for those of speed more is better."""

    name: str
    textbook: list[float] = field(default_factory=list)
    soupviz: list[float] = field(default_factory=list)
    unit: str = "s"
    estimated: bool = False

    def as_dict(self) -> dict[str, Any]:
        ours, theirs = statistics.median(self.soupviz), statistics.median(self.textbook)
        ratio = ours / theirs if self.unit.endswith("/s") else theirs / ours
        values = {"unit": self.unit, "textbook": theirs, "soupviz": ours, "ratio": ratio, "estimated": self.estimated}
        return values | {"rounds": {"textbook": self.textbook, "soupviz": self.soupviz}}


@dataclass(slots=True)
class Agreement:
    """Whether both sides decided and counted the same; examples too close to call are told apart."""

    compared: int = 0
    close: int = 0
    differences: list[str] = field(default_factory=list)

    def counts(self, what: str, score: Score, count: Count) -> None:
        assert score.per_example is not None
        self.compared += 1
        differs = score.per_example.correct != count.right
        self.close += int((differs & count.close).sum())
        if clear := int((differs & ~count.close).sum()):
            self.differences.append(f"{what}: {clear} examples that are not close to call are counted differently")

    def decision(self, what: str, ours: bool, theirs: bool) -> None:
        self.compared += 1
        if ours != theirs:
            self.differences.append(f"{what}: soupviz {'accepts' if ours else 'rejects'}, the textbook does not")


class Bench:
    """One kitchen's figures; `agreement` is filled on the way."""

    def __init__(self, path: Path, progress: Progress = quiet):
        self.path = path
        self.kitchen = Kitchen.load(path, progress=progress)
        self.kitchen.split("held_out", progress)
        self.kitchen.split("test") if "test" in self.kitchen.split_names else None
        self.book = Textbook(self.kitchen)
        self.agreement = Agreement()
        self.singles: dict[str, Count] = {}

    def run(self, rounds: int, only: Sequence[str], progress: Progress = quiet) -> list[Figure]:
        """Every figure of every round, textbook and soupviz in turn.

        Raises:
            RecipeError: an unknown figure.
        """
        for name in only:
            if name not in FIGURES:
                raise RecipeError(f"no figure {name!r}; known are {', '.join(FIGURES)}.")
        figures = {name: Figure(name) for name in FIGURES if not only or name in only}
        for index in range(rounds):
            for number, (name, figure) in enumerate(figures.items()):
                progress(index * len(figures) + number, rounds * len(figures), f"round {index + 1}: {name}")
                getattr(self, f"_{name}")(figure)
        progress(1, 1, "done")
        return list(figures.values())

    def _scored(self) -> dict[str, Count]:
        """The textbook's scores of the ingredients, from the first figure that needs them."""
        if not self.singles:
            self.singles = self.book.score()
        return self.singles

    def _score(self, figure: Figure) -> None:
        """Cold: soupviz opens the kitchen and decodes the split too."""
        seconds, self.singles = timed(self.book.score)
        figure.textbook.append(seconds)
        with cold_cache():
            seconds, scores = timed(self._score_cold)
        figure.soupviz.append(seconds)
        for name, score in scores.items():
            self.agreement.counts(name, score, self.singles[name])

    def _score_cold(self) -> Mapping[str, Score]:
        with fresh(Kitchen.load(self.path)) as kitchen:
            return kitchen.score_ingredients()

    def _uniform(self, figure: Figure) -> None:
        seconds, count = timed(self.book.uniform)
        figure.textbook.append(seconds)
        with fresh(self.kitchen) as kitchen:
            seconds, score = timed(lambda: kitchen.score_mix(mean_of(kitchen.names)))
        figure.soupviz.append(seconds)
        self.agreement.counts("uniform", score, count)

    def _greedy_alpha(self, figure: Figure) -> None:
        self._greedy(figure, ALPHA)

    def _greedy_mean(self, figure: Figure) -> None:
        self._greedy(figure, "mean")

    def _greedy(self, figure: Figure, alpha: Any) -> None:
        """From nothing but decoded data: the ingredients, the candidates, and the soup on every split that reports."""
        seconds, singles = timed(self.book.score)
        spent, decisions = timed(lambda: self.book.greedy(alpha, singles))
        reported = sum(timed(self.book.count, self._one(), split)[0] for split in self._reports())
        figure.textbook.append(seconds + spent + reported)
        with fresh(self.kitchen) as kitchen:
            seconds, soup = timed(lambda: greedy(kitchen, alpha=alpha))
            figure.soupviz.append(seconds)
            whole = greedy(kitchen, alpha=alpha, complete=True)
        for step, (name, accepted, count) in zip(soup.trajectory, decisions, strict=True):
            what = f"greedy alpha {alpha}, {name}"
            self.agreement.decision(what, step.accepted, accepted)
            if step.accuracy_at_most * len(count.right) < count.correct - count.close.sum() - 0.5:
                self.agreement.differences.append(f"{what}: the bound lies below the count")
        for step, (name, _, count) in zip(whole.trajectory, decisions, strict=True):
            if abs((step.correct or 0) - count.correct) > count.close.sum():
                self.agreement.differences.append(f"greedy alpha {alpha}, {name}: {step.correct}, not {count.correct}")

    def _one(self) -> dict[str, torch.Tensor]:
        return next(iter(self.book.weights.values()))

    def _reports(self) -> list[str]:
        return [split for split in self.kitchen.report_splits() if split != "held_out"]

    def _sweep(self, figure: Figure) -> None:
        """The textbook scores the ingredients once too; its candidates are told from the first few."""
        names = self.kitchen.names
        figure.estimated = True
        candidates = [average([self.book.weights[a], self.book.weights[b]]) for a, b in pairwise(names[: TOLD + 1])]
        seconds = [timed(self.book.count, weights)[0] for weights in candidates]
        passes = len(names) + len(SWEEP_ALPHAS) * (len(names) - 1 + len(self._reports()))
        figure.textbook.append(statistics.mean(seconds) * passes)
        with fresh(self.kitchen) as kitchen:
            figure.soupviz.append(timed(lambda: sweep(kitchen))[0])

    def _curve(self, figure: Figure) -> None:
        a, b = self.kitchen.names[0], self.kitchen.names[-1]
        alphas = grid(POINTS)
        seconds, counts = timed(lambda: self.book.curve(a, b, alphas))
        figure.textbook.append(seconds)
        with fresh(self.kitchen) as kitchen:
            seconds, curve = timed(lambda: interpolate(kitchen, a, b, points=POINTS))
        figure.soupviz.append(seconds)
        for alpha, correct, count in zip(alphas, curve["correct"], counts, strict=True):
            self.agreement.compared += 1
            if abs(correct - count.correct) > count.close.sum():
                self.agreement.differences.append(f"curve at {alpha}: {correct}, not {count.correct}")

    def _warm(self, figure: Figure) -> None:
        """The same search again; the textbook has no memory, so its time is that of the first."""
        singles, spent = self._scored(), statistics.median(self.book.seconds)
        figure.textbook.append(spent * (2 * len(singles) - 1 + len(self._reports())))
        figure.estimated = True
        with fresh(self.kitchen) as kitchen:
            greedy(kitchen, alpha=ALPHA)
            figure.soupviz.append(timed(lambda: greedy(kitchen, alpha=ALPHA))[0])

    def _forward(self, figure: Figure) -> None:
        """Examples a second inside an evaluation, against the bare model at its best on batches that lie ready."""
        figure.unit = "examples/s"
        kitchen = self.kitchen
        split, evaluator = kitchen.split("held_out"), kitchen.evaluator
        weights = list(mix_tensors(kitchen.resolved(((kitchen.names[0], 1.0),))))
        evaluator.evaluate(split, Task(lambda: weights, PerExample.blank(len(split))))
        rates = []
        feed = evaluator.feed(split)
        with torch.inference_mode():
            for size in BATCH_SIZES:
                batches = [feed.take(rows) for rows in torch.arange(len(split)).split(size)]  # type: ignore[no-untyped-call]
                for _ in range(2):
                    seconds, _ = timed(run_bare, evaluator.model, batches)
                    rates.append(len(split) / seconds)
        figure.textbook.append(max(rates))
        seconds, _ = timed(lambda: evaluator.evaluate(split, Task(lambda: weights, PerExample.blank(len(split)))))
        figure.soupviz.append(len(split) / seconds)

    def _mixing(self, figure: Figure) -> None:
        """Bytes of checkpoints a second, against a plain read of the same warm files."""
        figure.unit = "GB/s"
        files = [item.path for item in self.kitchen.ingredients]
        num_bytes = sum(path.stat().st_size for path in files)
        read_files(files)
        figure.textbook.append(num_bytes / 1e9 / timed(read_files, files)[0])
        items = self.kitchen.resolved(mean_of(self.kitchen.names))

        def mix_all() -> None:
            for _ in mix_tensors(items):
                pass

        figure.soupviz.append(num_bytes / 1e9 / timed(mix_all)[0])

    def _memory(self, figure: Figure) -> None:
        """Anonymous memory that a mix takes at its peak, each in a process of its own."""
        figure.unit = "MB"
        figure.textbook.append(peak_of_mixing("textbook", self.path))
        figure.soupviz.append(max(0.1, peak_of_mixing("soupviz", self.path)))
