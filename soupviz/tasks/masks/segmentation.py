"""Segmentation: a class for each pixel of an image; a head of one channel stands for two classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from soupviz.data.classes import named
from soupviz.data.split import Split
from soupviz.errors import DataError, KitchenError, ModelError
from soupviz.models.building import tensor_of
from soupviz.tasks.calibration import Decisions
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS
from soupviz.tasks.ensembles import combined
from soupviz.tasks.masks.mask_metrics import (
    DICE,
    INTERSECTION,
    MEAN_IOU,
    NATS,
    PIXEL_ACCURACY,
    PIXEL_LOSS,
    PIXELS,
    PREDICTED,
    TARGET,
    class_iou,
)  # fmt: skip
from soupviz.tasks.masks.mask_runs import as_runs, made_small
from soupviz.tasks.outcomes import FINITE, Column, Outcomes, records
from soupviz.tasks.task import NOTHING, Task

VOID = 255
"""The value of pixels that are not judged, as Pascal VOC and torchvision's references have it."""

AT_ONCE = 2**21
"""Logits, of the masks' size, that are counted at a time: they stay in the processor's cache."""

MOST_PIXELS = 2**18
"""To which a temperature is fitted; more of them, which are much like their neighbours, make it little surer."""

SAID = "said"
"""The column of small pictures of what was predicted, as runs."""

SHOWN = 4


