"""One kitchen's figures: the textbook's loops and soupviz in turn."""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks import mixes
from benchmarks.agreement import Agreement
from benchmarks.figures import FIGURES, Measures
from benchmarks.measuring import cold_cache, fresh, frozen_copy, run_bare, timed
from benchmarks.textbook import Count, Textbook, average
from soupviz.errors import KitchenError, RecipeError
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of, mix_tensors
from soupviz.recipes.trajectory import Step
from soupviz.scoring.evaluator import Trial
from soupviz.scoring.precision import arithmetic_of
from soupviz.soups.curves import grid, interpolate
from soupviz.soups.textbook import SWEEP_ALPHAS, greedy, sweep
from soupviz.types import Alpha, Progress, quiet

ALPHA = 0.1
POINTS = 21
BATCH_SIZES = (64, 128, 256, 512)
TOLD = 3
"""Candidates of a sweep that the textbook really scores; the rest of its time is their mean."""


class Bench:
    """`measures` and `agreement` are filled by `run`."""

    def __init__(self, path: Path, mix_bytes: int = 10**9, progress: Progress = quiet):
        """Open a kitchen and decode its splits.

        Args:
            mix_bytes: the size of each of the twelve checkpoints that are made in the temporary folder, to be mixed.
        Raises:
            KitchenError: its task is not the textbook's.
        """
        self.path = path
        self.mix_bytes = mix_bytes
        self.kitchen = Kitchen.load(path, progress=progress)
        if not self.kitchen.task.has_logits:
            raise KitchenError(
                f"bench: {path} is of the task {self.kitchen.task.name}, but the loops it is timed against count right "
                "answers; take a kitchen of classification. `python -m benchmarks.metrics` times other tasks' metrics."
            )
        for split in self.kitchen.splits.reporting:
            self.kitchen.splits.load(split, progress)
        self.book = Textbook(self.kitchen)
        self.measures = Measures()
        self.agreement = Agreement()
        self._folders = ExitStack()

    def run(self, rounds: int, only: Sequence[str] = (), progress: Progress = quiet) -> None:
        """Measure every figure, or those named, in every round.

        Raises:
            RecipeError: an unknown figure, or too small a disk for figure mix.
        """
        for name in only:
            if name not in FIGURES:
                raise RecipeError(f"no figure {name!r}; known are {', '.join(FIGURES)}.")
        names = [name for name in FIGURES if not only or name in only]
        if "mergekit" in names and mixes.mergekit() is None:
            names.remove("mergekit")
            self.measures.skipped["mergekit"] = "no mergekit-pytorch on the path; SOUPVIZ_MERGEKIT may name it"
        with self._folders:
            if {"mix", "mergekit"} & set(names):
                progress(0, 1, "making large checkpoints to mix")
                self._large = mixes.make_checkpoints(self._folder(), self.mix_bytes)
            for index in range(rounds):
                for number, name in enumerate(names):
                    progress(index * len(names) + number, rounds * len(names), f"round {index + 1}: {name}")
                    getattr(self, f"_{name}")()
        progress(1, 1, "done")

    def _folder(self) -> Path:
        return Path(self._folders.enter_context(tempfile.TemporaryDirectory(prefix="soupviz-bench-")))

    def _score(self) -> None:
        """Cold: soupviz opens the kitchen and decodes the split too."""
        seconds, singles = timed(self.book.score)
        with cold_cache():
            opened, kitchen = timed(Kitchen.load, self.path)
            with fresh(kitchen) as kitchen:
                ours, _ = timed(kitchen.scores.of_ingredients)
                scores = {name: kitchen.scores.score(((name, 1.0),)) for name in kitchen.names}  # their examples, too
        self.measures.take(score_textbook_seconds=seconds, score_soupviz_seconds=opened + ours)
        for name, score in scores.items():
            self.agreement.score(name, score, singles[name])

    def _uniform(self) -> None:
        theirs, count = timed(self.book.uniform)
        with fresh(self.kitchen) as kitchen:
            ours, score = timed(lambda: kitchen.scores.score(mean_of(kitchen.pool)))
        self.measures.take(uniform_textbook_seconds=theirs, uniform_soupviz_seconds=ours)
        self.agreement.score("uniform", score, count)

    def _greedy_fixed(self) -> None:
        theirs, ours = self._searches(self.kitchen, self.book, (ALPHA,), "")
        self.measures.take(greedy_fixed_textbook_seconds=theirs, greedy_fixed_soupviz_seconds=ours)

    def _greedy_mean(self) -> None:
        theirs, ours = self._searches(self.kitchen, self.book, ("mean",), "")
        self.measures.take(greedy_mean_textbook_seconds=theirs, greedy_mean_soupviz_seconds=ours)

    def _frozen(self) -> None:
        """Both searches on a kitchen made for it; the ingredients are scored once for the two, by either side."""
        with tempfile.TemporaryDirectory(prefix="soupviz-bench-") as folder:
            kitchen = frozen_copy(self.kitchen, Path(folder))
            for split in kitchen.splits.reporting:
                kitchen.splits.load(split)
            book = Textbook(kitchen, self.book.num_workers)
            theirs, ours = self._searches(kitchen, book, (ALPHA, "mean"), "frozen ")
        self.measures.take(frozen_textbook_seconds=theirs, frozen_soupviz_seconds=ours)

    def _searches(self, kitchen: Kitchen, book: Textbook, alphas: Sequence[Alpha], which: str) -> tuple[float, float]:
        """From nothing but decoded data: the ingredients, the candidates, and each soup on every split that reports."""
        theirs, singles = timed(book.score)
        searched = []
        for alpha in alphas:
            seconds, decisions = timed(lambda alpha=alpha: book.greedy(alpha, singles))
            theirs += seconds + sum(timed(book.count, book.first, split)[0] for split in self._reports())
            searched.append(decisions)
        with fresh(kitchen) as kitchen:
            ours, soups = timed(lambda: [greedy(kitchen, alpha=alpha) for alpha in alphas])
            whole = [greedy(kitchen, alpha=alpha, complete=True) for alpha in alphas]
        for alpha, decisions, *both in zip(alphas, searched, soups, whole, strict=True):
            for soup in both:
                self._agree(f"{which}greedy alpha {alpha}", soup.trajectory, decisions)
        return theirs, ours

    def _agree(self, what: str, steps: Sequence[Step], decisions: Sequence[tuple[str, bool, Count]]) -> None:
        for step, (name, accepted, count) in zip(steps, decisions, strict=True):
            self.agreement.step(f"{what}, {name}", step, accepted, count)

    def _reports(self) -> list[str]:
        return [split for split in self.kitchen.splits.reporting if split != "held_out"]

    def _sweep(self) -> None:
        """The textbook scores the ingredients once too; its candidates are told from the first few."""
        names = self.kitchen.names
        candidates = [average([self.book.weights[a], self.book.weights[b]]) for a, b in pairwise(names[: TOLD + 1])]
        seconds = statistics.mean(timed(self.book.count, weights)[0] for weights in candidates)
        passes = len(names) + len(SWEEP_ALPHAS) * (len(names) - 1 + len(self._reports()))
        with fresh(self.kitchen) as kitchen:
            ours, _ = timed(lambda: sweep(kitchen))
        self.measures.take(sweep_textbook_seconds=seconds * passes, sweep_soupviz_seconds=ours)

    def _curve(self) -> None:
        a, b = self.kitchen.names[0], self.kitchen.names[-1]
        alphas = grid(POINTS)
        theirs, counts = timed(lambda: self.book.curve(a, b, alphas))
        with fresh(self.kitchen) as kitchen:
            ours, curve = timed(lambda: interpolate(kitchen, a, b, points=POINTS))
        self.measures.take(curve_textbook_seconds=theirs, curve_soupviz_seconds=ours)
        for alpha, correct, count in zip(alphas, curve["correct"], counts, strict=True):
            self.agreement.correct(f"curve at {alpha}", int(correct), count)

    def _warm(self) -> None:
        """The same search again; the textbook has no memory, so its time is that of as many passes."""
        passes = 2 * len(self.kitchen.names) - 1 + len(self._reports())
        theirs = statistics.median(self.book.seconds) * passes
        with fresh(self.kitchen) as kitchen:
            greedy(kitchen, alpha=ALPHA)
            ours, _ = timed(lambda: greedy(kitchen, alpha=ALPHA))
        self.measures.take(warm_textbook_seconds=theirs, warm_soupviz_seconds=ours)

    def _forward(self) -> None:
        """A pass inside an evaluation, against the bare model's best on batches that lie ready."""
        kitchen = self.kitchen
        split, evaluator = kitchen.splits.load("held_out"), kitchen.evaluator
        weights = list(mix_tensors(kitchen.scores.resolved(((kitchen.names[0], 1.0),))))
        evaluator.evaluate(split, Trial(lambda: weights, evaluator.blank(split)))
        prepared = evaluator.prepared(split)
        bare = []
        with torch.inference_mode(), arithmetic_of(evaluator.precision):
            for size in BATCH_SIZES:
                batches = [prepared.take(rows) for rows in torch.arange(len(split)).split(size)]  # type: ignore[no-untyped-call]
                bare += [timed(run_bare, evaluator.model, batches)[0] for _ in range(2)]
        ours, _ = timed(lambda: evaluator.evaluate(split, Trial(lambda: weights, evaluator.blank(split))))
        self.measures.take(forward_bare_seconds=min(bare), forward_soupviz_seconds=ours)
        self.measures.facts["forward_examples"] = len(split)

    def _mix(self) -> None:
        self.measures.take(**mixes.measure(self._large))
        self.measures.facts["mix_bytes"] = sum(path.stat().st_size for path in self._large)
        self.measures.facts["mix_checkpoint_bytes"] = self._large[0].stat().st_size

    def _mergekit(self) -> None:
        self.measures.take(**mixes.measure_mergekit(str(mixes.mergekit()), self._large))
