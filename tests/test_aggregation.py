"""What becomes of running statistics, as recipes say it, and what scores and soups are kept under."""

from dataclasses import replace

import pytest
import torch
from kitchens import BATCHNORM, MLP, small_kitchen

import soupviz as sv
from soupviz.errors import RecipeError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import EXAMPLES, Aggregation, check_batchnorm, num_examples
from soupviz.recipes import parse, recipe_digest
from soupviz.soups.soup import run_key


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    folder = tmp_path_factory.mktemp("aggregations")
    return Kitchen.load(small_kitchen(folder, source=BATCHNORM, shape=(3, 8, 8), num_examples=60, train=48))


# Words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("average", 0), ("first", 0), ("recalibrate", EXAMPLES), ("recalibrate:2", 2), ("recalibrate:10", 10),
        ("recalibrate:123456", 123456),
    ],
)  # fmt: skip
def test_a_aggregation_is_a_word_with_a_number_of_examples_perhaps(text, number):
    assert check_batchnorm(text) == text
    assert num_examples(text) == number


@pytest.mark.parametrize(
    "value",
    ["", "last", "Average", "recalibrate:", "recalibrate:0", "recalibrate:1", "recalibrate:-5", "recalibrate:1.5",
     "recalibrate: 5", "recalibrate:5\n", "recalibrate:٣", "logits", None, 3, ["average"]],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_known(value):
    words = r"batchnorm is .*; expected average, first, recalibrate \(4,000 examples of train\), or recalibrate:NUMBER"
    with pytest.raises(RecipeError, match=words):
        check_batchnorm(value)
    with pytest.raises(RecipeError, match="batchnorm is"):
        parse({"method": "uniform", "batchnorm": value})


def test_outputs_are_not_examples():
    assert (num_examples("logits"), num_examples("probabilities")) == (0, 0)


@pytest.mark.parametrize(
    ("name", "is_output", "of_statistics"),
    [
        ("average", False, "average"), ("first", False, "first"), ("recalibrate", False, "average"),
        ("logits", True, "average"), ("probabilities", True, "average"),
    ],
)  # fmt: skip
def test_a_aggregation_says_whether_it_is_of_outputs_and_what_a_mix_does(name, is_output, of_statistics):
    aggregation = Aggregation(name)
    assert (aggregation.is_output, aggregation.of_statistics, aggregation.key) == (is_output, of_statistics, name)


def test_what_is_reestimated_is_kept_under_its_examples(kitchen):
    train = kitchen.splits.load("train")
    assert Aggregation("recalibrate:12", train).key == ["recalibrate", 12, train.fingerprint]
    assert Aggregation("recalibrate", train).key == Aggregation("recalibrate:4000", train).key
    padded = replace(train, padding="right", lengths=torch.ones(len(train), dtype=torch.int64))
    assert Aggregation("recalibrate", padded).key not in (Aggregation("recalibrate", train).key, "recalibrate")


# In a kitchen


def test_a_kitchen_gives_a_aggregation_its_data(kitchen):
    assert kitchen.scores.aggregation("average") == Aggregation("average")
    assert kitchen.scores.aggregation("probabilities") == Aggregation("probabilities")
    assert kitchen.scores.aggregation("recalibrate:7").train is kitchen.splits.load("train")


def test_a_kitchen_refuses_a_aggregation_that_it_does_not_know(kitchen):
    with pytest.raises(RecipeError, match="batchnorm is 'medium'; expected average"):
        kitchen.scores.aggregation("medium")
    with pytest.raises(RecipeError, match="batchnorm is 'medium'; expected average"):
        sv.interpolate(kitchen, "m_0", "m_1", points=3, batchnorm="medium")


def test_reestimation_without_train_is_refused(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=40))
    place = r"kitchen\.yaml has no train; add `train:` under `data:` to it"
    with pytest.raises(RecipeError, match=rf"batchnorm is 'recalibrate': .*{place}, or take average\."):
        kitchen.scores.aggregation("recalibrate")
    with pytest.raises(RecipeError, match=rf"^average, BatchNorm recalibrate: .*{place}, or choose another recipe\."):
        sv.uniform(kitchen, batchnorm="recalibrate")
    assert kitchen.store.runs() == []


def test_reestimation_of_a_model_that_keeps_no_statistics_is_refused(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=MLP, num_examples=40, train=20))
    with pytest.raises(RecipeError, match=r"'recalibrate:9', but the model of .* keeps no running statistics"):
        sv.greedy(kitchen, batchnorm="recalibrate:9")


# Keys


def test_it_is_part_of_the_recipe_and_of_the_runs_key(kitchen):
    recipes = [
        parse({"method": "uniform", "batchnorm": name})
        for name in ("average", "first", "recalibrate", "recalibrate:40", "recalibrate:20")
    ]
    assert len({recipe_digest(recipe) for recipe in recipes}) == 5
    assert len({run_key(kitchen, recipe) for recipe in recipes}) == 5
    assert [recipe.needs for recipe in recipes[:3]] == [frozenset(), frozenset(), frozenset({"train"})]


def test_it_is_part_of_a_scores_key(kitchen):
    mixture = (("m_0", 0.5), ("m_1", 0.5))
    names = ("average", "first", "recalibrate", "recalibrate:40", "recalibrate:20", "logits", "probabilities")
    assert len({kitchen.scores.key(mixture, "held_out", name) for name in names}) == len(names)


def test_an_ingredient_alone_has_one_key_but_for_its_statistics_reestimated(kitchen):
    """Averaged or taken from the first, of one ingredient they are its own; and an ensemble of one is that one."""

    def keys(*names: str) -> set[str]:
        return {kitchen.scores.key((("m_0", 1.0),), "held_out", name) for name in names}

    assert len(keys("average", "first", "logits", "probabilities")) == 1
    assert len(keys("average", "recalibrate", "recalibrate:20")) == 3
