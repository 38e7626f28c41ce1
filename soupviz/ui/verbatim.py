"""The core's messages and the names of files and soups, shown as they are where Streamlit takes Markdown."""

import re

_REPLACED = re.compile(r"<-|->|--|>=|<=|~=|.*:[^\s:]+:.*|.*(?:https?:/|www\.).*|.*[^@]@[^@]+\..*", re.IGNORECASE)
"""Words that Streamlit turns into arrows, dashes, emoji, icons and links after Markdown was parsed: an escape comes too
early."""

_MARKUP = re.compile(r"[\\`*\[\]$~|&@]|<(?!$)|(?<![^\W_])_|_(?![^\W_])|:(?!$)")
"""What is markup wherever it stands: `_` is none within a name, `:` and `<` are none at the end of a word."""

_BEGINNING = re.compile(r"[-+=#]+|\d+[.)]|>.*")
"""Words with which a list, a heading or a quotation may begin."""

_ANY = re.compile(r"[!-/:-@\[-`{-~]")


def verbatim(text: str) -> str:
    """Markdown that reads as the text: markup is escaped, and what an escape does not save is set as code."""
    has_lines = any(sign.isspace() and sign != " " for sign in text)
    words = text.split(" ")
    first = next((at for at, word in enumerate(words) if word), 0)
    return " ".join(
        code(word)
        if _REPLACED.fullmatch(word)
        else (_ANY if has_lines or (at == first and _BEGINNING.fullmatch(word)) else _MARKUP).sub(r"\\\g<0>", word)
        for at, word in enumerate(words)
    )


def code(text: str) -> str:
    """Markdown that sets a text as code, in one line; a mark stands for what is not seen, or turns what is."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in (line[:1], line[-1:]) else ""
    return f"{fence}{pad}{line}{pad}{fence}"
