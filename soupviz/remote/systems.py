"""The file system of an address, with credentials from where they usually are; and what its errors mean."""

import asyncio
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from soupviz.addresses import BUCKETS, host_of, redacted, scheme_of, user_in
from soupviz.errors import RemoteError, told
from soupviz.extras import lacking

WEB = ("http", "https")
_SIGNED = re.compile(r"[?&][A-Za-z][\w.-]*(=|%3D)", re.I)
"""What no name of a file says, and a signature does; a question mark alone is a pattern's."""

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "abfs": "adlfs",
    "abfss": "adlfs", "az": "adlfs", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko",
}  # fmt: skip
"""What reads a scheme, beside fsspec."""

CREDENTIALS = {
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials (`aws s3 ls` shows whether "
    "they work)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "hf": "HF_TOKEN, or `hf auth login`",
    "http": "~/.netrc",
}
"""Where credentials are looked for, and nowhere else."""

SCHEMES = frozenset(
    "s3 s3a gs gcs hf abfs abfss az adl http https ftp sftp ssh smb hdfs webhdfs webdav oci oss github gdrive dropbox "
    "memory".split()
)
"""What is read and written. Others of fsspec read what lies here or what another address names, or run programs."""

LONGEST_NAME = 255
"""Bytes that a disk takes as the name of a file."""

ANSWER_WITHIN = 30
"""Seconds in which a web server has to send something more."""


def check(address: str) -> None:
    """Refuse an address that holds a secret, or that no file system has.

    Raises:
        RemoteError: it names a user with a password, or is signed; or several addresses in one.
    """
    scheme, _, rest = address.partition("://")
    if user_in(address):
        raise RemoteError(
            f"{redacted(address)}: its address holds a password, which would be kept in files that others read. Name "
            f"it without what stands before the {'bucket' if scheme in BUCKETS else 'host'}; credentials are taken "
            f"from {_credentials(scheme)}."
        )
    is_web = scheme.lower() in WEB
    if (is_web and ("?" in rest or "#" in rest)) or _SIGNED.search(rest):
        alone = re.split("[?#]", address, maxsplit=1)[0]
        raise RemoteError(
            f"{alone}: its address goes on behind the file's name with what may be a "
            "signature or a token, which would be kept in files that others read. Name the file alone; credentials "
            f"are taken from {_credentials(scheme)}."
        )
    if any(len(part.encode()) > LONGEST_NAME for part in rest.split("/")):
        raise RemoteError(f"{address}: a part of its name is longer than the {LONGEST_NAME} bytes that a disk takes.")
    if "::" in address or "\0" in address:
        raise RemoteError(f"{redacted(address)}: is no plain address; expected one such as s3://bucket/run/model.pt.")
    if scheme.lower() not in SCHEMES:
        raise RemoteError(
            f"{address}: nothing is read from {scheme}://; expected s3, gs, hf, https, or another of "
            f"{', '.join(sorted(SCHEMES))}."
        )


def opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there.

    Raises:
        RemoteError: a package is missing, no file system has that scheme, or the address holds a secret.
    """
    check(address)
    scheme = scheme_of(address)
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False, **_options(scheme))
    except ImportError:
        packages = dict.fromkeys(filter(None, ("fsspec", PACKAGES.get(scheme))))
        raise RemoteError(f"{address}: {scheme}:// needs {lacking(*packages)}") from None
    except Exception as error:  # each file system raises its own where it lacks what it needs
        raise refusal(address, error) from error
    return system, path


def _options(scheme: str) -> dict[str, Any]:
    if scheme in WEB:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_WITHIN, sock_read=ANSWER_WITHIN)
        return {"client_kwargs": {"trust_env": True, "timeout": timeout, "trace_configs": _watched()}}
    if scheme in ("s3", "s3a") and not _knows_who():
        return {"anon": True}
    return {}


@cache
def _watched() -> list[Any]:
    """What looks at where a web server sends on to: one that lies elsewhere has no say in what is read here."""
    import aiohttp

    async def look(_session: Any, _context: Any, told: Any) -> None:
        to = urljoin(str(told.url), told.response.headers.get("Location") or told.response.headers.get("URI") or "")
        host = urlsplit(to).hostname or ""
        if await _is_here(host) and not await _is_here(told.url.host or ""):
            raise RemoteError(f"{host_of(str(told.url))}: sends on to {host}, which is this machine or its network's.")

    watching = aiohttp.TraceConfig()
    watching.on_request_redirect.append(look)
    return [watching]


async def _is_here(host: str) -> bool:
    """Whether a host is this machine, or such as only its own network's link reaches: of clouds, their credentials."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:  # it will not be reached either
        return False
    addresses = [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    plain = [getattr(one, "ipv4_mapped", None) or one for one in addresses]
    return any(one.is_loopback or one.is_link_local or one.is_unspecified for one in plain)


@cache
def _knows_who() -> bool:
    """Whether AWS credentials are found where they usually are; public buckets need none."""
    from botocore.session import Session

    return Session().get_credentials() is not None


def root_of(address: str) -> str:
    """What stands before the paths that an address's file system tells: most tell them without the host."""
    scheme, _, rest = address.partition("://")
    own, there = opened(address)[1].strip("/"), rest.strip("/")
    return f"{scheme}://{there.removesuffix(own) if own else f'{there}/'}" if there.endswith(own) else f"{scheme}://"


def status_of(error: BaseException) -> int | None:
    """The status that a server answered with, where an error tells it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # of AWS
        response = SimpleNamespace(status_code=response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException) -> BaseException:
    """What is behind an error: of the web, whatever goes wrong is told as a file that is not there."""
    behind = error.__cause__
    if isinstance(error, FileNotFoundError) and behind is not None:
        if isinstance(behind, RemoteError) or status_of(behind) or _is_of_a_network(behind):
            return behind
    return error


def _is_of_a_network(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    others = {"ClientError", "FSTimeoutError", "HTTPClientError", "IncompleteReadError", "HTTPError"}
    return isinstance(error, (OSError, TimeoutError, EOFError)) or bool(kinds & others)


def is_passing(error: BaseException) -> bool:
    """Whether the same call may well succeed a little later: a cut connection, a server that is busy."""
    error = _reason(error)
    if isinstance(error, (FileNotFoundError, PermissionError, NotImplementedError, IsADirectoryError)):
        return False
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return _is_of_a_network(error)


def is_missing(error: BaseException) -> bool:
    """Whether an error says that nothing is there."""
    error = _reason(error)
    return isinstance(error, FileNotFoundError) or status_of(error) == 404


def refusal(address: str, error: BaseException, to: Literal["read", "write"] = "read") -> RemoteError:
    """What an error of a file system means for whoever named the address.

    Args:
        to: what was to be done there.
    """
    missing = is_missing(error)
    error = _reason(error)
    if isinstance(error, RemoteError):
        return error
    status, kinds = status_of(error), {kind.__name__ for kind in type(error).__mro__}
    if missing and to == "write":
        # Elsewhere than in buckets it may be a repository or a folder of any depth, which no error names.
        lacking = host_of(address) if scheme_of(address) in BUCKETS else "a folder that it lies in"
        return RemoteError(
            f"{address}: nothing can be written there, as {lacking} does not exist; make it, or name another."
        )
    if missing:
        return RemoteError(f"{address}: nothing is there; expected a file or a folder. Check the name.")
    if isinstance(error, PermissionError) or status in (401, 403) or "NoCredentialsError" in kinds:
        with_status = f" ({status or 403})"
        return RemoteError(
            f"{address}: access is refused{with_status}. Give whoever runs soupviz the right to {to} it; credentials "
            f"are taken from {_credentials(scheme_of(address))}."
        )
    # A library's own words on a status quote the whole address, often that of a signed redirect.
    is_quoting = status is not None and not isinstance(getattr(error, "response", None), Mapping)
    why = f"the server answered with {_named(status)}" if is_quoting else told(error)
    again = "Try again; what came so far is kept" if to == "read" else "Try again"
    return RemoteError(f"{address}: cannot be reached: {why}. {again}.")


def _named(status: int | None) -> str:
    try:
        return f"{status} {HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


def _credentials(scheme: str) -> str:
    alike = {"https": "http", "s3a": "s3", "gcs": "gs"}
    return CREDENTIALS.get(alike.get(scheme.lower(), scheme.lower()), "where its file system looks for them")
