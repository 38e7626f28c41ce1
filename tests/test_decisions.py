from dataclasses import replace

import numpy as np
import pytest
from kitchens import small_kitchen
from scipy import stats

import soupviz as sv
from soupviz.analysis import decisions
from soupviz.analysis.decision_summary import so_far, summary
from soupviz.analysis.decisions import Decision
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import parse
from soupviz.recipes.trajectory import Step
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.classes.classification import Classification

TASK = Classification()


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decisions")
    return sv.Kitchen.load(small_kitchen(folder, num_examples=600, scale=0.35, num_ingredients=6, train=60))


def right(kitchen, mix, aggregation="average"):
    return kitchen.scores.score(mix, "held_out", aggregation).outcomes["right"]


def told(kitchen, soup):
    return decisions.log(kitchen, soup.recipe, soup.trajectory)


def test_every_candidate_is_counted_against_the_soup_before_it(kitchen):
    soup = sv.greedy(kitchen, complete=True)
    start, *others = told(kitchen, soup)
    assert (start.outcome, start.better, start.p_value, start.margin) == ("start", None, None, None)
    kept = [start.candidate]
    for one, step in zip(others, soup.trajectory[1:], strict=True):
        new, old = right(kitchen, mean_of([*kept, one.candidate])), right(kitchen, mean_of(kept))
        fixed, broken = int((new & ~old).sum()), int((~new & old).sum())
        assert (one.better, one.worse, one.margin) == (fixed, broken, fixed - broken)
        assert one.p_value == pytest.approx(stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0)
        assert one.difference == pytest.approx((int(new.sum()) - int(old.sum())) / 600)
        assert (one.outcome == "accepted") == step.accepted == (fixed > broken)
        assert not one.is_bound and one.num_scored == 600
        kept += [one.candidate] if step.accepted else []
    assert {one.outcome for one in others} == {"accepted", "rejected"}


def test_what_was_rejected_early_is_counted_as_far_as_it_was_scored(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=900, scale=0.5, num_ingredients=4, batch_size=50))
    soup = sv.greedy(kitchen)
    early = [one for one in told(kitchen, soup) if one.outcome == "rejected early"]
    assert early
    for one in early:
        key = kitchen.scores.key(one.mix, "held_out", "average")
        finished, columns = kitchen.store.score(key)
        assert finished is None
        is_right, scored = columns["right"], columns["scored"]
        steps = [step for step in soup.trajectory[: one.step] if step.accepted]
        old = kitchen.scores.score(steps[-1].mix).outcomes
        assert one.num_scored == scored.sum() < 900
        assert one.better == int((is_right & ~old["right"] & scored).sum())
        assert one.worse == int((~is_right & old["right"] & scored).sum())
        # Their examples are those that are probably wrong, no random ones: a p-value would say nothing.
        assert one.p_value is None and one.is_bound and one.value is None
        assert one.margin == 900 - int((~is_right & scored).sum()) - int(old["right"].sum()) <= 0
        assert one.sentence.startswith(f"rejected early: of the {scored.sum()} examples scored (of 900) it fixes")
    whole = sv.greedy(kitchen, complete=True)
    assert not any(one.is_bound for one in told(kitchen, whole))


def test_a_run_of_an_earlier_version_is_counted_all_the_same(kitchen):
    soup = sv.greedy(kitchen, alpha=0.3, complete=True)
    old = [{name: value for name, value in step.as_dict().items() if name != "mix"} for step in soup.trajectory]
    steps = [Step.from_dict(step) for step in old]
    assert all(step.mix is None for step in steps)
    assert decisions.with_mixes(soup.recipe, steps) == list(soup.trajectory)
    assert decisions.log(kitchen, soup.recipe, steps) == told(kitchen, soup)


def test_of_other_searches_an_earlier_version_kept_counts_only(kitchen):
    soup = sv.cook(kitchen, {"method": "pruned"}, complete=True)
    steps = [replace(step, mix=None) for step in soup.trajectory]
    for new, old in zip(told(kitchen, soup), decisions.log(kitchen, soup.recipe, steps), strict=True):
        assert (old.margin, old.outcome, old.better, old.p_value) == (new.margin, new.outcome, None, None)


def test_steps_survive_json(kitchen):
    soup = sv.cook(kitchen, {"method": "wise_ft"})
    assert all(step.mix for step in soup.trajectory)
    kept = kitchen.store.run(soup.key).result["trajectory"]
    assert tuple(Step.from_dict(step) for step in kept) == soup.trajectory


@pytest.mark.parametrize(
    "method", ["pruned", "wise_ft", "beam", "exhaustive", "restarts", "alpha_search", "line_search"]
)
def test_every_search_tells_what_it_tried(kitchen, method):
    small = {"members": ["m_0", "m_1", "m_2"]} if method in ("beam", "exhaustive") else {}
    quick = {"tries": 3} if method == "alpha_search" else {"steps": 2} if method == "line_search" else {}
    soup = sv.cook(kitchen, {"method": method} | small | quick, complete=True)
    for one, step in zip(told(kitchen, soup), soup.trajectory, strict=True):
        count = int(right(kitchen, one.mix).sum())
        assert step.correct == count
    last = [step for step in soup.trajectory if step.accepted][-1]
    assert last.mix == soup.mix


