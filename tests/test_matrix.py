"""The lowest and the newest versions that the package allows, on the oldest and the newest Python: `-m matrix`."""

import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest
from documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = ("pytest", "pytest-xdist", "hypothesis")
SMOKE = (
    "contract",
    "test_mixing.py",
    "test_exactness.py",
    "test_checkpoints.py",
    "test_images.py",
    "test_sentences.py",
    "test_recordings.py",
    "test_menu.py",
    "test_reports.py",
    "test_pages.py",
)
"""Files and checkpoints, mixing, scoring, recipes, data of each kind, a report, and every page."""

BY_TEST = "not slow and not matrix and not browser"


def uv(*arguments: str) -> str:
    tool = pytest.importorskip("uv", reason="needs uv of requirements-dev.txt").find_uv_bin()
    variables = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([tool, *arguments], env=variables, capture_output=True, text=True, check=False)
    if arguments[:2] == ("python", "find") and done.returncode:
        pytest.skip(f"no Python {arguments[2]} is here")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.matrix
@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_it_works_with_the_versions_at_both_ends(version, resolution, tmp_path):
    python = uv("python", "find", version)
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    extras = [one for name, all_of in PROJECT["optional-dependencies"].items() if name != "all" for one in all_of]
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join(dict.fromkeys([*PROJECT["dependencies"], *extras])), encoding="utf-8")
    tools = [pin for pin in pins if pin.partition("==")[0] in TOOLS]
    with tempfile.TemporaryDirectory(dir=tmp_path) as place:
        uv("venv", "--clear", "--python", python, place)
        inside = str(Path(place) / "bin" / "python")
        how = ("--resolution", resolution, "--only-binary", ":all:", "--compile-bytecode", "--python", inside)
        uv("pip", "install", *how, "--requirement", str(wanted), *tools)
        tests = [str(Path("tests") / name) for name in SMOKE]
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        done = subprocess.run(
            [inside, "-m", "pytest", "-q", "-n", "2", "-W", "default", "-m", BY_TEST, *tests],
            cwd=ROOT, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
