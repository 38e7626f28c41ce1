"""The order of packages: each imports only those below it in the list in pyproject.toml, lazily and for types too."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from docs import house
from soupviz.recipes import MENU, PATHS, Pooled, Recipe

ROOT = Path(__file__).parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")
MOST_LINES = 300
EVERY_RECIPE = [*MENU.values(), *PATHS.values()]
A_CLASSIFIERS = re.compile(r"(^|_)(accuracy|correct)(_|$)")
MAY_SAY_SO = {
    "weights/logged.py": "what training loops log of a classifier, against ours",
    "recognition/checking.py": "the same, once a kitchen is proposed",
    "ui/tables.py": "the same, beside the scores",
    "cli/opening.py": "the same, as keys of `new --json`",
    "learning/training_state.py": "a key of a student's epochs, in runs and `soup --json`",
    "recipes/greedy.py": "the objective's name in recipes of versions before tasks",
    "types.py": "what the order `best` was called",
    "store/earlier.py": "the columns of stores before tasks",
    "store/packing.py": "the same",
}
ASKS_FOR_KIND = re.compile(r"isinstance\((self\.)?_?recipe, (?!Mapping)")


def looked_at(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINTER, "--no-cache", config], capture_output=True, text=True, cwd=ROOT, check=False)


def order() -> list[str]:
    [contract] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    return [module.strip() for layer in contract["layers"] for module in layer.split(":")]


def test_a_package_imports_only_packages_below_it():
    done = looked_at(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_an_import_that_goes_up(tmp_path):
    """With two layers exchanged it does."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    other = text.replace('    "soups",\n    "recipes",\n', '    "recipes",\n    "soups",\n')
    assert other != text
    (tmp_path / "pyproject.toml").write_text(other, encoding="utf-8")
    done = looked_at(tmp_path / "pyproject.toml")
    assert done.returncode == 1
    assert "soupviz.soups.cooking -> soupviz.recipes" in done.stdout


def test_the_picture_of_the_house_is_of_todays_imports():
    assert house.picture() == house.PICTURE.read_text(encoding="utf-8"), "run: python -m docs.house"


def test_every_package_and_module_has_its_place_in_the_order():
    there = {path.stem for path in (ROOT / "soupviz").iterdir() if not path.name.startswith("_")}
    assert {name for name in order() if not name.startswith("_")} == there - {"py"}


def test_few_modules_lie_beside_the_packages():
    beside = [path.stem for path in (ROOT / "soupviz").glob("*.py") if not path.stem.startswith("__")]
    assert len(beside) <= 10


def test_no_module_is_longer_than_can_be_read_at_once():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "soupviz").rglob("*.py")}
    assert not {path.name: length for path, length in lengths.items() if length > MOST_LINES}


def test_recipes_inherit_from_the_two_kinds_of_recipes_alone():
    assert all(set(kind.__bases__) <= {Recipe, Pooled} for kind in EVERY_RECIPE)


@pytest.mark.parametrize("kind", EVERY_RECIPE, ids=lambda kind: kind.__name__)
def test_a_recipe_declares_the_services_that_it_asks_for(kind):
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "services"
    }
    assert asked == kind.services


def test_what_a_recipe_is_belongs_to_the_recipe():
    """Whoever asks outside of recipes/ asks for a property."""
    outside = [path for path in (ROOT / "soupviz").rglob("*.py") if "recipes" not in path.parts]
    looked_through = [*outside, *(ROOT / "pages").glob("*.py")]
    assert [path.name for path in looked_through if ASKS_FOR_KIND.search(path.read_text(encoding="utf-8"))] == []


def named_in(source: str) -> set[str]:
    """The names in a module, and its texts of one word, which are keys."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        found |= {getattr(node, kind, None) for kind in ("id", "attr", "arg", "name")}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.-]+", node.value):
            found.add(node.value)
    return {name for name in found if isinstance(name, str)}


def a_classifiers_names(folder: Path) -> dict[str, set[str]]:
    """By module: names that only classification has."""
    found = {
        str(path.relative_to(folder)): {
            name for name in named_in(path.read_text(encoding="utf-8")) if A_CLASSIFIERS.search(name)
        }
        for path in folder.rglob("*.py")
        if "tasks" not in path.relative_to(folder).parts
    }
    return {path: names for path, names in found.items() if names}


def test_only_tasks_know_what_classification_counts():
    assert a_classifiers_names(ROOT / "soupviz").keys() == MAY_SAY_SO.keys()
    assert a_classifiers_names(ROOT / "pages") == {}


def test_a_module_that_counts_right_answers_is_found(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.py").write_text("accuracy = 1", encoding="utf-8")
    (tmp_path / "search.py").write_text("best = score.class_correct['best_accuracy']", encoding="utf-8")
    (tmp_path / "texts.py").write_text("told = 'the accuracy of all'", encoding="utf-8")
    assert a_classifiers_names(tmp_path) == {"search.py": {"class_correct", "best_accuracy"}}


def test_what_is_drawn_again_by_itself_has_a_container_of_its_own():
    pages = [*(ROOT / "soupviz").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]
    assert [path.name for path in pages if "fragment" in named_in(path.read_text(encoding="utf-8"))] == ["redrawing.py"]
