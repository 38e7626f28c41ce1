"""The README is short, opens with a picture and two commands that hold, and names every command."""

import re
import subprocess

import pytest
from documents import README, ROOT
from typer.main import get_command

from soupviz.cli.run import application
from soupviz.tasks.finding import TASKS

TEXT = README.read_text(encoding="utf-8")
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/streamlit run app.py"
TEST = ".venv/bin/pip install -r requirements-dev.txt && .venv/bin/python -m pytest"


def test_it_opens_with_a_picture_and_the_two_commands() -> None:
    places = [TEXT.index(text) for text in ("# soupviz", "![", INSTALL, TEST, "\n## ")]
    assert places == sorted(places)


def test_it_is_read_in_one_sitting() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in TEST.replace(".venv/bin/", "").split(" && "):
        tool, _, arguments = part.partition(" ")
        assert re.search(rf'^"\$environment/bin/{tool}" .*{re.escape(arguments.split()[-1])}$', script, re.MULTILINE)


def test_its_table_has_every_command_and_no_other() -> None:
    section = TEXT.partition("\n## Commands\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)", section, re.MULTILINE))
    assert named == set(get_command(application()).commands)  # type: ignore[attr-defined]


def test_its_results_are_of_every_task() -> None:
    section = TEXT.partition("\n## What it finds\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`:", section, re.MULTILINE)) == set(TASKS)


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert 'license = "MIT"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_kitchen_lies_in_the_repository_so_that_the_first_command_opens_the_demo():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone")
    assert not [name for name in listed.stdout.split() if name.endswith("kitchen.yaml")]
