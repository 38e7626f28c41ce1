import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scores import BY_ACCURACY, CLASSIFICATION, a_bound, counted

from soupviz.recipes.greedy import Candidate, candidate_order, greedy, with_newcomer
from soupviz.tasks.score import Score
from soupviz.types import Coefficients


def singles(**correct: int) -> dict[str, Score]:
    return {name: counted(value) for name, value in correct.items()}


def members(mixture: Coefficients) -> str:
    return "".join(name for name, _ in mixture)


class Judge:
    """Scores a mix by its members' names; remembers what it was asked."""

    def __init__(self, **correct: int):
        self.correct = correct
        self.asked: list[Coefficients] = []

    def __call__(self, candidate: Candidate, _best: Score) -> Score:
        self.asked.append(candidate.mix)
        return counted(self.correct[members(candidate.mix)])


SCORES = singles(a=50, b=70, c=60, d=60)


def test_greedy_starts_from_the_best_and_walks_the_others_best_first_ties_by_kitchen_order():
    judge = Judge(bc=71, bcd=70, bca=72)
    mixture, steps = greedy("abcd", SCORES, objective=BY_ACCURACY, score=judge)
    assert [step.ingredient for step in steps] == ["b", "c", "d", "a"]
    assert [step.accepted for step in steps] == [True, True, False, True]
    assert members(mixture) == "bca"


def test_greedy_mean_gives_the_accepted_equal_coefficients():
    judge = Judge(bc=71, bcd=70, bca=72)
    mixture, _ = greedy("abcd", SCORES, objective=BY_ACCURACY, score=judge, alpha="mean")
    assert mixture == (("b", 1 / 3), ("c", 1 / 3), ("a", 1 / 3))
    assert judge.asked == [
        (("b", 0.5), ("c", 0.5)),
        (("b", 1 / 3), ("c", 1 / 3), ("d", 1 / 3)),
        (("b", 1 / 3), ("c", 1 / 3), ("a", 1 / 3)),
    ]


def test_greedy_with_alpha_multiplies_the_coefficients_out_in_float64():
    """b, then c and a accepted with 0.1: b (0.9)(0.9), c (0.1)(0.9), a 0.1; the rejected d leaves no trace."""
    mixture, _ = greedy("abcd", SCORES, objective=BY_ACCURACY, score=Judge(bc=71, bcd=70, bca=72), alpha=0.1)
    assert mixture == (("b", 1.0 * 0.9 * 0.9), ("c", 0.1 * 0.9), ("a", 0.1))


def test_alpha_1_replaces_the_soup_by_the_newcomer():
    mixture, _ = greedy("abcd", SCORES, objective=BY_ACCURACY, score=Judge(c=71, d=72, a=1), alpha=1.0)
    assert mixture == (("d", 1.0),)


def test_ties_are_rejected():
    mixture, steps = greedy("ab", singles(a=50, b=50), objective=BY_ACCURACY, score=Judge(ab=50))
    assert mixture == (("a", 1.0),)
    assert [step.accepted for step in steps] == [True, False]


def test_decisions_compare_counts_of_the_same_examples():
    steps = greedy("ab", singles(a=50, b=40), objective=BY_ACCURACY, score=Judge(ab=51))[1]
    assert [(step.accuracy, step.correct, step.best_accuracy, step.accepted) for step in steps] == [
        (0.5, 50, 0.5, True),
        (0.51, 51, 0.51, True),
    ]


def test_a_trajectory_tells_every_decision():
    steps = greedy("abcd", SCORES, objective=BY_ACCURACY, score=Judge(bc=71, bcd=70, bca=72))[1]
    assert [step.step for step in steps] == [0, 1, 2, 3]
    assert [step.best_accuracy for step in steps] == [0.7, 0.71, 0.71, 0.72]
    assert [step.accuracy for step in steps] == [0.7, 0.71, 0.70, 0.72]
    assert {step.num_examples_scored for step in steps} == {100}
    assert [step.accuracy_at_most for step in steps] == [step.accuracy for step in steps]
    told = CLASSIFICATION.step(steps[0].as_dict()) | steps[0].as_dict()
    assert {
        "step": 0,
        "ingredient": "b",
        "accuracy": 0.7,
        "correct": 70,
        "best_accuracy": 0.7,
        "accepted": True,
        "num_examples_scored": 100,
        "accuracy_at_most": 0.7,
        "mix": (("b", 1.0),),
    }.items() <= told.items()
    assert (told["value"], told["best_value"], told["bound"]) == (0.7, 0.7, 0.7)
    assert (told["num_scored"], told["num_units"]) == (100, 100)
    assert told["metrics"] == told["best_metrics"] == {name: SCORES["b"].shown(name) for name in SCORES["b"].values}


