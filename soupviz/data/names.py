"""What a group is called, by what stands for it in the data."""

from typing import Any

from soupviz.errors import DataError


def as_name(where: str, value: Any) -> str:
    """A group's name from what stands for it: a text, or a whole number, also as a tensor.

    Raises:
        DataError: it is nothing, or of another kind.
    """
    plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) != 0 else value
    if isinstance(plain, bytes):
        plain = plain.decode("utf-8", "replace")
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if isinstance(plain, str) and plain.strip():
        return plain
    if isinstance(plain, int):
        return str(plain)
    raise DataError(f"{where} is {str(value)[:40]!r}; expected a name or a whole number for every example.")
