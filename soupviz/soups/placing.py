"""Where a soup's files go: what must not be written over, what makes room for them, and what lies beside them."""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from soupviz.errors import CheckpointError, ExportError
from soupviz.kitchen import Kitchen
from soupviz.remote import putting
from soupviz.soups.forms import MODEL_CONFIG, WHOLE, Form, file_of, no_soup_in
from soupviz.soups.provenance import Record
from soupviz.types import Progress
from soupviz.weights.adapters.config import CONFIG, WEIGHTS, config_of
from soupviz.weights.checkpoints import is_soup
from soupviz.weights.containers import INDEX_SUFFIX, files_of, index_metadata, shards_of
from soupviz.weights.sharding import SUFFIX, index_of, shard_of
from soupviz.weights.vocabulary import METADATA_KEY

COMPANIONS = RECIPE, CARD = ("recipe.yaml", "README.md")
"""What is written beside a soup."""

CHECKPOINT = "the checkpoint of ingredient {!r}"

RECIPE_TITLE = "# The recipe of {}"
"""First line of a recipe.yaml; that of a model card's metadata is `# NAME`, as that of earlier cards was."""


def check_free(target: Path | str, form: Form, kitchen: Kitchen) -> None:
    """See that a soup is written over nothing of its kitchen's, nor over what is no soup.

    An address is looked at when it is written to.

    Raises:
        ExportError: a checkpoint, the base or the data of the kitchen is there, or a file that soupviz did not write.
    """
    if not isinstance(target, Path) or form == "mergekit":
        return
    file = file_of(target, form)
    resolved = file.resolve()
    for what, files in _files_of(kitchen):
        if resolved in {one.resolve() for one in files}:
            raise _is(file, what)
    spare_others([file])


def _files_of(kitchen: Kitchen) -> Iterator[tuple[str, Sequence[Path]]]:
    for item in kitchen.ingredients:
        yield CHECKPOINT.format(item.name), _files_behind(item.path)
    if base := kitchen.base:
        yield "the kitchen's base", _files_behind(base.path)
    for split, spec in kitchen.spec.split_specs().items():
        if spec.path:
            yield f"the data of {split!r}", [kitchen.file.parent / spec.path]


def spare_others(written: Collection[Path]) -> None:
    """See that what is written over is a soup: whatever else is there is somebody's.

    Raises:
        ExportError: it is none.
    """
    for file in written:
        if file.is_file() and not is_soup(file):
            raise _no_soup(file)


def _no_soup(there: Path | str) -> ExportError:
    return ExportError(
        f"{there}: is there already, and is no soup that soupviz wrote; expected a name that is free, or a soup's. "
        "Choose another name, or remove that file first."
    )


def spare_ingredients(written: Collection[Path], record: Record, folder: Path) -> None:
    """See that what is written over, or removed, is no ingredient's; the record tells them from the folder.

    Raises:
        ExportError: it is.
    """
    resolved = {path.resolve(): path for path in written}
    for name, origin in record.ingredients.items():
        for file in _files_behind(folder / origin.file):
            if file.resolve() in resolved:
                raise _is(resolved[file.resolve()], CHECKPOINT.format(name))


def spare_addresses(written: Collection[str], record: Record) -> None:
    """The same for addresses."""
    for name, origin in record.ingredients.items():
        if origin.file in written:
            raise _is(origin.file, CHECKPOINT.format(name))


def _is(target: Path | str, what: str) -> ExportError:
    return ExportError(f"{target}: is {what}; choose another name.")


def earlier_files(target: Path) -> set[Path]:
    """What a soup that was exported under this name before consists of, whole or in shards; of other files nothing."""
    whole = {target} if target.suffix == SUFFIX and is_soup(target) else set()
    shards = _shards_of_ours(target)
    return whole | ({index_of(target), *shards} if shards else set())


def earlier_addresses(address: str, progress: Progress) -> set[str]:
    """The same of a soup that was put at an address.

    Raises:
        ExportError: safetensors are there that are no soup; of other files their beginning does not tell.
    """
    folder, _, name = address.rpartition("/")
    head = putting.content(address, progress, putting.HEAD)
    found = {address} if METADATA_KEY.encode() in head else set()
    if head and not found and name.endswith(SUFFIX):
        raise _no_soup(address)
    with tempfile.TemporaryDirectory() as here:
        index = index_of(Path(here, name))
        index.write_bytes(putting.content(f"{folder}/{index.name}", progress))
        return found | {f"{folder}/{file.name}" for file in earlier_files(Path(here, name))}


def in_turn(files: Sequence[Path]) -> list[Path]:
    """A soup's files, the first as they are told, in the order in which they are put elsewhere.

    The weights are there before what tells of them; last comes what they are read by, an index or a description.
    """
    return [*reversed(files)] if files[0].name.endswith(INDEX_SUFFIX) else [*files]


def check_folder_elsewhere(address: str, form: Form, progress: Progress) -> None:
    """See that an adapter, or a model, at an address is not written over one that is no soup.

    A description without weights is ours, where our recipe lies beside it: an earlier version put it first.

    Raises:
        ExportError: it would be.
    """
    is_adapter = form == "adapter"
    others = (f"{WEIGHTS}.bin", CONFIG) if is_adapter else (f"{WHOLE}{INDEX_SUFFIX}", MODEL_CONFIG)
    head = putting.content(file_of(address, form), progress, putting.HEAD)
    recipe = b"" if head and is_adapter else putting.content(f"{address}/{RECIPE}", progress, putting.HEAD)
    title = RECIPE_TITLE.format(address.rpartition("/")[2]).encode()
    is_ours = METADATA_KEY.encode() in head or recipe.partition(b"\n")[0].rstrip() == title
    held = [name for name in others if putting.content(f"{address}/{name}", progress, 1)]
    if (head or held) and not (is_ours and (not is_adapter or held in ([], [CONFIG]))):
        raise no_soup_in(address, form)


def _shards_of_ours(target: Path) -> set[Path]:
    index = index_of(target)
    try:
        named = shards_of(index) if METADATA_KEY in index_metadata(index) else set()
    except CheckpointError:  # there is none, or it is something else
        return set()
    # An index may name any file of its folder; what is removed is called as soupviz calls shards.
    return named & {shard_of(target, number, len(named)) for number in range(1, len(named) + 1)}


def _files_behind(path: Path) -> list[Path]:
    """A checkpoint's files, its shards and an adapter's description among them; itself where it is gone."""
    try:
        files = files_of(path)
    except CheckpointError:
        files = [path]
    description = config_of(path)
    return [*files, description] if description else files


def check_room(target: Path, num_bytes: int) -> None:
    """See that the disk has room.

    Raises:
        ExportError: it has not.
    """
    free = shutil.disk_usage(target.parent).free
    if free < num_bytes:
        raise ExportError(
            f"{target}: the disk is full: needs {num_bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free. "
            "Free some space, or choose another folder."
        )


def companion(target: Path, name: str, title: str) -> Path:
    """The file's usual name, unless that holds something that is not about the soup of this title.

    Earlier versions called a soup in shards by its index.
    """
    usual = target.parent / name
    if not usual.exists():
        return usual
    with usual.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().rstrip()
        first = file.readline().rstrip() if first == "---" else first  # behind it a card has its metadata
    titles = (title, title + INDEX_SUFFIX)
    is_ours = any(first in (f"# {one}", RECIPE_TITLE.format(one)) for one in titles)
    return usual if is_ours else target.with_name(f"{target.stem}.{name}")
