"""Scoring weights on a split: the model is built once, weights are swapped in place, examples stay in memory."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.data import Split
from soupviz.errors import DataError, KitchenError, ModelError
from soupviz.models import logits_of
from soupviz.records import PerExample

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


class Evaluator:
    """Holds the kitchen's one model on its device; not for two threads at once."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str = "float32", batch_size: int = 256):
        has_convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
        self.memory_format = torch.channels_last if has_convolutions else torch.contiguous_format
        self.model = model.eval().to(device).to(memory_format=self.memory_format)
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self._slots = self.model.state_dict(keep_vars=False)

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy weights into the model, one tensor at a time, in place."""
        with torch.no_grad():
            for key, tensor in tensors:
                self._slots[key].copy_(tensor)

    def evaluate(
        self,
        split: Split,
        *,
        done: PerExample | None = None,
        on_batch: Callable[[PerExample], None] = lambda _result: None,
        keep_logits: bool = False,
    ) -> tuple[PerExample, Tensor | None]:
        """Score the loaded weights on every example of a split.

        Args:
            done: results of the first examples, from an interrupted evaluation; they are not computed again.
            on_batch: given the results so far after every batch; what it raises (Cancelled) ends the evaluation.
            keep_logits: also return the float32 logits, shape (num_examples - len(done), num_classes).
        Raises:
            DataError: a label outside the head's range, or inputs that the model does not take.
            ModelError: the model returns no logits.
        """
        parts = [done] if done is not None else []
        kept: list[Tensor] = []
        start = len(done) if done is not None else 0
        while start < len(split):
            logits = self._logits_of_batch(split, start)
            labels = split.labels[start : start + len(logits)]
            parts.append(judge(logits, labels, split.name))
            if keep_logits:
                kept.append(logits.float().cpu())
            start += len(logits)
            on_batch(joined(parts))
        return joined(parts), torch.cat(kept) if kept else None

    def num_classes(self, split: Split) -> int:
        """The width of the head, from a forward pass of two examples."""
        return self._forward(split, 0, 2).shape[1]

    def _logits_of_batch(self, split: Split, start: int) -> Tensor:
        while True:
            try:
                return self._forward(split, start, min(start + self.batch_size, len(split)))
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self.batch_size == 1:
                    raise
            # Outside the handler, where the failed batch is still referred to by the traceback.
            self.batch_size //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _forward(self, split: Split, start: int, stop: int) -> Tensor:
        batch = split.batch(start, stop, self.device)
        reduced = self.precision != "float32"
        context = torch.autocast(self.device.type, DTYPES[self.precision]) if reduced else nullcontext()
        with torch.inference_mode(), context:
            try:
                if isinstance(batch, dict):
                    output = self.model(**batch)
                else:
                    output = self.model(
                        batch.contiguous(memory_format=self.memory_format) if batch.ndim == 4 else batch
                    )
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                if isinstance(error, RuntimeError) and _is_out_of_memory(error):
                    raise
                shapes = {name: tuple(tensor.shape[1:]) for name, tensor in split.inputs.items()}
                raise DataError(
                    f"data.{split.name}: the model does not take its examples (shapes {list(shapes.values())}): "
                    f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                ) from error
        return logits_of(output)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def judge(logits: Tensor, labels: Tensor, split_name: str) -> PerExample:
    """Per-example results of a batch of logits, shape (batch, classes); not finite counts as wrong.

    Raises:
        DataError: a label outside the head's range.
        ModelError: fewer than two classes.
    """
    logits = logits.float().cpu()
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise ModelError(f"the model's head has {num_classes} outputs; expected one per class, at least 2.")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise DataError(
            f"data.{split_name}: labels run from {int(labels.min())} to {int(labels.max())}, but the model's head has "
            f"{num_classes} outputs (0 to {num_classes - 1}). Check the model's args and the data's classes."
        )
    finite = torch.isfinite(logits).all(dim=1)
    safe = logits.nan_to_num(0.0, 0.0, 0.0)
    top = safe.topk(min(5, num_classes), dim=1)
    predictions = safe.argmax(dim=1).where(finite, -1)
    losses = F.cross_entropy(safe, labels, reduction="none").where(finite, torch.nan)
    return PerExample(
        predictions=predictions.to(torch.int32).numpy(),
        correct=(predictions == labels).numpy(),
        losses=losses.numpy(),
        margins=(top.values[:, 0] - top.values[:, 1]).where(finite, torch.inf).numpy(),
        top5=((top.indices == labels[:, None]).any(dim=1) & finite).numpy(),
    )


def joined(parts: list[PerExample]) -> PerExample:
    """Results of consecutive batches as one."""
    if len(parts) == 1:
        return parts[0]
    return PerExample(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in PerExample.__dataclass_fields__)
    )
