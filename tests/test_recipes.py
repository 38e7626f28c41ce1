import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kitchens import small_kitchen

import soupviz as sv
from soupviz.errors import KitchenError, RecipeError
from soupviz.kitchen import Kitchen
from soupviz.recipes import Greedy, Interpolation, Uniform, parse, parse_alpha, recipe_digest
from soupviz.recipes.greedy import with_newcomer
from soupviz.soups.cooking import cook
from soupviz.soups.soup import pool_of

ENDS = {"a": "x", "b": "y", "mix_a": [["x", 1.0]], "mix_b": [["y", 1.0]]}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("recipes"), num_ingredients=5))


# Recipes as data


def test_a_recipe_is_parsed_by_its_method():
    assert parse({"method": "uniform"}) == Uniform()
    assert parse({"method": "greedy", "alpha": "0.1"}) == Greedy(alpha=0.1)
    assert parse({"method": "interpolation", "alpha": 0.5} | ENDS) == Interpolation(
        a="x", b="y", mix_a=(("x", 1.0),), mix_b=(("y", 1.0),), alpha=0.5
    )


@pytest.mark.parametrize(
    "recipe",
    [
        Uniform(members=("a", "b"), batchnorm="first"),
        Greedy(alpha=0.3, order="random", seed=7, members=("a",)),
        parse({"method": "interpolation", "alpha": -0.25} | ENDS),
    ],
)
def test_a_recipe_survives_json_and_keeps_its_hash(recipe):
    again = parse(json.loads(json.dumps(recipe.model_dump(mode="json"))))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert recipe_digest(again) == recipe_digest(recipe)


def test_a_digest_changes_with_every_parameter():
    recipes = [
        Uniform(), Uniform(members=("a",)), Uniform(batchnorm="first"), Greedy(), Greedy(alpha=0.1), Greedy(seed=1),
        Greedy(order="listed"),
    ]  # fmt: skip
    assert len({recipe_digest(recipe) for recipe in recipes}) == len(recipes)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Uniform().members = ("a",)


@pytest.mark.parametrize(
    ("recipe", "title"),
    [
        (Uniform(), "average"),
        (Uniform(members=("a", "b")), "average of 2"),
        (Greedy(), "greedy (alpha = mean)"),
        (Greedy(alpha=0.1), "greedy (alpha = 0.1)"),
        (Greedy(alpha=0.1, order="random", members=("a",)), "greedy (alpha = 0.1, random order, of 1)"),
        (parse({"method": "interpolation", "alpha": 0.5} | ENDS), "x → y at 0.5"),
    ],
)
def test_titles_are_the_fields_words(recipe, title):
    assert recipe.title == title


# Alpha


@pytest.mark.parametrize(
    ("value", "alpha"), [("mean", "mean"), ("0.1", 0.1), (0.5, 0.5), (1, 1.0), ("1e-3", 0.001), (1.0, 1.0)]
)
def test_alpha_is_mean_or_a_number_up_to_1(value, alpha):
    assert parse_alpha(value) == alpha


