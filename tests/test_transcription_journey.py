"""A kitchen of recordings from the command line: decisions, early rejection, rescoring, learning, bad input."""

import json
import re
import shutil

import numpy as np
import pytest
from kitchens import change_yaml, json_of, run_command
from speech_kitchens import speech_kitchen

import soupviz as sv
from soupviz.scoring.evaluator import Evaluator


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return speech_kitchen(tmp_path_factory.mktemp("speech") / "k", num_ingredients=5, steps=100)


@pytest.fixture
def file(built, tmp_path):
    return shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"


# Decisions


def decisions(soup):
    return [(step.ingredient, step.accepted) for step in soup.trajectory], soup.coefficients


def retold(file, told):
    """The same kitchen with a model that is told of padding otherwise; its weights fit all of them."""
    return change_yaml(file, lambda keys: keys["model"]["args"].update(told=told))


def heard(kitchen):
    scored = {name: kitchen.scores.score(((name, 1.0),)).outcomes for name in kitchen.names}
    return {name: [row.tolist() for row in one["hypothesis"]] for name, one in scored.items()}


@pytest.mark.parametrize("told", ["lengths", "mask", "untold", "bare", "leaking"])
def test_no_batch_size_changes_a_transcript_or_a_decision(told, file, tmp_path):
    retold(file, told)
    found = []
    for size in (1, 7, 256):
        copied = shutil.copytree(file.parent, tmp_path / str(size)) / "kitchen.yaml"
        kitchen = sv.Kitchen.load(change_yaml(copied, lambda keys, size=size: keys.update(batch_size=size)))
        found.append((heard(kitchen), decisions(sv.greedy(kitchen))))
    assert found[0] == found[1] == found[2]


def test_models_that_are_told_of_padding_in_any_way_say_the_same(file, tmp_path):
    """Where an utterance ends is known from lengths, a mask, or its share of the longest."""
    found = [heard(sv.Kitchen.load(retold(file, told))) for told in ("lengths", "mask", "untold")]
    assert found[0] == found[1] == found[2]


# Rescoring


def test_another_normaliser_rescores_without_a_forward_pass(file, monkeypatch):
    kitchen = sv.Kitchen.load(file)
    before = kitchen.scores.of_ingredients()
    sv.greedy(kitchen)
    (file.parent / "own.py").write_text("def first(text):\n    return ' '.join(text.split()[:1])\n")
    change_yaml(file, lambda keys: keys["task"].update(normalizer="own.py:first"))
    monkeypatch.setattr(Evaluator, "evaluate", None)  # nothing is to be evaluated
    again = sv.Kitchen.load(file)
    found = again.scores.of_ingredients()
    assert {score.facts["words"] for score in found.values()} == {40}
    assert {name: score.value for name, score in found.items()} != {name: score.value for name, score in before.items()}
    sv.greedy(again, alpha=1.0)
    change_yaml(file, lambda keys: keys["task"].update(normalizer="none"))
    assert {name: one.value for name, one in sv.Kitchen.load(file).scores.of_ingredients().items()} == {
        name: one.value for name, one in before.items()
    }


# Recipes


def test_scores_tell_the_edits_that_they_are_made_of(file, capsys):
    found = json_of(capsys, "score", file)["ingredients"]["m_0"]
    assert list(found["metrics"]) == ["wer", "cer"]
    edits = found["substitutions"] + found["deletions"] + found["insertions"]
    assert found["value"] == pytest.approx(edits / found["words"])
    assert found["grouped"] == {"column": "speaker", "number": 5}
    _, said, told = run_command(capsys, "score", file)
    assert "word error rate" in said and "vocabulary: 6 tokens" in told


def test_the_ctc_loss_is_lowered_by_learned_soups_and_a_student_learns_an_ensembles_frames(file):
    kitchen = sv.Kitchen.load(file)
    learned = sv.cook(kitchen, sv.recipes.parse({"method": "learned", "epochs": 4, "learning_rate": 0.2}))
    losses = learned.notes["losses"]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
    student = sv.cook(kitchen, sv.recipes.parse({"method": "distilled", "teacher": "ensemble", "epochs": 2}))
    assert student.scores["held_out"].value is not None


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_an_ensemble_of_one_says_what_it_says_alone(output, file):
    kitchen = sv.Kitchen.load(file)
    alone = kitchen.scores.score((("m_0", 1.0),))
    twice = kitchen.scores.score((("m_0", 0.5), ("base", 0.5)), aggregation=output)
    assert twice.value is not None and 0 <= twice.value <= 1
    assert kitchen.scores.score((("m_0", 1.0),), aggregation=output).value == alone.value


