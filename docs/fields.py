"""Markdown tables of the fields of pydantic records: what each takes, its default, what it means."""

import re
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from soupviz.spec import Spec

DEFAULT = "; default: "
NUMBERS = {int: "whole number", float: "number"}
KINDS = {str: "text", bool: "`true` or `false`", Any: "anything"}
BOUNDS: dict[type, tuple[str, Callable[[Any], float]]] = {
    Ge: ("from {}", lambda rule: rule.ge),
    Gt: ("above {}", lambda rule: rule.gt),
    Le: ("to {}", lambda rule: rule.le),
    Lt: ("below {}", lambda rule: rule.lt),
}


def fields_table(first: str, fields: dict[str, FieldInfo]) -> str:
    """A row for each field: its name, what it takes, its default and what it means."""
    rows = []
    for name, field in fields.items():
        meaning, default = split_default(field.description or "")
        if field.is_required():
            default = "required"
        elif not default:
            default = shown(field.default)
        rows.append([f"`{name}`", _values(field.annotation, field.metadata), default, meaning])
    return table((first, "takes", "default", "means"), rows)


def table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in line) + " |" for line in lines)


def split_default(text: str) -> tuple[str, str]:
    """What a description says, and the default that it tells."""
    meaning, _, default = text.partition(DEFAULT)
    return meaning, default


def shown(default: Any) -> str:
    if default is None or default in ("", {}, ()):
        return "none"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def _values(annotation: Any, rules: Sequence[Any] = ()) -> str:
    """What a field takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(_values(part, rules) for part in parts if part is not NoneType)
    if origin is tuple:
        return "list" if parts[-1] is Ellipsis else f"list of {len(parts)}"
    if origin is dict:
        inner = specs_inside(annotation)
        return f"mapping of name to [{name_of(inner[0])}](#{name_of(inner[0])})" if inner else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return f"[{name_of(annotation)}](#{name_of(annotation)})"
    if annotation in NUMBERS:
        told = [BOUNDS[type(rule)] + (rule,) for rule in rules if type(rule) in BOUNDS]
        return " ".join([NUMBERS[annotation], *(words.format(f"{bound(rule):g}") for words, bound, rule in told)])
    if annotation in KINDS:
        return KINDS[annotation]
    own = [one for field in annotation.__metadata__ if isinstance(field, FieldInfo) for one in field.metadata]
    return _values(parts[0], own)  # of Annotated


def specs_inside(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [found for part in get_args(annotation) for found in specs_inside(part)]


def name_of(kind: type[Spec]) -> str:
    return kind.__name__.removesuffix("Spec").lower()
