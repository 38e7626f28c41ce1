"""A view of what lies elsewhere: a folder of files of which only the beginnings are there, until they are asked for."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from soupviz.addresses import KEPT, mirror, place_of
from soupviz.errors import RemoteError
from soupviz.files import cache_folder
from soupviz.remote import keeping, listing, room
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch, head_of
from soupviz.remote.listing import Found
from soupviz.types import Progress

HEAD = 2**16
"""Bytes that are read of a file to find out what it is."""

TEXT = 2**18
"""Bytes up to which a file is fetched whole: a header would not be much less."""

INDEX = 2**26

LENGTH_OF_HEADER = 8
LARGEST_HEADER = 10**8

BESIDE = (".json", ".yaml", ".yml", ".csv", ".txt", ".model", ".jinja")
ALSO_BESIDE = ("training_args.bin",)
"""What a training writes beside a checkpoint, and what is read with it."""
MOST_BESIDE = 2**24
BELOW_A_RUN = ("checkpoints", "weights")
"""What Lightning and Ultralytics call the folder of checkpoints in a run's folder, where the rest lies."""


class View:
    """Files elsewhere as a folder shows them; each with its size, and the beginning that says what it is.

    _found: by where the view shows them, all files. _folders: the same of folders, each with the files in it. _fetched:
    what was fetched, or found to be there, while the view is.
    """

    def __init__(self, root: Path, progress: Progress):
        self._root = root
        self._progress = progress
        self._found: dict[Path, Found] = {}
        self._folders: dict[Path, list[Found]] = {}
        self._fetched: set[Found] = set()

    def add(self, address: str) -> str:
        """List what is at an address, or matches it; gives the path, or the pattern of paths, that stands for it.

        Raises:
            RemoteError: nothing is there, or it cannot be reached.
        """

        def alive() -> None:
            self._progress(0, 1, f"listing {address}")

        with Calls(alive) as calls:
            if listing.is_pattern(address):
                files, folders = listing.matched(address, calls)
            else:
                one = listing.at(address, calls)
                files, folders = ([one], []) if one else ([], [address.rstrip("/")])
            for folder in folders:
                inside = listing.children(folder, calls)
                self._place(folder).mkdir(parents=True, exist_ok=True)
                self._folders[self._place(folder)] = inside
                keeping.forget_others(folder, inside)
                files += inside
            heads = self._shown(files, calls)
        for found, head in heads:
            _write_sparse(self._place(found.address), head, found.size or 0)
        return str(self._place(address))

    def _shown(self, files: Iterable[Found], calls: Calls) -> list[tuple[Found, bytes]]:
        """Small files and those that are kept are shown whole; gives the heads of the others."""
        new = [one for one in files if self._place(one.address) not in self._found]
        keeping.check_places([*self._found.values(), *new])
        small = [one for one in new if keeping.kept(one) or (one.size or 0) <= _all_of(one)]
        self._fetch(small)
        for found in new:
            place = self._place(found.address)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._found[place] = found
            if found in small:
                self._show_whole(found)
        large = [one for one in new if one not in small]
        return list(calls.each(large, lambda one: one.address, _head))

    def fetch(self, paths: Sequence[Path]) -> None:
        """See that files are whole, and with them the small ones beside them that a training writes.

        A path that is a folder stands for all that is in it.
        """
        wanted: list[Found] = []
        for path in paths:
            wanted += self._folders.get(path, [self._found[path]] if path in self._found else [])
        self._fetch([*wanted, *self._beside(wanted)])
        for found in wanted:
            self._show_whole(found)

    def _fetch(self, wanted: Iterable[Found]) -> None:
        """Fetch once while the view is there: of some files nothing but their being fetched tells what they are."""
        new = [one for one in dict.fromkeys(wanted) if one not in self._fetched]
        fetch(new, self._progress)
        self._fetched |= set(new)

    def _show_whole(self, found: Found) -> None:
        place, real = self._place(found.address), place_of(found.address, mirror())
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(real)
        except OSError:  # Windows lets not everybody make such links
            place.hardlink_to(real)

    def _beside(self, wanted: Sequence[Found]) -> list[Found]:
        folders = dict.fromkeys(one.address.rpartition("/")[0] for one in wanted)
        above = (folder.rpartition("/") for folder in folders)
        folders |= dict.fromkeys(run for run, _, name in above if name in BELOW_A_RUN)
        found: list[Found] = []
        with Calls(lambda: self._progress(0, 1, "listing what lies beside the checkpoints")) as calls:
            for folder in folders:
                known = self._folders.get(self._place(folder))
                try:
                    inside = listing.children(folder, calls, wanted=_is_beside) if known is None else known
                except RemoteError:  # the web mostly lists nothing, and who may read a file may not always list
                    continue
                keeping.forget_others(folder, inside, wanted=_is_beside)
                named = [one for one in inside if _is_beside(one.name)]
                found += [one for one in named if one.size is not None and one.size <= MOST_BESIDE]
        return found

    def add_beside(self, path: Path, name: str) -> str:
        """List one more file by its name relative to the folder of one that the view shows; gives that name.

        Args:
            path: where the view shows the other one. name: with slashes, of a file beside or below it.
        """
        self.add(f"{self._found[path].address.rpartition('/')[0]}/{name}")
        return name

    def is_here(self, path: Path) -> bool:
        return path.is_relative_to(self._root)

    def real(self, path: Path) -> Path:
        """Where the file that the view shows at a path lies; a path elsewhere is what it is."""
        return mirror() / path.relative_to(self._root) if self.is_here(path) else path

    def _place(self, address: str) -> Path:
        return place_of(address, self._root)


@contextmanager
def view(progress: Progress) -> Iterator[View]:
    """A view that goes when it is done with; those of processes that were killed go a day later."""
    room.drop_leftovers()
    root = Path(tempfile.mkdtemp(dir=cache_folder(KEPT, "views")))
    try:
        yield View(root, progress)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _is_beside(name: str) -> bool:
    return name.lower().endswith(BESIDE) or name in ALSO_BESIDE


def _all_of(found: Found) -> int:
    """Bytes up to which a file is shown whole: an index has to be read to its end."""
    return INDEX if found.name.endswith(".json") else TEXT


def _head(found: Found) -> bytes:
    """The beginning of a file, of safetensors all of the header."""
    head = head_of(found, HEAD)
    length = int.from_bytes(head[:LENGTH_OF_HEADER], "little") + LENGTH_OF_HEADER
    is_cut = head[LENGTH_OF_HEADER : LENGTH_OF_HEADER + 1] == b"{" and HEAD < length < min(
        found.size or 0, LARGEST_HEADER
    )
    return head_of(found, length) if is_cut else head


def _write_sparse(path: Path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
