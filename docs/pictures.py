"""Takes the pictures in docs/pages from the real dashboard on the demo; needs Chromium, and some minutes.

    python -m docs.pictures [PAGE... | workers]

Each page is opened as a user opens it and asked for what it offers to compute; its picture is taken once nothing runs.
"""

import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.workers.making import make

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pages"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
WIDTH = 1280
HEIGHTS = {"curves": 1300, "diversity": 1800, "workers": 1300}
HEIGHT = 1000
QUIET = 8
"""Half seconds after which nothing is to come any more."""

ROUNDS = 3
"""Times that a page is asked for more."""

CLICKS = {
    "ingredients": r"^Score",
    "preflight": r"^Measure",
    "soup": r"^Cook",
    "compare": r"^(Cook the menu|Score .* models)",
    "grid": r"soups",
    "layers": r"^Score \d+ mixes",
    "alpha": r"^Compute",
    "curves": r"^Compute",
    "plane": r"^Compute",
    "diversity": r"^(Compute|Score)",
    "shift": r"^(Compute|Score)",
}
"""In this order: what one page computes, the next ones show. Of each page, the buttons that are pressed once."""

CHOSEN = {"soup": "&recipe=greedy%2C+mean", "diversity": "&view=A+soup+and+its+rival"}
"""What is chosen in the address of a page."""

WORKERS = "workers"
"""No page: Soup while four workers score, in a kitchen whose model waits as for a device."""

ALONE = ("history", "export")
"""They compute nothing. The picture of Kitchens shows a run that was recognised, and is taken by hand."""


def main() -> None:
    wanted = sys.argv[1:] or [*CLICKS, *ALONE, WORKERS]
    with tempfile.TemporaryDirectory() as folder, dashboard(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        if WORKERS in wanted:
            take_workers(page, address, make(Path(folder) / "soups" / "pausing", seconds=0.1))
        for name in (one for one in wanted if one != WORKERS):
            take(page, f"{address}/{'' if name == 'ingredients' else name}?kitchen=demo{CHOSEN.get(name, '')}", name)


@contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """A server on a cache and a folder of its own, and its address."""
    soups = folder / "soups"
    soups.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    environment = os.environ | {"SOUPVIZ_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [*command, f"--server.port={address.rpartition(':')[2]}", "--", str(soups)], cwd=ROOT, env=environment
    )
    try:
        while not _answers(address):
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).status == 200)
    except OSError:
        return False


def take(page: Any, address: str, name: str) -> None:
    """Open a page, have it compute what it offers to, and take its picture."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHTS.get(name, HEIGHT)})
    page.goto(address)
    wait_until_idle(page, name)
    for _ in range(ROUNDS if name in CLICKS else 0):
        buttons = page.get_by_test_id("stMain").get_by_role("button", name=re.compile(CLICKS[name]), disabled=False)
        if not buttons.count():
            break
        buttons.first.click()
        wait_until_idle(page, name)
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
    _keep(page, name)


def take_workers(page: Any, address: str, kitchen: Path) -> None:
    """Choose four workers on the page Soup, cook, and take its picture while they score."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHTS[WORKERS]})
    page.goto(f"{address}/soup?kitchen={kitchen}")
    page.get_by_role("button", name=re.compile("trust")).first.click()
    page.get_by_text("Scored by").first.wait_for()
    page.wait_for_timeout(5000)  # until the other splits are read, and nothing is drawn anew
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_test_id("stSelectbox").filter(has_text="Scored by").locator("input").click()
    page.get_by_role("option", name="workers of this machine").click()
    number = sidebar.locator("input[type=number]")
    number.fill("4")
    number.press("Enter")
    page.wait_for_timeout(3000)  # until the kitchen is theirs
    page.get_by_role("button", name=re.compile("^Cook")).first.click()
    page.get_by_text(re.compile(r"Worker 4 \((?!starting)")).wait_for(timeout=120_000)
    page.get_by_test_id("stVegaLiteChart").first.wait_for(timeout=120_000)
    page.wait_for_timeout(6000)  # some decisions later
    _keep(page, WORKERS)


def _keep(page: Any, name: str) -> None:
    page.mouse.move(WIDTH - 1, 1)
    page.wait_for_timeout(2000)  # until charts have been drawn
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # So that a legend keeps its colours, however few points they have, and what is large its very own.
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1).save(FOLDER / f"{name}.png", optimize=True)


def wait_until_idle(page: Any, name: str) -> None:
    page.get_by_role("heading", name=name.capitalize(), exact=True, level=1).wait_for()
    quiet = 0
    while quiet < QUIET:  # a job is queued some time after the click, and the next one some time after its end
        page.wait_for_timeout(500)
        idle = page.get_by_text("Nothing runs.").count() and not page.get_by_test_id("stStatusWidget").count()
        quiet = quiet + 1 if idle else 0


if __name__ == "__main__":
    main()
