"""Imports run one way: app, pages -> soupviz.ui -> soupviz -> torch."""

import ast
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from kitchens import small_kitchen

import soupviz
from soupviz import errors
from soupviz.errors import SoupError
from soupviz.extras import EXTRAS

CORE = Path(soupviz.__file__).parent
SCREEN = {"streamlit", "plotly", "altair"}
HEAVY = (
    "streamlit",
    "plotly",
    "altair",
    "ray",
    "timm",
    "optuna",
    "transformers",
    "pandas",
    "sklearn",
    "scipy",
    "torchvision",
)


def imported(source: str) -> set[str]:
    """Every dotted name that a source text imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {
                f"{'.' * node.level}{node.module or ''}",
                *(f"{node.module}.{alias.name}" for alias in node.names),
            }
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return names


def wrong_way(source: str) -> set[str]:
    """What a file of the core imports though it must not: the screen's libraries, what draws by them, pages and app."""
    above = ("soupviz.ui", "soupviz.notebooks", "pages", "app")
    return {
        name
        for name in imported(source)
        if name.partition(".")[0] in SCREEN or any(name == place or name.startswith(f"{place}.") for place in above)
    }


def core_files() -> list[Path]:
    return [path for path in CORE.rglob("*.py") if path.relative_to(CORE).parts[0] not in ("ui", "notebooks")]


@pytest.mark.parametrize("path", core_files(), ids=lambda path: path.stem)
def test_the_core_imports_nothing_of_the_screen(path):
    assert wrong_way(path.read_text(encoding="utf-8")) == set()


def test_there_is_a_core_to_look_at():
    assert {"averaging", "evaluator", "kitchen", "arguments"} <= {path.stem for path in core_files()}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import streamlit as st", {"streamlit"}),
        ("import plotly.graph_objects as go", {"plotly.graph_objects"}),
        ("from altair import Chart", {"altair", "altair.Chart"}),
        ("def f():\n    import streamlit", {"streamlit"}),
        ("import importlib\nimportlib.import_module('plotly')", {"plotly"}),
        ("from soupviz.ui import charts", {"soupviz.ui", "soupviz.ui.charts"}),
        ("from soupviz import ui", {"soupviz.ui"}),
        ("import pages.soup", {"pages.soup"}),
        ("import torch\nfrom soupviz.mixing.averaging import mix\nfrom soupviz.uinteresting import x", set()),
    ],
)
def test_the_test_of_imports_finds_what_it_looks_for(source, found):
    assert wrong_way(source) == found


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_are_absolute(path):
    assert not [name for name in imported(path.read_text(encoding="utf-8")) if name.startswith(".")]


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CORE.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_soupviz_loads_no_heavy_library():
    code = f"import sys, soupviz; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    assert run(code).strip() == "[]"


def test_the_check_of_loaded_libraries_would_find_one():
    code = f"import sys, soupviz, pandas; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    assert run(code).strip() == "['pandas']"


def test_the_core_and_the_command_line_run_where_no_extra_is_installed(tmp_path):
    code = (
        f"import sys\nfor name in {sorted(chain(*EXTRAS.values()))!r}: sys.modules[name] = None\n"
        "from soupviz.cli.run import main\nmain(['soup', sys.argv[1], '--recipe', 'greedy', '--json'])"
    )
    assert '"trajectory"' in run(code, str(small_kitchen(tmp_path)))


def test_the_names_that_soupviz_exports():
    assert soupviz.__all__ == sorted(soupviz.__all__)
    promised = {"Kitchen", "uniform", "greedy", "interpolate", "export"}
    assert promised <= set(soupviz.__all__)
    assert all(getattr(soupviz, name) is not None for name in soupviz.__all__)


def test_tab_completion_offers_every_exported_name_before_it_is_loaded():
    assert run("import soupviz; print(dir(soupviz))").strip() == str(soupviz.__all__)


def test_every_error_of_a_users_making_is_a_soup_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    users = [kind for kind in kinds if kind is not errors.Cancelled]
    assert all(issubclass(kind, SoupError) for kind in users)
    assert issubclass(SoupError, ValueError)
    assert not issubclass(errors.Cancelled, SoupError)
