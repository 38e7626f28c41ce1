"""Recordings on every page: words and utterances, players, and what both models heard."""

import re
import shutil

import pytest
from speech_kitchens import speech_kitchen
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, soup_and_rival, trusted  # noqa: F401 - a fixture
from test_ui_own_tasks import told_by
from test_ui_regression import page

import soupviz as sv

WRONG = r"accura|\bcorrect\b|\bexample"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    file = speech_kitchen(tmp_path_factory.mktemp("speech") / "k", num_units=30, steps=80)
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.5, complete=True)
    kitchen.scores.of_ingredients("test")
    return file


@pytest.fixture
def file(built, tmp_path):
    return trusted(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")


def test_every_page_speaks_of_words_and_utterances(file):
    for name in [name for name in PAGES if name != "kitchens.py"]:
        at = page(name, file)
        if name == "soup.py":
            press_all(at, "Cook")
        told = told_by(at)
        assert not re.findall(WRONG, told, re.IGNORECASE), (name, re.findall(WRONG, told, re.IGNORECASE))
        if name in ("ingredients.py", "soup.py", "compare.py", "alpha.py", "plane.py"):
            assert "word error rate" in told.lower(), name


def test_cards_have_a_player_and_what_both_models_heard(file):
    at = soup_and_rival(file)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert "<audio controls" in shown and "data:audio/wav;base64," in shown
    assert all(part in shown for part in ("<span>said</span>", "<span>soup</span>", "<span>rival</span>", "<del>"))
