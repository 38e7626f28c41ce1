"""What a notebook shows of a kitchen, a soup and a curve; and the notebook of the examples, run cell by cell."""

import ast
import copy
import json
import os
import pickle
import sys
import warnings
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from kitchens import change_yaml, regression_kitchen, small_kitchen

import soupviz as sv
from soupviz.analysis.verdicts import verdict_of
from soupviz.errors import SoupError
from soupviz.notebooks.charts import picture_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_kitchen(tmp_path_factory.mktemp("kitchen"), num_ingredients=4, num_examples=60)


@pytest.fixture
def kitchen(file: Path) -> sv.Kitchen:
    return sv.Kitchen.load(file)


def shown(thing: Any) -> str:
    text = thing._repr_html_()
    for svg in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + svg.partition("</svg>")[0] + "</svg>")
    return text


def test_a_searched_soup_shows_its_search_its_scores_and_the_verdict(kitchen):
    soup = sv.greedy(kitchen, alpha=0.3)
    text = shown(soup)
    assert text.count("<svg") == 1
    assert "the search accepted" in text and "reports" in text and soup.made_of in text
    assert escape(verdict_of(kitchen, soup).sentence) in text


def test_a_soup_is_one_line_where_it_is_printed_with_the_split_that_reports(kitchen, tmp_path):
    soup = sv.greedy(kitchen, alpha=0.3)
    assert str(soup) == f"<Soup {soup.title}: accuracy {soup.scores['test'].accuracy:.1%} on test>".replace("%", " %")
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=20)
    without_test = sv.Kitchen.load(change_yaml(file, lambda document: document["data"].pop("test")))
    assert repr(sv.uniform(without_test)).endswith("on held_out, which selected it>")


def test_another_soup_shows_itself_among_the_ingredients(kitchen):
    kitchen.score()
    text = shown(sv.uniform(kitchen))
    assert "average among 4 ingredients on held_out" in text


def test_an_ensemble_shows_itself_too(kitchen):
    assert "ensemble" in shown(sv.cook(kitchen, {"method": "ensemble", "choice": "uniform"}))


def test_a_kitchen_shows_its_ingredients_before_and_after_they_are_scored(file, tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=20))
    text = shown(kitchen)
    assert "<svg" not in text and "m_1" in text and "2 ingredients" in text
    kitchen.score()
    assert "accuracy on held_out" in shown(kitchen) and shown(kitchen).count("<svg") == 1


def test_showing_scores_nothing(kitchen, evaluations):
    sv.greedy(kitchen)
    before = len(evaluations)
    shown(kitchen)
    assert len(evaluations) == before


def test_names_are_text_and_no_markup(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=1, num_examples=20, name="<b>k</b>")
    assert "&lt;b&gt;k" in shown(sv.Kitchen.load(file))


def test_without_what_draws_there_is_the_table(kitchen, monkeypatch):
    monkeypatch.setattr("soupviz.notebooks.showing.find_spec", lambda _name: None)
    text = shown(sv.greedy(kitchen))
    assert "<svg" not in text and "<table>" in text


def test_a_curve_is_a_dataframe_that_shows_its_picture(kitchen):
    curve = sv.interpolate(kitchen, "m_0", "m_1", points=5)
    assert isinstance(curve, pd.DataFrame)
    text = shown(curve)
    assert text.count("<svg") == 1 and "m_0 → m_1" in text and "dataframe" in text
    assert curve.to_csv(index=False).startswith("alpha,value,")


@pytest.mark.parametrize(
    "derived",
    [
        lambda curve: curve[curve["alpha"] > 0.2],
        lambda curve: curve.copy(),
        lambda curve: copy.deepcopy(curve),
        lambda curve: pickle.loads(pickle.dumps(curve)),
        lambda curve: curve.assign(error=1 - curve["accuracy"]),
        lambda curve: pd.concat([curve, curve]),
    ],
)  # fmt: skip
def test_what_is_made_of_a_curve_is_a_plain_dataframe(kitchen, derived):
    curve = sv.interpolate(kitchen, "m_0", "m_1", points=3)
    found = derived(curve)
    assert type(found) is pd.DataFrame
    assert found["alpha"].isin([0.0, 0.5, 1.0]).all()


def test_a_pickled_curve_has_the_same_values(kitchen):
    curve = sv.interpolate(kitchen, "m_0", "m_1", points=3)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(curve)), pd.DataFrame(curve))


def test_a_curve_of_another_metric_is_drawn_too(tmp_path):
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path))
    first, second = kitchen.names[:2]
    assert "RMSE" in shown(sv.interpolate(kitchen, first, second, points=3, stop=1.5))


def test_plot_is_a_chart_of_altair(kitchen):
    pytest.importorskip("altair", reason="needs altair")
    soup = sv.greedy(kitchen, alpha=0.3)
    curve = sv.interpolate(kitchen, "m_0", soup, points=5)
    for chart in (soup.plot(), sv.uniform(kitchen).plot(), curve.plot()):
        told = chart.to_dict()
        assert told["layer"] and told["title"]
        assert chart.properties(width=100).to_dict()["width"] == 100


def test_pandas_own_plot_is_still_there(kitchen):
    curve = sv.interpolate(kitchen, "m_0", "m_1", points=3)
    assert curve.plot.line.__doc__ == pd.DataFrame({"a": [1]}).plot.line.__doc__


def test_without_altair_plot_says_how_to_install_it(kitchen, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(SoupError, match="pip install altair"):
        sv.greedy(kitchen).plot()


def test_a_kitchen_of_which_nothing_is_known_has_no_picture(tmp_path):
    assert picture_of(sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=20))) is None


# The example


NOTEBOOK = ROOT / "examples" / "notebook" / "soup.ipynb"


def cells() -> list[str]:
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_of_the_examples_runs_cell_by_cell(cache_with_demo, tmp_path, monkeypatch):
    """As a kernel does: statements first, then what the last line is, and how that shows itself."""
    pytest.importorskip("altair", reason="needs altair")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    seen = []
    for text in cells():
        *statements, last = ast.parse(text).body
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        assert isinstance(last, ast.Expr)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        seen.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    assert sum("<svg" in text for text in seen) == 3  # the kitchen, the soup, the curve
    assert {"soup.safetensors", "soup.html"} <= {path.name for path in tmp_path.iterdir()}


def test_the_notebook_has_no_outputs_of_ours():
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in document["cells"])


@pytest.mark.extras
@pytest.mark.slow
def test_a_kernel_runs_the_notebook(cache_with_demo, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    document = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(document)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter about itself
        resources = {"metadata": {"path": str(tmp_path)}}
        done = nbclient.NotebookClient(document, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [output.get("data", {}) for cell in done.cells for output in cell.get("outputs", ())]
    assert sum("<svg" in str(data.get("text/html", "")) for data in shown) == 3
    assert any("vegaEmbed" in str(data.get("text/html", "")) for data in shown)
