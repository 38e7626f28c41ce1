"""What each page takes on the server: seconds of its runs, and memory, by Streamlit's own test of apps."""

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test
from streamlit.testing.v1.util import patch_config_options

from benchmarks.process import Watched
from soupviz.ui import work
from soupviz.ui.jobs import AHEAD, Job

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
AGAIN = 5
MOST_SECONDS, MOST_GROWTH = 1.0, 200e6
"""Of a page."""

PATIENCE = 600.0
"""Seconds that a test waits for a page, and a page for what it asked for."""


class Routed(PagesManager):
    """Where Streamlit's test sees a folder `pages` it runs the files without app.py; a server goes through app.py."""


@contextmanager
def through_the_router() -> Iterator[None]:
    """Pages are run as a server runs them."""
    kept = app_test.PagesManager, PagesManager.uses_pages_directory
    app_test.PagesManager, PagesManager.uses_pages_directory = Routed, False  # type: ignore[misc, assignment]
    try:
        with patch_config_options({"global.appTest": True}):
            yield
    finally:
        app_test.PagesManager, PagesManager.uses_pages_directory = kept  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Figure:
    """A page. first: seconds of its first run; slowest: of all of them, while what it asks for is computed too; again:
    the median once all is computed; worked: of the processor's time, which other programs do not lengthen. grown:
    bytes of anonymous memory more than before; peak: at most, in between. errors: what the page says went wrong.
    """

    page: str
    first: float
    slowest: float
    again: float
    worked: float
    grown: float
    peak: float
    errors: tuple[str, ...]

    def beyond(self) -> list[str]:
        """What is more than it may be, in sentences."""
        found = [f"{self.page}: {error}" for error in self.errors]
        if self.slowest > MOST_SECONDS:
            found.append(f"{self.page} takes {self.slowest:.2f} s")
        if self.grown > MOST_GROWTH:
            found.append(f"{self.page} keeps {self.grown / 1e6:.0f} MB")
        return found


def session(kitchen: Path, **query: str) -> AppTest:
    """One who has a kitchen open."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    at.query_params["kitchen"] = str(kitchen)
    for name, value in query.items():
        at.query_params[name] = value
    return at


def measured(kitchen: Path, pages: tuple[str, ...] = PAGES, **query: str) -> Iterator[Figure]:
    """One page after the other, in one server, as somebody would who looks at all of them."""
    at = session(kitchen, **query)
    at.run()
    settle(at)
    while work.jobs().active():  # the other splits, and what lists need, are read behind the first page
        time.sleep(0.02)
    for page in pages:
        gc.collect()
        with Watched() as memory:
            at.switch_page(f"pages/{page}.py")
            seconds = [timed(at)]
            seconds += settle(at)
            cancel_all()
            settled = time.process_time()
            again = [timed(at) for _ in range(AGAIN)]
            worked = (time.process_time() - settled) / AGAIN
            cancel_all()
            gc.collect()
        problems = [*(one.value for one in at.error), *(one.message for one in at.exception)]
        yield Figure(
            page,
            seconds[0],
            max([*seconds, *again]),
            statistics.median(again),
            worked,
            memory.grown,
            memory.peak,
            tuple(problems),
        )


def timed(at: AppTest) -> float:
    started = time.perf_counter()
    at.run()
    return time.perf_counter() - started


def settle(at: AppTest) -> list[float]:
    """Run the page until nothing that it asked for is computed any more; the seconds of these runs.

    What is computed ahead, behind all that anybody asks for, goes on meanwhile, and is cancelled with the page.
    """
    seconds: list[float] = []
    for _ in range(20):
        before = asked()
        while any(job.is_active for job in asked()):
            time.sleep(0.02)
        seconds.append(timed(at))
        if asked() == before:
            break
    return seconds


def asked() -> list[Job]:
    return [job for job in work.jobs()._all if job.priority < AHEAD]


def cancel_all() -> None:
    """End what is still computed, as nobody looks at it any more."""
    for job in work.jobs().active():
        work.jobs().cancel(job)
    while work.jobs().active():
        time.sleep(0.02)
