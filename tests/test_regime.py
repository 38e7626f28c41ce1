"""Whether averaging pays in a kitchen, and why not: said before a search, and by the log of it."""

import numpy as np
import pytest
from kitchens import json_of, run_command, small_kitchen
from scores import a_score

import soupviz as sv
from soupviz.analysis import decisions, preflight, regime
from soupviz.analysis.barriers import Barriers
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS

RIGHT = {"best": 90, "near": 89, "far": 80, "alike": 90}
"""Of a hundred."""


def found(gains: dict[str, float], metric=ACCURACY) -> regime.Regime | None:
    """The regime where half-way from the best to others that much is gained against the ends' mean."""
    names = ("best", *gains)
    scores = {name: a_score([1] * RIGHT[name] + [0] * (100 - RIGHT[name])) for name in names}
    drops = np.zeros((len(names), len(names)))
    drops[0, 1:] = drops[1:, 0] = [-gain for gain in gains.values()]
    nothing = np.zeros_like(drops)
    measured = Barriers(names, "average", nothing, drops, nothing.astype(bool), LOSS)
    return regime.before(metric, measured, scores, names)


@pytest.mark.parametrize(
    ("gains", "kind", "better"),
    [
        ({"near": 0.02}, "pays", ["near"]),  # 0.5 points are half of what it lacks, and 2 are gained
        ({"far": 0.02}, "does not pay", []),  # as much is gained; half of 10 points is more
        ({"near": 0.005}, "does not pay", []),  # as good as the best is not better
        ({"near": 0.02, "far": 0.02}, "pays with some", ["near"]),
        ({"alike": 0.0}, "does not pay", []),
    ],
)
def test_averaging_pays_where_it_makes_good_more_than_half_of_what_the_others_lack(gains, kind, better):
    told = found(gains)
    assert told.kind == kind
    assert [one.name for one in told.halves if one.is_better] == better
    assert [one.gains for one in told.halves] == pytest.approx(list(gains.values()))


def test_the_sentence_has_both_sides_of_the_balance_and_the_reason():
    wide = found({"far": 0.02}).sentence
    assert "wide sweep" in wide and "none of 1 mix is better" in wide
    assert "10.0 points" in wide and "good half, 5.0 points" in wide and "makes good 2.0 points" in wide
    assert "narrow sweep" in found({"near": 0.02}).sentence
    alike = found({"alike": 0.0}).sentence
    assert "sweep" not in alike and "makes good nothing" in alike and "too alike" in alike


def test_a_midpoint_of_which_nothing_is_known_counts_for_nothing():
    assert [one.name for one in found({"near": 0.02, "far": float("nan")}).halves] == ["near"]
    assert found({}) is None


def test_of_an_error_what_lacks_is_above_the_best(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=4, metric="loss"))
    told = preflight.inspect(kitchen).regime
    losses = {name: kitchen.scores.score(((name, 1.0),)).loss for name in kitchen.names}
    assert told.best == min(losses, key=losses.get)
    for one in told.halves:
        middle = kitchen.scores.score(((told.best, 0.5), (one.name, 0.5))).loss
        assert one.lacks == pytest.approx(losses[one.name] - losses[told.best])
        assert one.gains == pytest.approx((losses[one.name] + losses[told.best]) / 2 - middle)
        assert one.is_better is bool(middle < losses[told.best])


def test_the_mixes_with_the_best_alone_say_the_same_as_all(tmp_path, evaluations):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=5))
    told = regime.measure(kitchen)
    assert len(evaluations) == 5 + 4
    assert told == preflight.inspect(kitchen).regime


def test_the_command_and_its_json_say_it(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=3)
    told = json_of(capsys, "inspect", file)["regime"]
    assert told["best"] in told["sentence"] and len(told["halfway"]) == 2
    assert told["sentence"] in run_command(capsys, "inspect", file)[1]
    alone = json_of(capsys, "inspect", small_kitchen(tmp_path / "one", num_ingredients=1))
    assert alone["regime"] is None


@pytest.mark.parametrize("scale", [0.02, 2.0])
@pytest.mark.parametrize("complete", [True, False])
def test_the_log_of_a_greedy_search_agrees_with_what_was_said_before(tmp_path, scale, complete):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=5, num_examples=600, scale=scale))
    soup = sv.greedy(kitchen, complete=complete)
    log = decisions.log(kitchen, soup.recipe, soup.trajectory)
    told = regime.after(kitchen, soup.recipe, log)
    kept = len(soup.mix) > 1
    assert told.startswith("Alone, those that were kept are worse" if kept else "The others lack")
    assert kept or (("at most" in told) is any(one.is_bound for one in log))
    assert regime.explained(kitchen, soup.recipe, log).endswith(told)


def test_a_search_of_another_kind_says_nothing_of_it(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3))
    for recipe in ({"method": "greedy", "alpha": 0.1}, {"method": "greedy", "objective": "loss"}, {"method": "beam"}):
        soup = sv.cook(kitchen, recipe)
        assert regime.after(kitchen, soup.recipe, decisions.log(kitchen, soup.recipe, soup.trajectory)) == ""
