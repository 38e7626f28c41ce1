"""What browser tests share: a server for each test, started as a user starts it on a cache of its own, and a tab."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
ATTEMPTS = 3
PATIENCE = 90_000
"""Milliseconds, on a loaded machine."""

ENDED = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs Chromium: {CHROMIUM} is not there"),
]


@dataclass(frozen=True, slots=True)
class Server:
    """A running dashboard and the folder it was started with."""

    address: str
    folder: Path
    log: Path

    def url(self, page: str = "", kitchen: str = "demo") -> str:
        place = "" if page == "ingredients" else page
        return f"{self.address}/{place}?kitchen={kitchen}"


@pytest.fixture
def server(cache_with_demo: Path, tmp_path: Path) -> Iterator[Server]:
    """`streamlit run app.py -- FOLDER` on a free port, with a cache, a demo kitchen and a folder of the test's own.

    No test finds what another has scored, cooked, trusted or opened.
    """
    folder = tmp_path / "started-with"
    folder.mkdir()
    for attempt in range(ATTEMPTS):
        server, process = start(folder, cache_with_demo)
        try:
            if is_healthy(server, process):
                yield server
                return
        finally:
            process.terminate()
            process.wait(20)
        assert attempt < ATTEMPTS - 1, server.log.read_text(encoding="utf-8")


def start(folder: Path, cache: Path) -> "tuple[Server, subprocess.Popen[bytes]]":
    """Start a dashboard on a port that is free now: another process may be faster to take it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder.parent / "server.log"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.headless=true"]
    environment = os.environ | {"SOUPVIZ_CACHE": str(cache)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--", str(folder)], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return Server(f"http://127.0.0.1:{port}", folder, log), process


def is_healthy(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until it answers; False where it ended instead."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server.address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return process.poll() is None
        except OSError:
            time.sleep(0.1)
    return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright of requirements-dev.txt")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab of 1280 by 800 pixels; what goes wrong in its scripts fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(error.stack or str(error)))
    yield tab
    context.close()
    assert wrong == [], "\n".join(wrong)


def goto(page: Any, address: str, title: str) -> None:
    """Open an address and wait for the page's title."""
    page.goto(address)
    heading(page, title).wait_for()


def heading(page: Any, title: str) -> Any:
    return page.get_by_role("heading", name=title, exact=True, level=1)


def wait_until_idle(page: Any) -> None:
    """Until the script has ended, and nothing runs in the background."""
    patience = 3 * PATIENCE  # a loaded machine computes slowly
    page.wait_for_function(ENDED, timeout=patience)  # until then the sidebar may be that of the page before
    page.get_by_text("Nothing runs.").wait_for(timeout=patience)
    page.wait_for_function(ENDED)


def assert_no_exception(page: Any) -> None:
    assert page.locator(".stException").count() == 0, page.locator(".stException").first.inner_text()
