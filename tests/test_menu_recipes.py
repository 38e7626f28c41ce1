"""Recipes that find coefficients, against cases worked by hand and against plain references."""

import itertools
import math
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scores import BY_ACCURACY, CLASSIFICATION, a_score, counted, judged, some_outcomes

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import (
    AlphaSearch,
    Bayesian,
    Beam,
    Ema,
    Exhaustive,
    Greedy,
    Lawa,
    LineSearch,
    Pruned,
    Restarts,
    ScoredPool,
    Swa,
    Uniform,
    Weighted,
    parse,
    recipe_digest,
)  # fmt: skip
from soupviz.recipes.alphas import _is_better
from soupviz.recipes.outputs import Ensemble
from soupviz.recipes.pool import find_goal
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.regression import RMSE, Regression
from soupviz.tasks.score import Bound, Score

NUM_EXAMPLES = 60


def scored_pool(names, attempt, *more, **options) -> ScoredPool:
    return ScoredPool(names, CLASSIFICATION, BY_ACCURACY, attempt, *more, **options)


def limited(score: Score, limit) -> Score | Bound:
    """A score, or what is known once the limit gives it up, example by example in the limit's order."""
    whole = score.outcomes
    part = replace(whole, scored=np.zeros(len(whole), dtype=bool))
    for row in [] if limit is None else limit.order:
        part.scored[row] = True
        if not part.is_whole and limit.gives_up(part):
            return Bound("held_out", len(part), part, {one.name: one.bound(part) for one in CLASSIFICATION.metrics})
    return score


def value_of(score: Score, goal: str, slices=None, shift_weight: float = 0.5, classes=None):
    """What a recipe that is asked for a goal compares."""
    groups = {per: index for per, index in (("class", classes), ("slice", slices)) if index is not None}
    return find_goal(goal, CLASSIFICATION, BY_ACCURACY, groups, ["shifts"], shift_weight).value(score)


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
        self.pool = scored_pool(
            self.names, self.attempt, self.steps.append, lambda name: (facts or {}).get(name, {}),
            groups={"class": self.labels},
        )  # fmt: skip

    def score(self, mixture) -> Score:
        logits = sum(weight * self.logits[name] for name, weight in sorted(mixture))
        predictions = logits.argmax(1)
        shifted = logits - logits.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(logits)), self.labels]
        ordered = np.sort(logits, 1)
        found = some_outcomes(
            predictions=predictions, labels=self.labels, losses=losses, margins=ordered[:, -1] - ordered[:, -2]
        )
        return judged(found, width=3)

    def attempt(self, mixture, limit):
        self.asked.append(tuple(mixture))
        score = self.score(mixture)
        return limited(score, limit) if self.limits else score


def subsets(names):
    return [subset for size in range(1, len(names) + 1) for subset in itertools.combinations(names, size)]


# Weighted


def test_weighted_is_the_softmax_of_accuracy():
    taste = Taste(4)
    accuracy = {name: taste.score(((name, 1.0),)).accuracy for name in taste.names}
    shares = {name: math.exp(value / 0.1) for name, value in accuracy.items()}
    for name, weight in Weighted(temperature=0.1).plan(taste.pool):
        assert weight == pytest.approx(shares[name] / sum(shares.values()))


def test_weighted_by_held_out_and_the_shifts_looks_at_both():
    taste = Taste(3)
    held_out = {name: taste.score(((name, 1.0),)) for name in taste.names}
    shifted = {name: held_out[other] for name, other in zip(taste.names, reversed(taste.names), strict=True)}
    pool = replace(taste.pool, shifts=["blur"], also=lambda mix, _split: shifted[mix[0][0]])
    means = {name: (held_out[name].accuracy + shifted[name].accuracy) / 2 for name in taste.names}
    shares = {name: math.exp(value / 0.1) for name, value in means.items()}
    found = dict(Weighted(metric="with_shifts", temperature=0.1).plan(pool))
    assert found == pytest.approx({name: share / sum(shares.values()) for name, share in shares.items()})


