"""Data splits: read and transformed once, kept as arrays in the cache folder, mapped into memory from there."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from soupviz.data import arguments, decoded, groups, labels, ragged, readers, slices
from soupviz.data.classes import absence, other_orders, present, stratified_part
from soupviz.data.datasets import texts_in
from soupviz.data.images.transforms import pipeline
from soupviz.data.sources import LENGTHS, MASK, Source
from soupviz.data.split import Split
from soupviz.errors import CorruptImagesError, DataError
from soupviz.files import digest
from soupviz.models.building import image_size
from soupviz.spec import SplitSpec
from soupviz.types import Progress, Slices, quiet

LEVEL = 0.05
"""Of the tests by which differences are called proven."""


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
        skip_corrupt: leave out files that cannot be decoded, as the spec's own key does.
    Raises:
        DataError: missing, empty, of one example, or with other classes; or its slices do not fit its examples.
        CorruptImagesError: images or recordings that cannot be decoded and are not skipped.
    """
    source = readers.find(name, spec, folder, classes, model, kind)
    steps = pipeline(spec.transform, model, is_whole=kind == "boxes")
    with decoded.opened(source, steps, name, progress) as (kept, meta):
        _refuse_corrupt(name, meta, skip_corrupt=spec.skip_corrupt or skip_corrupt)
        return _split(name, spec, folder, model, source, kept, meta, kind)


def _refuse_corrupt(name: str, meta: Mapping[str, Any], *, skip_corrupt: bool) -> None:
    corrupt: dict[str, str] = meta["corrupt"]
    if corrupt and not skip_corrupt:
        raise CorruptImagesError(
            f"{_told_corrupt(name, meta)}. Replace them, or leave them out with skip_corrupt: true (--skip-corrupt)."
        )


def _told_corrupt(name: str, meta: Mapping[str, Any]) -> str:
    """How many files cannot be decoded, and the first of them with the reason."""
    corrupt: dict[str, str] = meta["corrupt"]
    first, reason = next(iter(corrupt.items()))
    more = f" and {len(corrupt) - 1} more" if len(corrupt) > 1 else ""
    what = "images" if meta["normalization"] else "recordings"
    number = len(meta["files"]) + len(corrupt)
    return f"data.{name}: {len(corrupt)} of {number} {what} cannot be decoded: {first} ({reason}){more}"


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
    mapped = {argument: ragged.opened(kept, file) for argument, file in meta["arrays"].items()}
    of_task = {argument: array for argument, array in mapped.items() if argument in meta.get("of_task", ())}
    of_model = {argument: array for argument, array in mapped.items() if argument not in of_task}
    arrays, left_out = arguments.fitted(name, of_model, model) if of_model else ({}, [])
    answers = np.load(kept / "labels.npy", mmap_mode="c" if kind == "masks" else None)
    answers = torch.from_numpy(answers.astype(np.int64) if kind == "classes" else answers)
    files, normalization = meta["files"], meta["normalization"]
    number = len(source.names) or len(answers) + len(meta["corrupt"])
    places = source.places(len(answers), meta["corrupt"])
    values = slices.read(name, spec, folder, files, places, number) if spec.slices else []
    group = groups.read(name, spec, folder, source, kept, files, places, number)
    if spec.restrict_classes and kind != "classes":
        raise DataError(f"data.{name}.restrict_classes is for classification; the task has no such classes: remove it.")
    allowed = present(answers) if spec.restrict_classes else None
    is_classes = kind == "classes"
    left_out += [f"{_told_corrupt(name, meta)}; left out."] if meta["corrupt"] else []
    absent = absence(name, source.classes, answers, is_restricted=spec.restrict_classes) if is_classes else []
    # Where the model is not told of padding it counts: that of one batch would decide what comes of its examples.
    padding = meta["padding"] if {MASK, LENGTHS} & arrays.keys() else ""
    is_grouped = group is not None and len(group.names) < len(answers)
    whole = Split(
        name=name,
        arrays=arrays | of_task,
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
        listed=tuple(meta.get("listed", ())),
        rate=meta.get("rate", 0),
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
    if number == 1:
        return [
            f"data.{name}: there is one {group.column} alone: what is measured says nothing of another one, so that "
            "there are no intervals, and no difference is called proven."
        ]
    if (least := 0.5 ** (number - 1)) > LEVEL:
        return [
            f"data.{name}: {number} groups by {group.column} are few: by so many no p-value can fall below {least:g}, "
            f"and intervals, by Student's quantile, are wide."
        ]
    return [f"data.{name}: {number} groups by {group.column}, by which intervals and tests resample."]


def other_size(split: Split, model: nn.Module) -> str:
    """Where images are of another size than the model says it was built for: both, and the remedy."""
    side, built = split.shapes.get("", ())[-1:], image_size(model)
    if not split.normalization or "" in split.listed or built is None or side == (built,):
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
    if kind == "boxes":  # nothing says how many classes a detector knows
        return
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
