"""Packages that only some work needs: named with the command that installs them, and part of what pip knows."""

import sys
import tomllib
from importlib.util import find_spec
from itertools import chain

import pytest
from documents import ROOT
from kitchens import run_command, small_kitchen
from packaging.requirements import Requirement

from soupviz import extras
from soupviz.errors import DataError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BY_OTHERS = {"altair": "streamlit"}
"""Modules that come with another package."""


def names(requirements):
    return {Requirement(text).name for text in requirements}


def pins(file):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {one.name: one for one in (Requirement(line) for line in lines if line and line[0] not in "-#")}


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_brings_every_module_that_is_said_to_come_with_it(extra):
    brought = names(PROJECT["optional-dependencies"][extra])
    for module in extras.EXTRAS[extra]:
        assert extras.PACKAGES.get(module, BY_OTHERS.get(module, module)).replace("_", "-") in brought


def test_all_has_every_other_extra():
    [everything] = map(Requirement, PROJECT["optional-dependencies"]["all"])
    assert everything.name == "soupviz"
    assert everything.extras == PROJECT["optional-dependencies"].keys() - {"all"}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-extras.txt"])
def test_what_is_developed_with_lies_within_the_ranges(file):
    ranges = {}
    for text in [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]:
        ranges.setdefault(Requirement(text).name, []).append(Requirement(text).specifier)
    found = pins(file)
    assert found
    for name, pin in found.items():
        [version] = [one.version for one in pin.specifier]
        assert all(version in specifier for specifier in ranges.get(name, [])), f"{name} {version}"


def test_requirements_have_all_that_the_core_and_the_dashboard_need():
    needed = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["dashboard"])
    assert needed <= pins("requirements.txt").keys()


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(extras, "_is_installed", lambda: False)
    with pytest.raises(DataError) as caught, extras.needed("data.test: decoding images", DataError):
        import PIL.Image  # noqa: F401
    assert str(caught.value) == "data.test: decoding images needs pillow, which is not installed: pip install pillow"
    monkeypatch.setattr(extras, "_is_installed", lambda: True)
    assert extras.command("PIL") == "pip install 'soupviz[vision]'"
    assert extras.command("PIL", "timm", "optuna") == "pip install 'soupviz[vision,search]'"
    assert extras.command("ultralytics") == "pip install ultralytics"


def test_what_is_there_but_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise ImportError('of its own')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="of its own"), extras.needed("this"):
        import broken_package  # noqa: F401


@pytest.mark.parametrize(
    ("modules", "arguments"),
    [
        (("optuna",), ("soup", "KITCHEN", "--recipe", "bayesian")),
        (("ray",), ("score", "KITCHEN", "--executor", "ray")),
        (("sklearn",), ("demo", "KITCHEN/demo")),
        (("soundfile",), ("demo", "KITCHEN/demo", "--task", "speech")),
        (("jinja2",), ("report", "KITCHEN", "--out", "KITCHEN/report.html")),
        (("vl_convert",), ("report", "KITCHEN", "--out", "KITCHEN/report.html")),
    ],
)
def test_a_command_says_in_one_line_what_it_lacks(modules, arguments, tmp_path, capsys, monkeypatch):
    folder = small_kitchen(tmp_path).parent
    for name in [*modules, *sys.modules]:
        if name.partition(".")[0] in modules:
            monkeypatch.setitem(sys.modules, name, None)
    status, _, err = run_command(capsys, *(one.replace("KITCHEN", str(folder)) for one in arguments))
    assert status == 2
    [line] = [line for line in err.splitlines() if line.startswith("soupviz: ")]
    assert line.endswith(f"not installed: {extras.command(*modules)}")


def test_the_modules_are_those_that_python_finds_under_these_names():
    """What requirements.txt brings; a wrong name would be told as missing for ever."""
    for module in ("streamlit", "plotly", "altair", "sklearn", "jinja2", "vl_convert", "PIL", "soundfile", "rapidfuzz"):
        assert find_spec(module) is not None