class Segmentation(Task):
    """Logits of shape (batch, classes, height, width) against masks of classes, shape (batch, height, width).

    Logits of another size than the masks are resized to it, bilinearly, as torchvision's and transformers' models do.
    """

    name = "segmentation"
    unit = "image"
    takes = ("ignore",)
    labels = "masks"
    barrier = "loss"
    has_probabilities = True
    decides = f"pixel that is judged (of very many {MOST_PIXELS:,}, drawn at random)"
    metrics = (MEAN_IOU, PIXEL_ACCURACY, DICE, PIXEL_LOSS)
    lacks: ClassVar[Mapping[str, str]] = {
        "information": "each pixel has a class, and an image has none: it would cost a gradient for each pixel",
        "division": "the last layer of such models is a convolution, and only linear ones are divided",
    }

    def __init__(self, ignore: int | Sequence[int] | None = VOID):
        """Say which pixels are not judged.

        Args:
            ignore: their value in the masks, or several; None: every pixel is judged.
        """
        self.ignore = [] if ignore is None else sorted({ignore} if isinstance(ignore, int) else set(ignore))
        self._known: Any = WeakTensorKeyDictionary()

    @classmethod
    def configured(cls, parameters: Mapping[str, Any], folder: Path) -> "Segmentation":
        given = parameters.get("ignore", VOID)
        values = given if isinstance(given, list) else [given]
        if given is not None and not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
            raise KitchenError(
                f"task.ignore is {given!r}; expected the value of pixels that are not judged, a list of such, or null."
            )
        return cls(**parameters)

    @property
    def key(self) -> list[Any]:
        return [*super().key, self.ignore]

    @property
    def without_classes(self) -> str:
        return f"the task {self.name} has a class for each pixel, and none for an {self.unit}"

    def width(self, answers: Tensor) -> int:
        return answers.shape[1]

    def head(self, width: int) -> tuple[str, str, str]:
        return "Classes", str(width), "of each pixel"

    def check_split(self, split: Split, width: int) -> Sequence[str]:
        """Refuse values that are neither classes of the model nor ignored, with the file that has them; and masks of
        which nothing is judged."""
        for row, (values, _) in enumerate(self._values(split.labels)):
            odd = values[(values < 0) | (values >= width)]
            if not len(odd):
                continue
            where = split.files[row] if split.files else f"example {row}"
            spared = f"; {', '.join(map(str, self.ignore))} is not judged" if self.ignore else ""
            raise DataError(
                f"data.{split.name}: the mask of {where} has the value {odd[0]}, but the model's head has {width} "
                f"classes (0 to {width - 1}{spared}). Give values that are no classes as `ignore` of the task, or "
                "check the model's args and the masks."
            )
        if not any(len(values) for values, _ in self._values(split.labels)):
            raise DataError(
                f"data.{split.name}: none of {len(split)} masks has a pixel that is judged: all have the values "
                f"{', '.join(map(str, self.ignore))}. Check `ignore` of the task, and the masks."
            )
        return ()

    def _values(self, labels: Tensor) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each mask the values that are judged, and how many pixels have them; looked at once."""
        if labels not in self._known:
            self._known[labels] = [self._values_of(mask) for mask in labels.numpy()]
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = self._known[labels]
        return found

    def _values_of(self, mask: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if mask.dtype == np.uint8:
            every = np.bincount(mask.reshape(-1), minlength=1)
            values, counts = np.flatnonzero(every), every[every > 0]
        else:
            values, counts = np.unique(mask, return_counts=True)
        judged = ~np.isin(values, self.ignore)
        return values[judged].astype(np.int64), counts[judged].astype(np.int64)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        """Pixels by class of each mask, up to the last class that any has."""
        rows = self._values(labels)
        found = np.zeros((len(rows), 1 + max((int(values.max(initial=0)) for values, _ in rows), default=0)), np.int64)
        for row, (values, counts) in zip(found, rows, strict=True):
            row[values] = counts
        return {TARGET: found}

    def answers(self, output: Any) -> Tensor:
        """Logits of shape (batch, classes, height, width); of one channel those of class 1 against class 0.

        Raises:
            ModelError: of another number of dimensions.
        """
        logits = tensor_of(output)
        logits = logits[:, None] if logits.ndim == 3 else logits
        if logits.ndim != 4:
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)}; expected (batch, classes, height, width)."
            )
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Counts of pixels by class, and a small picture of what is predicted.

        Of an image with a logit that is not finite no pixel is right, and nothing is predicted.
        """
        size = labels.shape[-2:]
        step = max(1, AT_ONCE // (answers.shape[1] * size.numel()))
        parts = [
            self._counted(answers[start : start + step], labels[start : start + step])
            for start in range(0, len(labels), step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _counted(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        answers = answers.float()
        ends = answers.flatten(1).aminmax(dim=1)  # which are not finite where any logit is not, in a tenth of the time
        finite = ends.min.isfinite() & ends.max.isfinite()
        if not finite.all():
            answers = answers.nan_to_num(0.0, 0.0, 0.0)
        logits = _resized(answers, labels)
        truth = self._truth(labels.to(answers.device))
        best, said = logits.max(dim=1)
        close = best - logits.scatter(1, said[:, None], -torch.inf).amax(dim=1) < CLOSE_LOGITS
        judged = (truth >= 0) & finite[:, None, None]
        nats = logits.logsumexp(dim=1) - logits.gather(1, truth.clamp(min=0)[:, None])[:, 0]
        nats = nats.double().where(judged, 0.0).flatten(1).sum(dim=1).where(finite, torch.nan)
        hits = judged & (said == truth)
        small, is_known = made_small(said).cpu().numpy(), finite.cpu().numpy()
        runs = [as_runs(mask) if known else as_runs(mask)[:0] for mask, known in zip(small, is_known, strict=True)]
        return {
            FINITE: is_known,
            INTERSECTION: _by_class(truth, hits, logits.shape[1]),
            PREDICTED: _by_class(said, judged, logits.shape[1]),
            NATS: nats.cpu().numpy(),
            PIXELS: judged.flatten(1).sum(dim=1).cpu().numpy(),
            "close": (close & judged).flatten(1).sum(dim=1).cpu().numpy().astype(np.int32),
            SAID: records(runs),
        }

    def _truth(self, labels: Tensor) -> Tensor:
        """Masks as int64, -1 where they are not judged."""
        whole = labels.long()  # a byte would be compared with what is left of a larger or negative value
        truth = whole
        for value in self.ignore:
            truth = truth.where(whole != value, -1)
        return truth

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy of the pixels that are judged, in nats."""
        truth = self._truth(labels.to(answers.device))
        total = F.cross_entropy(_resized(answers, labels), truth, ignore_index=-1, reduction="sum")
        return total / (truth >= 0).sum().clamp(min=1)

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """`T^2 * KL(teacher_T || student_T)` of each pixel as the model says it, those that are not judged too."""
        student_log, teacher_log = (F.log_softmax(one / temperature, dim=1) for one in (answers, teacher))
        every = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(dim=1)
        return temperature**2 * every.mean()

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        """Pixel by pixel as the models say them, before they are resized to the masks."""
        return combined(answers, weights, output)

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        """Of the pixels that are judged, at the masks' size: of all, or of so many as a fit holds at once.

        Of an image with a logit that is not finite none says anything.
        """
        step = max(1, -(-sum(int(counts.sum()) for _, counts in self._values(labels)) // MOST_PIXELS))
        # One of each so many, at random: at equal distances they would lie in few columns.
        random, found = torch.Generator().manual_seed(0), []
        for row in range(len(labels)):
            logits, mask = torch.from_numpy(np.array(answers[row : row + 1])), labels[row : row + 1]
            if not logits.isfinite().all():
                logits = torch.full_like(logits, torch.nan)
            truth = self._truth(mask).flatten()
            judged = (truth >= 0).nonzero().flatten()
            places = torch.arange(0, len(judged), step)
            places += torch.randint(step, places.shape, generator=random)
            chosen = judged[places[places < len(judged)]]
            found.append((_resized(logits, mask)[0].flatten(1)[:, chosen].T, truth[chosen]))
        return Decisions(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """The classes of an image's mask, the largest first."""
        counts = outcomes[TARGET][row]
        there = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
        return named([classes[index] for index in there], SHOWN) or "no pixel that is judged"

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        if not outcomes[FINITE][row]:
            return NOTHING
        counts = [outcomes[name][row] for name in (INTERSECTION, PREDICTED, TARGET)]
        by_class = class_iou(*counts)
        if not counts[2].sum():
            return "no pixel to judge"
        worst = [index for index in np.argsort(by_class, kind="stable").tolist() if not np.isnan(by_class[index])]
        each = named([f"{classes[index]} {100 * by_class[index]:.0f} %" for index in worst], SHOWN)
        return f"IoU {100 * np.nanmean(by_class):.1f} % ({each}), {_share(counts[0].sum(), counts[2].sum())} right"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        by_class = class_iou(*(outcomes[name].sum(axis=0) for name in (INTERSECTION, PREDICTED, TARGET)))
        return {
            "class_iou": [None if np.isnan(value) else float(value) for value in by_class],
            "class_pixels": outcomes[TARGET].sum(axis=0).tolist(),
            "num_close": int((outcomes["close"] > 0).sum()),
        }


def _resized(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits of the masks' height and width."""
    size = labels.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=list(size), mode="bilinear", align_corners=False)


def _by_class(classes: Tensor, chosen: Tensor, number: int) -> NDArray[np.int32]:
    """How many of the chosen pixels of each image have each class, shape (images, number)."""
    images = torch.arange(len(classes), device=classes.device)[:, None, None] * number
    counts = torch.bincount((images + classes)[chosen], minlength=len(classes) * number)
    found: NDArray[np.int32] = counts.view(-1, number).cpu().numpy().astype(np.int32)
    return found


def _share(right: int, number: int) -> str:
    return f"{100 * right / number:.1f} % of pixels"
