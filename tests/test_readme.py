"""The README names every command with its options, every recipe and every kitchen key, and its two commands hold."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import soupviz as sv
from soupviz import config
from soupviz.cli.run import app
from soupviz.recipes import MENU
from soupviz.weights import vocabulary

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/streamlit run app.py"
TEST = ".venv/bin/pip install -r requirements-dev.txt && .venv/bin/python -m pytest"
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
SPECS = [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, config.Spec)]
KEYS = sorted({key for spec in SPECS for key in spec.model_fields})


def rows(text: str = README) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def section(title: str) -> str:
    """From a heading to the next of its level or above."""
    level = title.partition(" ")[0]
    found = re.search(rf"^{re.escape(title)}$\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title}"
    return found.group(1)


def test_it_opens_with_a_picture_and_the_two_commands() -> None:
    places = [README.index(text) for text in ("# soupviz", "![", INSTALL, TEST, "\n## ")]
    assert places == sorted(places)


def test_the_pictures_are_there() -> None:
    names = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
    assert names
    assert all((ROOT / name).is_file() for name in names)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in TEST.replace(".venv/bin/", "").split(" && "):
        tool, _, arguments = part.partition(" ")
        assert re.search(rf'^"\$environment/bin/{tool}" .*{re.escape(arguments.split()[-1])}$', script, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_row(command: str) -> None:
    assert any(re.match(rf"`{command}\b", row[0]) for row in rows(section("## Commands")))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_has_a_row_that_names_the_command(command: str) -> None:
    text = section("## Commands")
    assert "`--json`" in text
    options = {row[0]: row[1] for row in rows(text) if row[0].startswith("`--")}
    for parameter in COMMANDS[command].params:
        for name in parameter.opts:
            if name.startswith("--") and name != "--json":
                assert any(f"`{name}`" in names and command in of.split(", ") for names, of in options.items()), name


def test_no_option_is_documented_for_a_command_that_lacks_it() -> None:
    for row in rows(section("## Commands")):
        if row[0].startswith("`--"):
            for command in row[1].split(", "):
                known = {name for parameter in COMMANDS[command].params for name in parameter.opts}
                assert set(re.findall(r"`(--[a-z-]+)`", row[0])) <= known


@pytest.mark.parametrize("method", [*MENU, "interpolation"])
def test_every_recipe_has_a_row(method: str) -> None:
    assert any(row[0].startswith(f"`{method}`") for row in rows(section("## Recipes")))


@pytest.mark.parametrize("key", KEYS)
def test_every_kitchen_key_has_a_row_that_says_its_default(key: str) -> None:
    kitchen = rows(section("## Your own kitchen"))
    found = [row for row in kitchen if row[0] == f"`{key}`" and len(row) == 3]
    assert len(found) == sum(key in spec.model_fields for spec in SPECS)
    for spec in SPECS:
        if key in spec.model_fields and spec.model_fields[key].is_required():
            assert any(row[2].startswith("required") for row in found)
        elif key in spec.model_fields and isinstance(default := spec.model_fields[key].default, (int, str)):
            shown = str(default).lower()
            assert not shown or any(row[2].strip("`").startswith(shown) for row in found), (key, default)


@pytest.mark.parametrize("corruption", config.CORRUPTIONS)
def test_every_corruption_has_a_row(corruption: str) -> None:
    assert any(row[0] == f"`{corruption}`" for row in rows(section("### transform")))


@pytest.mark.parametrize("name", [*vocabulary.WRAPPERS, *vocabulary.WRAPPED])
def test_everything_that_wraps_a_checkpoint_is_named(name: str) -> None:
    assert f"`{name}`" in section("## Checkpoints")


def test_the_kitchen_shown_is_one_that_is_accepted() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config.validate(yaml.safe_load(text), "README.md")


def run_shown(title: str) -> dict[str, Any]:
    """What the Python of a section leaves behind."""
    [text] = re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)
    left: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), left)
    return left


def test_the_python_shown_runs(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_copy.parent)
    run_shown("## Python")
    assert (demo_copy.parent / "again.safetensors").is_file()
    assert (demo_copy.parent / "soup.html").is_file()


def test_the_python_shown_for_a_table_of_scores_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    rows = ["model,test,blur", "a,0.7,0.5", "b,0.8,0.7", "c,0.9,0.9", "uniform soup,0.8,0.8"]
    (tmp_path / "results" / "scores.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    above = run_shown("### Shift")["points"].set_index("name")["above"]
    assert above["uniform soup"] == pytest.approx(0.1)


def test_every_public_name_is_one_that_exists() -> None:
    for name in re.findall(r"\bsv\.(\w+)", README):
        assert hasattr(sv, name), name


def test_it_names_no_place_of_one_machine() -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|opt|usr|tmp)/", README)
