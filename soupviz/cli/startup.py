"""How a process of ours starts."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import without garbage collection, then leave what was imported out of it for good.

    Modules live as long as the process does: searching PyTorch's for garbage, while they load and again at exit, takes
    about a quarter of the time of a command that has little to do. Large tensors get large pages where the kernel
    leaves that to programs: new memory in small ones took half as long again as mixing into it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it at its first allocation
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
