import json
import math
from dataclasses import replace

import numpy as np
import pytest
from kitchens import small_kitchen
from scipy import stats
from scores import CLASSIFICATION, a_score

import soupviz as sv
from soupviz.analysis import verdicts, wording
from soupviz.analysis.verdicts import verdict_of, verdict_on
from soupviz.mixing.averaging import mean_of
from soupviz.soups import planning
from soupviz.soups.soup import mix_in
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.paired import compare
from soupviz.tasks.significance import UNPROVEN
from soupviz.types import Grouped


def score_of(correct, split="test"):
    return a_score(correct, split)


def difference(new, old):
    return compare(CLASSIFICATION, ACCURACY, new, old)


def pair(fixed, broken, number, split="test"):
    """A new and an old score that differ so."""
    same = number - fixed - broken
    new = [True] * fixed + [False] * broken + [True] * same
    old = [False] * fixed + [True] * broken + [True] * same
    return score_of(new, split), score_of(old, split)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = small_kitchen(tmp_path_factory.mktemp("verdict"), num_examples=300, scale=0.3, shifts=["blur"])
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen)
    return file


@pytest.fixture
def kitchen(file):
    opened = sv.Kitchen.load(file)
    for split in opened.splits.reporting:
        opened.splits.load(split)
    return opened


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_agrees_with_scipy(seed):
    chance = np.random.default_rng(seed)
    new, old = (score_of((chance.random(400) < share).tolist()) for share in (0.75, 0.7))
    found = difference(new, old)
    right, was = new.outcomes["right"], old.outcomes["right"]
    assert (found.better, found.worse) == (int((right & ~was).sum()), int((~right & was).sum()))
    assert found.p_value == stats.binomtest(found.better, found.better + found.worse).pvalue
    assert found.difference == pytest.approx(new.accuracy - old.accuracy)
    assert found.low <= found.difference <= found.high
    assert new.accuracy - old.accuracy == pytest.approx((found.better - found.worse) / 400)


def test_the_verdict_has_every_figure_of_a_scored_soup(kitchen):
    kitchen.scores.of_ingredients("test")
    kitchen.scores.score(mean_of(kitchen.names), "test")
    kitchen.scores.score(mean_of(kitchen.names), "test", "probabilities")
    run = kitchen.store.runs()[0]
    found = verdict_of(kitchen, run)
    soup = kitchen.scores.score(mix_in(run), "test")
    assert found.reports_on == "test"
    assert found.values["test"].right == soup.correct
    interval = stats.binomtest(soup.correct, soup.num_examples).proportion_ci(0.95, method="wilson")
    assert (found.values["test"].low, found.values["test"].high) == (interval.low, interval.high)
    assert [found.values[split].selects for split in ("held_out", "test", "shifts.blur")] == [True, False, False]
    held_out = kitchen.scores.of_ingredients("held_out")
    best = max(kitchen.names, key=lambda name: held_out[name].correct)
    assert found.best.name == best
    assert found.best.differences["test"] == difference(soup, kitchen.scores.score(((best, 1.0),), "test"))
    ensemble = kitchen.scores.score(mean_of(kitchen.names), "test", "probabilities")
    assert (found.ensemble.values["test"].right, found.ensemble.passes) == (ensemble.correct, 4)
    assert found.uniform.values["test"].right == kitchen.scores.score(mean_of(kitchen.names), "test").correct
    assert found.crossfit is None


def test_a_soup_and_its_run_have_the_same_verdict(kitchen):
    assert verdict_of(kitchen, sv.greedy(kitchen)) == verdict_of(kitchen, kitchen.store.runs()[0])


def test_a_verdict_is_plain_data(kitchen):
    values = json.loads(json.dumps(verdict_of(kitchen, kitchen.store.runs()[0]).as_dict()))
    assert values["sentence"] and values["values"]["held_out"]["num_units"] == 300


def test_the_evaluations_of_a_search_are_those_on_held_out(kitchen):
    run = kitchen.store.runs()[0]
    steps = len(kitchen.store.decisions(run))
    singles = len(kitchen.names)
    assert verdict_of(kitchen, run).evaluations == singles + steps - 1


