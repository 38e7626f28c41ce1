"""The menu: every recipe that fits, each with its cost; what does not fit is named."""

from pathlib import Path

import pytest
from kitchens import BATCHNORM, TIED, change_yaml, json_of, run_command, small_kitchen
from scores import CLASSIFICATION

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.recipes import MENU, parse
from soupviz.soups.menu import DEFAULTS, Menu, cook_menu
from soupviz.tasks.significance import holm, mcnemar

OVER_TIME = {"swa", "ema", "lawa", "wsm", "running_means", "windows"}
ON_THE_BASE = {"wise_ft", "task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock"}
LINEAR = {
    "uniform", "greedy", "alpha_search", "line_search", "bayesian", "weighted", "exhaustive", "pruned", "beam",
    "restarts", "wise_ft", "nbest", "ensemble",
}  # fmt: skip
"""Recipes whose soup is always one weighted sum; a learned one is unless each layer has its own."""


def small(folder: Path, **options) -> Path:
    given = {"num_ingredients": 3, "num_examples": 40}
    return small_kitchen(folder, **given | options)


def methods(titles) -> set[str]:
    """Which recipes titles stand for."""
    by_title = {parse(dict(values)).title: values["method"] for values in DEFAULTS}
    return {by_title[title.partition(", BatchNorm")[0]] for title in titles}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A kitchen with a base and without train, of checkpoints that say nothing of steps."""
    return small(tmp_path_factory.mktemp("menu"))


@pytest.fixture(scope="module")
def cooked(file) -> tuple[Menu, list[sv.Soup]]:
    """The menu, and the soups in the order in which they were ready."""
    ready: list[sv.Soup] = []
    return cook_menu(Kitchen.load(file), on_soup=ready.append), ready


def test_every_recipe_is_on_the_menu():
    assert {values["method"] for values in DEFAULTS} == set(MENU)
    titles = [parse(dict(values)).title for values in DEFAULTS]
    assert len(set(titles)) == len(titles)


def test_everything_is_cooked_once_or_left_out_with_a_reason(cooked):
    menu, ready = cooked
    titles = [parse(dict(values)).title for values in DEFAULTS]
    assert [soup.title for soup in ready] == [title for title in titles if title not in menu.left_out]
    assert sorted(soup.title for soup in menu.soups) == sorted(soup.title for soup in ready)
    assert {soup.recipe.method for soup in menu.soups} == set(MENU) - OVER_TIME - {"distilled"}
    assert methods(menu.left_out) == OVER_TIME | {"distilled"}
    for title, reason in menu.left_out.items():
        is_student = title.startswith("student")
        assert ("has no train; add `train:`" if is_student else "does not say of which step it is") in reason


def test_it_is_ordered_by_held_out(cooked):
    counts = [soup.scores["held_out"].correct for soup in cooked[0].soups]
    assert counts == sorted(counts, reverse=True)


def test_each_soup_is_held_against_the_best_ingredient_and_p_is_corrected_over_the_menu(cooked, file):
    menu, _ = cooked
    kitchen = Kitchen.load(file)
    singles = kitchen.scores.of_ingredients()
    assert singles[menu.best].correct == max(score.correct for score in singles.values())
    rival = kitchen.scores.score(((menu.best, 1.0),), "test")
    pairs = {soup.key: CLASSIFICATION.better(soup.scores["test"].outcomes, rival.outcomes) for soup in menu.soups}
    corrected = dict(zip(pairs, holm([mcnemar(*pair) for pair in pairs.values()]), strict=True))
    assert {key: (one.better, one.worse) for key, one in menu.compared.items()} == pairs
    assert {key: one.p_value for key, one in menu.compared.items()} == pytest.approx(corrected)
    assert {one.number for one in menu.compared.values()} == {len(menu.soups)}


def test_coefficients_are_told_where_a_soup_is_one_weighted_sum(cooked, file):
    menu, _ = cooked
    for soup in menu.soups:
        is_linear = soup.recipe.method in LINEAR or getattr(soup.recipe, "per", None) == "model"
        assert (soup.coefficients is not None) is is_linear
        if is_linear:
            assert {"m_0", "m_1", "m_2"} <= set(soup.coefficients) <= {"m_0", "m_1", "m_2", "base"}
        assert soup.passes == (len(soup.mix) if soup.recipe.method == "ensemble" else 1)


def test_the_same_menu_once_more_is_the_same(cooked, file):
    again = cook_menu(Kitchen.load(file))
    assert [soup.as_dict() for soup in again.soups] == [soup.as_dict() for soup in cooked[0].soups]
    assert again.left_out == cooked[0].left_out


def test_where_nothing_is_missing_nothing_is_left_out(tmp_path):
    """A base, train data, and checkpoints of one run."""
    steps = {f"epoch_{index}": f"m_{index}.safetensors" for index in range(3)}
    kitchen = Kitchen.load(small(tmp_path, train=30, ingredients=steps))
    menu = cook_menu(kitchen, batchnorm="first")
    assert menu.left_out == {}
    assert {soup.recipe.method for soup in menu.soups} == set(MENU)
    assert {soup.recipe.batchnorm for soup in menu.soups if soup.recipe.method != "ensemble"} == {"first"}
    assert len(kitchen.store.runs()) == len(DEFAULTS)


def test_without_a_base_and_with_units_that_cannot_be_followed_the_rest_is_cooked(tmp_path):
    file = change_yaml(small(tmp_path, source=TIED), lambda keys: keys.pop("base"))
    menu = cook_menu(Kitchen.load(file), budget=15)
    too_dear = {"alpha_search", "line_search", "bayesian"}
    assert methods(menu.left_out) == ON_THE_BASE | OVER_TIME | {"distilled", "rebasin"} | too_dear
    reasons = {method: reason for title, reason in menu.left_out.items() for method in methods([title])}
    assert all("has no base; add `base: FILE`" in reasons[method] for method in ON_THE_BASE)
    assert reasons["rebasin"].startswith("the model cannot be aligned: ")
    assert reasons["bayesian"] == "takes up to 56 scores, the budget is 15"


def test_statistics_that_a_model_does_not_keep_leave_only_ensembles(tmp_path):
    menu = cook_menu(Kitchen.load(small(tmp_path, train=20)), batchnorm="recalibrate")
    assert {soup.recipe.method for soup in menu.soups} == {"ensemble"}
    assert methods_of_reasons(menu) == set(MENU) - {"ensemble"}


def test_where_statistics_can_be_re_estimated_they_are_too(tmp_path):
    file = small(tmp_path, source=BATCHNORM, shape=(3, 8, 8), train=30)
    titles = [soup.title for soup in cook_menu(Kitchen.load(file), budget=20).soups]
    for title in ("average", "greedy (alpha = mean)", "pruned"):
        assert {title, f"{title}, BatchNorm recalibrate"} <= set(titles)
    assert len(set(titles)) == len(titles)


def methods_of_reasons(menu: Menu) -> set[str]:
    words = "keeps no running statistics; leave it at average."
    return methods(title for title, reason in menu.left_out.items() if words in reason)


def test_an_unknown_member_is_no_reason_to_leave_a_recipe_out(file):
    with pytest.raises(sv.SoupError, match="no ingredient 'm_7' in this kitchen"):
        cook_menu(Kitchen.load(file), members=["m_0", "m_7"])


def test_members_are_those_of_every_recipe(file):
    menu = cook_menu(Kitchen.load(file), members=["m_0", "m_2"], budget=6)
    assert {soup.pool for soup in menu.soups} == {("m_0", "m_2")}


# The command


def test_the_json_has_the_contracts_keys(file, cooked, capsys):
    found = json_of(capsys, "menu", file, "--budget", 8)
    keys = {"name", "recipe", "coefficients", "scores", "ece", "evaluations", "seconds", "compared"}
    by_title = {soup.title: soup for soup in cooked[0].soups}
    assert len(found["soups"]) + len(found["left_out"]) == len(DEFAULTS)
    assert any(soup["coefficients"] is None for soup in found["soups"])
    for soup in found["soups"]:
        assert soup.keys() >= keys
        assert 0 <= soup["ece"] <= 1
        assert soup["scores"]["test"]["ece"] == soup["ece"]
        assert soup["evaluations"] <= 8
        assert soup["compared"]["number"] == len(found["soups"])
        expected = by_title[soup["name"]]
        assert soup["coefficients"] == expected.coefficients
        assert soup["scores"]["test"]["correct"] == expected.scores["test"].correct
    counts = [soup["scores"]["held_out"]["correct"] for soup in found["soups"]]
    assert counts == sorted(counts, reverse=True)


def test_what_does_not_fit_is_named_with_the_reason(file, cooked, capsys):
    status, out, err = run_command(capsys, "menu", file, "--budget", 8)
    assert status == 0
    assert "left out: Bayesian (TPE, 50 trials): takes up to 56 scores, the budget is 8" in err
    assert "left out: SWA (from 0); EMA (decay 0.5); " in err
    assert err.count("does not say of which step it is") == 1  # one reason, told once, of all recipes that it keeps out
    assert "average" in out
    number = len(json_of(capsys, "menu", file, "--budget", 8)["soups"])
    assert f"corrected by Holm over {number} soups and ensembles" in " ".join(out.split())
    assert "linear" in out  # "not linear", which may be broken in two


# What a soup cost


def test_a_soup_tells_what_it_cost(tmp_path):
    kitchen = Kitchen.load(small(tmp_path, num_ingredients=4))
    number = len(kitchen.names)
    assert sv.uniform(kitchen).evaluations == 2  # held_out and test
    soup = sv.greedy(kitchen, alpha=0.3)
    assert soup.evaluations == 2 * number - 1 + 1  # ingredients and candidates; test
    assert soup.seconds > 0
    ensemble = sv.cook(kitchen, {"method": "ensemble"})
    assert ensemble.evaluations == 2  # of the ensemble: the passes are its members'
    assert ensemble.passes == number
