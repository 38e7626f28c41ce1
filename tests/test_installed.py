"""The wheel, installed without the repository: a bare node scores with the core, and the extra opens the demo."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.parser import Parser
from pathlib import Path

import pytest
from browsing import CHROMIUM
from documents import ROOT
from kitchens import json_of, small_kitchen

LARGEST = 1.2 * 10**6
"""Bytes of a wheel: some 530 text files, of which names, sums and compressed text take 1.1 MB."""

pytestmark = pytest.mark.slow
Environment = Callable[[str], Path]


def uv(*arguments: object, cwd: Path) -> str:
    tool = pytest.importorskip("uv", reason="needs uv of requirements-dev.txt").find_uv_bin()
    done = subprocess.run([tool, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Installs the wheel with an extra in an environment of its own, which goes again: its folder of programs."""
    with ExitStack() as stack:

        def install(extra: str) -> Path:
            base = tmp_path_factory.getbasetemp()
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base, prefix="environment-")))
            uv("venv", "--clear", "--python", sys.executable, place, cwd=base)
            uv("pip", "install", "--python", place / "bin" / "python", f"{wheel}{extra}", cwd=base)
            return place / "bin"

        yield install


def run(program: Path, *arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command in a folder of its own, which finds no soupviz but the installed one."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def test_the_wheel_is_small_and_holds_the_dashboard_and_its_types(wheel):
    assert wheel.stat().st_size < LARGEST
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        [place] = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(opened.read(place).decode())
    pages = {f"soupviz/dashboard/pages/{path.name}" for path in (ROOT / "pages").glob("*.py")}
    app = {"soupviz/dashboard/app.py", "soupviz/dashboard/.streamlit/config.toml"}
    assert {"soupviz/py.typed", "soupviz/reports/report.css", *pages, *app} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().startswith("# soupviz")


def test_the_core_alone_scores_and_cooks_as_the_checkout_does_and_says_what_a_dashboard_needs(
    environment, tmp_path, capsys
):
    programs = environment("")
    installed = run(programs / "python", "-m", "pip", "--version", cwd=tmp_path)
    assert "No module named pip" in installed.stderr  # it is this environment that runs, and not the tests'
    kitchen = small_kitchen(tmp_path / "own")
    done = run(programs / "soupviz", "soup", kitchen, "--recipe", "greedy", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == json_of(capsys, "soup", kitchen, "--recipe", "greedy")["scores"]
    for module in ("streamlit", "torchvision", "PIL", "sklearn", "plotly"):
        assert run(programs / "python", "-c", f"import {module}", cwd=tmp_path).returncode == 1
    done = run(programs / "soupviz", "dashboard", tmp_path, cwd=tmp_path)
    lacking = "soupviz: dashboard needs streamlit, which is not installed: pip install 'soupviz[dashboard]'\n"
    assert (done.returncode, done.stderr) == (2, lacking)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs Chromium: {CHROMIUM} is not there")
def test_the_dashboard_opens_the_demo_in_any_folder(environment, tmp_path, page, empty_cache):
    programs = environment("[dashboard]")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(programs / "soupviz"), "dashboard", "--headless", "--json"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        try:
            assert server.stdout is not None
            told = server.stdout.readline()
            assert told, (tmp_path / "log").read_text(encoding="utf-8")
            page.goto(json.loads(told)["url"])
            page.get_by_text("Best on held_out").wait_for()  # the demo was built, and its ingredients scored
            page.get_by_text("digits_02").first.wait_for()
        finally:
            server.terminate()
    assert not list(tmp_path.glob("**/app.py"))
