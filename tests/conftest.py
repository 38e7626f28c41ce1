"""Fixtures that every test module shares: a private cache, the demo kitchen, the real CIFAR-10 kitchen."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, page, server  # noqa: F401 - fixtures
from hypothesis import settings

from soupviz.demo import demo_kitchen
from soupviz.evaluation import Evaluator

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile("soupviz", deadline=None, derandomize=True, database=None)
settings.load_profile("soupviz")


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


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """The demo's kitchen.yaml, built once. Scores gather in its store; a test that writes takes `demo_copy`."""
    return demo_kitchen(tmp_path_factory.mktemp("demo") / "digits")


@pytest.fixture
def demo_copy(demo: Path, tmp_path: Path) -> Path:
    """The kitchen.yaml of a copy of the demo kitchen with an empty store."""
    shutil.copytree(demo.parent, tmp_path / "digits", ignore=shutil.ignore_patterns(".soupviz"))
    return tmp_path / "digits" / "kitchen.yaml"


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
