"""Fixtures that every test module shares: a private cache, the demo kitchen, the real CIFAR-10 kitchen."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import browser, page, server  # noqa: F401 - fixtures
from filelock import FileLock
from hypothesis import settings
from shared import SHARED
from workers import close_all

from soupviz.demo.digits import VERSION, demo_kitchen
from soupviz.scoring.evaluator import Evaluator

settings.register_profile("soupviz", deadline=None, derandomize=True, database=None)
settings.load_profile("soupviz")

LONG = ("test_textbook.py", "test_pages.py", "test_browser.py", "test_reports.py")
"""The files that take longest: they begin first, so that no process waits for them at the end."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes, whose tests start others: with one thread each they do not take the cores from one another.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for each core, up to four, where the whole suite is asked for; a few files run in this process."""
    is_whole = not config.args or set(config.args) == set(config.getini("testpaths"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores) if is_whole and cores > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """AppTest leaves its script as `__main__`, which a process that multiprocessing starts would run again."""
    module = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = module


@pytest.fixture(autouse=True)
def no_workers_left() -> Iterator[None]:
    """Workers that a test had in this process have folders of their own."""
    yield
    close_all()


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SOUPVIZ_CACHE", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("own-cache")
    monkeypatch.setenv("SOUPVIZ_CACHE", str(folder))
    return folder


@pytest.fixture
def memory(empty_cache: Path) -> Iterator[Any]:
    """fsspec's file system in memory, empty, and a cache of the test's own."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """The demo's kitchen.yaml, built once. Scores gather in its store; a test that writes takes `demo_copy`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one process trains it, all have a copy
    with FileLock(shared / "demo.lock"):
        built = demo_kitchen(shared / "demo" / "digits")
    folder = tmp_path_factory.mktemp("demo") / "digits"
    shutil.copytree(built.parent, folder, ignore=shutil.ignore_patterns(".soupviz"))
    return folder / built.name


@pytest.fixture
def demo_copy(demo: Path, tmp_path: Path) -> Path:
    """The kitchen.yaml of a copy of the demo kitchen with an empty store."""
    shutil.copytree(demo.parent, tmp_path / "digits", ignore=shutil.ignore_patterns(".soupviz"))
    return tmp_path / "digits" / "kitchen.yaml"


@pytest.fixture
def cache_with_demo(demo: Path, empty_cache: Path) -> Path:
    """A cache folder of the test's own, in which the demo is built already and nothing of it is scored."""
    shutil.copytree(demo.parent, empty_cache / "demo" / VERSION, ignore=shutil.ignore_patterns(".soupviz"))
    return empty_cache


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each evaluation."""
    seen: list[int] = []
    evaluate = Evaluator.evaluate

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(1)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    return seen


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kitchen.yaml of the real CIFAR-10 kitchen, unpacked."""
    unpack = SHARED / "kitchens" / "unpack"
    if not unpack.is_file():
        pytest.skip("needs the CIFAR-10 kitchen of ../shared/kitchens, which is not here")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([unpack, folder], check=True, capture_output=True)
    return folder / "kitchen.yaml"
