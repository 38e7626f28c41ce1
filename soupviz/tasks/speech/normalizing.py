"""What two texts are made into before they are compared, word by word and character by character."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.errors import DataError, KitchenError
from soupviz.files import file_digest
from soupviz.models.building import load_function
from soupviz.models.usercode import guarded
from soupviz.sources import code_files

Normalizer = Callable[[str], str]


def lower(text: str) -> str:
    return text.lower()


def lower_no_punctuation(text: str) -> str:
    """Small letters; an apostrophe inside a word stays, any other mark or symbol parts words, which one space joins."""
    letters = text.lower().replace("’", "'")
    last = len(letters) - 1

    def is_kept(place: int, letter: str) -> bool:
        if unicodedata.category(letter)[0] not in "PS":
            return True
        inside = 0 < place < last and letters[place - 1].isalnum() and letters[place + 1].isalnum()
        return letter == "'" and inside

    kept = (letter if is_kept(place, letter) else " " for place, letter in enumerate(letters))
    return " ".join("".join(kept).split())


NORMALIZERS: dict[str, Normalizer] = {
    "none": lambda text: text,
    "lower": lower,
    "lower_no_punctuation": lower_no_punctuation,
}
"""By the names that kitchen.yaml has for them. After any of them words are split at white space; where characters are
counted, white space inside a text counts as it stands, as jiwer counts it."""

COUNTED = "ends stripped"
"""What becomes of white space: another word here counts anew what was kept of scores."""


@dataclass(frozen=True, slots=True)
class Named:
    """A normaliser. key: what tells it from others."""

    function: Normalizer
    key: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """A text made comparable, without white space at its ends.

        Raises:
            DataError: a function of the user's own fails, or gives no text.
        """
        if self.key[0] in NORMALIZERS:
            return self.function(text).strip()
        with guarded(lambda told: DataError(f"the normalizer {self.key[0]} failed on {text[:40]!r} with {told}")):
            found: Any = self.function(text)
        if not isinstance(found, str):
            raise DataError(
                f"the normalizer {self.key[0]} gave {type(found).__name__} for {text[:40]!r}; expected a text."
            )
        return found.strip()


def find(name: Any, folder: Path) -> Named:
    """A normaliser by its name, or `file.py:function`.

    Raises:
        KitchenError: there is none of that name.
    """
    if isinstance(name, str) and name in NORMALIZERS:
        return Named(NORMALIZERS[name], (name, COUNTED))
    if not isinstance(name, str) or ":" not in name:
        known = ", ".join(NORMALIZERS)
        raise KitchenError(f"task.normalizer is {name!r}; known are {known}, and file.py:function for one of your own.")
    function = load_function(name, folder)
    # Of what it imports from nearby too: a score is that of the whole function.
    return Named(function, (name, COUNTED, *map(file_digest, sorted(code_files(name, folder)))))
