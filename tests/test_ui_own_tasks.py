"""Tasks from outside on every page: no traceback, no word of another task, a sentence for what they lack."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from own_kitchens import KINDS, VALUES, kitchen_from_outside
from streamlit.testing.v1 import AppTest
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, soup_and_rival, trusted  # noqa: F401 - a fixture
from test_ui_regression import page, said

import soupviz as sv

WRONG = re.compile(r"accura|\bcorrect\b|\bexample", re.IGNORECASE)
"""Words of other tasks, of one whose unit is no example."""

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A kitchen of each kind with a soup, built when it is asked for first."""
    known: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in known:
            known[kind] = kitchen_from_outside(kind, tmp_path_factory.mktemp(kind) / "k", num_units=30)
            kitchen = sv.Kitchen.load(known[kind])
            sv.greedy(kitchen, alpha=0.5, complete=True)
            kitchen.scores.of_ingredients("test")
        return known[kind]

    return find


@pytest.fixture
def kitchen_of(built: Build, tmp_path: Path) -> Build:
    return lambda kind: trusted(shutil.copytree(built(kind).parent, tmp_path / "k") / "kitchen.yaml")


def told_by(at: AppTest) -> str:
    """All that a page tells: sentences, figures, the titles of pictures and the heads of tables."""
    parts = [said(at), *(f"{one.label} {one.value} {one.delta} {one.help}" for one in at.metric)]
    parts += [str(list(one.value.columns)) for one in at.dataframe]
    parts += [one.proto.spec for one in at.get("vega_lite_chart")]
    parts += [json.dumps(json.loads(one.proto.spec)["layout"]) for one in at.get("plotly_chart")]
    return " ".join(parts)


@pytest.mark.parametrize("kind", ["wer", "map"])
def test_every_page_speaks_of_a_task_from_outside_in_its_own_words(kind: str, kitchen_of: Build) -> None:
    file = kitchen_of(kind)
    for name in [name for name in PAGES if name != "kitchens.py"]:
        at = page(name, file)
        if name == "soup.py":
            press_all(at, "Cook")
        told = told_by(at)
        assert not WRONG.findall(told), (name, WRONG.findall(told))
        if name in ("ingredients.py", "soup.py", "compare.py", "alpha.py", "plane.py"):
            assert VALUES[kind].lower() in told.lower(), name


@pytest.mark.parametrize("kind", KINDS)
def test_cards_show_inputs_targets_and_what_both_models_answer(kind: str, kitchen_of: Build) -> None:
    file = kitchen_of(kind)
    at = soup_and_rival(file)
    shown = "".join(one.proto.body for one in at.get("html"))
    first = {"wer": "frames: float32, shape (", "nats": "input_ids: int64", "map": "<img ", "spearman": "float32: "}
    answers = {"wer": "edits ", "nats": "nats ", "map": "found ", "spearman": "answer "}
    assert first[kind] in shown
    assert f"soup {answers[kind]}" in shown and f"rival {answers[kind]}" in shown
    assert re.search(r"label <b>[-\d]", shown)
    assert "-1" not in "".join(re.findall(r"label <b>(.*?)</b>", shown)) or kind == "spearman"
    together = kind in ("map", "spearman")
    assert ("of all" in said(at)) is together and (" better than the rival" in said(at)) is not together


@pytest.mark.parametrize("kind", ["map", "spearman"])
def test_what_is_judged_only_together_has_no_errors_to_compare_and_says_so(kind: str, kitchen_of: Build) -> None:
    file = kitchen_of(kind)
    at = page("diversity.py", file)
    assert "no errors to hold against each other" in said(at) and "`hardness`" in at.info[0].value
    at = page("layers.py", file)
    assert not {"better", "worse"} & {column for one in at.dataframe for column in one.value.columns}
