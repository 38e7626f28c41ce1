"""How texts differ: the fewest substitutions, deletions and insertions, of words and of characters."""

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.extras import needed

KINDS = ("substitutions", "deletions", "insertions")
OF_CHARACTERS = "character_"
"""Before the same names, of characters."""


def counted(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Of each pair of normalised texts the edits that make the reference the hypothesis, by kind.

    Of several ways with as few edits it is the one that rapidfuzz takes, and jiwer, which counts by it.

    Source:
        Levenshtein 1966.
    """
    pairs = list(zip(references, hypotheses, strict=True))
    words = np.array([_edits(*_as_letters(one, other)) for one, other in pairs], dtype=np.int64).reshape(-1, 3)
    letters = np.array([_edits(one, other) for one, other in pairs], dtype=np.int64).reshape(-1, 3)
    found = {kind: words[:, place] for place, kind in enumerate(KINDS)}
    return found | {OF_CHARACTERS + kind: letters[:, place] for place, kind in enumerate(KINDS)}


def _edits(reference: str, hypothesis: str) -> tuple[int, int, int]:
    if reference == hypothesis:
        return 0, 0, 0
    kinds = [edit.tag for edit in _levenshtein().editops(reference, hypothesis)]
    return kinds.count("replace"), kinds.count("delete"), kinds.count("insert")


@cache
def _levenshtein() -> Any:
    with needed("counting the edits of transcripts"):
        from rapidfuzz.distance import Levenshtein
    return Levenshtein


def _as_letters(reference: str, hypothesis: str) -> tuple[str, str]:
    """Words as single characters, as many as there are different ones."""
    known: dict[str, str] = {}
    one, other = (
        "".join(known.setdefault(word, chr(len(known))) for word in text.split()) for text in (reference, hypothesis)
    )
    return one, other


def aligned(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """The words of two normalised texts side by side; "" where the other has one more."""
    words, heard = reference.split(), hypothesis.split()
    found: list[tuple[str, str]] = []
    for step in _levenshtein().opcodes(*_as_letters(reference, hypothesis)):
        ones, others = words[step.src_start : step.src_end], heard[step.dest_start : step.dest_end]
        found += zip_longest(ones, others, fillvalue="")
    return found
