"""Scoring weights on a split: the model is built once, weights are swapped in place, examples stay in memory."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soupviz.data.classes import restricted
from soupviz.data.prepared import PreparedSplit, budget, prepare, ready
from soupviz.data.split import Split
from soupviz.data.splits import other_size
from soupviz.errors import DataError, KitchenError, ModelError, TooLargeError, told
from soupviz.models.building import told_of
from soupviz.models.routes import Routes, answers_from, call
from soupviz.scoring.batches import waiting_rows, written
from soupviz.scoring.precision import AUTOCAST, arithmetic_of
from soupviz.scoring.room import check_room
from soupviz.spec import Precision
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.judging import judged
from soupviz.tasks.outcomes import Column, Outcomes
from soupviz.tasks.task import Task

FEW = 16
"""Examples that show what a model returns."""


def choose_device(name: str) -> torch.device:
    """The device a kitchen names; `auto` is cuda, else mps, else cpu.

    Raises:
        KitchenError: a device that this machine lacks.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    device = torch.device(name)
    present = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if (device.index or 0) >= present[device.type]:
        raise KitchenError(f"device is {name!r}, which this machine does not have; use device: auto or cpu.")
    return device


@dataclass(slots=True)
class Trial:
    """One set of weights to score on a split.

    weights: made when asked for. found: what is known so far; an evaluation writes into it. gives_up: whether what is
    known proves that scoring the rest is of no use. is_shared: the weights before the cut are those that the cut was
    made for.
    """

    weights: Callable[[], Iterable[tuple[str, Tensor]]]
    found: Outcomes
    gives_up: Callable[[Outcomes], bool] = lambda _found: False
    is_shared: bool = False

    @property
    def is_over(self) -> bool:
        return self.found.is_whole or self.gives_up(self.found)


