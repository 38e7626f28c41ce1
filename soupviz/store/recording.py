"""A run is kept from its first second: its status, and a sign of life for as long as its process lives."""

import getpass
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from soupviz.errors import Cancelled
from soupviz.store.database import Store
from soupviz.store.runs import HEARTBEAT

starter: ContextVar[str] = ContextVar("starter", default="")
"""Who asked for what this thread does, where that is not who runs the process."""


def system_user() -> str:
    """Who runs this process; empty where the system does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


@contextmanager
def recorded(store: Store, key: str, title: str, recipe: dict[str, Any]) -> Iterator[None]:
    """Keep the run's status in the store, with a heartbeat for as long as this process lives."""
    store.begin_run(key, title, recipe, starter.get() or system_user())
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT / 4):
            store.touch_run(key)

    # A thread of its own: one batch, or decoding a split, may take longer than a run may be silent.
    heart = threading.Thread(target=beat, name="soupviz-heartbeat", daemon=True)
    heart.start()
    try:
        yield
    except (Cancelled, KeyboardInterrupt):
        store.end_run(key, "cancelled")
        raise
    except Exception as error:
        store.end_run(key, "failed", error=str(error))
        raise
    finally:
        over.set()
        heart.join()
