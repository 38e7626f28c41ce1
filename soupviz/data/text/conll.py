"""Files with a word in each line beside its tag, as CoNLL has them: a blank line ends a sentence."""

from collections.abc import Sequence
from pathlib import Path

from soupviz.data import tables
from soupviz.errors import DataError

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".txt")
TAGGED = SUFFIXES[:-1]
"""Those of files that hold nothing else."""

TEXT, LABEL, DOCUMENT = "text", "label", "document"
"""The columns of words and of tags: the first and the last one, unless the kitchen names others by their numbers; and
the number of the document, where the file says where one begins."""

UNIVERSAL = ".conllu"
FORM, UPOS = 1, 3
"""Columns of Universal Dependencies, which has many more."""

BEGINS = ("-DOCSTART-", "# newdoc")
COMMENT, ID = "#", "# id "
"""What begins a comment: of Universal Dependencies, and of the files of MultiCoNER; elsewhere # is a word."""


def read(where: str, path: Path) -> tables.Table:
    """Sentences as a table: of each column a list of its cells, under its number from 0, as `text` and as `label`.

    Raises:
        DataError: no such file, a line with another number of columns than the first, or without a tag.
    """
    place = f"{where}: {path}"
    if not path.is_file():
        raise DataError(f"{place}: no such file; expected one with a word and its tag in each line.")
    lines = tables.text_of(place, path).split("\n")
    is_universal = path.suffix.lower() == UNIVERSAL
    separator = "\t" if is_universal or any("\t" in line for line in lines) else None
    rows: list[list[list[str]]] = []
    starts: list[int] = []
    documents: list[str] = []
    document, is_open, width = 0, False, 0
    for number, line in enumerate(lines, 1):
        if line.startswith(BEGINS):
            document, is_open = document + 1, False
        elif not line.strip():
            is_open = False
        elif not line.startswith(COMMENT if is_universal else ID):
            cells = [cell.strip() for cell in line.split(separator)]
            if is_universal and not cells[0].isdecimal():  # several words in one, and words that nobody wrote
                continue
            width = width or len(cells)
            _check(place, number, line, cells, width)
            if not is_open:
                rows.append([])
                starts.append(number)
                documents.append(str(document))
            rows[-1].append(cells)
            is_open = True
    return tables.Table(place, _columns(rows, width, documents if document else [], is_universal), starts)


def _check(place: str, number: int, line: str, cells: Sequence[str], width: int) -> None:
    if len(cells) != width or width < 2:
        expected = f"{width}, as the first" if width > 1 else "a word and its tag, at least"
        raise DataError(
            f"{place}, line {number}, is {line.strip()[:60]!r}, with {len(cells)} columns; expected {expected}. "
            "Sentences end with a blank line."
        )


def _columns(
    rows: Sequence[Sequence[Sequence[str]]], width: int, documents: Sequence[str], is_universal: bool
) -> dict[str, Sequence[object]]:
    found: dict[str, Sequence[object]] = {
        str(column): [[cells[column] for cells in sentence] for sentence in rows] for column in range(width)
    }
    words, tags = (FORM, UPOS) if is_universal else (0, width - 1)
    found |= {TEXT: found.get(str(words), []), LABEL: found.get(str(tags), [])}
    return found | ({DOCUMENT: documents} if documents else {})
