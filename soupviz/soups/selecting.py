"""Which data selected a soup, and which splits of a kitchen have a part in it: those cannot report on it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from soupviz.kitchen import Kitchen
from soupviz.spec import PartSpec


class Examples(BaseModel):
    """A split's examples. whole: the fingerprint of the data that they are a part of; their own where they are all.
    part: which part. dealt: the fingerprint of the groups that were dealt out whole; empty: single examples were."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fingerprint: str
    whole: str
    part: PartSpec | None = None
    dealt: str = ""

    def meets(self, other: "Examples") -> bool:
        """Whether both may have an example in common: parts that were dealt alike have none but of the same index."""
        if self.whole != other.whole:
            return False
        if self.part is None or other.part is None:
            return True
        is_one_deal = (self.part.of, self.part.seed, self.dealt) == (other.part.of, other.part.seed, other.dealt)
        return not is_one_deal or self.part.index == other.part.index


def examples_in(kitchen: Kitchen, split: str) -> Examples:
    """A split of a kitchen, by what is in it; read if it was not."""
    read = kitchen.splits.load(split)
    part = kitchen.spec.split_specs()[split].part
    whole = read.whole or read.fingerprint
    return Examples(fingerprint=read.fingerprint, whole=whole, part=part, dealt=read.dealt)


def from_plain(values: Mapping[str, Any]) -> dict[str, Examples]:
    """By the split's name, as JSON keeps it."""
    return {split: Examples.model_validate(value) for split, value in values.items()}


def plain(selecting: Mapping[str, Examples]) -> dict[str, Any]:
    return {split: examples.model_dump(mode="json") for split, examples in selecting.items()}


def met_by(kitchen: Kitchen, selecting: Mapping[str, Examples], splits: Iterable[str]) -> list[str]:
    """Those of a kitchen's splits that may have an example in common with what selected a soup."""
    return [split for split in splits if any(one.meets(examples_in(kitchen, split)) for one in selecting.values())]


def of_other_data(kitchen: Kitchen, selecting: Mapping[str, Examples], version: str) -> str:
    """Why this kitchen's held_out is not what selected a soup, in a sentence; empty where it is.

    Args:
        version: of the soupviz that wrote the soup.
    """
    if not selecting:
        return (
            f"It was written by soupviz {version}, which kept no fingerprint of the data that selected a soup: "
            "it cannot be checked which splits here had a part in the choice."
        )
    if not any(_is_other(kitchen, split, data) for split, data in selecting.items()):
        return ""
    met = met_by(kitchen, selecting, kitchen.splits.reporting)
    names, has = " and ".join(met), "have" if len(met) > 1 else "has"
    where = f"{names} here {has} examples of it, and cannot report on it" if met else "no split here has any of it"
    return f"It was selected on other data than this kitchen's held_out: {where}."


def _is_other(kitchen: Kitchen, split: str, data: Examples) -> bool:
    return split not in kitchen.splits.names or examples_in(kitchen, split).fingerprint != data.fingerprint


def named(selecting: Mapping[str, Examples]) -> str:
    """What selected a soup, by names and fingerprints."""
    return ", ".join(
        f"{split} ({f'part {one.part.index} of {one.part.of}, ' if one.part else ''}fingerprint "
        f"{one.fingerprint[:12]}…)"
        for split, one in selecting.items()
    )
