"""Recipes that find coefficients, against cases worked by hand and against plain references."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupviz.errors import RecipeError
from soupviz.mixing import mean_of
from soupviz.recipes import (
    AlphaSearch,
    Bayesian,
    Beam,
    Ema,
    Exhaustive,
    Greedy,
    Judge,
    Lawa,
    LineSearch,
    Pruned,
    Restarts,
    Swa,
    Uniform,
    Weighted,
)  # fmt: skip
from soupviz.recipes.judge import value_of
from soupviz.records import Bound, PerExample, Score

NUM_EXAMPLES = 60


class Taste:
    """A made-up kitchen: logits of a mix are the mix of logits, so that every score is exact and known."""

    def __init__(self, num_ingredients: int, seed: int = 0, facts=None, limits: bool = True, names=None):
        generator = np.random.default_rng(seed)
        self.names = names or [f"m_{index}" for index in range(num_ingredients)]
        self.labels = generator.integers(0, 3, NUM_EXAMPLES)
        signal = np.eye(3)[self.labels]
        self.logits = {name: signal + generator.normal(0, 1.5, (NUM_EXAMPLES, 3)) for name in self.names}
        self.limits = limits
        self.asked: list[tuple] = []
        self.steps = []
        self.judge = Judge(self.names, self.attempt, self.steps.append, lambda name: (facts or {}).get(name, {}))

    def score(self, mixture) -> Score:
        logits = sum(weight * self.logits[name] for name, weight in sorted(mixture))
        predictions = logits.argmax(1)
        correct = predictions == self.labels
        shifted = logits - logits.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(logits)), self.labels]
        ordered = np.sort(logits, 1)
        flags = np.ones(len(logits), dtype=bool)
        found = PerExample(
            predictions.astype(np.int32), correct, losses.astype(np.float32),
            (ordered[:, -1] - ordered[:, -2]).astype(np.float32), np.ones(len(logits), np.float32), flags, flags,
        )  # fmt: skip
        counts = np.bincount(self.labels, minlength=3)
        hits = np.bincount(self.labels[correct], minlength=3)
        return Score(
            "held_out", int(correct.sum()), len(correct), float(losses.mean()), 0.0, tuple(hits.tolist()),
            tuple(counts.tolist()), per_example=found,
        )  # fmt: skip

    def attempt(self, mixture, limit):
        self.asked.append(tuple(mixture))
        score = self.score(mixture)
        wrong = (~score.per_example.correct).sum()
        if self.limits and limit is not None and wrong >= limit.max_errors:
            return Bound("held_out", NUM_EXAMPLES, NUM_EXAMPLES // 2, limit.max_errors)
        return score


def subsets(names):
    return [subset for size in range(1, len(names) + 1) for subset in itertools.combinations(names, size)]


# Weighted


def test_weighted_is_the_softmax_of_accuracy():
    taste = Taste(4)
    accuracy = {name: taste.score(((name, 1.0),)).accuracy for name in taste.names}
    shares = {name: math.exp(value / 0.1) for name, value in accuracy.items()}
    for name, weight in Weighted(temperature=0.1).plan(taste.judge):
        assert weight == pytest.approx(shares[name] / sum(shares.values()))


def test_weighted_goes_from_the_best_alone_to_all_alike():
    taste = Taste(4)
    best = max(taste.names, key=lambda name: taste.score(((name, 1.0),)).correct)
    cold = dict(Weighted(temperature=1e-4).plan(taste.judge))
    assert cold[best] == pytest.approx(1.0)
    assert dict(Weighted(temperature=10).plan(taste.judge)) == pytest.approx(dict.fromkeys(taste.names, 0.25), abs=0.01)


def test_what_is_raised_by_hand():
    score = Score("held_out", 6, 12, 0.5, 0.0, (4, 2, 0), (4, 8, 0))
    assert value_of(score, "accuracy") == 6
    assert value_of(score, "loss") == -0.5
    assert value_of(score, "mean_class") == (1.0 + 0.25) / 2  # the class without examples does not count
    assert value_of(score, "worst_class") == 0.25


# Subsets


@given(st.integers(1, 6), st.integers(0, 1000), st.booleans())
def test_exhaustive_is_brute_force(number, seed, limits):
    taste = Taste(number, seed, limits=limits)
    reference = max(subsets(taste.names), key=lambda subset: taste.score(mean_of(subset)).correct)  # the first of ties
    assert Exhaustive().plan(taste.judge) == mean_of(reference)
    assert len(set(taste.asked)) == 2**number - 1


def test_exhaustive_of_ten_is_brute_force():
    taste = Taste(10, 3)
    reference = max(subsets(taste.names), key=lambda subset: taste.score(mean_of(subset)).correct)
    assert Exhaustive().plan(taste.judge) == mean_of(reference)


def test_exhaustive_of_too_many_is_refused_with_a_way_out():
    with pytest.raises(
        RecipeError, match=r"13 ingredients have 8,191 subsets; expected at most 12 .* Name fewer members"
    ):
        Exhaustive().plan(Taste(13).judge)


@given(st.integers(1, 7), st.integers(0, 1000), st.integers(1, 3))
def test_pruned_is_the_plain_loop(number, seed, passes):
    taste = Taste(number, seed)
    kept = list(taste.names)
    for _ in range(passes):
        for name in sorted(kept, key=lambda name: taste.score(((name, 1.0),)).correct):
            left = [other for other in kept if other != name]
            if left and taste.score(mean_of(left)).correct > taste.score(mean_of(kept)).correct:
                kept = left
    assert Pruned(passes=passes).plan(taste.judge) == mean_of(kept)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_a_beam_wide_enough_for_all_finds_the_best_that_can_be_reached_by_improving(number, seed):
    taste = Taste(number, seed)
    value = {frozenset(subset): taste.score(mean_of(subset)).correct for subset in subsets(taste.names)}
    reached = {frozenset([name]) for name in taste.names}
    front = reached
    while front:
        front = {s | {n} for s in front for n in taste.names if n not in s and value[s | {n}] > value[s]}
        reached = reached | front
    found = frozenset(name for name, _ in Beam(width=20).plan(taste.judge))
    assert value[found] == max(value[subset] for subset in reached)


@pytest.mark.parametrize(
    "recipe", [Beam(), Restarts(), Pruned(), Exhaustive(), LineSearch(), AlphaSearch(), Greedy(), Bayesian(budget=5)]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_search_ends_no_lower_than_the_best_ingredient_it_may_start_from(recipe, seed):
    taste = Taste(5, seed)
    found = taste.score(recipe.plan(taste.judge)).correct
    start = max(taste.score(((name, 1.0),)).correct for name in taste.names)
    assert found >= (taste.score(mean_of(taste.names)).correct if isinstance(recipe, Pruned) else start)
    assert len(set(taste.asked)) <= len(taste.names) + recipe.candidates(len(taste.names))
    assert taste.steps[-1].best_accuracy == pytest.approx(found / NUM_EXAMPLES)


@pytest.mark.parametrize("recipe", [Beam(), Restarts(), Pruned(), Exhaustive(), LineSearch(steps=3)])
def test_giving_up_what_cannot_win_changes_no_soup(recipe):
    for seed in range(8):
        assert recipe.plan(Taste(5, seed).judge) == recipe.plan(Taste(5, seed, limits=False).judge)


def test_restarts_are_seeded_and_the_first_is_greedy():
    assert Restarts(starts=1).plan(Taste(6, 1).judge) == mean_of([name for name, _ in Greedy().plan(Taste(6, 1).judge)])
    assert Restarts(seed=3).plan(Taste(6, 1).judge) == Restarts(seed=3).plan(Taste(6, 1).judge)


# Alphas


def test_alpha_search_keeps_the_best_of_its_greedy_soups():
    taste = Taste(5, 2)
    soups = [Greedy(alpha=alpha).plan(taste.judge) for alpha in (0.25, 0.5, 0.75, 1.0)]
    best = max(soups, key=lambda mix: taste.score(mix).correct)
    assert AlphaSearch(tries=4).plan(taste.judge) == best


def test_random_alphas_are_seeded_and_in_range():
    alphas = AlphaSearch(how="random", tries=20, seed=1).alphas()
    assert (
        alphas == AlphaSearch(how="random", tries=20, seed=1).alphas() != AlphaSearch(how="random", tries=20).alphas()
    )
    assert all(0 < alpha <= 1 for alpha in alphas)


@given(st.integers(1, 5), st.integers(0, 1000), st.integers(1, 5))
def test_line_search_gives_each_newcomer_its_best_alpha(number, seed, points):
    taste = Taste(number, seed)
    value = lambda mix: ((score := taste.score(mix)).correct, -score.loss)  # noqa: E731
    first, *others = sorted(taste.names, key=lambda name: -taste.score(((name, 1.0),)).correct)
    soup = {first: 1.0}
    for name in others:
        lines = [
            {known: weight * (1 - point / (points + 1)) for known, weight in soup.items()}
            | {name: point / (points + 1)}
            for point in range(1, points + 1)
        ]
        soup = max([soup, *lines], key=lambda mix: value(tuple(mix.items())))
    assert dict(LineSearch(steps=points).plan(taste.judge)) == pytest.approx(soup)


@pytest.mark.parametrize("objective", ["loss", "mean_class", "worst_class"])
@given(number=st.integers(1, 6), seed=st.integers(0, 1000))
def test_greedy_raises_what_it_is_asked_to(objective, number, seed):
    taste = Taste(number, seed)
    value = lambda names: value_of(taste.score(mean_of(names)), objective)  # noqa: E731
    first, *others = sorted(taste.names, key=lambda name: -value([name]))
    kept = [first]
    for name in others:
        if value([*kept, name]) > value(kept):
            kept.append(name)
    assert Greedy(objective=objective).plan(taste.judge) == mean_of(kept)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_bayesian_search_is_seeded_and_starts_from_uniform_and_greedy(sampler):
    recipe = Bayesian(sampler=sampler, budget=12)
    taste = Taste(4, 1)
    found = recipe.plan(taste.judge)
    assert found == recipe.plan(Taste(4, 1).judge)
    assert sum(weight for _, weight in found) == pytest.approx(1.0)
    assert len(taste.steps) == 12
    starts = [mean_of(taste.names), Greedy().plan(Taste(4, 1).judge)]
    assert [step.correct for step in taste.steps[:2]] == [taste.score(start).correct for start in starts]
    assert taste.score(found).correct == max(step.correct for step in taste.steps)


def test_bayesian_search_needs_optuna_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RecipeError, match="needs Optuna, which is not installed: pip install"):
        Bayesian().plan(Taste(3).judge)


# Over time

RUN = {"m_0": {"step": 300}, "m_1": {"step": "100"}, "m_2": {"step": 200}, "m_3": {"step": 400}}


def test_swa_is_the_mean_from_a_step_on():
    taste = Taste(4, facts=RUN)
    assert Swa(start=200).plan(taste.judge) == mean_of(["m_2", "m_0", "m_3"])
    assert Swa(start=100, period=2).plan(taste.judge) == mean_of(["m_1", "m_0"])
    with pytest.raises(RecipeError, match="no checkpoint from step 500 on; the last is of 400"):
        Swa(start=500).plan(taste.judge)


def test_ema_is_the_recursion_multiplied_out():
    found = dict(Ema(decay=0.8).plan(Taste(4, facts=RUN).judge))
    assert found == pytest.approx({"m_1": 0.8**3, "m_2": 0.2 * 0.8**2, "m_0": 0.2 * 0.8, "m_3": 0.2})
    assert Ema(decay=0.0).plan(Taste(4, facts=RUN).judge) == (("m_3", 1.0),)


def test_lawa_is_the_mean_of_the_latest():
    assert Lawa(last=2).plan(Taste(4, facts=RUN).judge) == mean_of(["m_0", "m_3"])
    assert Lawa(last=50).plan(Taste(4, facts=RUN).judge) == mean_of(["m_1", "m_2", "m_0", "m_3"])


def test_the_step_is_in_the_metadata_or_in_the_name():
    assert Lawa(last=1).plan(Taste(3, names=["run2_step_90", "run2_step_100", "run2_step_9"]).judge) == mean_of(
        ["run2_step_100"]
    )
    with pytest.raises(RecipeError, match=r"'m_0' does not say of which step it is; expected step, .* as in step_300"):
        Lawa().plan(Taste(2).judge)
    with pytest.raises(RecipeError, match=r"'m_0' and 'm_1' are both of step 7; .* checkpoints of one run"):
        Lawa().plan(Taste(2, facts={"m_0": {"epoch": 7}, "m_1": {"epoch": "7"}}).judge)


def test_uniform_asks_for_no_score():
    taste = Taste(3)
    assert Uniform().plan(taste.judge) == mean_of(taste.names)
    assert not taste.asked
