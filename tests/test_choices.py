"""Multiple choice: options by their likelihood after a context, as the harness splits and counts them."""

import math
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import build_model, change_yaml, json_of, run_command
from torch import nn
from writers import (
    POSITIONS,
    WORDS,
    WRITER,
    by_hand,
    choices_kitchen,
    no_library,  # noqa: F401 - a fixture
    questions,
    write_lines,
    write_tokenizer,
)

import soupviz as sv
from soupviz.data import splits
from soupviz.data.split import Split
from soupviz.data.text.choices import Question
from soupviz.errors import DataError
from soupviz.recipes import parse
from soupviz.scoring.evaluator import Evaluator, Trial
from soupviz.spec import SplitSpec
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.metric import is_share
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.text.multiple_choice import BY_LENGTH, MultipleChoice

pytestmark = pytest.mark.usefixtures("no_library")
CPU = torch.device("cpu")


def load(folder: Path, rows: list[dict], model: nn.Module | None = None, name: str = "x.jsonl", **keys) -> Split:
    if name.endswith(".jsonl"):
        write_lines(folder / name, rows)
    write_tokenizer(folder / "tokenizer")
    where = {"path": name, "tokenizer": "tokenizer", "max_length": POSITIONS}
    spec = SplitSpec(**{"format": "choices"} | where | keys)
    return splits.load("held_out", spec, folder, model or build_model(WRITER), kind="options")


def scored(split: Split, model: nn.Module, batch_size: int = 256) -> Outcomes:
    evaluator = Evaluator(model, CPU, "float32", batch_size, MultipleChoice())
    found = evaluator.blank(split)
    evaluator.evaluate(split, Trial(list, found))
    return found


