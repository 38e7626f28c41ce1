"""Layer groups: which keys of a state dict belong together."""

from collections.abc import Iterable, Mapping
from typing import Literal

from soupviz.errors import RecipeError, did_you_mean

Grouping = Literal["part", "block", "module"]
"""How coarse: parts of a net (all of its blocks), blocks, or every module alone. Each divides the one before."""


def layer_groups(keys: Iterable[str], ties: Mapping[str, str] | None = None, by: Grouping = "block") -> dict[str, str]:
    """Which layer each key belongs to, by its name: up to the first number in it, or else the module's name.

    Args:
        ties: keys that are the same tensor as another, and which: they are in its group, or they would come apart.
        by: how coarse; "block" unless told otherwise.
    Returns:
        By key, in order: "blocks.11.attn.qkv.weight" is in block "blocks.11", part "blocks", and module
        "blocks.11.attn.qkv"; "head.weight" is in "head" and "cls_token" in itself, however coarse.
    """
    ties = ties or {}
    return {key: _layer(ties.get(key, key), by) for key in keys}


def _layer(key: str, by: Grouping) -> str:
    parts = key.split(".")
    module = max(1, len(parts) - 1)
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), None)
    if number is None:
        end = module
    elif by == "part":
        end = max(1, number)
    else:
        end = number + 1 if by == "block" else max(number + 1, module)
    return ".".join(parts[:end])


def keys_of(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Each group's keys; groups in the order in which the model has them, which is mostly front to back."""
    found: dict[str, list[str]] = {}
    for key, group in groups.items():
        found.setdefault(group, []).append(key)
    return found


def check_weights(weights: Mapping[str, float], groups: Iterable[str]) -> None:
    """Whether every group has a weight, and every weight a group.

    Raises:
        RecipeError: the first that has none; of an unknown group the nearest known one is named.
    """
    known = list(dict.fromkeys(groups))
    for name in weights:
        if name not in known:
            remedy = did_you_mean(name, known, "it has")
            raise RecipeError(f"blocks: the model has no layer group {name!r}; {remedy}")
    if missing := [name for name in known if name not in weights]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RecipeError(f"blocks: layer group {missing[0]!r}{more} has no weight; give every group one, 0 to keep A.")
