"""The order of packages: each imports only those below it in the list in pyproject.toml, lazily and for types too."""

import subprocess
import sys
import tomllib
from pathlib import Path

from docs import house

ROOT = Path(__file__).parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")
MOST_LINES = 300


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