def test_weighted_goes_from_the_best_alone_to_all_alike():
    taste = Taste(4)
    best = max(taste.names, key=lambda name: taste.score(((name, 1.0),)).correct)
    cold = dict(Weighted(temperature=1e-4).plan(taste.pool))
    assert cold[best] == pytest.approx(1.0)
    assert dict(Weighted(temperature=10).plan(taste.pool)) == pytest.approx(dict.fromkeys(taste.names, 0.25), abs=0.01)


def test_weighted_per_class_is_the_mean_of_a_softmax_within_each_by_hand():
    """With T = 1 / ln 2 shares are powers of two. Of a: (2 / (2 + 1) + 1 / (1 + 1)) / 2; c has no examples."""
    labels = np.arange(8) // 4
    scores = {name: a_score(np.arange(8) < right, labels=labels, width=3) for name, right in AB.items()}
    pool = scored_pool("ab", lambda mix, _limit: scores[mix[0][0]], groups={"class": labels})
    found = dict(Weighted(per="class", temperature=1 / math.log(2)).plan(pool))
    assert found == pytest.approx({"a": 7 / 12, "b": 5 / 12})


AB = {"a": 4, "b": 0}


def regression_of(predictions, unit=1.0):
    """A pool of a regression, whose ingredients are this far off on each of two halves, in some unit."""
    outcomes = {
        name: Outcomes.of(
            Regression().outcomes(torch.tensor(off)[:, None] * unit, torch.zeros(len(off), 1)), {}
        )
        for name, off in predictions.items()
    }  # fmt: skip
    scores = {
        name: Score("held_out", len(one), {"rmse": RMSE.value(one)}, outcomes=one) for name, one in outcomes.items()
    }
    return ScoredPool(
        list(scores), Regression(), Objective(RMSE), lambda mix, _limit: scores[mix[0][0]],
        groups={"slice": np.arange(4) // 2},
    )  # fmt: skip


OFF = {"a": [1.0, 1, 1, 1], "b": [3.0, 3, 3, 3], "c": [2.0, 2, 2, 2]}


def test_weighted_by_a_metric_without_a_scale_is_in_spreads_by_hand():
    """RMSE 1, 3 and 2: the spread is sqrt(2 / 3), and T = 0.01 is one of it. The lowest counts most."""
    found = dict(Weighted().plan(regression_of(OFF)))
    shares = {name: math.exp(-off[0] / math.sqrt(2 / 3)) for name, off in OFF.items()}
    assert found == pytest.approx({name: share / sum(shares.values()) for name, share in shares.items()}, rel=1e-6)
    assert sorted(found, key=found.get, reverse=True) == ["a", "c", "b"]
    assert dict(Weighted(temperature=1e-4).plan(regression_of(OFF)))["a"] == pytest.approx(1.0)
    hot = dict(Weighted(temperature=10).plan(regression_of(OFF)))
    assert hot == pytest.approx(dict.fromkeys("abc", 1 / 3), abs=0.01)
    assert dict(Ensemble(choice="weighted").plan(regression_of(OFF))) == found


@given(st.floats(1e-3, 1e4))
def test_no_unit_of_measurement_changes_how_a_regression_is_weighted(unit):
    for recipe in (Weighted(), Weighted(per="slice")):
        found, expected = (dict(recipe.plan(regression_of(OFF, one))) for one in (unit, 1.0))
        assert found == pytest.approx(expected, rel=1e-4)


def test_equally_good_ones_are_weighted_alike_and_what_is_not_finite_not_at_all():
    same = {name: [2.0, -2, 2, -2] for name in "abc"}
    assert dict(Weighted().plan(regression_of(same))) == dict.fromkeys("abc", pytest.approx(1 / 3))
    near = same | {"a": [2.0 + 1e-7, -2, 2, -2]}  # what another batch size may change is no difference
    assert dict(Weighted().plan(regression_of(near))) == pytest.approx(dict.fromkeys("abc", 1 / 3), abs=1e-5)
    assert Weighted().plan(regression_of({"a": [1.0, 1, 1, 1]})) == (("a", 1.0),)
    worse = OFF | {"d": [math.nan, 1, 1, 1]}
    pool = regression_of(worse)
    broken = replace(pool.single("d"), num_nonfinite=1)
    pool = replace(pool, _singles=pool.singles() | {"d": broken})
    assert dict(Weighted().plan(pool)) == dict(Weighted().plan(regression_of(OFF)))
    nothing = regression_of(OFF | {"d": [math.nan, math.nan, 1, 1]})
    by_slice = dict(Weighted(per="slice").plan(nothing))
    assert math.fsum(by_slice.values()) == pytest.approx(1.0) and by_slice["d"] > 0


def test_weighted_by_slices_of_a_regression_has_the_spread_within_each():
    """On the first half b is best, on the second a: two ingredients are always two spreads apart."""
    off = {"a": [3.0, 3, 1, 1], "b": [2.0, 2, 5, 5]}
    found = dict(Weighted(per="slice").plan(regression_of(off)))
    assert found == pytest.approx({"a": 0.5, "b": 0.5})


def test_shares_and_nats_are_weighted_as_they_are():
    """To the bit as before there were other metrics: calibration error too, a share that is not shown as one."""
    taste = Taste(4)
    for name in ("", "loss", "macro_f1", "ece"):
        goal = taste.pool.goal(name)
        signed = {one: float(goal.merit(taste.pool.single(one))[1]) for one in taste.names}
        shares = {one: math.exp((value - max(signed.values())) / 0.01) for one, value in signed.items()}
        total = math.fsum(shares.values())
        expected = tuple((one, share / total) for one, share in shares.items() if share)
        assert Weighted(metric=name).plan(taste.pool) == expected


@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from(["class", "slice"]))
def test_weighted_per_class_or_slice_is_the_plain_loop(number, seed, per):
    taste = Taste(number, seed)
    slices = np.random.default_rng(seed).integers(0, 4, NUM_EXAMPLES)
    pool = replace(taste.pool, groups=taste.pool.groups | {"slice": np.unique(slices, return_inverse=True)[1]})
    parts = slices if per == "slice" else taste.labels
    expected = dict.fromkeys(taste.names, 0.0)
    for part in set(parts.tolist()):
        accuracies = {n: taste.score(((n, 1.0),)).outcomes["right"][parts == part].mean() for n in taste.names}
        total = sum(math.exp(value / 0.1) for value in accuracies.values())
        for name, value in accuracies.items():
            expected[name] += math.exp(value / 0.1) / total / len(set(parts.tolist()))
    found = dict(Weighted(per=per, temperature=0.1).plan(pool))
    assert found == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(1.0)


