"""Layer groups: which keys of a state dict belong together."""

from collections.abc import Iterable, Mapping


def layer_groups(keys: Iterable[str], ties: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which layer each key belongs to, by its name: up to the first number in it, or else the module's name.

    Args:
        ties: keys that are the same tensor as another, and which: they are in its group, or they would come apart.
    Returns:
        By key, in order: "blocks.11.attn.qkv.weight" is in "blocks.11", "head.weight" in "head", "cls_token" in itself.
    """
    ties = ties or {}
    return {key: _layer(ties.get(key, key)) for key in keys}


def _layer(key: str) -> str:
    parts = key.split(".")
    end = next((place for place, part in enumerate(parts, 1) if part.isdecimal()), max(1, len(parts) - 1))
    return ".".join(parts[:end])
