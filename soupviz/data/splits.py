"""Data splits: read and transformed once, kept as arrays in the cache folder, mapped into memory from there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soupviz.config import SplitSpec
from soupviz.data import decoded, readers, slices
from soupviz.data.transforms import normalize, pipeline
from soupviz.errors import CorruptImagesError, DataError
from soupviz.files import digest
from soupviz.records import Progress, Slices, quiet


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A split's examples.

    inputs: by argument name ("" where the model takes one tensor), each of shape (num_examples, ...).
    labels: int64, shape (num_examples,). normalization: (mean, std) for uint8 images, else None.
    files: where each example came from, for formats that have files. skipped: images left out as corrupt.
    texts: of each example, for people to read, where the data set tells them.
    slices: by the column that the kitchen names; they are no part of the fingerprint, as no score depends on them.
    """

    name: str
    inputs: Mapping[str, Tensor]
    labels: Tensor
    classes: tuple[str, ...] | None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    fingerprint: str
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    slices: Slices | None = None
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Some examples as the model takes them: on the device, floating-point where they are images.

        Args:
            rows: positions, int64.
        """
        moved = {name: _moved(tensor.index_select(0, rows), device) for name, tensor in self.inputs.items()}
        if "" in moved:
            batch = moved[""]
            if self.normalization:
                moved[""] = normalize(batch, *self.normalization)
            elif batch.is_floating_point() or batch.dtype == torch.uint8:
                moved[""] = batch.to(torch.float32)
        return moved


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
    skip_corrupt: bool = False,
    progress: Progress = quiet,
) -> Split:
    """A split from the cache, or read, transformed and kept there.

    Args:
        name: held_out, test, train or shifts.NAME; for messages and scores.
        folder: what paths in the spec are relative to.
        classes: the label order; default: an image folder's sorted folder names.
        skip_corrupt: leave out images that cannot be decoded, as the spec's own key does.
    Raises:
        DataError: missing, empty, of one example, or with other classes; or its slices do not fit its examples.
        CorruptImagesError: images that cannot be decoded and are not skipped.
    """
    source = readers.find(name, spec, folder, classes)
    with decoded.opened(source, pipeline(spec.transform, model), name, progress) as (kept, meta):
        _refuse_corrupt(name, meta, skip_corrupt=spec.skip_corrupt or skip_corrupt)
        return _split(name, spec, folder, source, kept, meta)


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
    name: str, spec: SplitSpec, folder: Path, source: readers.Source, kept: Path, meta: Mapping[str, Any]
) -> Split:
    # "c" maps copy-on-write: torch wants writable memory, the file stays as it is.
    inputs = {
        argument: torch.from_numpy(np.load(kept / f"{file}.npy", mmap_mode="c"))
        for argument, file in meta["arrays"].items()
    }
    labels = torch.from_numpy(np.load(kept / "labels.npy").astype(np.int64))
    files, fingerprint = meta["files"], meta["fingerprint"]
    texts = readers.texts_in(kept)
    values = slices.read(name, spec, folder, files, len(labels) + len(meta["corrupt"])) if spec.slices else []
    if spec.part:
        chosen = stratified_part(labels, spec.part.index, spec.part.of, spec.part.seed)
        inputs = {argument: tensor[chosen] for argument, tensor in inputs.items()}
        labels = labels[chosen]
        files = [files[index] for index in chosen.tolist()] if files else files
        texts = [texts[index] for index in chosen.tolist()] if texts else texts
        values = [values[index] for index in chosen.tolist()] if values else values
        fingerprint = digest([fingerprint, spec.part.model_dump()])
    if len(labels) < 2:
        raise DataError(
            f"data.{name}: {spec.path or spec.format} has {len(labels)} examples; expected at least 2, to compare by."
        )
    normalization = meta["normalization"]
    return Split(
        name=name,
        inputs=inputs,
        labels=labels,
        classes=tuple(source.classes) if source.classes else None,
        normalization=(tuple(normalization[0]), tuple(normalization[1])) if normalization else None,
        fingerprint=fingerprint,
        files=tuple(files),
        skipped=tuple(meta["corrupt"]),
        slices=slices.divided(spec.slices.column, values) if spec.slices else None,
        texts=tuple(texts),
    )


def check_head(split: Split, place: str, outputs: int) -> None:
    """Refuse classes or labels that are not the head's before anything is scored on them.

    Raises:
        DataError: another number of classes than outputs, or labels outside 0 to outputs - 1.
    """
    if split.classes and len(split.classes) != outputs:
        raise DataError(
            f"data.{split.name}: {len(split.classes)} classes ({', '.join(split.classes[:4])}, ...) for {place}, "
            f"but the model's head has {outputs} outputs. Check the model's args and the classes."
        )
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= outputs:
        raise DataError(
            f"data.{split.name}: labels in {place} run from {low} to {high}, but the model's head has {outputs} "
            f"outputs (0 to {outputs - 1}). Check the model's args and the data's classes."
        )


def stratified_part(labels: Tensor, index: int, of: int, seed: int) -> Tensor:
    """Positions of one of several equal parts: each class is shuffled with the seed and dealt out in turn."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    dealt = 0
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        # Dealing goes on where the class before it stopped, so that small classes do not all fall to part 0.
        chosen.append(members[(index - dealt) % of :: of])
        dealt += len(members)
    return torch.cat(chosen).sort().values
