"""A run is kept from its first second: its status, and a sign of life for as long as its process lives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from soupviz.errors import Cancelled
from soupviz.store.database import Store
from soupviz.store.runs import HEARTBEAT


@contextmanager
def recorded(store: Store, key: str, title: str, recipe: dict[str, Any]) -> Iterator[None]:
    """Keep the run's status in the store, with a heartbeat for as long as this process lives."""
    store.begin_run(key, title, recipe)
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
