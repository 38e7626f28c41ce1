"""A worker's side: holds the kitchen's model and data, and answers blocks of units under the weights they name."""

import shutil
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from soupviz.addresses import redacted
from soupviz.data.split import Split
from soupviz.errors import KitchenError, SoupError, TooLargeError, told
from soupviz.models.routes import is_out_of_memory
from soupviz.scoring.executors.messages import Answered, Block, MixOf, Part, SplitOf
from soupviz.scoring.executors.seen import Seen
from soupviz.scoring.service import Scores
from soupviz.weights.ingredients import Ingredient

Opening = Callable[[str], Scores]
"""Opens the kitchen in a worker, on a device; refuses files that are not those that the driver has."""


class WorkerBugError(RuntimeError):
    """What is no user's mistake, as a worker tells it, with its traceback."""


class Worker:
    """Answers blocks; the weights of the last one stay in the model."""

    def __init__(self, scores: Scores):
        self._scores = scores
        self._evaluator = scores.scorer.evaluator
        self._held: tuple[MixOf, str] | None = None
        self._is_shared = False
        self._splits: dict[str, Split] = {}
        self._seen = Seen(scores.scorer)
        # What was told once, and stays known whatever fails.
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._formulas: dict[str, str] = {}
        self._files: dict[str, Path] = {}

    @property
    def place(self) -> str:
        return f"{socket.gethostname()}, {self._evaluator.device}"

    def hold(self, items: Sequence[Ingredient]) -> None:
        """Take over weights that are no ingredients of the kitchen, and in no file here, and let go of others."""
        self._scores.weights.hold(items)

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._scores.scorer.store.folder, ignore_errors=True)

    def answer(self, block: Block, is_dropped: Callable[[], bool] = lambda: False) -> Answered:
        """What becomes of a block's units; of one that nobody waits for any more, or that cannot win, the rest is left
        out."""
        started = time.monotonic()
        batches: list[Sequence[Part]] = []
        failure: Exception | None = None
        self._take_in(block)
        try:
            self._scores.weights.receive(self._formulas, self._files)
            self._formulas, self._files = {}, {}
            split = self._split(block.split)
            for batch in block.batches:
                if is_dropped() or self._seen.is_lost(block, split):
                    break
                self._hold(block.mix, split)
                parts = self._parts(split, batch, keeps_answers=block.keeps_answers)
                self._seen.write(block, split, parts)
                batches.append(parts)
        except Exception as error:
            self._held = None
            failure = told_of(error)
        return Answered(block.number, batches, time.monotonic() - started, failure)

    def _take_in(self, block: Block) -> None:
        for known in (self._splits, self._rows):
            known.pop(block.split.forgotten or "", None)
        if block.split.rows is not None:
            self._rows[block.split.fingerprint] = block.split.rows
        self._formulas |= block.mix.formulas
        self._files |= block.mix.files

    def _parts(self, split: Split, batch: NDArray[np.int64], *, keeps_answers: bool) -> Sequence[Part]:
        found = self._evaluator.answered(split, torch.tensor(batch), is_shared=self._is_shared)
        return [
            Part(rows.numpy(), columns, answers.float().cpu().numpy() if keeps_answers else None)
            for rows, columns, answers in found
        ]

    def _hold(self, mix: MixOf, split: Split) -> None:
        """Mix weights into the model, if they are not those that it holds."""
        if self._held == (mix, split.fingerprint):
            return
        self._held = None
        scores = self._scores
        items = scores.resolved(tuple((name, weight) for name, _, weight in mix.parts))
        for (item, _), (name, fingerprint, _) in zip(items, mix.parts, strict=True):
            if item.fingerprint != fingerprint:
                raise differs(name, str(item.path), item.fingerprint, fingerprint)
        aggregation = scores.aggregation(mix.aggregation)
        if mix.train and aggregation.train and aggregation.train.fingerprint != mix.train[1]:
            raise differs(mix.train[0], "its data", aggregation.train.fingerprint, mix.train[1])
        self._evaluator.begin(split, scores.scorer.mixed.of(items, aggregation))
        self._is_shared = scores.scorer.evaluations.is_shared(items, aggregation)
        self._held = mix, split.fingerprint

    def _split(self, wanted: SplitOf) -> Split:
        if wanted.fingerprint not in self._splits:
            name, fingerprint = wanted.read
            split = self._scores.splits.load(name)
            if split.fingerprint != fingerprint:
                raise differs(name, "its data", split.fingerprint, fingerprint)
            if wanted.fingerprint != fingerprint:
                split = split.part(torch.tensor(self._rows[wanted.fingerprint]), wanted.fingerprint)
            self._splits[wanted.fingerprint] = split
        return self._splits[wanted.fingerprint]


def differs(name: str, what: str, found: str, expected: str) -> KitchenError:
    """Why a worker is refused."""
    return KitchenError(
        f"worker on {socket.gethostname()}: {name} ({what}) is not what it is where the run was begun: fingerprint "
        f"{found[:12]}, expected {expected[:12]}. Give all machines the same files, and open the kitchen again."
    )


def told_of(error: Exception) -> Exception:
    """An error as the driver is told of it: a user's mistake as it is, a bug with its traceback."""
    if is_out_of_memory(error) and not isinstance(error, TooLargeError):
        lacks = f"worker on {socket.gethostname()}: model, weights and data need more memory than there is"
        return TooLargeError(str(error) if isinstance(error, SoupError) else f"{lacks}: {told(error)}")
    if isinstance(error, SoupError):
        return error
    return WorkerBugError(redacted("".join(traceback.format_exception(error))))