def test_fisher_and_temperatures_are_refused_with_the_reason(file, capsys):
    for arguments in (("--recipe", "fisher"), ("--recipe", "uniform", "--calibrate")):
        status, _, told = run_command(capsys, "soup", file, *arguments)
        assert status == 2 and "transcription" in told and "because" in told and told.strip().count("\n") == 0


def test_a_soup_is_exported_and_rebuilt_bit_for_bit(file, tmp_path, capsys):
    out = tmp_path / "soup.safetensors"
    assert run_command(capsys, "soup", file, "--recipe", "greedy", "--out", out)[0] == 0
    status, said, _ = run_command(capsys, "bake", out, "--kitchen", file, "--out", tmp_path / "again.safetensors")
    assert status == 0 and "same weights" in said


WRONG = r"accura|\bcorrect\b|\bexample"


def test_every_command_speaks_of_words_and_utterances(file, tmp_path, capsys):
    commands = [
        ("sweep", file, "--alphas", "0.2,mean"),
        ("interpolate", file, "m_0", "m_1", "--points", 3),
        ("menu", file, "--budget", 6),
        ("inspect", file),
        ("report", file, "--out", tmp_path / "report.html"),
    ]
    told = ""
    for command in commands:
        status, said, err = run_command(capsys, *command)
        assert status == 0, err
        told += said + err
    text = (tmp_path / "report.html").read_text("utf-8")
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>|data:[^\"']+", " ", text, flags=re.DOTALL)
    assert "word error rate" in told.lower() and "word error rate" in text.lower()
    assert not re.findall(f".*(?:{WRONG}).*", f"{told.split('left out')[0]} {text}", re.IGNORECASE)


# Bad input


def refused(capsys, file, change):
    status, _, told = run_command(capsys, "score", change_yaml(file, change))
    assert status == 2 and told.strip().count("\n") == 0, told
    return told


def test_a_vocabulary_of_another_size_than_the_head_is_refused_with_both(file, capsys):
    told = refused(capsys, file, lambda keys: keys["task"].update(vocabulary=["_", " ", "a"]))
    assert "3 tokens" in told and ", 6)" in told


def test_an_objective_that_the_task_has_not_is_refused(file, capsys):
    assert "wer, cer" in refused(capsys, file, lambda keys: keys.update(metric="accuracy"))


def test_characters_outside_the_vocabulary_are_told_and_count_as_errors(file, capsys):
    table = file.parent / "held_out.csv"
    before = json_of(capsys, "score", file)["ingredients"]["m_0"]
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1].replace(",a", ",xa", 1).replace(",b", ",xb", 1), *lines[2:]]) + "\n")
    table.write_text(re.sub(r"(held_out/1\.wav,)", r"\1é ", table.read_text()))
    status, _, told = run_command(capsys, "score", file)
    assert status == 0 and "of 40 transcripts have what the vocabulary has not" in told and "'é'" in told
    after = json_of(capsys, "score", file)["ingredients"]["m_0"]
    assert after["deletions"] + after["substitutions"] > before["deletions"] + before["substitutions"]


def test_an_empty_transcript_is_scored_and_told(file, capsys):
    table = file.parent / "held_out.csv"
    table.write_text(re.sub(r"(held_out/0\.wav,)[^,]*", r"\1", table.read_text()))
    status, out, err = run_command(capsys, "score", file, "--json")
    found = json.loads(out)["ingredients"]["m_0"]
    assert found["empty_references"] == 1 and found["num_units"] == 40
    assert status == 0 and "1 of 40 transcripts are empty" in err and "inserted" in err


@pytest.mark.parametrize(("number", "said"), [(1, "no intervals"), (2, "0.5")])
def test_one_or_two_speakers_are_told_to_be_too_few(number, said, file, capsys):
    for split in ("held_out", "test"):
        table = file.parent / f"{split}.csv"
        table.write_text(
            re.sub(r"s(\d)$", lambda one: f"s{int(one[1]) % number}", table.read_text(), flags=re.MULTILINE)
        )
    status, _, told = run_command(capsys, "score", file)
    assert status == 0 and said in told
