"""A recipe's numeric parameters, read from its record: type, bounds, what it needs beside; and values to try."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Literal, Union, get_args, get_origin

import annotated_types as bounds
from pydantic.fields import FieldInfo

from soupviz.errors import RecipeError
from soupviz.recipes import Pooled, own_parameters
from soupviz.recipes.pool import PARTS

COUNT = "number of ingredients"
MOST_VALUES = 25


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a recipe takes. low, high: None where it has no bound; excluded where `is_open_` says so.

    default: None where it is a word. implies: values of the recipe's other parameters without which it means nothing.
    of: what it counts of one run's checkpoints, `steps` or `spans` of them. usual: what a kitchen suggests to try.
    """

    name: str
    kind: type[int] | type[float]
    low: float | None
    high: float | None
    default: float | None
    description: str
    is_open_low: bool = False
    is_open_high: bool = False
    implies: tuple[tuple[str, str], ...] = ()
    of: str = ""
    usual: tuple[float, ...] = ()

    @property
    def is_seed(self) -> bool:
        return self.name == "seed"

    def takes(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        above = self.low is None or value > self.low or (value == self.low and not self.is_open_low)
        below = self.high is None or value < self.high or (value == self.high and not self.is_open_high)
        return above and below


def numeric_parameters(kind: type[Pooled]) -> list[Parameter]:
    """The numeric parameters of a recipe's own, seeds last."""
    found = [one for name in own_parameters(kind) if (one := _numeric(kind, name, kind.model_fields[name])) is not None]
    return sorted(found, key=lambda one: one.is_seed)


def _numeric(kind: type[Pooled], name: str, field: FieldInfo) -> Parameter | None:
    parts = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    number = next((part for part in parts if part in (int, float)), None)
    if number is None:
        return None
    low, high, open_low, open_high = bounds_of(field)
    if len(parts) > 1:  # a word, or a number from 0 to 1, as its validator says
        low, high = 0.0, 1.0
    default = float(field.default) if isinstance(field.default, (int, float)) else None
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    implies = _implied(kind, str(extra["only_with"])) if "only_with" in extra else ()
    of = str(extra.get("of", ""))
    return Parameter(name, number, low, high, default, field.description or "", open_low, open_high, implies, of)


def bounds_of(field: FieldInfo) -> tuple[float | None, float | None, bool, bool]:
    """The least and the largest value, None where there is no bound, and whether each is itself excluded."""
    low: float | None = None
    high: float | None = None
    open_low = open_high = False
    for rule in field.metadata:
        if isinstance(rule, (bounds.Ge, bounds.Gt)):
            low, open_low = float(rule.ge if isinstance(rule, bounds.Ge) else rule.gt), isinstance(rule, bounds.Gt)  # type: ignore[arg-type]
        elif isinstance(rule, (bounds.Le, bounds.Lt)):
            high, open_high = float(rule.le if isinstance(rule, bounds.Le) else rule.lt), isinstance(rule, bounds.Lt)  # type: ignore[arg-type]
    return low, high, open_low, open_high


def _implied(kind: type[Pooled], word: str) -> tuple[tuple[str, str], ...]:
    """The parameter that has to have a word."""
    for name in own_parameters(kind):
        if word in _words(kind.model_fields[name]):
            return ((name, word),)
    return ()


def _words(field: FieldInfo) -> tuple[str, ...]:
    """What a parameter may be, where it is one of several words."""
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    extra = field.json_schema_extra
    return PARTS if isinstance(extra, dict) and extra.get("choices") == "goals" else ()


def default_values(parameter: Parameter) -> list[float]:
    """What the kitchen suggests, else a few values around the default, within the bounds, rising."""
    high = math.inf if parameter.high is None else parameter.high
    default = parameter.default
    found: list[float]
    if parameter.usual:
        found = list(parameter.usual)
    elif parameter.name == COUNT:
        steps = max(1, min(6, int(high) - 1))  # of one alone there is nothing to mix
        found = [round(2 + (high - 2) * step / max(1, steps - 1)) for step in range(steps)]
    elif default is None:
        found = [0.1, 0.3, 0.5, 0.7, 0.9]
    elif default == 0:
        found = [0, 1, 2, 3, 4] if parameter.is_seed or parameter.kind is float else [100, 200, 400, 800]
    elif high == 1 and default >= 0.1:
        found = [0.1, 0.3, 0.5, 0.7, 0.9] if parameter.is_open_high else [0.2, 0.4, 0.6, 0.8, 1.0]
    elif parameter.kind is float and high <= 3 and default >= 0.1:
        found = [default * factor for factor in (0.5, 0.75, 1.0, 1.25, 1.5)]
    else:
        found = [default * factor for factor in (0.25, 0.5, 1, 2, 4)]
    return clean(found, parameter)


def clean(values: Sequence[float], parameter: Parameter) -> list[float]:
    """Rising, each once, whole numbers where these are taken, and what is out of bounds left out."""
    typed = [float(round(value)) if parameter.kind is int else float(f"{value:.6g}") for value in values]
    return sorted({value for value in typed if parameter.takes(value)})


def parse_values(text: str, parameter: Parameter) -> list[float]:
    """The values of an axis from text: `0.1, 0.2, 0.5`, or `0.1 to 0.9 in 5`.

    Values out of the recipe's bounds are kept: their cells say why they are empty.

    Raises:
        RecipeError: neither of the two, a fraction where a whole number is taken, or too many values.
    """
    where = f"{parameter.name.replace('_', ' ')}: {text!r}"
    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    if spaced := re.fullmatch(rf"\s*({number})\s+to\s+({number})\s+in\s+(\d+)(?:\s+steps?)?\s*", text):
        first, last, count = _number(spaced[1], where), _number(spaced[2], where), int(spaced[3])
        if count < 2:
            raise RecipeError(f"{where} is {count} value; expected at least 2, both ends among them.")
        if count <= MOST_VALUES:
            found = [first + (last - first) * step / (count - 1) for step in range(count)]
        else:
            raise RecipeError(f"{where} is {count} values; expected at most {MOST_VALUES} on an axis.")
        found = [float(round(value)) if parameter.kind is int else value for value in found]
    else:
        found = [_number(part, where) for part in re.split(r"[,;\s]+", text.strip().strip(",;")) if part]
    if not found:
        raise RecipeError(f"{where} has no value; expected numbers such as 0.1, 0.2, 0.5, or 0.1 to 0.9 in 5.")
    if len(found) > MOST_VALUES:
        raise RecipeError(f"{where} is {len(found)} values; expected at most {MOST_VALUES} on an axis.")
    if parameter.kind is int and (broken := [value for value in found if not value.is_integer()]):
        raise RecipeError(f"{where} has {broken[0]:g}; {parameter.name} takes whole numbers.")
    return sorted({float(f"{value:.6g}") for value in found})


def _number(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RecipeError(f"{where} has {text!r}; expected numbers such as 0.1, 0.2, 0.5, or 0.1 to 0.9 in 5.")
    return found


def as_text(values: Sequence[float]) -> str:
    """Values as `parse_values` reads them."""
    return ", ".join(f"{value:g}" for value in values)
