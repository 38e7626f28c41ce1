"""What belongs together: of each example of a split its group, such as its speaker, whose examples are one draw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soupviz.data import slices
from soupviz.data.names import as_name
from soupviz.data.sources import Source
from soupviz.errors import DataError
from soupviz.spec import GroupSpec, SplitSpec
from soupviz.types import Slices


def read(
    name: str,
    spec: SplitSpec,
    folder: Path,
    source: Source,
    kept: Path,
    files: Sequence[str],
    places: Sequence[int],
    num_examples: int,
) -> Slices | None:
    """The groups of a split's examples, in their order; None where the kitchen names none.

    Args:
        name: of the split, for messages. folder: what paths in the spec are relative to. kept: where the split's arrays
            lie. files, places, num_examples: as of `slices.read`.
    Raises:
        DataError: the data, or the CSV, has no such column, or nothing in it for an example.
    """
    column, where = spec.group, f"data.{name}.group"
    if column is None:
        return None
    if isinstance(column, str):
        if source.grouping is not None:
            return slices.divided(column, source.grouping(kept))
        if source.groups:
            return slices.divided(column, [source.groups[place] for place in places])
        if spec.slices is None:
            raise DataError(
                f"{where}: {spec.format} has no columns of its own to find {column!r} in; name the CSV that has it: "
                f"group: {{file: FILE.csv, column: {column}}}."
            )
        column = GroupSpec(file=spec.slices.file, column=column)
    values = slices.values_of(where, column, spec, folder, files, places, num_examples)
    return slices.divided(column.column, values)


def of_array(where: str, values: np.ndarray, num_examples: int) -> list[str]:
    """Groups from an array: names, or whole numbers.

    Raises:
        DataError: it is of another shape or kind.
    """
    flat = values.reshape(len(values), -1) if values.ndim else values[None, None]
    is_whole = values.dtype.kind in "biuSU" or (values.dtype.kind == "f" and bool((values == np.trunc(values)).all()))
    if flat.shape != (num_examples, 1) or not is_whole:
        raise DataError(
            f"{where} is an array of {values.dtype} of shape {values.shape}; expected {num_examples} whole numbers or "
            "names, one for each example."
        )
    return [as_name(where, value) for value in flat[:, 0].tolist()]
