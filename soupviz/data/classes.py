"""The classes of a split: their order, and what there is to tell where it could be another or where some are absent."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FURTHEST = 1e4
"""How far below the lowest logit of the classes that may be predicted the others are put."""

NAMED = 4


def other_orders(classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """How sorted class names could be ordered otherwise: numbers as numbers, capitals as small letters, or both."""
    found = [
        tuple(sorted(classes, key=_by_number)),
        tuple(sorted(classes, key=str.lower)),
        tuple(natural_order(classes)),
    ]
    return tuple(order for order in dict.fromkeys(found) if order != tuple(classes))


def natural_order(classes: Sequence[str]) -> list[str]:
    """The order in which timm reads class folders: whole numbers as numbers, capitals as small letters."""
    return sorted(classes, key=lambda name: _by_number(name.lower()))


def _by_number(name: str) -> list[int | str]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))]


def present(labels: Tensor) -> tuple[int, ...]:
    """The classes that have examples."""
    return tuple(torch.unique(labels).tolist())


def restricted(logits: Tensor, allowed: Sequence[int] | None) -> Tensor:
    """Logits by which only some classes can be predicted: the others lie below them by more than any score tells.

    Args:
        logits: shape (batch, classes). allowed: classes; None: all of them, and the logits are left alone.
    """
    if allowed is None:
        return logits
    logits = logits.float()
    index = torch.tensor(allowed, device=logits.device)
    kept = logits.index_select(1, index)
    low = kept.amin(dim=1, keepdim=True) - FURTHEST
    return low.expand_as(logits).index_copy(1, index, kept)


def absence(name: str, classes: Sequence[str] | None, labels: Tensor, *, is_restricted: bool) -> list[str]:
    """What to tell of a split that has no examples of some classes: by which of them its examples are judged."""
    there = present(labels)
    if classes is None or len(there) >= len(classes):
        return []
    absent = named([classes[index] for index in range(len(classes)) if index not in there])
    told = f"data.{name}: {len(there)} of {len(classes)} classes have examples, none of {absent}; "
    if is_restricted:
        return [told + f"the prediction is the best of those {len(there)} (restrict_classes)."]
    return [
        told + f"the prediction is the best of all {len(classes)} (restrict_classes: true takes those {len(there)})."
    ]


def stratified_part(
    labels: Tensor, index: int, of: int, seed: int, group_of: NDArray[np.int64] | None = None
) -> Tensor:
    """Positions of one of several equal parts: each class is shuffled with the seed and dealt out in turn.

    Where labels are no classes, all units are. Groups are dealt out whole, so that parts are about equal only.

    Args:
        group_of: of each unit its group.
    """
    generator = torch.Generator().manual_seed(seed)
    has_classes = labels.ndim == 1 and not labels.is_floating_point()
    if group_of is not None:
        parts = _dealt_whole(
            labels.numpy() if has_classes else np.zeros(len(labels), np.int64), group_of, of, generator
        )
        return torch.from_numpy(np.flatnonzero(parts == index))
    if not has_classes:
        return torch.randperm(len(labels), generator=generator)[index::of].sort().values
    chosen = []
    dealt = 0
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        # Dealing goes on where the class before it stopped, so that small classes do not all fall to part 0.
        chosen.append(members[(index - dealt) % of :: of])
        dealt += len(members)
    return torch.cat(chosen).sort().values


def _dealt_whole(
    labels: NDArray[np.int64], group_of: NDArray[np.int64], of: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Of each unit its part: the large groups first, each to the part that has least of the classes it holds."""
    classes, labels = np.unique(labels, return_inverse=True)
    groups, members = np.unique(group_of, return_inverse=True)
    sizes = np.bincount(members)
    rows = np.split(np.argsort(members, kind="stable"), np.cumsum(sizes)[:-1])
    shuffled = torch.randperm(len(groups), generator=generator).numpy()
    totals, held = np.bincount(labels), np.zeros((of, len(classes)))
    parts = np.zeros(len(labels), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        own, counts = np.unique(labels[rows[group]], return_counts=True)
        full = (held[:, own] / totals[own] * counts).sum(axis=1)
        part = min(range(of), key=lambda one, full=full: (full[one], held[one].sum(), one))  # type: ignore[misc]
        held[part, own] += counts
        parts[rows[group]] = part
    return parts


def named(names: Sequence[str], most: int = NAMED) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