def test_each_decision_is_told_when_it_is_made():
    told: list[str] = []

    def score(candidate: Candidate, _best: Score) -> Score:
        assert len(told) == len(asked) + 1
        asked.append(candidate.mix)
        return counted(0)

    asked: list[Coefficients] = []
    steps = greedy(
        "abcd", SCORES, objective=BY_ACCURACY, score=score, on_step=lambda step: told.append(step.ingredient)
    )[1]
    assert told == [step.ingredient for step in steps]


def test_a_pool_of_one_is_its_own_soup_and_is_not_scored_again():
    mixture, steps = greedy("a", singles(a=3), objective=BY_ACCURACY, score=Judge())
    assert mixture == (("a", 1.0),)
    assert len(steps) == 1


def test_listed_order_is_kitchen_order_after_the_best():
    assert candidate_order("abcd", SCORES, "listed", 0, BY_ACCURACY) == ["b", "a", "c", "d"]


def test_random_order_is_a_seeded_shuffle_of_kitchen_order_after_the_best():
    names = [f"n{index}" for index in range(20)]
    scores = {name: counted(50) for name in names} | {"n7": counted(60)}
    first = candidate_order(names, scores, "random", 3, BY_ACCURACY)
    shuffled = list(names)
    random.Random(3).shuffle(shuffled)
    assert first == ["n7", *(name for name in shuffled if name != "n7")]
    assert first == candidate_order(names, scores, "random", 3, BY_ACCURACY)
    assert first != candidate_order(names, scores, "random", 4, BY_ACCURACY)
    assert names == [f"n{index}" for index in range(20)]


def test_random_order_does_not_disturb_the_callers_random_numbers():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    candidate_order("abcd", SCORES, "random", 9, BY_ACCURACY)
    assert random.random() == expected


@pytest.mark.parametrize("order", ["best", "listed", "random"])
def test_the_best_is_the_first_of_the_equally_good(order):
    assert candidate_order("abc", singles(a=1, b=5, c=5), order, 0, BY_ACCURACY)[0] == "b"


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12))
def test_coefficients_of_a_soup_sum_to_one_whatever_the_alpha(alphas):
    soup: Coefficients = (("start", 1.0),)
    for index, alpha in enumerate(alphas):
        soup = with_newcomer(soup, str(index), alpha)
    assert sum(weight for _, weight in soup) == pytest.approx(1.0)
    assert all(weight > 0 for _, weight in soup)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.sampled_from(["mean", 0.1, 0.5]), st.randoms())
def test_the_best_never_falls_and_rises_exactly_when_a_candidate_is_accepted(correct, alpha, chance):
    names = [str(index) for index in range(len(correct))]
    scores = {name: counted(value) for name, value in zip(names, correct, strict=True)}
    answer = lambda _candidate, _best: counted(chance.randint(0, 100))  # noqa: E731
    mixture, steps = greedy(names, scores, objective=BY_ACCURACY, score=answer, alpha=alpha)
    best = [step.best_accuracy for step in steps]
    assert best[0] == max(correct) / 100
    for before, step in zip(best, steps[1:], strict=False):
        assert step.accepted == (step.accuracy > before) == (step.best_accuracy > before)
    assert members(mixture) == "".join(step.ingredient for step in steps if step.accepted)
    assert sorted(step.ingredient for step in steps) == sorted(names)


def test_a_bound_is_a_rejection_that_tells_no_accuracy():
    bound = a_bound(100, num_scored=40, num_wrong=30)
    _, steps = greedy("ab", singles(a=70, b=60), objective=BY_ACCURACY, score=lambda _candidate, _best: bound)
    last = steps[-1]
    assert (last.accepted, last.accuracy, last.correct) == (False, None, None)
    assert (last.accuracy_at_most, last.num_examples_scored, last.best_accuracy) == (0.7, 40, 0.7)