def test_weighted_per_part_weighs_by_any_metric_within_each_part():
    recipe = parse({"method": "weighted", "per": "class", "metric": "loss"})
    taste = Taste(3)
    assert sum(share for _, share in recipe.plan(taste.pool)) == pytest.approx(1.0)


def test_parameters_that_were_added_later_leave_the_key_of_a_recipe_as_it_was():
    for recipe in (Greedy(), Bayesian(), Weighted()):
        values = recipe.model_dump(mode="json")
        assert not {"shift_weight", "per"} & set(values)
        assert parse(values) == recipe
    for recipe in (Greedy(shift_weight=0.25), Bayesian(shift_weight=0.25), Weighted(per="slice")):
        assert parse(recipe.model_dump(mode="json")) == recipe
        assert recipe_digest(recipe) != recipe_digest(type(recipe)())


def test_what_is_raised_by_hand():
    classes = np.repeat([0, 1], [4, 8])
    score = a_score(np.arange(12) < 6, labels=classes, losses=0.5, width=3)
    assert value_of(score, "accuracy") == Fraction(6, 12)
    assert value_of(score, "loss") == 0.5
    assert value_of(score, "mean_class", classes=classes) == (1.0 + 0.25) / 2  # a class without examples counts nothing
    assert value_of(score, "worst_class", classes=classes) == 0.25


