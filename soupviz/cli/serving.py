"""Who the dashboard answers to: this computer alone, or named hosts once people sign in."""

import importlib.util
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any

from soupviz.errors import SoupError
from soupviz.extras import lacking

ALLOW_HOSTS = "SOUPVIZ_ALLOW_HOSTS"
"""Where the command leaves for the router the hosts that it was given."""

HERE = ("localhost", "127.0.0.1")
LOOPBACK = "127.0.0.1"

SHARED = ("redirect_uri", "cookie_secret")
OF_PROVIDER = ("client_id", "client_secret", "server_metadata_url")
"""What Streamlit needs under [auth] of its secrets: the first once, the others there too or for each provider."""

SHORTEST_SECRET = 32


def allowed_hosts() -> list[str]:
    """The hosts beside this computer's own names that requests may be meant for."""
    return [host for host in os.environ.get(ALLOW_HOSTS, "").split(",") if host]


def hosts_in(text: str) -> list[str]:
    """Host names that are separated by commas.

    Raises:
        SoupError: something that is no name of a host; all of them at once.
    """
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    for host in hosts:
        if not all(part and part.replace("-", "a").isalnum() for part in host.split(".")):
            raise SoupError(
                f"dashboard: {host!r} in --allow-hosts is no host name; expected such as soups.example.org, without "
                "https:// and without a port."
            )
    return hosts


def is_loopback(address: str) -> bool:
    """Whether only this computer reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def check_sign_in(what: str) -> None:
    """Refuse to answer anybody else while people cannot sign in.

    Args:
        what: asked for it.
    Raises:
        SoupError: what is missing, and where it goes.
    """
    if problem := _problem():
        raise SoupError(
            f"{what}: the dashboard reads files and runs kitchens' code, so it answers other computers only where "
            f"people sign in, and {problem}. See docs/how-to/serve.md, or leave it to this computer alone."
        )


def _problem() -> str:
    """What keeps people from signing in; empty where nothing does."""
    files = [place / ".streamlit" / "secrets.toml" for place in (Path.cwd(), Path.home())]
    there = next((file for file in files if file.is_file()), None)
    if there is None:
        return f"there is no {files[0]}"
    try:
        auth: dict[str, Any] = tomllib.loads(there.read_text(encoding="utf-8")).get("auth", {})
    except (OSError, ValueError) as error:
        return f"{there} cannot be read ({error})"
    if absent := [name for name in SHARED if not auth.get(name)]:
        return f"[auth] in {there} lacks {' and '.join(absent)}"
    if len(str(auth["cookie_secret"])) < SHORTEST_SECRET:
        return f"cookie_secret in {there} has fewer than {SHORTEST_SECRET} letters"
    providers = [auth, *(one for one in auth.values() if isinstance(one, dict))]
    if not any(all(one.get(name) for name in OF_PROVIDER) for one in providers):
        return f"no provider under [auth] in {there} has {', '.join(OF_PROVIDER)}"
    if importlib.util.find_spec("authlib") is None:
        return f"signing in needs {lacking('authlib')}"
    return ""
