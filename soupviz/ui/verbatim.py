"""The core's messages and the names of files and soups, shown as they are where Streamlit takes Markdown."""

import re

_REPLACED = re.compile(r"<-|->|--|>=|<=|~=|.*:[^\s:]+:.*")
"""Words that Streamlit turns into arrows, dashes, emoji and icons after Markdown was parsed: escapes come too early."""


def verbatim(text: str) -> str:
    """Markdown that reads as the text: punctuation is escaped, and what an escape does not save is set as code."""
    return " ".join(_code(word) if _REPLACED.fullmatch(word) else _escaped(word) for word in text.split(" "))


def _escaped(word: str) -> str:
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", word)


def _code(word: str) -> str:
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", word)), default=0))
    pad = " " if "`" in (word[0], word[-1]) else ""
    return f"{fence}{pad}{word}{pad}{fence}"
