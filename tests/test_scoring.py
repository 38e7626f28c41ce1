"""Scoring only as much as a decision needs, and only what differs: with the decisions and counts of scoring all."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kitchens import BATCHNORM, MLP, build_model, small_kitchen
from scores import BY_ACCURACY, CLASSIFICATION, a_score, some_outcomes
from torch import Tensor

import soupviz as sv
from soupviz.data import prepared
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.limits import Limit, hardest_first
from soupviz.soups.goals import goal_of
from soupviz.store.database import Store
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.score import Bound

MIX = (("m_0", 0.5), ("m_1", 0.5))


def test_hardest_first_is_what_is_wrong_then_what_is_right_with_least_margin():
    soup = some_outcomes([True, False, True, False], margins=[0.5, 2.0, 0.1, 3.0])
    assert hardest_first(CLASSIFICATION, [(soup, 1.0)]).tolist() == [3, 1, 2, 0]


def test_hardest_first_weighs_the_parts_as_they_are_mixed():
    soup = some_outcomes([True, True, True], margins=[1.0, 1.0, 1.0])
    newcomer = some_outcomes([True, False, True], margins=[5.0, 5.0, 1.0])
    assert hardest_first(CLASSIFICATION, [(soup, 0.5), (newcomer, 0.5)]).tolist() == [1, 2, 0]
    assert hardest_first(CLASSIFICATION, [(soup, 0.9), (newcomer, 0.1)]).tolist() == [1, 2, 0]


def decisions(soup: sv.Soup) -> list[tuple[str, bool, float]]:
    return [(step.ingredient, step.accepted, step.best_accuracy) for step in soup.trajectory]


folders = itertools.count()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.integers(1, 9),
    source=st.sampled_from([MLP, BATCHNORM]),
    alpha=st.sampled_from(["mean", 0.1, 0.5, 1.0]),
    order=st.sampled_from(["best", "listed", "random"]),
    batch_size=st.sampled_from([7, 32, 500]),
    scale=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_early_rejection_changes_no_decision(tmp_path, number, source, alpha, order, batch_size, scale):
    """Equal ingredients (scale 0), ties, one ingredient, every alpha and order."""
    folder = tmp_path / str(next(folders))
    shape = (6,) if source == MLP else (3, 8, 8)
    options = {"source": source, "shape": shape, "num_ingredients": number, "num_examples": 60}
    recipe = {"alpha": alpha, "order": order, "seed": 3}
    kitchens = [
        sv.Kitchen.load(small_kitchen(folder / name, scale=scale, batch_size=batch_size, **options))
        for name in ("early", "whole")
    ]
    early = sv.greedy(kitchens[0], **recipe)
    whole = sv.greedy(kitchens[1], complete=True, **recipe)
    assert early.mix == whole.mix
    assert decisions(early) == decisions(whole)
    assert early.scores["test"].correct == whole.scores["test"].correct
    for step, full in zip(early.trajectory, whole.trajectory, strict=True):
        assert full.correct is not None
        assert step.accuracy_at_most >= full.accuracy
        assert step.correct in (None, full.correct)
        assert step.correct is not None or (not step.accepted and step.accuracy_at_most <= step.best_accuracy)
    # Asked for whole scores afterwards, the early search is completed from where it gave up.
    assert sv.greedy(kitchens[0], complete=True, **recipe).trajectory == whole.trajectory


def test_a_candidate_is_given_up_as_soon_as_it_cannot_win_and_goes_on_when_asked(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, batch_size=10))
    best = kitchen.scores.score((("m_0", 1.0),))
    rival = a_score(np.arange(200) >= 5)  # five wrong are as many as can be
    limit = Limit(BY_ACCURACY.gives_up(rival), hardest_first(CLASSIFICATION, [(best.outcomes, 1.0)]))
    bound = kitchen.scores.attempt(MIX, "held_out", "average", lambda *_told: None, limit)
    assert isinstance(bound, Bound)
    num_wrong = int((~bound.outcomes["right"][bound.outcomes.scored]).sum())
    assert 5 <= num_wrong <= bound.num_scored < 200
    assert bound.best_possible["accuracy"] == Fraction(200 - num_wrong, 200)
    assert bound.num_scored % 10 == 0
    again = sv.Kitchen.load(tmp_path)
    again.evaluator.evaluate = None  # what is known is enough: nothing is evaluated
    assert again.scores.attempt(MIX, "held_out", "average", lambda *_told: None, limit) == bound
    told: list[int] = []
    score = sv.Kitchen.load(tmp_path).scores.score(MIX, progress=lambda done, _total, what: told.append(done))
    assert next(done for done in told if done > 1) == bound.num_scored + 10
    elsewhere = sv.Kitchen.load(small_kitchen(tmp_path / "other", batch_size=10)).scores.score(MIX)
    assert (score.correct, score.class_correct) == (elsewhere.correct, elsewhere.class_correct)
    assert score.loss == pytest.approx(elsewhere.loss, rel=1e-6)


@pytest.mark.parametrize("objective", ["accuracy", "mean_class", "worst_class"])
def test_where_all_is_right_already_no_candidate_is_evaluated(tmp_path, objective):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=60))
    perfect = a_score(np.ones(60, dtype=bool))
    goal = goal_of(kitchen, objective)
    limit = Limit(goal.gives_up(perfect), np.arange(60))
    kitchen.evaluator.evaluate = None
    bound = kitchen.scores.attempt(MIX, "held_out", "average", lambda *_told: None, limit)
    assert (bound.num_scored, bound.best_possible["accuracy"], goal.possible(bound.outcomes)) == (0, 1, 1)
    with pytest.raises(TypeError):  # as good as the best it may still be
        ties = Limit(goal.gives_up(perfect, ties=True), np.arange(60))
        kitchen.scores.attempt(MIX, "held_out", "average", lambda *_told: None, ties)


# Metrics that came later


HALF = SumMetric(
    "half", "half right", "%", True, ("right",), lambda right, number: right / number / 2, {"right": 1},
    judges_nonfinite=True,
)  # fmt: skip


def test_a_metric_that_came_later_is_computed_of_what_was_kept_without_a_forward_pass(tmp_path, monkeypatch):
    sv.Kitchen.load(small_kitchen(tmp_path)).score()
    monkeypatch.setattr(Classification, "metrics", (*Classification.metrics, HALF))
    monkeypatch.setattr(Evaluator, "evaluate", None)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, metric="half"))
    mixes = [(((name, 1.0),), "average") for name in kitchen.names]
    summaries = kitchen.scores.summaries(mixes, "held_out")
    wholes = [kitchen.scores.known(mix, "held_out") for mix, _ in mixes]
    for score in (*summaries, *wholes):
        assert score.value == score.values["accuracy"] / 2
    monkeypatch.setattr(Store, "score", None)  # the second look reads no units
    assert sv.Kitchen.load(tmp_path).scores.summaries(mixes, "held_out") == summaries


# Shared weights


def frozen(source: str, layers: tuple[str, ...]):
    """Gives every checkpoint the base's weights in some layers, as fine-tuning with a frozen backbone does."""
    base = build_model(source).state_dict()

    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: base[key].clone() if key.startswith(layers) else tensor for key, tensor in tensors.items()}

    return change


