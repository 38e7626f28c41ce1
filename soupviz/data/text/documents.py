"""The format `text` for language models: a document in each row of a table, cut into windows of tokens."""

from pathlib import Path
from typing import Any

from torch import nn

from soupviz.data import tables
from soupviz.data.arguments import arguments_of
from soupviz.data.datasets import keep_texts
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.data.text import capacity, tokens, windows
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

CHUNK = 1000


def source(name: str, spec: SplitSpec, folder: Path, model: nn.Module) -> Source:
    """Documents, made into tokens when they are read."""
    where = f"data.{name}"
    path = folder / str(spec.path)
    if spec.pair:
        raise DataError(f"{where}.pair names a column of second sentences, but a language model reads one; remove it.")
    group = spec.group if isinstance(spec.group, str) else None
    table = tables.read(where, path, [one for one in (spec.text, group) if one])
    texts = table.column("text", spec.text)
    if not texts:
        raise DataError(f"{where}: {path} has no rows; expected at least 2.")
    groups = table.groups(spec)
    tokenizer_folder = tokens.folder_at(where, folder / str(spec.tokenizer))
    width = spec.max_length or tokens.longest(where, tokenizer_folder) or capacity.positions(model)
    stride = _stride(where, spec.stride, width)
    known, _ = arguments_of(model)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        tokenizer = tokens.load(where, tokenizer_folder)
        units: list[windows.Rows] = []
        for start in range(0, len(texts), CHUNK):
            progress(start, len(texts), f"reading {name}")
            encoded = tokens.encoded(where, tokenizer, [texts[start : start + CHUNK]], None)[windows.TOKENS]
            units += [windows.windows(row, width, stride) for row in encoded]
        keep_texts(target, texts)
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        notes = _told(where, units, width, stride)
        return windows.of_documents(f"{where}: {path}", units, sizes, target, model, tokenizer.size, notes)

    identity: list[Any] = [*identity_of(path.parent, [path]), spec.text, width, stride, sorted(known)]
    identity += capacity.of_model(model)
    identity += [str(tokenizer_folder.resolve()), tokens.identity(tokenizer_folder)]
    return Source(identity, None, False, read, notes=table.notes, groups=groups)


def _stride(where: str, stride: int | None, width: int | None) -> int | None:
    if width is not None and width < 2:
        raise DataError(f"{where}.max_length is {width}; expected 2 at least, as a window's first token is given.")
    if stride is not None and (width is None or stride > width):
        told = "there is no max_length" if width is None else f"max_length is {width}"
        raise DataError(f"{where}.stride is {stride}, but {told}; expected a max_length that is no smaller.")
    return stride or width


def _told(where: str, units: list[windows.Rows], width: int | None, stride: int | None) -> list[str]:
    number, predicted = sum(len(unit.ids) for unit in units), sum(unit.num_predicted for unit in units)
    notes = [f"{where}: {len(units):,} documents in {number:,} windows; {predicted:,} of their tokens are predicted."]
    if any(len(unit.ids) > 1 for unit in units):
        notes[0] += f" A window has {width} tokens at most, and begins {stride} after the one before it."
    return notes
