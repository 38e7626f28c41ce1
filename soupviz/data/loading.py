"""A kitchen's splits by name, each read when it is asked for first, and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from soupviz.addresses import spelled
from soupviz.data import splits
from soupviz.data.agreeing import differences
from soupviz.data.elsewhere import fetched
from soupviz.data.labels import Kind
from soupviz.data.split import Split
from soupviz.errors import KitchenError
from soupviz.spec import HELD_OUT, SHIFTS, TRAIN, KitchenSpec, SplitSpec
from soupviz.types import Grouped, Progress, quiet

Check = Callable[[Split, str], Split]
"""Told of a split that was read, and where it came from: refuses it, or gives it back with what there is to tell."""

AlsoRead = Callable[[str, Progress], None]
"""Told of a split that was read, as the kitchens of other models read theirs."""


class Splits:
    """The splits that kitchen.yaml names; those of `known` are there already."""

    def __init__(
        self,
        spec: KitchenSpec,
        file: Path,
        model: nn.Module,
        check: Check,
        kind: Kind = "classes",
        *,
        skip_corrupt: bool = False,
        also_read: AlsoRead = lambda _name, _progress: None,
        known: Mapping[str, Split] | None = None,
    ):
        self.specs = spec.split_specs()
        self._classes = spec.classes
        self._file = file
        self._model = model
        self._check = check
        self._kind = kind
        self._skip_corrupt = skip_corrupt
        self._also_read = also_read
        self._local: dict[str, SplitSpec] = {}
        self._loaded: dict[str, Split] = dict(known or {})

    @property
    def names(self) -> list[str]:
        """held_out, then what the kitchen has of test, train and shifts.NAME."""
        return list(self.specs)

    @property
    def reporting(self) -> list[str]:
        """The splits that a soup is scored on: held_out, test and the shifts, never train."""
        return [name for name in self.names if name != TRAIN]

    @property
    def shifts(self) -> list[str]:
        return [name for name in self.names if name.startswith(SHIFTS)]

    def is_loaded(self, name: str) -> bool:
        """Whether a split was read in this process, so that asking for its scores costs nothing."""
        return name in self._loaded

    def num_examples(self, name: str) -> int | None:
        """How many a split has; None where it was not read yet."""
        return len(self._loaded[name]) if name in self._loaded else None

    def grouped(self, name: str) -> Grouped | None:
        """By what a split's examples are resampled together; as kitchen.yaml says, where it was not read yet."""
        if name in self._loaded:
            return self._loaded[name].grouped
        spec = self.specs.get(name)
        if spec is None or spec.group is None:
            return None
        return Grouped(spec.group if isinstance(spec.group, str) else spec.group.column, 0)

    def grouped_over(self, names: Sequence[str]) -> Grouped | None:
        """By what examples of several splits are resampled together; their number where it is that of all."""
        found = [one for name in names if (one := self.grouped(name)) is not None]
        if not found:
            return None
        return found[0] if len(found) == len(names) and len(set(found)) == 1 else Grouped(found[0].column, 0)

    def load(self, name: str, progress: Progress = quiet) -> Split:
        """A split, read once per process; from the cache folder where it was read before.

        Raises:
            KitchenError: a split that the kitchen lacks.
            DataError: it cannot be read, or does not go with the model.
        """
        if name not in self._loaded:
            if name not in self.specs:
                raise KitchenError(f"{self._file}: no split {name!r}; this kitchen has {', '.join(self.specs)}.")
            classes = self._classes or (self.load(HELD_OUT, progress).classes if name != HELD_OUT else None)
            spec = self._local[name] = fetched(name, self.specs[name], self._file.parent, progress)
            loaded = splits.load(
                name,
                spec,
                self._file.parent,
                self._model,
                classes=classes,
                kind=self._kind,
                skip_corrupt=self._skip_corrupt,
                progress=progress,
            )
            checked = self._check(loaded, spec.path or spec.format)
            self._also_read(name, progress)
            compared = self._compared(checked, spec)
            self._loaded[name] = replace(compared, read=(name, compared.fingerprint), places=None)
        return self._loaded[name]

    def _compared(self, split: Split, spec: SplitSpec) -> Split:
        """A split with what there is to tell, by addresses, and where held_out's inputs are made otherwise."""
        split = replace(split, notes=tuple(map(spelled, split.notes)))
        if split.name == HELD_OUT:
            return split
        held_out = self._local.get(HELD_OUT, self.specs[HELD_OUT])
        told = differences(split, spec, held_out, self._file.parent, self._loaded.get(HELD_OUT))
        return replace(split, notes=(*split.notes, *told))
