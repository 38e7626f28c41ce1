"""What answers take where they are kept: two bounds, and one clear line."""

import pytest
from kitchens import json_of, small_kitchen

import soupviz as sv
from soupviz.scoring import kept, scorer
from soupviz.store import logits


@pytest.fixture
def kitchen(tmp_path):
    return sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2))


def test_answers_are_counted_in_bytes_of_float32(kitchen):
    held_out = kitchen.splits.load("held_out")
    assert kitchen.evaluator.answer_bytes(held_out) == 200 * 3 * 4


def test_answers_that_take_too_much_are_not_kept_and_ensembles_are_refused(kitchen, monkeypatch):
    monkeypatch.setattr(scorer, "LOGITS_BYTES", 100)
    monkeypatch.setattr(kept, "MOST_BYTES", 2399)
    assert kitchen.scores.score((("m_0", 1.0),)).num_units == 200
    with pytest.raises(sv.SoupError, match=r"held_out take .* Take a soup, or fewer or smaller examples"):
        kitchen.scores.score((("m_0", 0.5), ("m_1", 0.5)), "held_out", "probabilities")
    monkeypatch.setattr(kept, "MOST_BYTES", 2400)
    assert kitchen.scores.score((("m_0", 0.5), ("m_1", 0.5)), "held_out", "probabilities").num_units == 200


def test_answers_that_nobody_asked_for_are_kept_within_a_budget_of_the_kitchens(kitchen, monkeypatch, capsys):
    monkeypatch.setattr(logits, "BUDGET", 3000)
    kitchen.scores.of_ingredients()
    mixes = [((name, 1.0),) for name in kitchen.names]
    keys = [kitchen.scores.key(mix, "held_out", "average") for mix in mixes]
    assert [kitchen.store.logits(key) is not None for key in keys] == [True, False]
    assert 2400 < json_of(capsys, "cache", kitchen.file)["store"]["logits"] <= 3000
    for mix in mixes:  # what is asked for is there, and kept
        kitchen.scores.logits(mix)
    assert kitchen.store.size()["logits"] > 3000
