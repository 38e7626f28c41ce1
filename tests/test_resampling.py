"""How sure one can be of a difference, under any metric: against exact tests and scipy's resampling."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_from_outside import MAP, NATS, WER, some_of, targets_of, transcribed
from scipy import stats
from scores import some_outcomes

from soupviz.recipes.greedy import Candidate, greedy
from soupviz.tasks import resampling
from soupviz.tasks.class_metrics import ACCURACY, LOSS, MacroF1
from soupviz.tasks.metric import Metric, NumberMetric
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.resampling import (
    Drawn,
    bootstrap_differences,
    bootstrap_values,
    permutation_p,
    smallest_detectable,
    swapped_p,
)
from soupviz.tasks.score import Bound, Score
from soupviz.tasks.significance import mcnemar

OUTSIDE = {"wer": WER, "nats": NATS, "map": MAP}
DRAWS = 2_000


def pair(fixed: int, broken: int, same: int) -> tuple[Outcomes, Outcomes]:
    right = [1] * fixed + [0] * broken + [1] * same
    was = [0] * fixed + [1] * broken + [1] * same
    return some_outcomes(right), some_outcomes(was)


def two_of(kind: str, seed: int, number: int = 60, skills=(0.6, 0.5)) -> list[Outcomes]:
    random = np.random.default_rng(seed)
    targets = targets_of(kind, number, random)
    return [some_of(kind, targets, random, skill) for skill in skills]


def in_groups(groups, *outcomes: Outcomes) -> list[Outcomes]:
    """The same units, of which some belong together."""
    return [replace(one, groups=np.asarray(groups)) for one in outcomes]


def exact_p(metric: Metric, new: Outcomes, old: Outcomes, groups: np.ndarray | None = None) -> float:
    """Of every way to swap; outcomes are put together unit by unit."""
    groups = np.arange(len(new)) if groups is None else groups

    def apart(swapped: np.ndarray) -> float:
        columns = {name: np.where(_as(swapped, new[name]), old[name], new[name]) for name in new.columns}
        others = {name: np.where(_as(swapped, new[name]), new[name], old[name]) for name in new.columns}
        one, other = (metric.value(Outcomes.of(part, new.targets)) for part in (columns, others))
        return abs(float(one) - float(other))

    seen = apart(np.zeros(len(new), dtype=bool))
    ways = [np.array(way, dtype=bool)[groups] for way in itertools.product([0, 1], repeat=groups.max() + 1)]
    return sum(apart(way) >= seen - 1e-9 for way in ways) / len(ways)


def _as(swapped: np.ndarray, column: np.ndarray) -> np.ndarray:
    return swapped.reshape(-1, *[1] * (column.ndim - 1))


def near(expected: float, draws: int = DRAWS):
    """Within five standard errors of a share of so many draws."""
    return pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / draws) + 2 / draws)


# Permutations


@pytest.mark.parametrize(("fixed", "broken"), [(6, 0), (3, 1), (9, 3), (2, 2), (0, 5)])
def test_of_right_and_wrong_the_permutation_is_mcnemars_exact_test(fixed, broken):
    assert permutation_p(ACCURACY, *pair(fixed, broken, 30), draws=DRAWS) == near(mcnemar(fixed, broken))


def test_models_that_never_differ_differ_by_chance():
    new, old = pair(0, 0, 20)
    assert permutation_p(ACCURACY, new, old, draws=100) == 1.0
    assert not bootstrap_differences(ACCURACY, new, old, draws=100).any()


def test_the_permutation_of_a_mean_is_scipys():
    random = np.random.default_rng(4)
    losses = random.gamma(2, 0.5, (2, 40))
    losses[0] -= 0.08
    expected = stats.permutation_test(
        losses, lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=DRAWS, rng=1
    ).pvalue
    new, old = (some_outcomes(np.ones(40), losses=one) for one in losses)
    assert permutation_p(LOSS, new, old, draws=DRAWS) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_permutation_under_a_metric_of_ones_own_is_that_of_every_swap(kind):
    new, old = two_of(kind, 2, number=8, skills=(0.75, 0.4))
    assert permutation_p(OUTSIDE[kind], new, old, draws=DRAWS) == near(exact_p(OUTSIDE[kind], new, old))


def test_a_permutation_of_macro_f1_is_that_of_every_swap():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 9)
    new, old = (some_outcomes(predictions=random.integers(0, 3, 9), labels=labels) for _ in range(2))
    assert permutation_p(MacroF1(), new, old, draws=DRAWS) == near(exact_p(MacroF1(), new, old))


@pytest.mark.parametrize("kind", OUTSIDE)
def test_groups_are_swapped_together(kind):
    """Of six groups every way to swap is taken; at thirteen swaps are drawn."""
    for number, each in ((12, 2), (13, 1)):
        new, old = two_of(kind, 5, number=number, skills=(0.7, 0.5))
        groups = np.arange(number) // each
        found = permutation_p(OUTSIDE[kind], *in_groups(groups, new, old), draws=DRAWS)
        assert found == near(exact_p(OUTSIDE[kind], new, old, groups))


def test_copies_of_the_same_unit_are_no_evidence_once_they_are_a_group():
    new, old = pair(40, 0, 0)
    groups = np.arange(40) // 10
    assert permutation_p(ACCURACY, new, old, draws=DRAWS) < 0.001
    assert permutation_p(ACCURACY, *in_groups(groups, new, old), draws=DRAWS) == 2 / 2**4
    alone = bootstrap_differences(ACCURACY, *pair(20, 20, 0), draws=DRAWS).std()
    together = bootstrap_differences(ACCURACY, *in_groups(groups, *pair(20, 20, 0)), draws=DRAWS).std()
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.1)


@given(st.lists(st.integers(-6, 6), max_size=12))
def test_a_sum_whose_parts_may_change_sign_is_as_likely_as_by_hand(parts):
    seen = abs(sum(parts))
    ways = [abs(sum(s * part for s, part in zip(signs, parts, strict=True))) for signs in signs_of(len(parts))]
    assert swapped_p(np.array(parts, dtype=np.int64)) == pytest.approx(sum(way >= seen for way in ways) / len(ways))


def signs_of(number: int):
    return itertools.product([-1, 1], repeat=number)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (9, 0), (30, 12), (400, 321)])
def test_of_groups_of_one_the_exact_test_is_mcnemars(fixed, broken):
    apart = np.array([1] * fixed + [-1] * broken + [0] * 50)
    assert swapped_p(apart) == pytest.approx(mcnemar(fixed, broken), rel=1e-9)


def test_many_groups_of_several_units_are_counted_exactly_in_no_time():
    """Against the normal approximation."""
    random = np.random.default_rng(0)
    apart = np.concatenate([random.integers(-3, 4, 1_000), random.integers(-1, 2, 2_000)])
    spread = np.sqrt((apart**2).sum())
    assert swapped_p(apart) == pytest.approx(2 * stats.norm.sf((abs(apart.sum()) - 0.5) / spread), rel=0.02)


# Groups


def of_means(metric: Metric, values, groups) -> np.ndarray:
    """A metric on resamples of groups, unit by unit, in a plain loop with the seed of `bootstrap_values`."""
    random, number = np.random.default_rng(0), max(groups) + 1
    found = []
    for picks in random.integers(0, number, size=(50, number)):
        rows = np.concatenate([np.flatnonzero(np.array(groups) == pick) for pick in picks])
        found.append(float(metric.value(values.take(rows))))
    return np.array(found)


@pytest.mark.parametrize("kind", [*OUTSIDE, "accuracy", "loss"])
def test_a_bootstrap_of_groups_is_a_plain_loop_over_groups(kind):
    random = np.random.default_rng(6)
    groups = random.integers(0, 5, 24)
    groups[:5] = np.arange(5)
    metric = {"accuracy": ACCURACY, "loss": LOSS, **OUTSIDE}[kind]
    outcomes = (
        some_outcomes(random.integers(0, 2, 24), losses=random.random(24))
        if kind in ("accuracy", "loss")
        else two_of(kind, 6, number=24)[0]
    )
    found = bootstrap_values(metric, *in_groups(groups, outcomes), draws=50)
    assert found == pytest.approx(of_means(metric, outcomes, groups))


def test_of_groups_of_one_size_intervals_and_tests_are_scipys_of_their_means():
    random = np.random.default_rng(8)
    speakers = random.normal(0.1, 0.4, 14)
    apart = (speakers[:, None] + random.normal(0, 0.1, (14, 5))).ravel()
    losses = np.abs(random.normal(2, 0.3, 70))
    new, old = (some_outcomes(np.ones(70), losses=one) for one in (losses + apart, losses))
    grouped = in_groups(np.repeat(np.arange(14), 5), new, old)
    means = apart.reshape(14, 5).mean(axis=1)
    expected = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=9_999, rng=1).confidence_interval
    low, high = np.quantile(bootstrap_differences(LOSS, *grouped), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.05 * (high - low))
    p = stats.permutation_test(
        (means, np.zeros(14)), lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_p(LOSS, *grouped) == near(p, 10_000)
    assert permutation_p(LOSS, *grouped, draws=2**14) == pytest.approx(p)


def test_groups_need_no_names_from_nought_and_may_lie_anywhere():
    """As they do in a slice."""
    drawn_as = Drawn.of(*in_groups([70, 3, 70, 9, 3, 70], some_outcomes(np.ones(6))))
    assert (drawn_as.number, drawn_as.index.tolist(), drawn_as.sizes.tolist()) == (3, [2, 0, 2, 1, 0, 2], [2, 1, 3])
    assert drawn_as.sums(np.array([1.0, 2, 4, 8, 16, 32])).tolist() == [18, 8, 37]
    assert drawn_as.sums(np.eye(6)[:, :2]).tolist() == [[0, 1], [0, 0], [1, 0]]


def test_of_one_group_nothing_is_known():
    new, old = in_groups(np.zeros(9, dtype=int), *pair(6, 1, 2))
    assert permutation_p(ACCURACY, new, old) == 1.0
    assert np.isnan(bootstrap_differences(ACCURACY, new, old, draws=10)).all()


def test_a_loss_of_an_answer_that_is_not_finite_is_no_evidence():
    losses = np.ones(12)
    broken = np.where(np.arange(12) < 3, np.nan, losses)
    new, old = some_outcomes(np.ones(12), losses=losses), some_outcomes(np.ones(12), losses=broken)
    assert permutation_p(LOSS, new, old, draws=100) == 1.0
    assert np.isfinite(bootstrap_differences(LOSS, new, old, draws=100)).all()


# Bootstrap


@pytest.mark.parametrize("kind", ["wer", "nats"])
def test_intervals_are_scipys(kind):
    new, old = two_of(kind, 1)
    counted, length = {"wer": ("edits", "words"), "nats": ("nats", "tokens")}[kind]
    rows = (new[counted], old[counted], new[length])
    expected = stats.bootstrap(
        rows, lambda a, b, c, axis: (a.sum(axis) - b.sum(axis)) / c.sum(axis), paired=True, vectorized=True,
        method="percentile", n_resamples=DRAWS, rng=1,
    ).confidence_interval  # fmt: skip
    low, high = np.quantile(bootstrap_differences(OUTSIDE[kind], new, old, draws=DRAWS), [0.025, 0.975])
    width = expected.high - expected.low
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.08 * width)


def test_intervals_of_a_metric_without_sums_are_scipys():
    new, old = two_of("map", 1, number=40)

    def apart(rows):
        rows = rows.astype(int)
        return MAP.value(new.take(rows)) - MAP.value(old.take(rows))

    expected = stats.bootstrap(
        (np.arange(40),), apart, vectorized=False, method="percentile", n_resamples=400, rng=1
    ).confidence_interval
    low, high = np.quantile(bootstrap_differences(MAP, new, old, draws=400), [0.025, 0.975])
    width = expected.high - expected.low
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.2 * width)


def test_a_function_of_ones_own_is_called_on_no_more_resamples_than_it_allows():
    few = NumberMetric("few", "few", "", True, lambda answers, _labels: answers.mean(), draws=7)
    columns = {"answer": np.arange(5.0), "finite": np.ones(5, dtype=bool)}
    outcomes = Outcomes.of(columns, {"label": np.zeros(5)})
    assert len(bootstrap_values(few, outcomes, draws=50)) == 7
    assert len(bootstrap_differences(few, outcomes, outcomes, draws=50)) == 7


@pytest.mark.parametrize("kind", OUTSIDE)
def test_neither_blocks_nor_the_side_change_a_result(kind, monkeypatch):
    """The same seed gives the same draws; swapped sides the same p-value and mirrored differences."""
    metric, (new, old) = OUTSIDE[kind], two_of(kind, 3, number=20)
    whole = bootstrap_differences(metric, new, old, draws=50), permutation_p(metric, new, old, draws=50)
    mirrored = bootstrap_differences(metric, old, new, draws=50), permutation_p(metric, old, new, draws=50)
    assert mirrored[0] == pytest.approx(-whole[0])
    assert mirrored[1] == whole[1]
    monkeypatch.setattr(resampling, "CHUNK", 20 * 7)
    assert bootstrap_differences(metric, new, old, draws=50) == pytest.approx(whole[0])
    assert permutation_p(metric, new, old, draws=50) == whole[1]


def test_a_difference_that_can_be_detected_is_found_with_the_power():
    """Of differences with this spread, a true one of the smallest size is significant four times out of five."""
    spread = 0.02
    smallest = smallest_detectable(np.random.default_rng(0).normal(0, spread, 100_000))
    assert smallest == pytest.approx((1.959964 + 0.841621) * spread, rel=0.02)
    measured = np.random.default_rng(1).normal(smallest, spread, 20_000)
    assert (np.abs(measured / spread) > 1.959964).mean() == pytest.approx(0.8, abs=0.02)


# A search by a metric from outside


@pytest.mark.parametrize("kind", OUTSIDE)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 15))
def test_giving_up_early_under_a_metric_from_outside_changes_no_decision(kind, seed, batch):
    metric, random = OUTSIDE[kind], np.random.default_rng(seed)
    targets = targets_of(kind, 30, random)
    objective = Objective(metric)

    def score_of(found: Outcomes) -> Score:
        return Score("held_out", 30, {metric.name: metric.value(found)}, outcomes=found)

    known: dict[str, Score] = {}

    def score_by(name: str) -> Score:
        if name not in known:
            skill = 0.3 + 0.5 * random.random()
            known[name] = score_of(some_of(kind, targets, random, skill))
        return known[name]

    def early(candidate: Candidate, best: Score) -> Score | Bound:
        complete = score_by("".join(name for name, _ in candidate.mix))
        found, gives_up = Outcomes.blank(30, targets), objective.gives_up(best)
        for rows in np.split(np.random.default_rng(seed).permutation(30), range(batch, 30, batch)):
            found.write(rows, complete.outcomes.take(rows).columns)
            if not found.is_whole and gives_up(found):
                assert not objective.is_better(complete, best)
                return Bound("held_out", 30, found, {metric.name: metric.bound(found)})
        return score_of(found)

    names = list("abcd")
    singles = {name: score_by(name) for name in names}
    whole = greedy(
        names, singles, objective=objective,
        score=lambda candidate, _best: score_by("".join(name for name, _ in candidate.mix)),
    )  # fmt: skip
    found = greedy(names, singles, objective=objective, score=early)
    assert found[0] == whole[0]
    assert [step.accepted for step in found[1]] == [step.accepted for step in whole[1]]
    assert [step.best_value for step in found[1]] == [step.best_value for step in whole[1]]
    for step, full in zip(found[1], whole[1], strict=True):
        lowest = step.bound if metric.higher_is_better else -step.bound
        assert lowest >= (full.value if metric.higher_is_better else -full.value) - 1e-9


def test_a_word_error_rate_is_one_ratio_of_the_corpus():
    """2 + 1 errors in 4 + 10 words; the mean of the utterances' rates would be 0.3."""
    assert WER.value(transcribed([2, 1], [4, 10])) == pytest.approx(3 / 14)
    assert str(WER.value(transcribed([2, 1], [4, 10]))) == "3/14"
    assert WER.value(transcribed([0], [0])) is None


