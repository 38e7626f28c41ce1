"""The demo of a language model: made-up sentences, ten fine-tunings, and the whole journey under nats per token."""

import math

import pytest
from kitchens import json_of

import soupviz as sv
from soupviz import trust
from soupviz.demo.sentences import LONGEST, SIZES, TUNINGS, WORDS, documents, sentences_kitchen, tokens_of
from soupviz.tasks.paired import compare
from soupviz.yaml_file import read_kitchen_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return sentences_kitchen(tmp_path_factory.mktemp("demo") / "sentences")


@pytest.fixture(scope="module")
def kitchen(file) -> sv.Kitchen:
    return sv.Kitchen.load(file)


def test_the_demo_is_a_language_model_and_says_that_its_sentences_are_made_up(kitchen):
    assert (kitchen.task.name, kitchen.objective.name) == ("language_model", "nats_per_token")
    assert "made-up" in kitchen.spec.name
    assert len(kitchen.names) == len(TUNINGS) == 10
    splits = {name: kitchen.splits.load(name) for name in ("held_out", "test", "train")}
    assert [len(split) for split in splits.values()] == [120, 300, 200]
    assert splits["test"].texts[0] == documents("test")[0]


def test_its_documents_are_drawn_apart_and_fit_the_network():
    texts = {part: documents(part) for part in SIZES}
    assert all(
        len(set(tokens_of(text))) > 3 and len(tokens_of(text)) <= LONGEST for part in texts.values() for text in part
    )
    assert texts["held_out"][:20] != texts["test"][:20] != texts["train"][:20]
    assert documents("test") == documents("test") != documents("test", seed=1)
    assert {word for text in texts["pretrain"] for word in text.split()} | {"<start>"} == set(WORDS)


def test_fine_tuning_helps(kitchen):
    base = kitchen.scores.score((("base", 1.0),)).value
    values = [score.value for score in kitchen.scores.of_ingredients().values()]
    assert max(values) < base < math.log(len(WORDS))


def test_the_greedy_soup_is_better_on_test_beyond_chance(kitchen):
    """What docs/explanation/demo.md says of seed 0."""
    scores = kitchen.scores.of_ingredients()
    best = min(scores, key=lambda name: scores[name].value)
    soup = sv.greedy(kitchen)
    assert soup.scores["held_out"].value < scores[best].value
    rival = kitchen.scores.score(((best, 1.0),), "test")
    found = compare(kitchen.task, kitchen.objective, soup.scores["test"], rival)
    assert found.difference < 0 and found.p_value < 0.05


def test_its_code_is_soupvizs_own_and_nobody_is_asked(file):
    asked = trust.request(file, read_kitchen_file(file), lambda path: path)
    assert asked.code == ()


def test_the_command_line_scores_it(file, capsys):
    assert set(json_of(capsys, "score", file)["ingredients"]) == {f"sentences_{index:02d}" for index in range(10)}
