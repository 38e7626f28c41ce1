"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from soupviz.types import Progress as Callback

QUIET_LINES_EVERY = 5.0


@contextmanager
def progress_bar(as_json: bool = False) -> Iterator[Callback]:
    """A progress callback that draws on stderr, whatever stdout is for."""
    console = Console(stderr=True)
    if not console.is_terminal or as_json:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def _lines() -> Callback:
    told = time.monotonic()

    def tell(done: int, total: int, what: str) -> None:
        nonlocal told
        if time.monotonic() - told > QUIET_LINES_EVERY:
            sys.stderr.write(f"{what}: {100 * done // max(total, 1)}%\n")
            told = time.monotonic()

    return tell
