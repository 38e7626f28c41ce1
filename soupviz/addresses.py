"""Addresses of files elsewhere (s3://, https://, ...): where each has its place in the cache, and what may be told."""

import os
import re
from functools import lru_cache
from pathlib import Path

from soupviz.files import cache_folder

_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HERE = frozenset({"file", "local"})
"""Schemes of files that lie on this machine."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"<>]+)")
_MORE = re.compile(r"&[\w.*%-]+=[^\s\"<>]*")
"""What goes on behind a blank in a query that was not quoted."""

_PORT = re.compile(r"\[[^\]]*\](:\d{1,5})?|[^:@]*:\d{1,5}")
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs"})
"""Schemes whose first part is a bucket's name, which holds no colon."""

_WEB = frozenset({"http", "https"})
_NAMED_SO = frozenset({"github"})
"""Schemes that say org:repository@ref where others have a user and a password."""

HIDDEN = "…"

KEPT = "remote"
"""The folder below the cache in which files from elsewhere are kept."""


def is_remote(text: str) -> bool:
    """Whether a text is the address of something that lies elsewhere."""
    found = _REMOTE.match(text)
    return found is not None and found[1].lower() not in _HERE


def addresses_in(text: str) -> list[str]:
    """The addresses that a text holds, also behind the name of a library."""
    return [text[found.start() :] for found in _REMOTE.finditer(text) if found[1].lower() not in _HERE]


def scheme_of(address: str) -> str:
    return address.partition("://")[0].lower()


def host_of(address: str) -> str:
    """The scheme with the host, the bucket or the organisation that an address begins with."""
    scheme, _, rest = address.partition("://")
    return redacted(f"{scheme.lower()}://{rest.partition('/')[0]}")


def redacted(text: str) -> str:
    """A text without what addresses in it may hold of passwords, signatures and tokens."""
    return _MORE.sub(f"&{HIDDEN}", _ADDRESS.sub(_without_secrets, text)) if "://" in text else text


def _without_secrets(found: re.Match[str]) -> str:
    rest, sign, _ = found[2].partition("?")
    if length := len(user_in(f"{found[1]}://{rest}")):
        rest = HIDDEN + rest[length:]
    return f"{found[1]}://{rest}" + (f"?{HIDDEN}" if sign else "")


def user_in(address: str) -> str:
    """What stands before a host and may be a user with a password, as far as it goes; "" where nothing does.

    A password may hold slashes: behind a colon that no port follows, all up to the last @ counts.
    """
    scheme, _, rest = address.partition("://")
    scheme, first = scheme.lower(), rest.partition("/")[0]
    if scheme in _NAMED_SO:
        return ""
    ahead = (first.rpartition("@")[0] or first).lower()
    is_name = _PORT.fullmatch(first) if scheme not in BUCKETS else first.startswith("arn:") and "@" not in rest
    if (":" in ahead or "%3a" in ahead) and not is_name:
        before, at, _ = rest.rpartition("@")
        return before if at or scheme not in BUCKETS else first
    return first.rpartition("@")[0] if scheme in _WEB else ""


def mirror() -> Path:
    """Where whole files from elsewhere lie, each below its scheme and host."""
    return cache_folder(KEPT, "files")


def place_of(address: str, root: Path) -> Path:
    """Where below a root an address, or a pattern of addresses, has its place."""
    scheme, _, rest = address.partition("://")
    return root.joinpath(scheme.lower(), *(_quoted(part) for part in rest.strip("/").split("/")))


def address_of(path: Path) -> str | None:
    """The address that a path in the mirror stands for; None for a path that lies elsewhere."""
    return _address_of(path.absolute(), mirror().absolute())


@lru_cache(maxsize=4096)  # a search asks of each checkpoint before each of its mixes
def _address_of(absolute: Path, root: Path) -> str | None:
    if not absolute.is_relative_to(root):
        absolute, root = absolute.resolve(), root.resolve()
    parts = absolute.relative_to(root).parts if absolute.is_relative_to(root) else ()
    return f"{parts[0]}://" + "/".join(_unquoted(part) for part in parts[1:]) if len(parts) > 1 else None


def shown(path: Path) -> str:
    """How a path is told: as the address that it stands for, or as it is."""
    return address_of(path) or str(path)


def spelled(text: str) -> str:
    """A message with the addresses that its paths stand for, and with no secret that is in one."""
    if KEPT in text:
        text = _kept().sub(r"\1://", text)
    return redacted(text)


def _kept() -> re.Pattern[str]:
    slash = re.escape(os.sep)
    inside = rf"(?:files|views{slash}[^{slash}]+){slash}([a-z][a-z0-9+.-]*){slash}"
    return re.compile(re.escape(str(cache_folder(KEPT))) + slash + inside)


def _quoted(part: str) -> str:
    """A part of an address as the name of a file: reversible, and mostly as it is."""
    if part in ("", ".", ".."):
        return {"": "%", ".": "%2E", "..": "%2E%2E"}[part]
    forbidden = r'[%\0\\:"<>|]' if os.name == "nt" else r"[%\0]"
    return re.sub(forbidden, lambda sign: f"%{ord(sign[0]):02X}", part)


def _unquoted(part: str) -> str:
    return "" if part == "%" else re.sub(r"%([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), part)
