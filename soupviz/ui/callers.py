"""Who may speak to the dashboard: its own pages, in a browser of whoever runs it. Every request passes here."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soupviz.cli.serving import allowed_hosts, is_loopback

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Where Linux tells the connections of this computer, each with the account that has it."""

ESTABLISHED = "01"
MAPPED = "0000000000000000FFFF0000"
"""Before an address of IPv4 in the table of IPv6."""

POLICY = (
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Streamlit's page and Vega make some as they go
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "connect-src 'self' ws: wss: data: blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "frame-ancestors 'self'",
)
"""What a page of the dashboard may load: nothing from elsewhere, whatever a name in it says."""

HEADERS = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
"""Said with every answer: no other page shows the dashboard in a frame, reads of it, or is told its URLs."""


class OwnPages:
    """Answers nothing to a page of another origin, nor to another account of this computer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if reason := _refusal(scope):
            await PlainTextResponse(reason, status_code=403)(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, headed)


def _refusal(scope: Scope) -> str:
    """Why a request is not answered; empty where it is."""
    if not is_own_page(Headers(scope=scope), is_safe=scope.get("method", "GET") in ("GET", "HEAD")):
        return "The dashboard answers its own pages alone: open its address itself, in a tab of its own."
    if not allowed_hosts() and is_of_another_account(scope.get("client"), scope.get("server")):
        return "This dashboard is of another account of this computer; start your own: python -m soupviz dashboard"
    return ""


def is_own_page(headers: Mapping[str, str], *, is_safe: bool) -> bool:
    """Whether a request comes from a page of the dashboard, or from no page: an address that was typed, or a program.

    A link on another page may be followed into a tab. What such a page asks for itself, browsers mark: by its origin,
    or by how it is asked for. Another port of this computer is another origin.

    Args:
        is_safe: it asks for nothing to be changed.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None:
        named = [f"https://{one}" for one in allowed_hosts()]  # a proxy may ask under another name than people did
        return origin in (f"http://{host}", f"https://{host}", *named) and bool(urlsplit(origin).netloc)
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return is_safe and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def is_of_another_account(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> bool:
    """Whether a connection within this computer was made by another account than its owner's, or the system's.

    False where it cannot be known: the system tells no such thing, or the connection comes from elsewhere.
    """
    if client is None or server is None or not (is_loopback(client[0]) and is_loopback(server[0])):
        return False
    near, far = _spelled(server[0], server[1] or 0), _spelled(client[0], client[1])
    rows = list(_connections())
    if not any((here, there) == (near, far) for here, there, *_ in rows):
        return False  # where not even our own end is listed, nothing can be read from what is not
    owners = [user for here, there, state, user in rows if (here, there, state) == (far, near, ESTABLISHED)]
    return not any(user in (os.getuid(), 0) for user in owners)


def _spelled(address: str, port: int) -> str:
    """As Linux lists it: the bytes of the address as a number of this machine."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    return f"{number:08X}:{port:04X}"


def _connections() -> Iterator[tuple[str, str, str, int]]:
    """This end, the other one, state and owner of each connection."""
    for table in TABLES:
        if table.is_file():
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, here, there, state, _, _, _, user, *_ = line.split()
                yield here.removeprefix(MAPPED), there.removeprefix(MAPPED), state, int(user)
