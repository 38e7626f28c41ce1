"""How sure one can be of a difference, under any metric: against exact tests and scipy's resampling."""

import itertools

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
from soupviz.tasks.resampling import bootstrap_differences, bootstrap_values, permutation_p, smallest_detectable
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
    new, old = two_of(kind, 5, number=12, skills=(0.7, 0.5))
    groups = np.arange(12) // 2
    found = permutation_p(OUTSIDE[kind], new, old, groups=groups, draws=DRAWS)
    assert found == near(exact_p(OUTSIDE[kind], new, old, groups))


def test_copies_of_the_same_unit_are_no_evidence_once_they_are_a_group():
    new, old = pair(40, 0, 0)
    groups = np.arange(40) // 10
    assert permutation_p(ACCURACY, new, old, draws=DRAWS) < 0.001
    assert permutation_p(ACCURACY, new, old, groups=groups, draws=DRAWS) == near(2 / 2**4)
    alone = bootstrap_differences(ACCURACY, *pair(20, 20, 0), draws=DRAWS).std()
    together = bootstrap_differences(ACCURACY, *pair(20, 20, 0), groups=groups, draws=DRAWS).std()
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.1)


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
