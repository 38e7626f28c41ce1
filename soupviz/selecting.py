"""Which data selected a soup, and which splits of a kitchen have a part in it: those cannot report on it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from soupviz.config import PartSpec
from soupviz.kitchen import Kitchen


class Examples(BaseModel):
    """A split's examples. whole: the fingerprint of the data that they are a part of; their own where they are all.
    part: which part."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fingerprint: str
    whole: str
    part: PartSpec | None = None

    def meets(self, other: "Examples") -> bool:
        """Whether both may have an example in common: parts that were dealt alike have none but of the same index."""
        if self.whole != other.whole:
            return False
        if self.part is None or other.part is None:
            return True
        is_one_deal = (self.part.of, self.part.seed) == (other.part.of, other.part.seed)
        return not is_one_deal or self.part.index == other.part.index


def examples_in(kitchen: Kitchen, split: str) -> Examples:
    """A split of a kitchen, by what is in it; read if it was not."""
    read = kitchen.split(split)
    part = kitchen.spec.split_specs()[split].part
    return Examples(fingerprint=read.fingerprint, whole=read.whole or read.fingerprint, part=part)


def from_plain(values: Mapping[str, Any]) -> dict[str, Examples]:
    """By the split's name, as JSON keeps it."""
    return {split: Examples.model_validate(value) for split, value in values.items()}


def plain(selecting: Mapping[str, Examples]) -> dict[str, Any]:
    return {split: examples.model_dump(mode="json") for split, examples in selecting.items()}


def met_by(kitchen: Kitchen, selecting: Mapping[str, Examples], splits: Iterable[str]) -> list[str]:
    """Those of a kitchen's splits that may have an example in common with what selected a soup."""
    return [split for split in splits if any(one.meets(examples_in(kitchen, split)) for one in selecting.values())]
