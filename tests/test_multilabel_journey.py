"""Several labels for each example, on real data: what counts as better, and what the pages say of classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from digit_labels import CLASSES, multilabel_digits
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, errors, fresh_server, press_all, settle, trusted  # noqa: F401 - a fixture
from test_ui_curves import computed
from test_ui_regression import page, said

import soupviz as sv
from soupviz.analysis import gains


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return multilabel_digits(tmp_path_factory.mktemp("digits") / "k", num_ingredients=4)


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return trusted(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")


def test_a_greedy_soup_of_several_labels_is_no_worse_than_the_best_ingredient(built):
    kitchen = sv.Kitchen.load(built)
    scores = kitchen.scores.of_ingredients()
    soup = sv.greedy(kitchen)
    assert 0.7 < max(score.value for score in scores.values()) <= soup.scores["held_out"].value < 1
    assert set(soup.scores) == {"held_out", "test", "shifts.noise"}


def test_an_example_is_better_answered_with_fewer_wrong_labels(built):
    kitchen = sv.Kitchen.load(built)
    new, old = (kitchen.scores.score(((name, 1.0),)).outcomes for name in ("digits_0", "digits_3"))
    wrong = [(one["false_positive"] | one["false_negative"]).sum(axis=1) for one in (new, old)]
    found = kitchen.task.better(new, old)
    assert found == ((wrong[0] < wrong[1]).sum(), (wrong[0] > wrong[1]).sum())
    assert sum(found) < len(new)  # examples of which no label changed count for neither


def test_an_ensemble_of_two_averages_the_chance_of_each_label(built):
    kitchen = sv.Kitchen.load(built)
    names = ("digits_0", "digits_1")
    found = gains.score_ensembles(kitchen, names, "held_out")[names]
    mix = tuple((name, 0.5) for name in names)
    assert found == pytest.approx(float(kitchen.scores.score(mix, "held_out", "probabilities").value))


def test_gains_are_drawn_against_the_disagreement_of_several_labels(file: Path) -> None:
    sv.Kitchen.load(file).scores.of_ingredients()
    at = computed(page("diversity.py", file), "Score 6 averages of two")
    assert "for each point of disagreement" in said(at) and "A line needs" not in said(at)
    assert errors(at) == []


def test_examples_of_several_labels_are_told_by_the_names_of_their_classes(file: Path) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(file)
    at.query_params["view"] = "A soup and its rival"
    at.switch_page("pages/diversity.py")
    settle(at.run())
    press_all(at, "Score both")
    assert not at.exception and errors(at) == []
    assert "any number of classes" in said(at) and "has no classes" not in said(at)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert "missed " in shown and any(f"<b>{name}" in shown for name in CLASSES)


def test_no_label_says_how_many_are_wrong_without_a_finite_answer():
    from soupviz.tasks.classes.multilabel import Multilabel
    from soupviz.tasks.outcomes import Outcomes

    flags = np.zeros((2, 3), dtype=bool)
    columns = {"finite": np.array([True, False]), "false_positive": flags, "false_negative": flags.copy()}
    columns["false_negative"][0] = True
    one = Outcomes.of(columns, {"label": flags})
    other = Outcomes.of(columns | {"finite": np.array([False, True])}, {"label": flags})
    assert Multilabel().better(one, other) == (1, 1)
