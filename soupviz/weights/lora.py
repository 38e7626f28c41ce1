"""LoRA factors inside a state dict: what they are called, and why two of them are not averaged apart."""

import re
from collections.abc import Iterable

FACTOR = re.compile(r"(?:^|[._])lora[._]?(?:embedding_)?(A|B|down|up|in|out|left|right)\d*(?:[._]|$)", re.IGNORECASE)
PARTNER = {
    "A": "B", "B": "A", "a": "b", "b": "a", "down": "up", "up": "down", "in": "out", "out": "in",
    "left": "right", "right": "left",
}  # fmt: skip


def lora_keys(keys: Iterable[str]) -> list[str]:
    """The keys that hold a factor of a low-rank update."""
    return [key for key in keys if FACTOR.search(key)]


def partner_of(key: str) -> str | None:
    """The other factor of the same update: what it is multiplied with; None for what is no factor."""
    found = FACTOR.search(key)
    if found is None:
        return None
    other = PARTNER.get(found[1], PARTNER.get(found[1].lower(), ""))
    return f"{key[: found.start(1)]}{other}{key[found.end(1) :]}"
