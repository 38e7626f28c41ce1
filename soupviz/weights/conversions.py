"""What `soupviz convert` wrote of a pickle, and whether it is still the pickle's."""

import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from soupviz.files import digest, file_digest
from soupviz.weights.containers import without_suffix
from soupviz.weights.fitting import Weights

ORIGIN, CONTENT = "converted_from", "converted_content"
"""In a converted file's metadata: the name of what it was made from, and may be made from again, and its content."""


def stand_ins(path: Path) -> dict[Weights, Path]:
    """What `convert` wrote of a pickle as it is now: its weights, and their average where it held both.

    One that was written to since has none: its weights may be others by now.
    """
    stem = without_suffix(path.name)
    named: dict[Weights, Path] = {
        "raw": path.with_name(f"{stem}.safetensors"),
        "ema": path.with_name(f"{stem}.ema.safetensors"),
    }
    told = {weights: told_by(file) for weights, file in named.items() if file != path and file.is_file()}
    made = [weights for weights, facts in told.items() if facts.get(ORIGIN) == path.name]
    content = content_of(path) if made and path.is_file() else ""
    return {weights: named[weights] for weights in made if told[weights].get(CONTENT) == content}


def told_by(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file; none of what is no such file."""
    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def content_of(path: Path) -> str:
    """What tells a pickle's content from another's: the checksums of its archive, or a digest of all of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return digest([[entry.filename, entry.file_size, entry.CRC] for entry in archive.infolist()])
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return file_digest(path)
