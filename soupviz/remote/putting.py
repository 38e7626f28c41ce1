"""Writing files elsewhere: each is whole here first, then put, and by the last of them the others are found."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from soupviz.addresses import BUCKETS, KEPT, host_of, place_of, scheme_of
from soupviz.errors import RemoteError
from soupviz.files import cache_folder
from soupviz.remote.calling import Calls
from soupviz.remote.systems import WEB, is_missing, opened, refusal
from soupviz.types import Progress, quiet

ASKED_FOR = 5.0
"""Seconds in which a bucket is asked for before there is anything to write."""

HEAD = 4096
"""Bytes of a file that is there already, which tell whose it is."""


def check_target(address: str) -> None:
    """Whether a file can be written at an address, as far as that can be told at once.

    Raises:
        RemoteError: the web takes no files, a package is missing, the address holds a secret, or its bucket does not
            exist.
    """
    opened(address)
    if scheme_of(address) in WEB:
        raise RemoteError(f"{address}: a web server takes no files; name a bucket, such as s3://bucket/soups/soup.pt.")
    if scheme_of(address) in BUCKETS:
        _check_bucket(address)


def _check_bucket(address: str) -> None:
    """Ask once for the bucket. One that may not be looked at may still take files: that is told when it is written."""
    bucket = host_of(address)
    until = monotonic() + ASKED_FOR

    def alive() -> None:
        if monotonic() > until:
            raise TimeoutError

    def look() -> None:
        system, path = opened(bucket)
        system.invalidate_cache()
        system.info(path)

    try:
        with Calls(alive, to="write") as calls:
            calls.one(bucket, look, attempts=1)
    except TimeoutError:
        return
    except RemoteError as error:
        if error.__cause__ is not None and is_missing(error.__cause__):
            raise refusal(address, error.__cause__, "write") from error


def put(
    address: str,
    companions: Sequence[str],
    write: Callable[[Path], Sequence[Path]],
    progress: Progress = quiet,
    earlier: Collection[str] = (),
) -> None:
    """Have files written in a folder here, and put them beside each other elsewhere.

    Where what is put takes the place of something, the file by which that is found goes first: whatever happens
    meanwhile, nothing there is told to be what it is not.

    Args:
        address: of a file among them. companions: names of which the beginnings of what is there already are put into
            the folder, so that `write` sees whose they are. write: is given where the file is to be written, and gives
            all that it wrote, in the order in which they are to be put. earlier: what may be there already and is read
            by way of the last file, that file among them.
    Raises:
        RemoteError: it cannot be put; the files stay here, and the message says where, and what is there.
    """
    place, _, name = address.rpartition("/")
    outgoing = Path(tempfile.mkdtemp(dir=cache_folder(KEPT, "outgoing")))
    folder = place_of(place, outgoing)  # called as there: an adapter is named by its folder
    folder.mkdir(parents=True)
    is_to_stay = False
    try:
        with Calls(lambda: progress(0, 1, f"writing {name}")) as calls:
            for companion in companions:
                if head := _content(f"{place}/{companion}", calls, HEAD):
                    (folder / companion).write_bytes(head)
        files = write(folder / name)
        happened: list[str] = []
        try:
            *before, last = [f"{place}/{file.name}" for file in files]
            if last in earlier and not set(earlier).isdisjoint(before) and _made_way(last, files[-1], progress):
                happened.append(f"removed there: the earlier {files[-1].name}, which is written last")
            for file in files:
                _send(file, files, place, progress)
                happened.append(f"put there: {file.name}")
        except RemoteError as error:
            is_to_stay = True
            so_far = f" Until then: {'; '.join(happened)}." if happened else ""
            raise RemoteError(f"{error}{so_far} What was to be written is kept in {folder}.") from error
    finally:
        if not is_to_stay:
            shutil.rmtree(outgoing, ignore_errors=True)


def _made_way(address: str, file: Path, progress: Progress) -> bool:
    """Remove what is there in place of a file, unless it is the same."""
    is_other = content(address, progress) not in (b"", file.read_bytes())
    if is_other:
        remove([address], progress)
    return is_other


def _send(file: Path, files: Sequence[Path], place: str, progress: Progress) -> None:
    """Put one of several files."""
    total = sum(one.stat().st_size for one in files)
    before = sum(one.stat().st_size for one in files[: files.index(file)])
    callback: Any = _counting()

    def alive() -> None:
        progress(min(before + callback.value, total), max(total, 1), f"writing {file.name}")

    def send() -> None:
        system, path = opened(f"{place}/{file.name}")
        callback.absolute_update(0)
        system.put_file(str(file), path, callback=callback)

    with Calls(alive, to="write") as calls:
        calls.one(place, send)  # of the companions nobody has named one


def _counting() -> Any:
    from fsspec.callbacks import Callback

    return Callback()


def content(address: str, progress: Progress, most: int | None = None) -> bytes:
    """What a file holds, or its beginning; nothing where there is none."""
    with Calls(lambda: progress(0, 1, f"writing {address.rpartition('/')[2]}")) as calls:
        return _content(address, calls, most)


def _content(address: str, calls: Calls, most: int | None) -> bytes:
    def look() -> bytes:
        system, path = opened(address)
        system.invalidate_cache()
        try:
            size = system.info(path)["size"]
            held: bytes = system.cat_file(path, start=0, end=size if most is None else min(most, size))
        except FileNotFoundError:
            return b""
        return held

    return calls.one(address, look)


def remove(addresses: Sequence[str], progress: Progress) -> None:
    """Remove files, if they are there.

    Raises:
        RemoteError: one cannot be.
    """

    def gone(address: str) -> None:
        system, path = opened(address)
        with suppress(FileNotFoundError):
            system.rm_file(path)

    with Calls(lambda: progress(0, 1, "removing what was there before"), to="write") as calls:
        for address in addresses:
            calls.one(address, partial(gone, address))