def grouped_words(edits, groups):
    """Utterances of ten words each, by group."""
    targets = {"words": np.full(len(edits), 10)}
    return Outcomes.of({"edits": np.array(edits)}, targets, np.array(groups))


def interval_of(new, old):
    return resampling.interval(WER, new, old, bootstrap_differences(WER, new, old, draws=DRAWS))


def test_of_two_groups_a_differences_interval_is_students_and_reaches_beyond_both():
    """Percentiles would end at the two groups' own differences, which say nothing of a third."""
    groups = [0] * 4 + [1] * 4
    new, old = grouped_words([1] * 4 + [0] * 4, groups), grouped_words([3] * 4 + [1] * 4, groups)
    low, high = interval_of(new, old)
    # Differences of -0.2 and -0.1: the mean, and 12.7 times a standard error of 0.05.
    assert (low, high) == pytest.approx((-0.15 - 12.706 * 0.05, -0.15 + 12.706 * 0.05), rel=0.05)


def test_of_one_group_nothing_is_known_and_of_many_it_is_percentiles():
    new, old = grouped_words([1, 2, 0, 1], [0] * 4), grouped_words([2, 2, 2, 2], [0] * 4)
    assert np.isnan(interval_of(new, old)).all()
    many = np.arange(60) // 2
    random = np.random.default_rng(0)
    new, old = (grouped_words(random.integers(0, 4, size=60), many) for _ in range(2))
    draws = bootstrap_differences(WER, new, old, draws=DRAWS)
    assert resampling.interval(WER, new, old, draws) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
