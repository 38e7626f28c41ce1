"""Recordings that were found are read, and what the model and the task are given of them is written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soupviz.data import labels, ragged
from soupviz.data.audio import waves
from soupviz.data.audio.extracting import Extractor
from soupviz.data.audio.hearing import Hearing, mask_of
from soupviz.data.classes import named
from soupviz.data.datasets import keep_texts
from soupviz.data.sources import LENGTHS, MASK, Contents
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

CHUNK = 64

INPUT_LENGTHS, FRAMES = "input_lengths", "frames"
"""What a task of transcripts is told of each recording: how long it is without padding, as the model is given it; and
how many frames it becomes, where the model tells that of itself."""


def for_model(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch without what the task alone is told."""
    return {name: inputs for name, inputs in batch.items() if name not in (INPUT_LENGTHS, FRAMES)}


@dataclass(frozen=True, slots=True)
class Listed:
    """Recordings that were found but not read. names: of the files, as the table has them. texts: their transcripts."""

    paths: Sequence[Path]
    names: Sequence[str]
    labels: NDArray[Any]
    order: Sequence[str] | None
    is_sorted: bool
    notes: Sequence[str]
    groups: Sequence[str] = ()
    texts: Sequence[str] = ()


def listened(
    name: str,
    spec: SplitSpec,
    found: Listed,
    hearing: Hearing,
    extractor: Extractor | None,
    kind: labels.Kind,
    target: Path,
    progress: Progress,
) -> Contents:
    """Read every recording that can be.

    Raises:
        DataError: none can be read, or some have another rate than the others.
    """
    reading = _Reading(name, spec, found, extractor)
    ragged.save(target, "inputs", reading.inputs(progress))
    if not reading.kept:
        first, reason = next(iter(reading.broken.items()))
        raise DataError(f"data.{name}: none of {len(found.paths)} recordings can be decoded; {first}: {reason}.")
    keep_texts(target, [found.texts[place] for place in reading.kept] if found.texts else [])
    return _contents(f"data.{name}", reading, hearing, kind, target)


@dataclass(slots=True)
class _Reading:
    """A split while it is read. kept: places of what can be read. lengths: of what the model is given of it. broken:
    files that cannot be read, and why."""

    name: str
    spec: SplitSpec
    found: Listed
    extractor: Extractor | None
    kept: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    rate: int = 0
    rates: set[int] = field(default_factory=set)
    num_of_channels: dict[int, int] = field(default_factory=dict)
    dimensions: int = 1
    is_masked: bool = False

    def inputs(self, progress: Progress) -> Iterator[NDArray[np.float32]]:
        """What the model is given of each recording that can be read."""
        self.rate = self.spec.sample_rate or (self.extractor.rate if self.extractor else 0)
        if self.extractor and self.rate != self.extractor.rate:
            raise DataError(
                f"data.{self.name}.sample_rate is {self.rate}, but the feature extractor wants "
                f"{self.extractor.rate}: leave it out."
            )
        for index, path in enumerate(self.found.paths):
            if index % CHUNK == 0:
                progress(index, len(self.found.paths), f"reading {self.name}")
            wave = waves.read(path)
            if isinstance(wave, str):
                self.broken[self.found.names[index]] = wave
            else:
                self.kept.append(index)
                yield self._input(wave, index)
        progress(len(self.found.paths), len(self.found.paths), f"reading {self.name}")

    def _input(self, wave: waves.Wave, index: int) -> NDArray[np.float32]:
        self.rate = self.rate or wave.rate
        self.rates.add(wave.rate)
        if not self.spec.sample_rate and not self.extractor and wave.rate != self.rate:
            raise DataError(
                f"data.{self.name}: {self.found.names[index]} has {wave.rate} samples a second, those before it have "
                f"{self.rate}; expected one rate. Give `sample_rate: {max(wave.rate, self.rate)}`, or the rate that "
                "the model was trained at, to have all resampled to it."
            )
        self.num_of_channels[wave.channels] = self.num_of_channels.get(wave.channels, 0) + 1
        samples = waves.resampled(wave, self.rate)
        length = len(samples)
        if self.spec.seconds:
            most = max(1, round(self.spec.seconds * self.rate))
            samples, length = waves.fitted(samples, most), min(length, most)
        if self.extractor is None:
            self.lengths.append(length)
            return samples
        made = self.extractor.make(samples)
        features = np.asarray(made[self.extractor.argument], dtype=np.float32)
        self.dimensions, self.is_masked = features.ndim, MASK in made
        self.lengths.append(len(features))
        return features

    def notes(self, where: str) -> list[str]:
        """What reading told."""
        others = sorted(self.rates - {self.rate})
        told = []
        if others:
            told.append(f"resampled to {self.rate:,} samples a second from {named([f'{one:,}' for one in others])}.")
        if several := sum(number for channels, number in self.num_of_channels.items() if channels > 1):
            told.append(f"{several} of {len(self.lengths)} recordings have several channels: their mean is taken.")
        return [f"{where}: {sentence}" for sentence in told]


def _contents(where: str, reading: _Reading, hearing: Hearing, kind: labels.Kind, target: Path) -> Contents:
    """What was read, and the arrays beside it that the model or the task take."""
    extractor, found = reading.extractor, reading.found
    lengths = np.array(reading.lengths, dtype=np.int64)
    arrays = {extractor.argument if extractor and reading.dimensions > 1 else hearing.wave: "inputs"}
    of_task = []
    is_masked = reading.is_masked if extractor else MASK in hearing.told
    if is_masked:
        ragged.save(target, "mask", (mask_of(length).numpy() for length in reading.lengths))
        arrays[MASK] = "mask"
    np.save(target / f"{LENGTHS}.npy", lengths)
    if LENGTHS in hearing.told:
        arrays[LENGTHS] = LENGTHS
    if kind == "texts":
        arrays[INPUT_LENGTHS] = LENGTHS
        of_task.append(INPUT_LENGTHS)
        if hearing.count is not None and reading.dimensions == 1:
            np.save(target / f"{FRAMES}.npy", hearing.count(torch.from_numpy(lengths)).numpy())
            arrays[FRAMES] = FRAMES
            of_task.append(FRAMES)
    is_cut = not hearing.inexact and reading.dimensions == 1 and (is_masked or MASK not in hearing.told)
    notes = reading.notes(where)
    if not is_cut and len(set(reading.lengths)) > 1:
        why = hearing.inexact or "the feature extractor makes no attention_mask"
        told = f"{why}, so each is padded to {lengths.max() / reading.rate:.2f} s, the longest."
        notes.append(f"{where}: {told if reading.dimensions == 1 else 'features are padded to the longest recording.'}")
    return Contents(
        arrays,
        found.labels[reading.kept],
        files=[found.names[place] for place in reading.kept],
        corrupt=reading.broken,
        notes=notes,
        padding="right" if is_cut else "",
        uncut=(LENGTHS, *of_task),
        of_task=of_task,
        rate=reading.rate if reading.dimensions == 1 else 0,
    )
