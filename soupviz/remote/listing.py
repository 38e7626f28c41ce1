"""What lies at an address, told without fetching it: files with their sizes and what tells their contents apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from soupviz.addresses import is_remote, scheme_of
from soupviz.remote.calling import Calls
from soupviz.remote.systems import WEB, opened, root_of

MAGIC = "*?["

TOKENS = (
    "ETag", "etag", "md5Hash", "blob_id", "oid", "Content-MD5", "Digest", "checksum", "crc32c", "generation",
    "md5Checksum", "sha", "LastModified", "Last-Modified", "last_modified", "mtime", "modified", "modify",
    "modificationTime", "modifiedTime", "updated", "created",
)  # fmt: skip
"""What a file system may tell of a content, the surest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file elsewhere.

    size: in bytes; None where it is not told. token: what another content has otherwise, as the file system tells it.
    sha256: of the content, where the file system knows it; such a content is fetched once under all its names.
    """

    address: str
    size: int | None
    token: str
    sha256: str = ""

    @property
    def is_told(self) -> bool:
        """Whether more than a size tells one content from another."""
        return not self.token.startswith("size:")

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]


def is_pattern(address: str) -> bool:
    """Whether an address stands for all that match it. On the web a question mark is refused before."""
    return any(sign in address for sign in MAGIC)


def at(address: str, calls: Calls) -> Found | None:
    """The file at an address; None where a folder is there.

    Raises:
        RemoteError: nothing is there, or it cannot be reached.
    """
    system, path = opened(address)
    system.invalidate_cache()
    info = calls.one(address, lambda: system.info(path))
    is_listing = scheme_of(address) in WEB and str(info.get("url") or address).endswith("/")
    if info.get("type") == "directory" or is_listing:
        return None
    return _found(address, info)


def several(addresses: Sequence[str], calls: Calls) -> list[Found]:
    """Files of which each is asked for.

    Raises:
        RemoteError: one of them is not there, or cannot be reached.
    """
    return [_found(one, info) for one, info in calls.each(addresses, str, _info)]


def matched(pattern: str, calls: Calls) -> tuple[list[Found], list[str]]:
    """The files that a pattern matches, and the addresses of the folders that it does."""
    system, path = opened(pattern)
    system.invalidate_cache()
    told = calls.one(pattern, lambda: system.glob(path, detail=True))
    return _sorted_out(pattern, told.values(), calls)


def children(
    address: str, calls: Calls, *, deep: bool = False, wanted: Callable[[str], bool] = lambda _: True
) -> list[Found]:
    """The files in a folder; deep: and below it. wanted: of which names; the web is asked for each of these.

    Raises:
        RemoteError: nothing is there, or it cannot be reached.
    """
    system, path = opened(address)
    system.invalidate_cache()
    inside = address.rstrip("/") + "/"
    in_one = deep and scheme_of(address) not in WEB  # of the web each folder is a page of its own
    told = calls.one(
        address,
        lambda: list(system.find(path, detail=True).values()) if in_one else list(system.ls(path, detail=True)),
    )

    def is_meant(place: str) -> bool:
        name = place.rpartition("/")[2]
        return place.startswith(inside) and bool(name) and wanted(name)

    found, folders = _sorted_out(address, told, calls, is_meant)
    if deep and not in_one:
        for folder in folders:
            if folder.startswith(inside) and folder != inside.rstrip("/"):
                found += children(f"{folder}/", calls, deep=True, wanted=wanted)
    return found


def _sorted_out(
    address: str, told: Any, calls: Calls, is_meant: Callable[[str], bool] = lambda _: True
) -> tuple[list[Found], list[str]]:
    files, folders = [], []
    root = root_of(address)
    for info in told:
        place = info["name"] if is_remote(info["name"]) else root + info["name"].lstrip("/")
        if info.get("type") == "directory":
            folders.append(place.rstrip("/"))
        elif is_meant(place):
            files.append((place, info))
    # A listing of the web has names only: each file is asked for.
    unknown = [place for place, info in files if not _token(info)[0] or info.get("size") is None]
    asked = dict(calls.each(unknown, str, _info)) if scheme_of(address) in WEB else {}
    found = [_found(place, asked.get(place, info)) for place, info in files]
    # Some mark a folder by an empty file of its name.
    marked = {one.address.rpartition("/")[0] for one in found} | set(folders)
    found = [one for one in found if one.size or one.address not in marked]
    return sorted(found, key=lambda one: one.address), sorted(folders)


def _info(address: str) -> Mapping[str, Any]:
    system, path = opened(address)
    told: Mapping[str, Any] = system.info(path)
    return told


def _found(address: str, info: Mapping[str, Any]) -> Found:
    token, sha256 = _token(info)
    size = info.get("size")
    return Found(address, None if size is None else int(size), token or f"size:{size}", sha256)


def _token(info: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a content apart, and its SHA-256 where that is known."""
    large = info.get("lfs")
    sha256 = large.get("sha256") if isinstance(large, Mapping) else getattr(large, "sha256", None)
    if sha256:
        return f"sha256:{sha256}", str(sha256)
    for name in TOKENS:
        if value := info.get(name):
            is_time = isinstance(value, datetime)  # which listings may give as a number
            return f"{name}:{value.timestamp() if is_time else value}", ""
    return "", ""