def test_a_greedy_ensemble_has_a_log_too(kitchen):
    soup = sv.cook(kitchen, {"method": "ensemble", "choice": "greedy"})
    found = told(kitchen, soup)
    assert all(one.better is not None for one in found[1:])
    assert found[0].mix == ((soup.trajectory[0].ingredient, 1.0),)


def test_epochs_of_a_training_are_no_candidates(kitchen):
    soup = sv.cook(kitchen, {"method": "distilled", "epochs": 2})
    found = told(kitchen, soup)
    assert [one.outcome for one in found] == ["start", "epoch", "epoch"]
    assert "an epoch is no candidate: the last is kept" in found[1].sentence
    assert summary(TASK, ACCURACY, found, soup.recipe).startswith("From the greedy mix, 2 epochs. The last is kept")


def test_another_objective_tells_both_values(kitchen):
    soup = sv.greedy(kitchen, objective="loss")
    losses = {step.step: kitchen.scores.score(step.mix).loss for step in soup.trajectory}
    best = losses[0]
    for one in told(kitchen, soup)[1:]:
        verb = "lowers" if one.outcome == "accepted" else "does not lower"
        assert f"{one.outcome}: {verb} the loss ({losses[one.step]:.4f} against {best:.4f} nats); fixes" in one.sentence
        best = losses[one.step] if one.outcome == "accepted" else best


def decision(step, outcome, margin=None, p_value=None, *, is_bound=False, candidate=None):
    return Decision(
        step, candidate or f"ft_{step:02}", outcome, None if is_bound else 0.7, 0.7, None, None, p_value, margin,
        is_bound, None if margin is None else margin / 5000, 5000, 5000, None, "",
    )  # fmt: skip


def early(step, margin):
    return decision(step, "rejected early", margin, is_bound=True)


GREEDY = parse({"method": "greedy"})
START = decision(9, "start")


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([], "no other was decided on"),
        ([decision(1, "accepted", 3, 0.7)], "of 1 candidate tried, 1 was accepted"),
        ([decision(1, "rejected", -4, 0.7), early(2, -5)], "of 2 candidates tried, 0 were accepted"),
    ],
)
def test_a_log_that_has_not_ended_does_not_say_what_it_came_to(others, told):
    assert so_far([START, *others]) == f"So far: started from ft_09; {told}."


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([], "Greedy kept ft_09: there was no other candidate."),
        (
            [decision(1, "rejected", -4, 0.7), decision(2, "rejected", -9, 0.2), decision(3, "rejected", -80, 0.001)],
            "Greedy kept only ft_09: none of 3 candidates was accepted. The nearest of the rejected, ft_01, was 4 "
            "examples short. 2 of the 3 rejected lie within what chance explains (p > 0.05).",
        ),
        (
            [
                decision(1, "accepted", 3, 0.7),
                decision(2, "rejected", 0, 1.0),
                decision(3, "rejected early", -2, is_bound=True),
            ],
            "Greedy started from ft_09 and kept 1 of 3 candidates: ft_01. The nearest of the rejected, ft_02, was as "
            "good, and only better would do. The one that was scored whole lies within what chance "
            "explains (p > 0.05).",
        ),
        (
            [early(1, -1), early(2, -5)],
            "Greedy kept only ft_09: none of 2 candidates was accepted. The nearest of the rejected, ft_01, was at "
            "least 1 example short. None of them was scored whole, so that it cannot be told what chance explains.",
        ),
    ],
)
def test_one_sentence_says_why_greedy_kept_what_it_kept(others, sentence):
    assert summary(TASK, ACCURACY, [START, *others], GREEDY) == sentence


def test_a_search_that_is_not_greedy_says_what_it_kept():
    tried = [decision(0, "start", candidate="alpha 0"), decision(1, "accepted", 5, 0.4, candidate="alpha 0.1")]
    assert summary(TASK, ACCURACY, tried, parse({"method": "wise_ft"})) == "alpha 0.1 is kept, the best of 2 tried."
    leaders = summary(TASK, ACCURACY, tried, parse({"method": "beam"}))
    assert leaders == "alpha 0.1 is kept, after 1 change of the lead; what never led is not in the log."


def test_a_sentence_has_the_counts_the_margin_and_the_p_value(kitchen):
    soup = sv.greedy(kitchen, complete=True)
    for one in told(kitchen, soup)[1:]:
        more = f"{one.margin} more right than" if one.margin > 0 else f"{-one.margin} short of"
        rest = f"{more if one.margin else 'as many right as'} the soup before it; p "
        assert one.sentence.startswith(f"{one.outcome}: fixes {one.better}, breaks {one.worse} of 600: {rest}")


def test_the_log_is_a_table(kitchen):
    soup = sv.greedy(kitchen, complete=True)
    found = told(kitchen, soup)
    table = decisions.frame(TASK, ACCURACY, found)
    assert list(table["candidate"]) == [step.ingredient for step in soup.trajectory]
    assert list(table["margin"][1:]) == [one.margin for one in found[1:]]
    assert np.allclose(table["points"][1:].astype(float), [100 * one.difference for one in found[1:]])
    assert table.to_csv(index=False).count("\n") == len(found) + 1
    assert decisions.frame(TASK, ACCURACY, []).empty


def test_a_log_computes_nothing(kitchen, evaluations):
    soup = sv.greedy(kitchen, complete=True)
    evaluations.clear()
    told(kitchen, soup)
    assert evaluations == []