def test_models_looked_at_on_test_are_counted_with_soups_apart(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=80))
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    assert verdict_on(kitchen, "m_0", (("m_0", 1.0),)).models_seen == 0
    kitchen.scores.of_ingredients("test")
    kitchen.scores.score((("m_0", 0.5), ("m_1", 0.5)), "test")
    kitchen.scores.score((("m_0", 0.5), ("m_2", 0.5)), "test")
    kitchen.scores.score((("m_0", 0.5), ("m_2", 0.5)), "test")  # the same once more
    kitchen.scores.score((("m_0", 0.5), ("m_3", 0.5)), "held_out")
    found = verdict_on(kitchen, "m_0", (("m_0", 1.0),))
    assert (found.models_seen, found.soups_seen) == (6, 2)


def test_what_is_not_scored_is_none_and_said(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=80))
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    mix = (("m_0", 0.5), ("m_1", 0.5))
    nothing = verdict_on(kitchen, "soup", mix)
    assert (nothing.best, nothing.ensemble, nothing.uniform, dict(nothing.values)) == (None, None, None, {})
    assert nothing.sentence == "Not judged yet: no ingredient is scored on held_out."
    kitchen.scores.of_ingredients("held_out")
    found = verdict_on(kitchen, "soup", mix)
    assert found.sentence == "Not judged yet: it is not scored on test."
    kitchen.scores.score(mix, "test")
    best = found.best.name
    told = verdict_on(kitchen, "soup", mix).sentence
    assert told == f"Not judged yet: {best}, the best ingredient on held_out, is not scored on test."
    assert found.best.differences == {}
    lacking = planning.lacking(kitchen, verdicts.wanted(kitchen, mix))
    cost = planning.cost(kitchen, verdicts.wanted(kitchen, mix))
    # On test: four ingredients, the ensemble (from their logits) and the uniform soup; on held_out the last two and
    # this soup, of which the ensemble costs nothing.
    assert len(lacking) == 6 + 3
    assert (cost.evaluations, cost.known, cost.examples) == (5 + 2, 5, 7 * 80)
    for one in lacking:
        kitchen.scores.score(one[0], one[1], one[2])
    assert planning.lacking(kitchen, verdicts.wanted(kitchen, mix)) == []
    assert verdict_on(kitchen, "soup", mix).best.differences.keys() == {"held_out", "test"}


def test_a_verdict_computes_nothing(kitchen, evaluations):
    verdict_of(kitchen, kitchen.store.runs()[0])
    planning.cost(kitchen, verdicts.wanted(kitchen, (("m_0", 0.3), ("m_1", 0.7))))
    assert evaluations == []


def test_the_best_ingredient_itself_has_nothing_to_judge(kitchen):
    best = verdicts.best_on_held_out(kitchen)
    assert verdict_on(kitchen, best, ((best, 1.0),)).sentence == (
        f"This is {best} alone, the best ingredient on held_out: there is no difference to judge."
    )


def test_a_kitchen_of_one_ingredient_has_neither_ensemble_nor_uniform_soup(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=1, num_examples=60))
    soup = sv.uniform(kitchen)
    found = verdict_of(kitchen, soup)
    assert (found.ensemble, found.uniform, found.best.name) == (None, None, "m_0")


def test_without_a_test_split_held_out_reports_and_says_that_it_selected(tmp_path):
    file = small_kitchen(tmp_path, num_examples=200, scale=0.5)
    text = file.read_text().replace("  test:\n    format: arrays\n    path: test.safetensors\n", "")
    file.write_text(text)
    kitchen = sv.Kitchen.load(file)
    soup = sv.uniform(kitchen)
    kitchen.scores.of_ingredients()
    found = verdict_of(kitchen, soup)
    assert found.reports_on == "held_out"
    assert "no test split" in found.looks


