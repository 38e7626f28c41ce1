"""Which of a data set's columns a model's forward takes, and under which name."""

import inspect
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from soupviz.data.classes import named
from soupviz.errors import DataError

T = TypeVar("T")


def arguments_of(model: nn.Module) -> tuple[dict[str, bool], bool]:
    """What a model's forward takes by name, with whether it must be given, and whether it takes any other name."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # compiled: it does not say
        return {}, True
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {one.name: one.default is inspect.Parameter.empty for one in parameters if one.kind in kinds}
    return known, any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def fitted(name: str, columns: Mapping[str, T], model: nn.Module) -> tuple[dict[str, T], list[str]]:
    """The columns that the model takes, by its names, and what there is to tell of the others.

    A single column whose name the forward does not know is its one input, under the name "".
    Raises:
        DataError: several columns, none of which the forward takes by name.
    """
    if "" in columns:
        return dict(columns), []
    known, takes_all = arguments_of(model)
    taken = {key: column for key, column in columns.items() if key in known}
    if not taken and len(columns) == 1 and (not takes_all or any(known.values())):
        return {"": next(iter(columns.values()))}, []
    if takes_all:
        return dict(columns), []
    if not taken:
        raise DataError(
            f"data.{name}: its examples have {named(list(columns))}, but the model's forward takes "
            f"{named(list(known)) or 'nothing'}; give the keys of the data set those names."
        )
    left = [key for key in columns if key not in taken]
    return taken, [f"data.{name}: the model's forward does not take {named(left)}: left out."] if left else []