@pytest.mark.parametrize("value", ["median", "", None, 0, 0.0, -0.1, 1.01, math.nan, "inf", [0.1]])
def test_any_other_alpha_is_refused(value):
    with pytest.raises(RecipeError, match=r"alpha is .*; expected mean, or a number above 0 and at most 1"):
        parse_alpha(value)


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_every_number_above_0_and_up_to_1_is_an_alpha(value):
    assert parse_alpha(value) == value == parse_alpha(repr(value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "greddy"}, r"no recipe 'greddy'; did you mean 'greedy'\?$"),
        ({"method": "wise-ft"}, r"no recipe 'wise-ft'; did you mean 'wise_ft'\?$"),
        ({"method": "bouillon"}, "no recipe 'bouillon'; known are uniform, greedy, alpha_search"),
        ({}, "no recipe None"),
        ({"method": "uniform", "alpha": 0.1}, "uniform has no 'alpha'; it has batchnorm, members"),
        ({"method": "greedy", "order": "worst"}, r"order.*'best', 'listed' or 'random' \(got 'worst'\)"),
        ({"method": "greedy", "seed": "x"}, "seed"),
        ({"method": "greedy", "alpha": 2}, "alpha is 2; expected mean"),
        ({"method": "uniform", "batchnorm": "last"}, "batchnorm"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        parse(values)


# Cooking them


def test_uniform_gives_every_member_the_same_coefficient(kitchen):
    soup = sv.uniform(kitchen, members=["m_3", "m_1"])
    assert soup.mix == (("m_1", 0.5), ("m_3", 0.5))
    assert soup.coefficients == {"m_1": 0.5, "m_3": 0.5}
    assert soup.trajectory == ()
    assert sv.uniform(kitchen).coefficients == dict.fromkeys(kitchen.names, 0.2)


def test_a_soup_is_scored_on_held_out_and_test(kitchen):
    soup = sv.uniform(kitchen)
    assert list(soup.scores) == ["held_out", "test"]
    assert {split: score.split for split, score in soup.scores.items()} == {"held_out": "held_out", "test": "test"}
    assert {score.num_examples for score in soup.scores.values()} == {200}


def test_greedy_lists_the_whole_pool_the_rejected_as_zero(kitchen):
    soup = sv.greedy(kitchen, alpha="mean")
    accepted = [step.ingredient for step in soup.trajectory if step.accepted]
    assert list(soup.coefficients) == kitchen.names
    assert [name for name, _ in soup.mix] == accepted
    for name, weight in soup.coefficients.items():
        assert weight == (1 / len(accepted) if name in accepted else 0.0)
    assert 0.0 in soup.coefficients.values()
    assert soup.scores["held_out"].accuracy == soup.trajectory[-1].best_accuracy


@pytest.mark.parametrize("order", ["best", "listed", "random"])
def test_greedy_starts_from_the_best_of_its_pool_in_every_order(kitchen, order):
    members = ["m_0", "m_1", "m_2"]
    scores = kitchen.scores.of_ingredients()
    soup = sv.greedy(kitchen, alpha=0.3, order=order, seed=1, members=members)
    assert soup.trajectory[0].correct == max(scores[name].correct for name in members)
    assert sorted(step.ingredient for step in soup.trajectory) == members
    assert soup.recipe == Greedy(alpha=0.3, order=order, seed=1, members=tuple(members))


def test_greedy_tells_each_decision_as_it_is_made(kitchen):
    told = []
    soup = sv.greedy(kitchen, alpha=0.2, on_step=told.append)
    assert tuple(told) == soup.trajectory


def test_a_sweep_is_greedy_for_each_alpha_with_scores_shared(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_ingredients=3))
    scored = []
    evaluate = kitchen.evaluator.evaluate

    def counted(split, task, **options):
        scored.append(split.name)
        return evaluate(split, task, **options)

    kitchen.evaluator.evaluate = counted
    ready: list[sv.Soup] = []
    soups = sv.sweep(kitchen, ["mean", 0.1, 0.5], on_soup=ready.append)
    assert ready == soups
    assert [soup.recipe.alpha for soup in soups] == ["mean", 0.1, 0.5]
    singles = 3
    candidates = {step_mix for soup in soups for step_mix in _candidates(soup)}
    tests = {soup.mix for soup in soups}
    assert scored.count("held_out") == singles + len(candidates)
    assert scored.count("test") == len(tests)
    again = Kitchen.load(tmp_path)
    for soup in soups:
        assert sv.greedy(again, alpha=soup.recipe.alpha).mix == soup.mix


def _candidates(soup) -> list[tuple]:
    """What a greedy search scored beyond the single ingredients, read off its trajectory."""
    first, *others = soup.trajectory
    mixture, found = ((first.ingredient, 1.0),), []
    for step in others:
        candidate = with_newcomer(mixture, step.ingredient, soup.recipe.alpha)
        found.append(candidate)
        mixture = candidate if step.accepted else mixture
    return found


def test_an_interpolation_is_kept_as_a_soup(kitchen):
    values = {"method": "interpolation", "a": "m_0", "b": "m_1", "alpha": 0.25}
    soup = cook(kitchen, parse(values | {"mix_a": [["m_0", 1.0]], "mix_b": [["m_1", 1.0]]}))
    assert soup.coefficients == {"m_0": 0.75, "m_1": 0.25}
    assert soup.title == "m_0 → m_1 at 0.25"
    curve = sv.interpolate(kitchen, "m_0", "m_1", points=5)
    assert curve["correct"][1] == soup.scores["held_out"].correct


def test_a_soup_gives_its_weights_in_the_models_keys(kitchen):
    soup = sv.uniform(kitchen)
    kitchen.evaluator.model.load_state_dict(soup.state_dict(), strict=True)


def test_the_pool_is_in_kitchen_order(kitchen):
    assert pool_of(kitchen, Greedy(members=("m_4", "m_0"))) == ["m_0", "m_4"]
    assert pool_of(kitchen, Uniform()) == kitchen.names
    with pytest.raises(KitchenError, match=r"no ingredient 'm_7' in this kitchen; did you mean"):
        pool_of(kitchen, Uniform(members=("m_7",)))


def test_the_order_best_was_once_called_accuracy():
    assert parse({"method": "greedy", "order": "accuracy"}) == parse({"method": "greedy", "order": "best"})