@pytest.mark.parametrize(
    ("fixed", "broken", "sentence"),
    [
        (
            0,
            0,
            "No difference at all: it and a, the best ingredient on held_out, are the same on every example of test.",
        ),
        (
            60,
            10,
            "Better: +5.0 points on test against a, the best ingredient on held_out, between +3.4 and "
            "+6.6 (p < 0.001).",
        ),
        (
            10,
            60,
            "Worse: −5.0 points on test against a, the best ingredient on held_out, between −6.6 and −3.4 (p < 0.001).",
        ),
        (
            33,
            30,
            "No evidence that it is better: +0.3 points on test against a, the best ingredient on held_out, between "
            "−1.2 and +1.9 (p = 0.80); at 1,000 examples only differences above 2.2 points show.",
        ),
    ],
)
def test_the_sentence_has_the_difference_its_interval_and_what_shows(fixed, broken, sentence):
    told = wording.headline(
        CLASSIFICATION, ACCURACY, "a", difference(*pair(fixed, broken, 1000)), "test", is_itself=False
    )
    assert told == sentence


def test_a_split_that_selected_is_called_optimistic():
    told = wording.headline(
        CLASSIFICATION, ACCURACY, "a", difference(*pair(60, 10, 1000, "held_out")), "held_out", is_itself=False
    )
    assert told.endswith("held_out selected it, so this is optimistic: there is no test split to report.")


def test_sizes_say_whether_a_split_is_too_small():
    told = [
        wording.size(CLASSIFICATION, ACCURACY, difference(*pair(*counts, 1000)))
        for counts in ((33, 30), (60, 10), (2, 0), (16, 5))
    ]
    assert told == [
        "test is too small to tell: +0.3 points seen, but at 1,000 examples only 2.2 points and more show.",
        "test is large enough for this: +5.0 points seen, and at 1,000 examples 2.3 points and more show.",
        "test is too small to tell: the two differ on 2 of 1,000 examples only, too few for any difference to show "
        "(+0.2 points seen).",
        "test was just large enough: +1.1 points seen, and it showed, though at 1,000 examples only 1.3 points and "
        "more show reliably.",
    ]


@pytest.mark.parametrize(("number", "least"), [(1, "1 "), (2, "0.5 "), (5, "0.0625 ")])
def test_so_few_groups_that_p_cannot_fall_are_said_to_show_nothing_and_there_is_no_interval_of_one(number, least):
    interval = (math.nan, math.nan) if number == 1 else (0.04, 0.06)
    found = replace(
        difference(*pair(60, 10, 1000)), judgement=UNPROVEN, grouped=Grouped("speaker", number),
        low=interval[0], high=interval[1],
    )  # fmt: skip
    told = wording.headline(CLASSIFICATION, ACCURACY, "a", found, "test", is_itself=False)
    groups = f"{number} group{'s' * (number > 1)}"
    assert f"in {groups} by speaker show no difference, however large: p is never below {least}" in told
    assert ("without an interval" in told) is (number == 1) and "nan" not in told
    assert "too small to tell" in wording.size(CLASSIFICATION, ACCURACY, found)
    enough = replace(found, grouped=Grouped("speaker", 6))
    assert "however large" not in wording.shows(CLASSIFICATION, ACCURACY, enough)


@pytest.mark.parametrize(
    ("fraction", "told"),
    [(0.003, "+0.3"), (-0.0062, "−0.6"), (0.0, "±0.0"), (0.0004, "+0.04"), (-0.00001, "±0.0"), (0.123, "+12.3")],
)
def test_points_have_as_many_digits_as_matter(fraction, told):
    assert wording.points(fraction) == told


def test_a_split_that_had_a_part_in_the_choice_is_named_where_it_would_report():
    found = difference(*pair(60, 10, 1000))
    told = wording.headline(CLASSIFICATION, ACCURACY, "a", found, "test", is_itself=False, selects=True)
    assert told.endswith("Examples of test selected it, so this is optimistic: test does not report on it.")
    assert "optimistic" not in wording.headline(CLASSIFICATION, ACCURACY, "a", found, "test", is_itself=False)