@pytest.mark.parametrize(
    ("source", "shape", "layers"),
    [(MLP, (6,), ("0.",)), (BATCHNORM, (3, 8, 8), ("0.",)), (BATCHNORM, (3, 8, 8), ("0.", "1."))],
)
def test_a_frozen_backbone_is_computed_once_and_changes_no_count(tmp_path, source, shape, layers):
    file = small_kitchen(tmp_path, source=source, shape=shape, change=frozen(source, layers))
    kitchen = sv.Kitchen.load(file)
    soup = sv.greedy(kitchen, alpha=0.3, complete=True)
    has_cut = kitchen.evaluator.routes.has_cut
    assert has_cut == (source == MLP or "1." in layers)  # a convolution is one with the BatchNorm behind it
    plain = sv.Kitchen.load(small_kitchen(tmp_path / "p", source=source, shape=shape, change=frozen(source, layers)))
    plain.scores.scorer.evaluations.share(plain.ingredients[:1])
    whole = sv.greedy(plain, alpha=0.3, complete=True)
    assert not plain.evaluator.routes.has_cut
    assert soup.mix == whole.mix
    assert [step.correct for step in soup.trajectory] == [step.correct for step in whole.trajectory]
    assert soup.scores["test"].loss == pytest.approx(whole.scores["test"].loss, rel=1e-5)


def test_weights_from_elsewhere_do_not_take_the_shared_path(tmp_path):
    """The base was not frozen with the others: its first layer is its own, and so are its scores."""
    file = small_kitchen(tmp_path, change=frozen(MLP, ("0.",)))
    tensors = build_model(MLP).state_dict()
    tensors["0.weight"] = tensors["0.weight"] * 5.0
    torch.save(tensors, tmp_path / "other.pt")
    kitchen = sv.Kitchen.load(file)
    kitchen.score()
    assert kitchen.evaluator.routes.has_cut
    found = kitchen.scores.score(((str(tmp_path / "other.pt"), 1.0),))
    split = kitchen.splits.load("held_out")
    model = build_model(MLP)
    model.load_state_dict(tensors)
    with torch.no_grad():
        expected = model(split.inputs[""]).argmax(1)
    assert np.array_equal(found.outcomes["prediction"], expected.numpy())


def test_activations_that_are_too_large_to_keep_are_not_kept(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path, change=frozen(MLP, ("0.",)))
    expected = sv.Kitchen.load(file).score()["correct"].tolist()
    small_kitchen(tmp_path / "small", change=frozen(MLP, ("0.",)))
    monkeypatch.setattr(prepared, "READY_BYTES", 100)
    kitchen = sv.Kitchen.load(tmp_path / "small")
    assert kitchen.score()["correct"].tolist() == expected
    assert "too large to keep" in kitchen.evaluator.routes.note


def test_a_split_that_is_too_large_to_keep_ready_gives_the_same(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8))
    expected = sv.Kitchen.load(file).score()
    small_kitchen(tmp_path / "small", source=BATCHNORM, shape=(3, 8, 8))
    monkeypatch.setattr(prepared, "READY_BYTES", 100)
    found = sv.Kitchen.load(tmp_path / "small").score()
    assert found.equals(expected)
