"""Building a demo's kitchen where there is none yet: whole, or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from soupviz.files import cache_folder
from soupviz.types import Progress


def built(folder: Path | None, version: str, build: Callable[[Path, Progress], None], progress: Progress) -> Path:
    """A demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: in the user's cache folder, under the version.
    """
    target = folder or cache_folder("demo") / version
    file = target / "kitchen.yaml"
    if not file.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".demo-", dir=target.parent))
        try:
            work.chmod(0o755)
            with _one_thread():
                build(work, progress)
            if target.is_dir():
                shutil.copytree(work, target, dirs_exist_ok=True)
            else:
                work.rename(target)
        except OSError:  # another process was first
            if not file.is_file():
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return file


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network gains nothing by more; where the cores are busy, waiting for each other took 5 times as long.

    It also makes the demo the same on any number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
