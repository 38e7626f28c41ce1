"""Which folders' kitchens use what: nothing but what was approved, where somebody was asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.addresses import host_of
from soupviz.errors import KitchenError
from soupviz.files import digest_of, file_digest
from soupviz.trust.asking import Allowed, Request
from soupviz.trust.naming import code_of


@dataclass(frozen=True, slots=True)
class Approved:
    """What somebody said yes to: code by file and digest, and places elsewhere."""

    seen: Mapping[str, str]
    places: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a folder's kitchens may use: what was approved, and the paths that may be read."""

    approved: Approved
    allowed: Allowed


_bound: dict[Path, Bound] = {}
"""By folder; kitchens in other folders were named on the command line."""


def bind(asked: Request, allowed: Allowed) -> None:
    """From now on the folders of a kitchen and its other models use what was approved, and nothing else."""
    for _, file in asked.kitchens:
        folder = file.parent.resolve()
        before = approved(folder) or Approved({})
        _bound[folder] = Bound(Approved({**before.seen, **asked.seen}, before.places | set(asked.places)), allowed)


def approved(folder: Path) -> Approved | None:
    """What of a folder's kitchens was approved; None: nobody had to be asked."""
    bound = _bound.get(folder.resolve())
    return bound.approved if bound else None


def bind_in_worker(folder: Path, elsewhere: Approved) -> None:
    """From now on a folder's kitchens use what was approved elsewhere; what is read, the driver has looked at."""
    _bound[folder.resolve()] = Bound(elsewhere, lambda path: path)


def check_read(path: Path, folder: Path) -> Path:
    """A path that something else than kitchen.yaml named (a soup's recipe, a link), where the folder's kitchens may go.

    Raises:
        KitchenError: outside what the dashboard may read.
    """
    bound = _bound.get(folder.resolve())
    return bound.allowed(path) if bound else path


def check_fetch(address: str, folder: Path) -> None:
    """See that an address that something else than kitchen.yaml named is fetched only where nobody is to be asked.

    Raises:
        KitchenError: the dashboard opened the folder's kitchens; a link to a page may hold any address.
    """
    if folder.resolve() in _bound:
        raise KitchenError(f"{address} is not in kitchen.yaml, which names all that is fetched: add it there.")


def check_place(address: str, folder: Path) -> None:
    """See that an address of kitchen.yaml lies where somebody said that it may be read from, where they were asked.

    Raises:
        KitchenError: in another place.
    """
    if (known := approved(folder)) and host_of(address) not in known.places:
        raise KitchenError(f"{address}: you were not asked about {host_of(address)}; open the kitchen again.")


def check_use(reference: str, arguments: Mapping[str, Any], folder: Path) -> None:
    """See that what is about to run is what was approved, where somebody was asked.

    Raises:
        KitchenError: it changed since, or nobody was asked about it.
    """
    known = approved(folder)
    if known is None:
        return
    for path in code_of(reference, arguments, folder):
        if known.seen.get(str(path)) != file_digest(path):
            raise _refusal(reference, str(path))


def source(path: Path, reference: str, folder: Path) -> bytes:
    """A file of code, read once: what is checked against the approval is what is run."""
    content = path.read_bytes()
    known = approved(folder)
    if known is not None and known.seen.get(str(path.resolve())) != digest_of(content):
        raise _refusal(reference, str(path))
    return content


def _refusal(reference: str, name: str) -> KitchenError:
    return KitchenError(
        f"{reference!r} runs {name}, which is not what you said yes to: it changed, or came later. Look at it, and "
        "open the kitchen again."
    )