def test_a_question_with_an_option_twice_is_told(tmp_path):
    rows = [{"context": WORDS[0], "options": WORDS[1:3], "answer": 0} for _ in range(4)]
    notes = load(tmp_path, [*rows[:2], rows[2] | {"options": [WORDS[1], WORDS[2], f" {WORDS[1]}"]}, rows[3]]).notes
    assert any("1 of 4 questions have two options that are the same (the first is line 3)" in note for note in notes)
    assert not any("the same" in note for note in load(tmp_path / "other", rows).notes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return choices_kitchen(tmp_path_factory.mktemp("choices") / "k")


# What is given, and what is predicted


@pytest.mark.parametrize(
    ("context", "option", "expected"),
    [
        ("the cat", "sees", ("the cat", " sees")),
        ("the cat ", "sees", ("the cat", " sees")),
        ("the cat", " sees", ("the cat", " sees")),
        ("the cat\n", "sees", ("the cat", "\nsees")),
        ("", "sees", ("", "sees")),
    ],
)
def test_white_space_between_belongs_to_the_option(context, option, expected):
    assert Question("", context, (option, "x"), 0).pairs()[0] == expected


def test_an_options_tokens_are_those_of_the_whole_behind_the_contexts(tmp_path):
    split = load(tmp_path, [{"context": "the cat", "options": ["sees", "and the"], "answer": 1}] * 2)
    [the, cat, sees, and_] = (by_hand([word])["input_ids"][0][1] for word in ("the", "cat", "sees", "and"))
    batch = split.raw(torch.tensor([0]))
    assert batch[""][0].tolist() == [[0, the, cat, sees, -1], [0, the, cat, and_, the]]
    assert batch["predicted"][0].tolist() == [[-1, -1, -1, sees, -1], [-1, -1, -1, and_, the]]
    assert split.labels.tolist() == [[1, 4, 7]] * 2


def test_a_context_that_is_too_long_loses_its_beginning_and_that_is_told(tmp_path):
    rows = [{"context": " ".join(["the cat"] * 6), "options": ["sees", "and the"], "answer": 0}] * 2
    split = load(tmp_path, rows, max_length=6)
    assert split.shapes[""] == (2, 6)
    assert any("4 options are read without the beginning" in note for note in split.notes)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_options_are_chosen_as_by_a_loop_over_them(tmp_path, batch_size):
    model, rows = build_model(WRITER), questions(40, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    found = scored(load(tmp_path, rows, model), model, batch_size)
    for place, row in enumerate(rows):
        likely = []
        for option in row["options"]:
            given, whole = (by_hand([text])["input_ids"][0] for text in (row["context"], f"{row['context']} {option}"))
            with torch.no_grad():
                surprise = model(torch.tensor([whole]))["logits"][0].double().log_softmax(1)
            likely.append(sum(float(surprise[at - 1, whole[at]]) for at in range(len(given), len(whole))))
        by_length = [one / len(option) for one, option in zip(likely, row["options"], strict=True)]
        assert found["right"][place] == (int(np.argmax(likely)) == row["answer"])
        assert found["right_by_length"][place] == (int(np.argmax(by_length)) == row["answer"])
        assert found["prediction"][place] == int(np.argmax(likely))
        shares = np.exp(likely - np.logaddexp.reduce(likely))
        assert found["loss"][place] == pytest.approx(-math.log(shares[row["answer"]]), rel=1e-4)
        assert found["confidence"][place] == pytest.approx(shares.max(), rel=1e-4)
    assert ACCURACY.value(found) == Fraction(int(found["right"].sum()), 40)


# By hand


def judged(likely: list[list[float]], labels: list[list[int]]) -> Outcomes:
    task, told = MultipleChoice(), torch.tensor(labels)
    return Outcomes.of(dict(task.outcomes(torch.tensor(likely, dtype=torch.float64), told)), task.targets(told))


def test_by_length_divides_by_the_bytes_of_the_options_text():
    found = judged([[-6.0, -4.0], [-6.0, -4.0]], [[0, 12, 4], [1, 2, 2]])
    assert found["right"].tolist() == [False, True]
    assert found["right_by_length"].tolist() == [True, True]
    assert (ACCURACY.value(found), BY_LENGTH.value(found)) == (0.5, 1)
    assert is_share(ACCURACY) and is_share(BY_LENGTH)


def test_what_fills_up_is_no_option():
    found = judged([[-6.0, -4.0, 0.0], [-6.0, -4.0, -5.0]], [[1, 1, 1, -1], [1, 1, 1, 1]])
    assert found["right"].tolist() == [True, True]
    assert found["loss"][0] == pytest.approx(math.log(1 + math.exp(-2)))
    assert found["options"].tolist() == [2, 3]


def test_a_question_without_finite_likelihoods_is_wrong():
    found = judged([[math.nan, -4.0], [-6.0, -4.0]], [[1, 1, 1], [1, 1, 1]])
    assert found["right"].tolist() == [False, True] and found.num_nonfinite == 1
    assert found["prediction"].tolist() == [-1, 1]
    assert "not finite" in MultipleChoice().told(found, 0, ())
    assert MultipleChoice().told(found, 1, ()) == "✓ B, 88 %"


def test_the_first_of_equal_options_is_taken():
    assert judged([[-4.0, -4.0]], [[0, 1, 1]])["right"].tolist() == [True]


# Tables


def test_options_may_have_a_column_each_or_be_json_in_a_cell(tmp_path):
    tmp_path.joinpath("a.csv").write_text("question,first,second,label\nthe cat,sees,often,0\na dog,and,hears,1\n")
    tmp_path.joinpath("b.csv").write_text(
        'context,options,answer\nthe cat,"[""sees"", ""often""]",sees\na dog,"[""and"", ""hears""]",hears\n'
    )
    columns = {"context": "question", "options": ["first", "second"], "answer": "label"}
    one, other = load(tmp_path, [], name="a.csv", **columns), load(tmp_path, [], name="b.csv")
    assert one.labels.tolist() == other.labels.tolist() == [[0, 4, 5], [1, 3, 5]]
    assert one.texts == other.texts == ("the cat (A) sees (B) often", "a dog (A) and (B) hears")


def test_answers_that_are_texts_of_options_in_every_row_are_texts_even_if_they_are_numbers(tmp_path):
    rows = [
        {"context": "the cat", "options": ["1", "0"], "answer": 1},
        {"context": "a", "options": ["0", "2"], "answer": 0},
    ]
    split = load(tmp_path, rows)
    assert split.labels[:, 0].tolist() == [0, 0]
    assert any("as texts of options" in note for note in split.notes)


GOOD = {"context": "the cat", "options": ["sees", "often"], "answer": 0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": 2}, "line 2, has the answer '2'"),
        ({"answer": "barks"}, "line 2, has the answer 'barks'"),
        ({"options": ["sees"]}, "at least 2"),
        ({"options": ["sees", " "]}, "each with a text"),
        ({"options": "sees"}, "expected a list of texts"),
        ({"options": None}, "has nothing in 'options'"),
        ({"answer": None}, "has nothing in 'answer'"),
    ],
)
def test_a_row_that_is_no_question_is_refused_with_its_line(tmp_path, change, told):
    with pytest.raises(DataError, match="line 2") as error:
        load(tmp_path, [GOOD, GOOD | change])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_an_option_that_does_not_fit_with_one_token_before_it_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 5 tokens, of which 5 fit"):
        load(tmp_path, [GOOD, GOOD | {"options": ["sees", "the cat sees a dog"]}], max_length=5)


def test_a_first_token_with_nothing_before_it_is_refused(tmp_path, monkeypatch):
    from soupviz.data.text import tokens

    def bare(texts, _pairs, _longest):
        return {"input_ids": [row[1:] for row in by_hand(texts)["input_ids"]]}

    monkeypatch.setattr(tokens, "load", lambda *_: tokens.Tokenizer(bare, {}, False, 20))
    with pytest.raises(DataError, match="none before it"):
        load(tmp_path, [GOOD, GOOD | {"context": ""}])


def test_a_missing_column_is_told_with_the_key_that_says_which(tmp_path):
    for key in ("context", "options", "answer", "group"):
        with pytest.raises(DataError, match=f"no column 'other'.*`{key}:`"):
            load(tmp_path, questions(4, seed=0), **{key: "other"})


def test_tasks_and_formats_that_do_not_go_together_are_refused(built, tmp_path, capsys):
    for task, told in (("language_model", "format text"), ("classification", "multiple_choice")):
        file = shutil.copytree(built.parent, tmp_path / task) / "kitchen.yaml"
        change_yaml(file, lambda keys, task=task: keys.update(task=task))
        status, _, err = run_command(capsys, "score", file)
        assert status == 2 and told in err and "choices" in err


# The journey


def test_every_command_speaks_of_questions(built, tmp_path, capsys):
    file = shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"
    scores = json_of(capsys, "score", file)["ingredients"]
    assert set(scores["m_0"]["metrics"]) == {"accuracy", "accuracy_by_length", "loss"}
    soup = json_of(capsys, "soup", file, "--recipe", "greedy", "--out", tmp_path / "soup.safetensors")
    assert soup["scores"]["held_out"]["value"] >= max(score["value"] for score in scores.values())
    assert json_of(capsys, "soup", file, "--recipe", "ensemble")["scores"]["test"]["num_units"] == 60
    by_length = change_yaml(
        shutil.copytree(built.parent, tmp_path / "l") / "kitchen.yaml",
        lambda keys: keys.update(metric="accuracy_by_length"),
    )
    assert (
        json_of(capsys, "soup", by_length, "--recipe", "greedy")["scores"]["held_out"]["metric"] == "accuracy_by_length"
    )
    for command in (("menu", file, "--budget", 10), ("report", file, "--out", tmp_path / "report.html")):
        status, _, err = run_command(capsys, *command)
        assert status == 0, err


def test_a_learned_soup_lowers_the_loss_of_the_right_option(built, tmp_path):
    kitchen = sv.Kitchen.load(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")
    soup = sv.cook(kitchen, parse({"method": "learned", "epochs": 3, "learning_rate": 0.1, "data": "train"}))
    assert soup.notes["losses"][-1] < soup.notes["losses"][0]


@pytest.mark.parametrize("method", ["distilled", "fisher"])
def test_what_is_not_offered_is_told_with_a_reason(method):
    assert "because" in parse({"method": method}).unfit(MultipleChoice())


# With transformers


@pytest.mark.extras
def test_options_are_chosen_as_by_a_plain_loop_over_a_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    rows = questions(12, seed=3)
    found = scored(load(tmp_path, rows, model), model)
    for place, row in enumerate(rows):
        losses = []
        for option in row["options"]:
            given, whole = (by_hand([text])["input_ids"][0] for text in (row["context"], f"{row['context']} {option}"))
            labels = torch.tensor([[-100] * len(given) + whole[len(given) :]])
            with torch.no_grad():
                losses.append(float(model(torch.tensor([whole]), labels=labels).loss) * (len(whole) - len(given)))
        assert found["prediction"][place] == int(np.argmin(losses))