def test_what_is_raised_over_slices_by_hand():
    """Slice 0 has examples 0, 1 and 4 right out of four, slice 1 none of two, slice 2 one of one."""
    correct = np.array([1, 1, 0, 0, 1, 0, 1], dtype=bool)
    score = a_score(correct)
    slices = np.array([0, 0, 1, 1, 0, 0, 2])
    assert value_of(score, "mean_slice", slices) == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert value_of(score, "worst_slice", slices) == 0.0
    with pytest.raises(RecipeError, match=r"held_out has no slices to look at; name the column .*, or look at classes"):
        value_of(score, "worst_slice")


def test_what_is_raised_with_shifts_by_hand():
    score = replace(counted(8, 10), further=(counted(2, 10, "shifts"), counted(6, 10, "shifts")))
    assert value_of(score, "with_shifts") == pytest.approx(0.5 * 0.8 + 0.5 * 0.4)
    assert value_of(score, "with_shifts", None, 0.25) == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert value_of(score, "with_shifts", None, 0.0) == Fraction(8, 10)
    assert "further" not in score.summary()


def test_means_of_accuracies_that_are_equal_are_equal_numbers():
    """1/10 + 2/10 + 6/10 is not 3/10 + 6/10 + 0/10 in floating point."""
    classes = np.arange(30) // 10
    one, other = (
        a_score(np.arange(30) % 10 < np.repeat(rights, 10), labels=classes) for rights in ((1, 2, 6), (3, 6, 0))
    )
    assert 0.1 + 0.2 + 0.6 != 0.3 + 0.6 + 0.0
    means = [value_of(score, "mean_class", classes=classes) for score in (one, other)]
    assert means == [Fraction(3, 10)] * 2


# Subsets


@given(st.integers(1, 6), st.integers(0, 1000), st.booleans())
def test_exhaustive_is_brute_force(number, seed, limits):
    taste = Taste(number, seed, limits=limits)
    reference = max(subsets(taste.names), key=lambda subset: taste.score(mean_of(subset)).correct)  # the first of ties
    assert Exhaustive().plan(taste.pool) == mean_of(reference)
    assert len(set(taste.asked)) == 2**number - 1


def test_exhaustive_of_ten_is_brute_force():
    taste = Taste(10, 3)
    reference = max(subsets(taste.names), key=lambda subset: taste.score(mean_of(subset)).correct)
    assert Exhaustive().plan(taste.pool) == mean_of(reference)


def test_exhaustive_of_too_many_is_refused_with_a_way_out():
    with pytest.raises(
        RecipeError, match=r"13 ingredients have 8,191 subsets; expected at most 12 .* Name fewer members"
    ):
        Exhaustive().plan(Taste(13).pool)


@given(st.integers(1, 7), st.integers(0, 1000), st.integers(1, 3))
def test_pruned_is_the_plain_loop(number, seed, passes):
    taste = Taste(number, seed)
    kept = list(taste.names)
    for _ in range(passes):
        for name in sorted(kept, key=lambda name: taste.score(((name, 1.0),)).correct):
            left = [other for other in kept if other != name]
            if left and taste.score(mean_of(left)).correct > taste.score(mean_of(kept)).correct:
                kept = left
    assert Pruned(passes=passes).plan(taste.pool) == mean_of(kept)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_a_beam_wide_enough_for_all_finds_the_best_that_can_be_reached_by_improving(number, seed):
    taste = Taste(number, seed)
    value = {frozenset(subset): taste.score(mean_of(subset)).correct for subset in subsets(taste.names)}
    reached = {frozenset([name]) for name in taste.names}
    front = reached
    while front:
        front = {s | {n} for s in front for n in taste.names if n not in s and value[s | {n}] > value[s]}
        reached = reached | front
    found = frozenset(name for name, _ in Beam(width=20).plan(taste.pool))
    assert value[found] == max(value[subset] for subset in reached)


