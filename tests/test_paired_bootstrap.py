"""Corpus metrics resampled as sacrebleu does: statistics of each segment, summed and judged anew each time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import LIST_DRAWS, compare, compare_many, pair
from soupviz.tasks.resampling import DRAWS, bootstrap_differences, interval, permutation_p
from soupviz.tasks.score import Score
from soupviz.tasks.significance import chance
from soupviz.tasks.speech.transcription import WER
from soupviz.tasks.text.language_model import NATS, LanguageModel

NUMBER = 120


class Case(NamedTuple):
    """Two systems on the same segments. statistics: of each, shape (segments, 2): what is divided by what."""

    metric: SumMetric
    new: Outcomes
    old: Outcomes
    statistics: tuple[np.ndarray, np.ndarray]


def transcripts(gain: float, seed: int) -> Case:
    """Words of which fewer are wrong by as much as the gain."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 25, NUMBER)
    sides, statistics = [], []
    hard = random.beta(2, 8, NUMBER)
    for share in (hard * (1 - gain), hard):
        kinds = random.multinomial(random.binomial(words, share), [0.6, 0.3, 0.1])
        kinds[:, 2] += random.poisson(0.2, NUMBER)
        names = ("substitutions", "deletions", "insertions")
        sides.append(Outcomes.of(dict(zip(names, kinds.T, strict=True)), {"words": words}))
        statistics.append(np.column_stack([kinds.sum(axis=1), words]))
    return Case(WER, *sides, tuple(statistics))


def documents(gain: float, seed: int) -> Case:
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 60, NUMBER)
    sides, statistics = [], []
    nats = random.normal(4, 0.6, NUMBER) * tokens
    for told in (nats * (1 - gain / 20) * random.normal(1, 0.02, NUMBER), nats):
        columns = {"nats": told, "lost_tokens": np.zeros(NUMBER), "finite": np.ones(NUMBER, dtype=bool)}
        sides.append(Outcomes.of(columns, {"tokens": tokens}))
        statistics.append(np.column_stack([told, tokens]))
    return Case(NATS, *sides, tuple(statistics))


def corpus(statistics: np.ndarray) -> float:
    counted, of = statistics.sum(axis=0)
    return counted / of


def resampled(case: Case, draws: int, seed: int) -> np.ndarray:
    """Differences of both systems' corpus values on the same segments, drawn by index."""
    picks = np.random.default_rng(seed).integers(0, NUMBER, size=(draws, NUMBER))
    new, old = case.statistics
    return np.array([corpus(new[rows]) - corpus(old[rows]) for rows in picks])


def randomized(case: Case, draws: int, seed: int) -> float:
    """p of paired approximate randomization: segments change sides by a coin's throw."""
    random = np.random.default_rng(seed)
    new, old = case.statistics
    seen, far = abs(corpus(new) - corpus(old)), 0
    for _ in range(draws):
        moves = random.integers(0, 2, NUMBER, dtype=bool)[:, None]
        far += abs(corpus(np.where(moves, old, new)) - corpus(np.where(moves, new, old))) >= seen
    return (1 + far) / (1 + draws)


def centred(case: Case, differences: np.ndarray) -> float:
    """p of the paired bootstrap: how often absolute differences, less their mean, exceed the one that was seen."""
    seen, found = abs(corpus(case.statistics[0]) - corpus(case.statistics[1])), np.abs(differences)
    return (1 + (found - found.mean() > seen).sum()) / (1 + len(found))


KINDS = [transcripts, documents]


@pytest.mark.parametrize("made", KINDS)
def test_on_the_same_resamples_both_systems_have_the_same_corpus_values(made: Callable[[float, int], Case]) -> None:
    case = made(0.1, 1)
    expected = resampled(case, 300, seed=7)
    found = bootstrap_differences(case.metric, case.new, case.old, draws=300, seed=7)
    assert found == pytest.approx(expected, abs=1e-12)
    told = interval(case.metric, case.new, case.old, found)
    assert told == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])), abs=1e-12)


@pytest.mark.parametrize("made", KINDS)
@pytest.mark.parametrize("gain", [0.0, 0.1, 0.2])
def test_p_is_that_of_approximate_randomization(made: Callable[[float, int], Case], gain: float) -> None:
    case = made(gain, 2)
    p = permutation_p(case.metric, case.new, case.old)
    around = 5 * np.sqrt(p * (1 - p) * (1 / DRAWS + 1 / 2000))
    assert randomized(case, 2000, seed=3) == pytest.approx(p, abs=around + 1 / 2000)


@pytest.mark.parametrize(("made", "gain"), [(transcripts, 0.1), (documents, 0.15)])
def test_the_bootstraps_own_p_is_of_one_side_and_half_as_large(made: Callable[[float, int], Case], gain: float) -> None:
    """Of models that differ; of such as hardly do, absolute differences have a mean that is not theirs."""
    case = made(gain, 5)
    p = permutation_p(case.metric, case.new, case.old)
    assert 0.01 < p < 0.1
    assert centred(case, resampled(case, 4000, seed=3)) == pytest.approx(p / 2, abs=0.25 * p)


def test_a_p_value_that_no_draw_reached_is_told_as_a_bound_also_once_it_is_corrected() -> None:
    task, case = LanguageModel(), documents(0.2, 1)

    def scored(outcomes: Outcomes) -> Score:
        return Score("test", NUMBER, {NATS.name: NATS.value(outcomes)}, outcomes=outcomes)

    new, old = scored(case.new), scored(case.old)
    assert pair(task, NATS, new, old).is_least and not pair(task, NATS, old, old).is_least
    found = compare_many(task, NATS, old, {str(number): new for number in range(10)} | {"same": old})
    assert found["0"].p_value == pytest.approx(11 / (1 + LIST_DRAWS))
    assert chance(found["0"].p_value, found["0"].is_least) == "p ≤ 0.006"
    assert chance(found["same"].p_value, found["same"].is_least) == "p = 1.00"
    assert chance(compare(task, NATS, new, old).p_value) == "p < 0.001"
