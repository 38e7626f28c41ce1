"""Data splits: read and transformed once, kept as arrays in the cache folder, mapped into memory from there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soupviz.data import arguments, decoded, groups, labels, readers, slices
from soupviz.data.classes import absence, other_orders, present, stratified_part
from soupviz.data.datasets import texts_in
from soupviz.data.sources import LENGTHS, Source
from soupviz.data.transforms import normalize, pipeline
from soupviz.errors import CorruptImagesError, DataError
from soupviz.files import digest
from soupviz.models.building import image_size
from soupviz.spec import SplitSpec
from soupviz.types import Grouped, Progress, Slices, quiet


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A split's examples.

    arrays: by argument name ("" where the model takes one tensor), each of shape (num_rows, ...); mapped into memory,
    and shared by the parts of a split. rows: which row each example is, int64; None: they are all, in order.
    labels: int64, shape (num_examples,), unless the task wants others. normalization: (mean, std) for uint8 images.
    files: where each example came from, for formats that have files. skipped: images left out as corrupt.
    texts: of each example, for people to read, where the data set tells them.
    slices: by the column that the kitchen names; they are no part of the fingerprint, as no score depends on them.
    padding: the side, left or right, on which examples are padded; lengths: of each without it; uncut: the arguments
    that are not padded.
    allowed: the classes that may be predicted; None: all of them. group: by what examples belong together, of which at
    least two do; like slices it is no part of the fingerprint. dealt: the fingerprint of the groups that were dealt
    out whole, where this is a part of such.
    notes: what there is to tell of how the split was read, in sentences. other_orders: of the classes, where it was
    taken from sorted names that could be sorted otherwise.
    whole: the fingerprint of the data that this is a part of, where it is one.
    """

    name: str
    arrays: Mapping[str, Tensor]
    labels: Tensor
    classes: tuple[str, ...] | None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    fingerprint: str
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    slices: Slices | None = None
    texts: tuple[str, ...] = ()
    rows: Tensor | None = None
    padding: str = ""
    lengths: Tensor | None = None
    uncut: tuple[str, ...] = ()
    allowed: tuple[int, ...] | None = None
    group: Slices | None = None
    dealt: str = ""
    notes: tuple[str, ...] = ()
    other_orders: tuple[tuple[str, ...], ...] = ()
    whole: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor, device: torch.device, *, is_cut: bool = True) -> dict[str, Tensor]:
        """Some examples as the model takes them: on the device, floating-point where they are images.

        Args:
            rows: positions, int64. is_cut: what is padded is cut to the longest of them.
        """
        moved = {name: _moved(tensor, device) for name, tensor in self.raw(rows, is_cut=is_cut).items()}
        for name, batch in moved.items():
            if not name and self.normalization:
                moved[name] = normalize(batch, *self.normalization)
            elif batch.is_floating_point() or (not name and batch.dtype == torch.uint8):
                moved[name] = batch.to(torch.float32)
        return moved

    def raw(self, rows: Tensor, *, is_cut: bool = True) -> dict[str, Tensor]:
        """Some examples as they are kept."""
        places = rows if self.rows is None else self.rows.index_select(0, rows)
        found = {name: tensor.index_select(0, places) for name, tensor in self.arrays.items()}
        if self.lengths is None or not is_cut:
            return found
        longest = int(self.lengths.index_select(0, rows).max())
        kept = slice(-longest, None) if self.padding == "left" else slice(longest)
        return {name: tensor if name in self.uncut else tensor[:, kept] for name, tensor in found.items()}

    @property
    def inputs(self) -> dict[str, Tensor]:
        """All examples as they are kept; of a part that is a copy, so what may be large is taken by `raw`."""
        if self.rows is None:
            return dict(self.arrays)
        return {name: tensor.index_select(0, self.rows) for name, tensor in self.arrays.items()}

    def example(self, row: int) -> dict[str, Tensor]:
        """One example as it is kept, without the dimension of a batch."""
        return {name: tensor[0] for name, tensor in self.raw(torch.tensor([row])).items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one example, by argument."""
        return {name: tuple(tensor.shape[1:]) for name, tensor in self.arrays.items()}

    @property
    def group_of(self) -> NDArray[np.int64] | None:
        """Of each example its group, from 0; None: each is resampled alone."""
        return None if self.group is None else self.group.index

    @property
    def grouped(self) -> Grouped | None:
        """By what examples are resampled together."""
        return None if self.group is None else Grouped(self.group.column, len(self.group.names))

    @property
    def group_key(self) -> str:
        """A fingerprint of which examples belong together, for what is kept of a resampling; empty where none do."""
        return "" if self.group is None else self.group.index_digest

    def part(self, chosen: Tensor, fingerprint: str) -> "Split":
        """Some of the examples, as a view: no example is copied.

        Args:
            chosen: positions, int64. fingerprint: of the part.
        """
        index = chosen.tolist()
        return replace(
            self,
            rows=chosen if self.rows is None else self.rows[chosen],
            labels=self.labels[chosen],
            fingerprint=fingerprint,
            lengths=None if self.lengths is None else self.lengths[chosen],
            files=tuple(self.files[row] for row in index) if self.files else (),
            texts=tuple(self.texts[row] for row in index) if self.texts else (),
            group=self.group and slices.taken(self.group, chosen.numpy()),
            slices=self.slices and slices.taken(self.slices, chosen.numpy()),
        )


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; from pinned memory to a GPU, so that the copy does not hold up what computes."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def load(
    name: str,
    spec: SplitSpec,
    folder: Path,
    model: nn.Module,
    *,
    classes: tuple[str, ...] | None = None,
    kind: labels.Kind = "classes",
    skip_corrupt: bool = False,
    progress: Progress = quiet,
) -> Split:
    """A split from the cache, or read, transformed and kept there.

    Args:
        name: held_out, test, train or shifts.NAME; for messages and scores.
        folder: what paths in the spec are relative to.
        classes: the label order; default: an image folder's sorted folder names. kind: of the labels.
        skip_corrupt: leave out images that cannot be decoded, as the spec's own key does.
    Raises:
        DataError: missing, empty, of one example, or with other classes; or its slices do not fit its examples.
        CorruptImagesError: images that cannot be decoded and are not skipped.
    """
    source = readers.find(name, spec, folder, classes, model, kind)
    with decoded.opened(source, pipeline(spec.transform, model), name, progress) as (kept, meta):
        _refuse_corrupt(name, meta, skip_corrupt=spec.skip_corrupt or skip_corrupt)
        return _split(name, spec, folder, model, source, kept, meta, kind)


def _refuse_corrupt(name: str, meta: Mapping[str, Any], *, skip_corrupt: bool) -> None:
    corrupt: dict[str, str] = meta["corrupt"]
    if corrupt and not skip_corrupt:
        first, reason = next(iter(corrupt.items()))
        more = f" and {len(corrupt) - 1} more" if len(corrupt) > 1 else ""
        raise CorruptImagesError(
            f"data.{name}: {len(corrupt)} of {len(meta['files']) + len(corrupt)} images cannot be decoded: {first} "
            f"({reason}){more}. Replace them, or leave them out with skip_corrupt: true (--skip-corrupt)."
        )


def _split(
    name: str,
    spec: SplitSpec,
    folder: Path,
    model: nn.Module,
    source: Source,
    kept: Path,
    meta: Mapping[str, Any],
    kind: labels.Kind,
) -> Split:
    # "c" maps copy-on-write: torch wants writable memory, the file stays as it is.
    mapped = {
        argument: torch.from_numpy(np.load(kept / f"{file}.npy", mmap_mode="c"))
        for argument, file in meta["arrays"].items()
    }
    arrays, left_out = arguments.fitted(name, mapped, model)
    answers = np.load(kept / "labels.npy")
    answers = torch.from_numpy(answers.astype(np.int64) if kind == "classes" else answers)
    files, normalization = meta["files"], meta["normalization"]
    number = len(answers) + len(meta["corrupt"])
    values = slices.read(name, spec, folder, files, number) if spec.slices else []
    group = groups.read(name, spec, folder, source, kept, files, number)
    if spec.restrict_classes and kind != "classes":
        raise DataError(f"data.{name}.restrict_classes is for classification; the task has no such classes: remove it.")
    allowed = present(answers) if spec.restrict_classes else None
    is_classes = kind == "classes"
    absent = absence(name, source.classes, answers, is_restricted=spec.restrict_classes) if is_classes else []
    # Where the model is not told of padding it counts: that of one batch would decide what comes of its examples.
    padding = meta["padding"] if {"attention_mask", LENGTHS} & arrays.keys() else ""
    is_grouped = group is not None and len(group.names) < len(answers)
    whole = Split(
        name=name,
        arrays=arrays,
        labels=answers,
        classes=tuple(source.classes) if source.classes else None,
        normalization=(tuple(normalization[0]), tuple(normalization[1])) if normalization else None,
        fingerprint=digest([meta["fingerprint"], allowed]) if allowed else meta["fingerprint"],
        files=tuple(files),
        skipped=tuple(meta["corrupt"]),
        slices=slices.divided(spec.slices.column, values) if spec.slices else None,
        texts=tuple(texts_in(kept)),
        padding=padding,
        uncut=tuple(meta.get("uncut", ())),  # earlier versions padded all
        lengths=torch.from_numpy(np.load(kept / f"{LENGTHS}.npy")) if padding else None,
        allowed=allowed,
        group=group if is_grouped else None,
        notes=(*source.notes, *meta["notes"], *left_out, *absent, *(_told_groups(name, group) if group else ())),
        other_orders=other_orders(source.classes) if source.is_sorted and source.classes else (),
    )
    if size_told := other_size(whole, model):  # a model may take them and interpolate its positions
        whole = replace(whole, notes=(*whole.notes, f"data.{name}: {size_told}"))
    if spec.part:
        chosen = stratified_part(answers, spec.part.index, spec.part.of, spec.part.seed, whole.group_of)
        dealt = [whole.group_key] if whole.group_key else []
        part = whole.part(chosen, digest([whole.fingerprint, spec.part.model_dump(), *dealt]))
        whole = replace(part, whole=whole.fingerprint, dealt=whole.group_key)
    if len(whole) < 2:
        raise DataError(
            f"data.{name}: {spec.path or spec.format} has {len(whole)} examples; expected at least 2, to compare by."
        )
    return whole


def _told_groups(name: str, group: Slices) -> list[str]:
    number = len(group.names)
    if number == len(group.index):
        return [f"data.{name}: each example has its own {group.column}: intervals resample examples."]
    return [f"data.{name}: {number} groups by {group.column}, by which intervals and tests resample its examples."]


def other_size(split: Split, model: nn.Module) -> str:
    """Where images are of another size than the model says it was built for: both, and the remedy."""
    side, built = split.shapes.get("", ())[-1:], image_size(model)
    if not split.normalization or built is None or side == (built,):
        return ""
    return (
        f"The transform makes images of {side[0]} pixels, the model says it is built for {built}: give it `resize` and "
        f"`crop` of {built} with the preset's mean and std (with timm `args: {{input_size: [3, {built}, {built}]}}`), "
        f"or build the model for {side[0]}."
    )


def check_head(split: Split, place: str, outputs: int, kind: labels.Kind = "classes") -> None:
    """Refuse classes or labels that are not the head's before anything is scored on them.

    Raises:
        DataError: another number of classes than outputs, labels outside 0 to outputs - 1, or of another width.
    """
    if split.classes and len(split.classes) != outputs:
        raise DataError(
            f"data.{split.name}: {len(split.classes)} classes ({', '.join(split.classes[:4])}, ...) for {place}, "
            f"but the model's head has {outputs} outputs. Check the model's args and the classes."
        )
    if kind in ("numbers", "flags"):
        labels.check_width(split.name, place, math.prod(split.labels.shape[1:]), outputs)
    if kind != "classes":
        return
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= outputs:
        raise DataError(
            f"data.{split.name}: labels in {place} run from {low} to {high}, but the model's head has {outputs} "
            f"outputs (0 to {outputs - 1}). Check the model's args and the data's classes."
        )