class Evaluator:
    """Holds the kitchen's one model on its device; not for two threads at once."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        precision: Precision = "float32",
        batch_size: int = 256,
        task: Task | None = None,
    ):
        check_room(model, device)
        self.is_channels_last = any(isinstance(module, nn.Conv2d) for module in model.modules())
        memory_format = torch.channels_last if self.is_channels_last else torch.contiguous_format
        self.model = model.eval().requires_grad_(False).to(device).to(memory_format=memory_format)
        self.device = device
        self.precision = precision
        self.task = task or Classification()
        self.batch_size = batch_size
        self.routes = Routes(self.model)
        self.rate: float | None = None  # examples a second, of the last evaluation
        self._slots = self.model.state_dict(keep_vars=False)
        self._feeds: dict[tuple[str, bool], PreparedSplit] = {}
        self._answered: dict[tuple[Any, ...], Tensor] = {}

    @property
    def numerics(self) -> tuple[str, str]:
        """What scores depend on beside weights and data: the precision and the type of the device."""
        return self.precision, self.device.type

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy weights into the model, one tensor at a time, in place."""
        for key, tensor in tensors:
            self._slots[key].copy_(tensor)
            del tensor  # or it would be in memory while the next is mixed
        self.routes.weights_changed()

    def evaluate(
        self,
        split: Split,
        trial: Trial,
        *,
        order: NDArray[np.int64] | None = None,
        on_batch: Callable[[], None] = lambda: None,
        keep_logits: bool = False,
    ) -> Tensor | None:
        """Score weights on the examples that are not scored yet, until all are or the trial is over.

        Args:
            order: in which examples are scored, a permutation of their positions; default: as they come.
            on_batch: called after every batch; what it raises (Cancelled) ends the evaluation.
            keep_logits: return the model's answers as float32, shape (num_units, ...); nan where not scored here. Where
                those of longer units are larger, the others are filled up with zeros.
        Raises:
            DataError: a label outside the head's range, or inputs that the model does not take.
            ModelError: the model returns no logits.
        """
        self.begin(split, trial.weights())
        waiting = waiting_rows(split, trial.found, order, self.batch_size)
        kept: Tensor | None = None
        first: tuple[float, int] | None = None
        while len(waiting) and not trial.is_over:
            rows = torch.from_numpy(waiting[: self.batch_size])
            for part, columns, answers in self.answered(split, rows, is_shared=trial.is_shared):
                trial.found.write(part.numpy(), columns)
                if keep_logits:
                    kept = written(kept, len(split), part, answers.float().cpu())
            waiting = waiting[len(rows) :]
            if first is None:  # the first batch also makes the split ready
                first = time.monotonic(), len(waiting)
            else:
                self.rate = (first[1] - len(waiting)) / (time.monotonic() - first[0])
            on_batch()
        return kept

    def begin(self, split: Split, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Hold weights, which are to be asked about a split's examples."""
        self.load(weights)
        self._inspect(split)

    def answered(
        self, split: Split, rows: Tensor, *, is_shared: bool
    ) -> Iterator[tuple[Tensor, Mapping[str, Column], Tensor]]:
        """What becomes of some examples under the weights that are held, and the model's answers.

        They are one batch; from where memory does not suffice for that on, smaller ones, one after the other.
        """
        size = self.batch_size
        while len(rows):
            part = rows[: self.batch_size]
            try:
                answers = self._forward(split, part, is_shared)
            except RuntimeError as error:
                if self.batch_size == 1:
                    self.batch_size = size  # smaller ones have not helped
                    raise TooLargeError(
                        f"data.{split.name}: one example alone needs too much memory: {told(error)}"
                    ) from error
                answers = None
            if answers is None:  # outside the handler, where the failed batch is still referred to by the traceback
                self._make_room()
                continue
            yield part, judged(self.task, answers, split.labels[part], split.name), answers
            rows = rows[len(part) :]

    def _make_room(self) -> None:
        self.batch_size = max(1, self.batch_size // 2)
        if self.device.type == "cuda":
            self._feeds.clear()
            torch.cuda.empty_cache()

    def blank(self, split: Split) -> Outcomes:
        """Of a split of which nothing is scored yet."""
        return Outcomes.blank(len(split), self.task.targets(split.labels), split.group_of)

    def width(self, split: Split) -> int:
        """How many classes the model has, or numbers it says of each unit, as the task counts them."""
        return self.task.width(self._like(split))

    def answer_bytes(self, split: Split) -> int:
        """What all answers of a split take, where they are kept: of two units, as many times as there are units."""
        return 4 * len(split) * math.prod(self._like(split).shape[1:])

    def _like(self, split: Split) -> Tensor:
        """Answers of the shape that a split's are of, without numbers; of inputs of one shape they are asked for
        once."""
        shapes = tuple(split.shapes.items())
        if shapes not in self._answered:
            self._answered[shapes] = self.try_two(split)
        return self._answered[shapes]

    def try_two(self, split: Split) -> Tensor:
        """A forward pass of two units, which tells of inputs that the model does not take; answers without numbers."""
        batch = split.take(torch.arange(2), self.device, is_cut=False)
        return self._answers(split, lambda: self.task.answer_batch(self.model, batch)).to("meta")

    def told_of_outputs(self, split: Split) -> list[str]:
        """What there is to tell of what the model returns, from a few examples; two fit into memory."""
        with self.running():
            pairs = torch.split(torch.arange(min(FEW, len(split))), 2)
            told = [told_of(call(self.model, split.take(rows, self.device))) for rows in pairs]
        return [note for note in told[0] if all(note in other for other in told)]

    def _inspect(self, split: Split) -> None:
        """Before the first score: does the graph say what the model says, and where can it be cut?"""
        if self.routes.is_inspected:
            return
        if not self.task.calls_once or split.listed:
            self.routes.take_none(f"The task {self.task.name} calls it in a way of its own")
        else:
            with arithmetic_of(self.precision):
                self.routes.inspect(lambda number: self._inputs(split, torch.arange(number) % len(split)))

    def _inputs(self, split: Split, rows: Tensor) -> Mapping[str, Any]:
        """What the model is called with for some units, where one call answers them."""
        return next(iter(self.task.inputs(split.take(rows, self.device))))

    def prepared(self, split: Split, *, is_cut: bool = False) -> PreparedSplit:
        """The split made ready, kept for the next soup; a few splits at a time."""
        key = (split.fingerprint, is_cut)
        if key not in self._feeds:
            prepared = self._feed_at_cut(split) if is_cut else None
            if prepared is None:
                key = (split.fingerprint, False)
                prepared = prepare(split, self.device, is_channels_last=self.is_channels_last)
            self._feeds[key] = prepared
            while len(self._feeds) > 1 and sum(kept.num_bytes for kept in self._feeds.values()) > budget(self.device):
                del self._feeds[next(iter(self._feeds))]
        return self._feeds[key]

    def ready_bytes(self, split: Split) -> int:
        """What a split takes as the model takes it, at most."""
        num_values = len(split) * sum(math.prod(shape) for shape in split.shapes.values())
        return min(4 * num_values, budget(self.device))

    def _feed_at_cut(self, split: Split) -> PreparedSplit | None:
        if split.padding:
            self.routes.forget_cut("each batch is cut to its longest example")
            return None

        def activations(rows: Tensor) -> dict[str, Tensor]:
            batch = split.take(rows, self.device)
            with self.running():
                values = self.routes.before(next(iter(self.task.inputs(batch))))
            return values | dict(self.task.context(batch))

        prepared = ready(split, self.device, self.is_channels_last, activations, self.batch_size)
        if prepared is None:
            self.routes.forget_cut("the activations there are too large to keep")
        return prepared

    def _forward(self, split: Split, rows: Tensor, is_shared: bool) -> Tensor:
        is_cut = is_shared and self.routes.has_cut
        prepared = self.prepared(split, is_cut=is_cut)
        is_cut = is_cut and self.routes.has_cut  # its activations may have turned out too large
        batch = prepared.take(rows)
        if not is_cut:
            return self._answers(split, lambda: self.task.answer_batch(self.routes.whole, batch))

        def read(output: Any) -> Tensor:  # what it needs to know of a batch is kept with the activations
            return self.task.read(output, batch)

        return self._answers(split, lambda: answers_from(self.routes.after, batch, read))

    def _answers(self, split: Split, call: Callable[[], Tensor]) -> Tensor:
        """What a call of the model says of a split's examples; what it raises names the split."""
        with self.running():
            try:
                found = call()
            except ModelError as error:
                if error.__cause__ is None:  # it takes them, and returns what are no logits of theirs
                    raise ModelError(f"data.{split.name}: {error}") from None
                raise DataError(
                    f"data.{split.name}: the model does not take its examples (shapes {list(split.shapes.values())}): "
                    f"{told(error.__cause__)} {other_size(split, self.model)}".rstrip()
                ) from error
        return restricted(found, split.allowed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Where the model runs: without gradients, in the precision, whatever PyTorch's flags say elsewhere."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(arithmetic_of(self.precision))
            if self.precision in AUTOCAST:
                stack.enter_context(torch.autocast(self.device.type, AUTOCAST[self.precision]))
            yield
