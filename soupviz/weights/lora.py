"""LoRA factors inside a state dict: what they are called, and why two of them are not averaged apart."""

import re
from collections.abc import Iterable

FACTOR = re.compile(r"(^|[._])lora_(A|B|a|b|down|up|embedding_A|embedding_B)([._]|$)")
PARTNER = {"A": "B", "B": "A", "a": "b", "b": "a", "down": "up", "up": "down"}


def lora_keys(keys: Iterable[str]) -> list[str]:
    """The keys that hold a factor of a low-rank update."""
    return [key for key in keys if FACTOR.search(key)]


def partner_of(key: str) -> str | None:
    """The other factor of the same update: what it is multiplied with; None for what is no factor."""
    found = FACTOR.search(key)
    if found is None:
        return None
    kind = found[2]
    prefix = "embedding_" if kind.startswith("embedding_") else ""
    other = prefix + PARTNER[kind.removeprefix(prefix)]
    return f"{key[: found.start(2)]}{other}{key[found.end(2) :]}"
