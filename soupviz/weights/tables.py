"""Tables of text as people save them: which encoding, and which sign stands between the cells."""

import codecs
import csv
from pathlib import Path

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What spreadsheets put at the start of UTF-8, and of UTF-16, which they call Unicode."""

SEPARATORS = (",", ";", "\t", "|")
"""What stands between cells: spreadsheets of other countries and databases write others into .csv than a comma."""

LONGEST = 100_000
"""Bytes of a first line that are looked at."""


def header_of(path: Path) -> list[str]:
    """The names of a table's columns, by its first line alone."""
    with path.open("rb") as file:
        first = file.readline(LONGEST)
    text = first.decode(marked(first) or "utf-8", errors="replace")
    try:
        return [name.strip() for name in next(csv.reader([text], delimiter=separator_of(text)), [])]
    except csv.Error:
        return []


def marked(head: bytes) -> str | None:
    """The encoding that the first bytes of a file say it has."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def encoding_of(path: Path) -> str:
    """The encoding of a whole file: as it says, else UTF-8, else what spreadsheets of Western Europe write."""
    with path.open("rb") as file:
        head = file.read(4)
        if said := marked(head):
            return said
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while chunk := file.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def separator_of(header: str) -> str:
    """Between the cells of a header: a comma, or a semicolon, tab or bar where there are more of these."""
    return max(SEPARATORS, key=header.count)