def test_a_beam_holds_a_subset_against_each_of_those_it_can_be_reached_from():
    """ab beats a but not b; from ab alone abc is reached, the best of all."""
    right = {"a": 50, "b": 60, "c": 40, "ab": 55, "ac": 45, "bc": 45, "abc": 70}
    asked = []

    def attempt(mixture, limit):
        asked.append("".join(name for name, _ in mixture))
        return limited(counted(right[asked[-1]]), limit)

    assert Beam(width=2).plan(scored_pool(list("abc"), attempt)) == mean_of("abc")
    assert len(asked) == len(set(asked))  # and each is scored once


@pytest.mark.parametrize(
    "recipe", [Beam(), Restarts(), Pruned(), Exhaustive(), LineSearch(), AlphaSearch(), Greedy(), Bayesian(budget=5)]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_search_ends_no_lower_than_the_best_ingredient_it_may_start_from(recipe, seed):
    taste = Taste(5, seed)
    found = taste.score(recipe.plan(taste.pool)).correct
    start = max(taste.score(((name, 1.0),)).correct for name in taste.names)
    assert found >= (taste.score(mean_of(taste.names)).correct if isinstance(recipe, Pruned) else start)
    assert len(set(taste.asked)) <= len(taste.names) + recipe.candidates(len(taste.names))
    assert taste.steps[-1].best_accuracy == pytest.approx(found / NUM_EXAMPLES)


@pytest.mark.parametrize("recipe", [Beam(), Restarts(), Pruned(), Exhaustive(), LineSearch(steps=3)])
def test_giving_up_what_cannot_win_changes_no_soup(recipe):
    for seed in range(8):
        assert recipe.plan(Taste(5, seed).pool) == recipe.plan(Taste(5, seed, limits=False).pool)


def test_restarts_are_seeded_and_the_first_is_greedy():
    assert Restarts(starts=1).plan(Taste(6, 1).pool) == mean_of([name for name, _ in Greedy().plan(Taste(6, 1).pool)])
    assert Restarts(seed=3).plan(Taste(6, 1).pool) == Restarts(seed=3).plan(Taste(6, 1).pool)


# Alphas


def test_alpha_search_keeps_the_best_of_its_greedy_soups():
    taste = Taste(5, 2)
    soups = [Greedy(alpha=alpha).plan(taste.pool) for alpha in (0.25, 0.5, 0.75, 1.0)]
    best = max(soups, key=lambda mix: taste.score(mix).correct)
    assert AlphaSearch(tries=4).plan(taste.pool) == best


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
    assert dict(LineSearch(steps=points).plan(taste.pool)) == pytest.approx(soup)


@pytest.mark.parametrize("objective", ["loss", "mean_class", "worst_class", "mean_slice", "worst_slice"])
@given(number=st.integers(1, 6), seed=st.integers(0, 1000))
def test_greedy_raises_what_it_is_asked_to(objective, number, seed):
    taste = Taste(number, seed)
    slices = np.arange(NUM_EXAMPLES) % 4
    sign = -1 if objective == "loss" else 1

    def value(names):
        return sign * value_of(taste.score(mean_of(names)), objective, slices, classes=taste.labels)

    first, *others = sorted(taste.names, key=lambda name: -value([name]))
    kept = [first]
    for name in others:
        if value([*kept, name]) > value(kept):
            kept.append(name)
    assert Greedy(objective=objective).plan(
        replace(taste.pool, groups=taste.pool.groups | {"slice": slices})
    ) == mean_of(kept)


class Overflowing(Taste):
    """m_0 overflows on every fourth example where it has a large share, and is certain of the others."""

    def score(self, mixture) -> Score:
        score = super().score(mixture)
        if dict(mixture).get("m_0", 0.0) < 0.3:
            return score
        bad = np.arange(NUM_EXAMPLES) % 4 == 0
        predictions = np.where(bad, -1, score.outcomes["prediction"])
        return judged(some_outcomes(predictions=predictions, labels=self.labels, losses=0.0), width=3)


@pytest.mark.parametrize(
    "recipe",
    [
        Greedy(objective="loss"), Greedy(objective="loss", alpha=0.5), Bayesian(objective="loss", budget=12),
        Bayesian(objective="loss", budget=12, sampler="cmaes"), Weighted(metric="loss", temperature=1.0),
    ],
)  # fmt: skip
def test_no_objective_prefers_a_model_that_overflows(recipe):
    for seed in range(4):
        taste = Overflowing(4, seed)
        assert taste.score(recipe.plan(taste.pool)).num_nonfinite == 0


def test_of_equally_many_right_line_search_takes_no_lower_loss_over_fewer_answers():
    def of(loss: float, num_nonfinite: int = 0) -> Score:
        predictions = np.where(np.arange(100) < 60, 0, np.where(np.arange(100) < 100 - num_nonfinite, 1, -1))
        return a_score(predictions=predictions, losses=loss)

    pool = Taste(1).pool
    assert not _is_better(pool, of(0.1, 5), of(0.9))
    assert _is_better(pool, of(0.8), of(0.9))
    assert _is_better(pool, of(2.0, 4), of(0.1, 5))


def with_shifts(taste: Taste, seed: int) -> tuple[ScoredPool, list[Taste]]:
    """A pool that has two shifts, with what is true of them."""
    shifts = [Taste(len(taste.names), 1000 + seed), Taste(len(taste.names), 2000 + seed)]
    names = ["shifts.a", "shifts.b"]
    also = lambda mix, split: shifts[names.index(split)].score(mix)  # noqa: E731
    return replace(taste.pool, shifts=names, also=also), shifts


@given(st.integers(1, 6), st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_greedy_with_shifts_raises_the_weighted_sum(number, seed, weight):
    taste = Taste(number, seed)
    pool, shifts = with_shifts(taste, seed)

    def value(names):
        own, *others = [Fraction(one.score(mean_of(names)).correct, NUM_EXAMPLES) for one in (taste, *shifts)]
        return (1 - Fraction(weight)) * own + Fraction(weight) * sum(others) / 2

    first, *others = sorted(taste.names, key=lambda name: -value([name]))
    kept = [first]
    for name in others:
        if value([*kept, name]) > value(kept):
            kept.append(name)
    assert Greedy(objective="with_shifts", shift_weight=weight).plan(pool) == mean_of(kept)
    assert taste.steps[-1].best_accuracy == taste.score(mean_of(kept)).accuracy
    assert {split for _, split in pool.asked} == {"held_out", "shifts.a", "shifts.b"}


def test_shifts_that_count_nothing_change_no_soup():
    for seed in range(10):
        taste = Taste(5, seed)
        pool, _ = with_shifts(taste, seed)
        found = Greedy(objective="with_shifts", shift_weight=0.0).plan(pool)
        assert found == Greedy().plan(pool)


def test_bayesian_search_with_shifts_keeps_the_best_weighted_sum():
    taste = Taste(4, 1)
    pool, shifts = with_shifts(taste, 1)
    found = Bayesian(objective="with_shifts", budget=8).plan(pool)
    tried = [mix for mix, split in pool.asked if split == "shifts.a"]

    def value(mix):
        own, *others = [Fraction(one.score(mix).correct, NUM_EXAMPLES) for one in (taste, *shifts)]
        return own / 2 + sum(others) / 4

    assert len(tried) <= 8
    assert value(found) == max(value(mix) for mix in tried)


def test_with_shifts_needs_shifts_and_says_so():
    with pytest.raises(
        RecipeError, match=r"the kitchen has none; add `shifts:` under `data:` in kitchen\.yaml, or take"
    ):
        Greedy(objective="with_shifts").plan(Taste(2).pool)


def test_a_shift_weight_is_a_fraction_and_the_title_tells_it():
    with pytest.raises(RecipeError, match="shift_weight"):
        parse({"method": "greedy", "shift_weight": 1.5})
    assert Greedy(objective="with_shifts", shift_weight=0.3).title == "greedy (alpha = mean, with shifts by 0.3)"
    assert Weighted(per="slice").title == "weighted (per slice, T = 0.01)"


def test_recipes_say_what_they_need_and_on_what_they_select():
    splits = ["held_out", "test", "train", "shifts.a", "shifts.b"]
    assert Greedy(objective="worst_slice").needs == Weighted(per="slice").needs == frozenset({"slices"})
    assert Bayesian(objective="with_shifts").needs == frozenset({"shifts"})
    assert Greedy(objective="mean_class").needs == Weighted(per="class").needs == frozenset()
    assert Greedy(objective="worst_slice").selects_on(splits) == Uniform().selects_on(splits) == ["held_out"]
    assert Greedy(objective="with_shifts").selects_on(splits) == ["held_out", "shifts.a", "shifts.b"]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_bayesian_search_is_seeded_and_starts_from_uniform_and_greedy(sampler):
    recipe = Bayesian(sampler=sampler, budget=12)
    taste = Taste(4, 1)
    found = recipe.plan(taste.pool)
    assert found == recipe.plan(Taste(4, 1).pool)
    assert sum(weight for _, weight in found) == pytest.approx(1.0)
    assert len(taste.steps) == 12
    starts = [mean_of(taste.names), Greedy().plan(Taste(4, 1).pool)]
    assert [step.correct for step in taste.steps[:2]] == [taste.score(start).correct for start in starts]
    assert taste.score(found).correct == max(step.correct for step in taste.steps)


def test_bayesian_search_needs_optuna_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RecipeError, match="needs optuna, which is not installed: pip install"):
        Bayesian().plan(Taste(3).pool)


# Over time

RUN = {"m_0": {"step": 300}, "m_1": {"step": "100"}, "m_2": {"step": 200}, "m_3": {"step": 400}}


def test_swa_is_the_mean_from_a_step_on():
    taste = Taste(4, facts=RUN)
    assert Swa(start=200).plan(taste.pool) == mean_of(["m_2", "m_0", "m_3"])
    assert Swa(start=100, period=2).plan(taste.pool) == mean_of(["m_1", "m_0"])
    with pytest.raises(RecipeError, match="no checkpoint from step 500 on; the last is of 400"):
        Swa(start=500).plan(taste.pool)


def test_ema_is_the_recursion_multiplied_out():
    found = dict(Ema(decay=0.8).plan(Taste(4, facts=RUN).pool))
    assert found == pytest.approx({"m_1": 0.8**3, "m_2": 0.2 * 0.8**2, "m_0": 0.2 * 0.8, "m_3": 0.2})
    assert Ema(decay=0.0).plan(Taste(4, facts=RUN).pool) == (("m_3", 1.0),)


def test_lawa_is_the_mean_of_the_latest():
    assert Lawa(last=2).plan(Taste(4, facts=RUN).pool) == mean_of(["m_0", "m_3"])
    assert Lawa(last=50).plan(Taste(4, facts=RUN).pool) == mean_of(["m_1", "m_2", "m_0", "m_3"])


def test_the_step_is_in_the_metadata_or_in_the_name():
    assert Lawa(last=1).plan(Taste(3, names=["run2_step_90", "run2_step_100", "run2_step_9"]).pool) == mean_of(
        ["run2_step_100"]
    )
    with pytest.raises(RecipeError, match=r"'m_0' does not say of which step it is; expected step, .* as in step_300"):
        Lawa().plan(Taste(2).pool)
    with pytest.raises(RecipeError, match=r"'m_0' and 'm_1' are both of step 7; .* checkpoints of one run"):
        Lawa().plan(Taste(2, facts={"m_0": {"epoch": 7}, "m_1": {"epoch": "7"}}).pool)


def test_uniform_asks_for_no_score():
    taste = Taste(3)
    assert Uniform().plan(taste.pool) == mean_of(taste.names)
    assert not taste.asked
