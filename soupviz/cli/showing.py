"""The command that opens the dashboard: it starts Streamlit on the router, and ends when that ends."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from soupviz.cli import serving
from soupviz.cli.answering import answer
from soupviz.cli.arguments import AsJson, app
from soupviz.errors import SoupError
from soupviz.extras import lacking

PACKAGE = Path(__file__).parents[1]
ROUTERS = (PACKAGE / "dashboard" / "app.py", PACKAGE.parent / "app.py")
"""Inside the package as pip installs it, beside it in a checkout."""

FIRST_PORT = 8501
"""Streamlit's own."""

HOST = serving.LOOPBACK


@app.command()
def dashboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...", help="whose kitchens it offers, and below which it may read; default: where you are"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="where it answers; default: the first free one from 8501 on")
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="open no browser")] = False,
    allow_hosts: Annotated[
        str, typer.Option(help="names under which others reach it, separated by commas; only where people sign in")
    ] = "",
    listen: Annotated[
        str, typer.Option("--address", help="where it listens; another than this computer's only with --allow-hosts")
    ] = serving.LOOPBACK,
    as_json: AsJson = False,
) -> None:
    """Open the dashboard in a browser, until Ctrl-C; with --json its address is told once it answers."""
    roots = [_existing(folder) for folder in folders or [Path.cwd()]]
    if importlib.util.find_spec("streamlit") is None:
        raise SoupError(f"dashboard needs {lacking('streamlit')}")
    hosts = serving.hosts_in(allow_hosts)
    if not serving.is_loopback(listen) and not hosts:
        raise SoupError(
            f"dashboard: --address {listen} is reached by others; name the hosts under which they may, with "
            "--allow-hosts, and have them sign in (docs/how-to/serve.md)."
        )
    if hosts:
        serving.check_sign_in(f"dashboard --allow-hosts {','.join(hosts)}")
    chosen = _free_port(port)
    # Flags beat whatever another config.toml or the environment says: it answers to this computer, and tells nobody.
    flags = [f"--server.port={chosen}", f"--server.address={listen}", "--browser.gatherUsageStats=false"]
    flags += [f"--server.allowedHosts={host}" for host in (*serving.HERE, *hosts)]
    flags += [f"--server.corsAllowedOrigins=https://{host}" for host in hosts]
    flags += ["--server.headless=true"] if headless else []
    command = [sys.executable, "-m", "streamlit", "run", str(_router()), *flags, "--", *map(str, roots)]
    address = f"http://localhost:{chosen}"

    def tell(child: "subprocess.Popen[bytes]") -> None:
        if as_json and _answers(child, chosen):
            answer(json.dumps({"url": address, "port": chosen, "folders": [str(root) for root in roots]}))

    os.environ[serving.ALLOW_HOSTS] = ",".join(hosts)  # the router answers to these too, whatever was there before
    sys.exit(_run(command, tell))  # Ctrl-C is how it ends: there is nothing to tell of it


def _router() -> Path:
    return next(router for router in ROUTERS if router.is_file())


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        there = "is a file" if folder.exists() else "no such folder"
        raise SoupError(f"dashboard: {folder}: {there}; expected a folder below which your kitchens and runs lie.")
    return folder.resolve()


def _free_port(wanted: int | None) -> int:
    """The port that was asked for, or the first that is free."""
    if wanted is None:
        return next(port for port in range(FIRST_PORT, 65536) if _is_free(port))
    if not _is_free(wanted):
        raise SoupError(
            f"dashboard: port {wanted} is taken; name another with --port, or none to have a free one found."
        )
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        if os.name == "posix":  # where a server has just ended the port is free, though the kernel still waits
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True


def _answers(child: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the server answers; False where it ended instead."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine's own ports
    while child.poll() is None:
        try:
            with opener.open(f"http://{HOST}:{port}/_stcore/health", timeout=2) as found:
                return bool(found.status == 200)
        except OSError:
            time.sleep(0.1)
    return False


def _run(command: Sequence[str], started: Callable[["subprocess.Popen[bytes]"], None]) -> int:
    """Run a program until it ends; its exit code, or a shell's of the signal that ended it or was handed on to it."""
    child = subprocess.Popen(command, start_new_session=True)  # so that a terminal's Ctrl-C reaches it once
    try:
        with _handing_on(child) as signals:
            started(child)
            status = child.wait()
    finally:
        if child.poll() is None:
            child.kill()
    ended_by = signals[0] if signals else max(0, -status)
    return 128 + ended_by if ended_by else status


@contextmanager
def _handing_on(child: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Within it what asks this process to end asks the child: Ctrl-C, and what `kill` and a closing terminal send.

    Yields:
        The signals so far.
    """
    found: list[int] = []

    def hand_on(number: int, _frame: Any) -> None:
        found.append(number)
        if os.name == "posix" and child.poll() is None:  # elsewhere a terminal's Ctrl-C reaches the child by itself
            child.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
