"""Progress on stderr: a bar on a terminal, one for each worker too; a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from soupviz.kitchen import Kitchen
from soupviz.scoring.executors.usage import Usage
from soupviz.types import Progress as Callback

QUIET_LINES_EVERY = 5.0


@contextmanager
def progress_bar(as_json: bool = False, kitchen: Kitchen | None = None) -> Iterator[Callback]:
    """A progress callback that draws on stderr, whatever stdout is for.

    Args:
        kitchen: whose workers are told of: how much of the time each computes.
    """
    console = Console(stderr=True)
    before = kitchen.scores.usage() if kitchen else Usage()
    if not console.is_terminal or as_json:
        yield _lines()
        if kitchen and (told := _told(kitchen.scores.usage().since(before))):
            sys.stderr.write(f"{told}\n")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        bars = [bar.add_task("", total=1.0) for _ in before.shares]

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)
            used = kitchen.scores.usage().since(before) if kitchen and bars else Usage()
            for one, share in zip(bars, used.shares, strict=False):
                bar.update(one, completed=used.fraction(share), description=f"  {share.place or 'worker'} computes")

        yield show
    if kitchen and (told := _told(kitchen.scores.usage().since(before))):
        sys.stderr.write(f"{told}\n")


def _told(used: Usage) -> str:
    """What workers did, in a line."""
    if not any(share.busy for share in used.shares):
        return ""
    parts = ", ".join(f"{used.fraction(share):.0%}" for share in used.shares)
    return f"{len(used.shares)} workers computed {parts} of the time"


def _lines() -> Callback:
    told = time.monotonic()

    def tell(done: int, total: int, what: str) -> None:
        nonlocal told
        if time.monotonic() - told > QUIET_LINES_EVERY:
            sys.stderr.write(f"{what}: {100 * done // max(total, 1)}%\n")
            told = time.monotonic()

    return tell
