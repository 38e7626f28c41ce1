"""Token classification: entities as seqeval counts them, words that are cut off, searches, pages, and bad input."""

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kitchens import change_yaml, json_of, run_command
from tagging import TAGS, sentences, tagging_kitchen, toy_tokenizer, write_split
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, soup_and_rival, trusted  # noqa: F401 - a fixture
from test_ui_own_tasks import told_by
from test_ui_regression import page, said

import soupviz as sv
from soupviz.data.text import capacity
from soupviz.data.text.tagged import CUT, NOWHERE, STARTS
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.text.entities import Tags
from soupviz.tasks.text.token_classification import F1, PRECISION, RECALL, TOKEN_ACCURACY, TokenClassification

EVERY = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "B", "I", "B-A-B")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with toy_tokenizer():
        file = tagging_kitchen(tmp_path_factory.mktemp("names") / "k")
        kitchen = sv.Kitchen.load(file)
        sv.greedy(kitchen, alpha=0.5, complete=True)
        kitchen.scores.of_ingredients("test")
    return file


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Iterator[Path]:
    with toy_tokenizer():
        yield trusted(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")


def tagger(names: tuple[str, ...] = tuple(TAGS)) -> TokenClassification:
    task = TokenClassification()
    task.tags = Tags.of(names)
    return task


def answers_of(rows: list[list[int]], tags: int, longest: int) -> torch.Tensor:
    """Logits whose best tag is the one named."""
    found = torch.zeros(len(rows), longest, tags)
    for row, said_of in enumerate(rows):
        for place, tag in enumerate(said_of):
            found[row, place, tag] = 3.0
    return found


def labels_of(rows: list[list[int]], longest: int) -> torch.Tensor:
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


def judged(task: TokenClassification, said_rows: list[list[int]], true_rows: list[list[int]]) -> Outcomes:
    longest = max(map(len, true_rows))
    labels = labels_of(true_rows, longest)
    found = task.outcomes(answers_of(said_rows, len(task.tags.names), longest), labels)
    return Outcomes.of(found, task.targets(labels))


# Entities


def test_entities_of_a_case_by_hand():
    tags = Tags.of(TAGS)
    assert tags.entities([0, 1, 2, 0, 3, 3]) == [("PER", 1, 2), ("LOC", 4, 4), ("LOC", 5, 5)]
    assert tags.entities([2, 2, 3, 2]) == [("PER", 0, 1), ("LOC", 2, 2), ("PER", 3, 3)]  # an I- may begin one
    assert tags.entities([1, 1, -1, 2]) == [("PER", 0, 0), ("PER", 1, 1), ("PER", 3, 3)]
    assert tags.entities([]) == []


def test_counts_and_metrics_of_a_case_by_hand():
    found = judged(tagger(), [[0, 1, 2], [3, 0]], [[0, 1, 2], [0, 1]])
    assert (found["matched"].tolist(), found["predicted"].tolist()) == ([[0, 1], [0, 0]], [[0, 1], [1, 0]])
    assert found["entities"].tolist() == [[0, 1], [0, 1]]
    assert F1.value(found) == Fraction(1, 2) == PRECISION.value(found) == RECALL.value(found)
    assert TOKEN_ACCURACY.value(found) == Fraction(3, 5)
    task = tagger()
    assert task.wrong(found).tolist() == [False, True]
    assert task.told(found, 1, TAGS) == "✗ 0 of 1 entities, 1 made up; 0 of 2 words right"
    assert task.target(found, 0, TAGS) == "1 PER"
    assert task.facts(found, 4) == {
        "kinds": ["LOC", "PER"],
        "kind_f1": [0.0, pytest.approx(2 / 3)],
        "kind_count": [0, 2],
        "num_close": 0,
    }


rows_of_tags = st.lists(st.lists(st.integers(0, len(EVERY) - 1), min_size=1, max_size=9), min_size=1, max_size=5)


@pytest.mark.extras
@settings(max_examples=150)
@given(rows_of_tags, st.randoms(use_true_random=False))
def test_f1_precision_and_recall_are_those_of_seqeval(true, random):
    seqeval = pytest.importorskip("seqeval.metrics", reason="needs seqeval")
    guessed = [[tag if random.random() < 0.6 else random.randrange(len(EVERY)) for tag in row] for row in true]
    found = judged(tagger(EVERY), guessed, true)
    names = [[[EVERY[tag] for tag in row] for row in rows] for rows in (true, guessed)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [getattr(seqeval, f"{name}_score")(*names) for name in ("f1", "precision", "recall", "accuracy")]
    values = [metric.value(found) for metric in (F1, PRECISION, RECALL, TOKEN_ACCURACY)]
    assert [0.0 if value is None else float(value) for value in values] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60)
@given(rows_of_tags, st.randoms(use_true_random=False))
def test_the_bound_is_the_value_of_perfect_sentences_that_wait(true, random):
    task = tagger(EVERY)
    longest = max(map(len, true))
    guessed = [[random.randrange(len(EVERY)) for _ in row] for row in true]
    labels, answers = labels_of(true, longest), answers_of(guessed, len(EVERY), longest)
    part = Outcomes.blank(len(true), task.targets(labels))
    part.write(np.array([0]), task.outcomes(answers[:1], labels[:1]))
    best = judged(task, [guessed[0], *true[1:]], true)
    for metric in (F1, PRECISION, RECALL, TOKEN_ACCURACY):
        assert metric.bound(part) == metric.value(best)


def test_a_sentence_without_a_finite_answer_has_nothing_right():
    task = tagger()
    answers = answers_of([[0, 1], [0, 3]], 4, 2)
    answers[1, 0, 0] = torch.inf
    labels = labels_of([[0, 1], [0, 3]], 2)
    found = Outcomes.of(task.outcomes(answers, labels), task.targets(labels))
    assert found["finite"].tolist() == [True, False] and found["right"].tolist() == [2, 0]
    assert not found["predicted"][1].any() and task.hardness(found)[1] == np.inf
    assert not F1.judges_nonfinite


def test_what_is_said_of_padding_decides_nothing_and_near_answers_are_told():
    task = tagger()
    answers, labels = answers_of([[0, 1], [0, 3, 1]], 4, 3), labels_of([[0, 1], [0, 3, 1]], 3)
    answers[0, 2] = torch.nan  # behind the first sentence
    answers[1, 0] = torch.tensor([1.0, 1.00001, 0, 0])
    found = Outcomes.of(task.outcomes(answers, labels), task.targets(labels))
    assert found["finite"].all() and task.facts(found, 4)["num_close"] == 1


def test_a_perfect_student_has_no_soft_loss_and_padding_counts_for_nothing():
    task = tagger()
    one, other = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    assert float(task.soft_loss(one, one, 2.0)) == pytest.approx(0, abs=1e-6)
    padded = [torch.cat([side, torch.zeros(2, 3, 4)], dim=1) for side in (one, other)]
    assert float(task.soft_loss(*padded, 2.0)) == pytest.approx(float(task.soft_loss(one, other, 2.0)), abs=1e-6)
    labels = torch.randint(0, 4, (2, 5))
    longer = torch.cat([labels, torch.full((2, 3), -1)], dim=1)
    assert float(task.loss(padded[0], longer)) == pytest.approx(float(task.loss(one, labels)), abs=1e-6)


def test_an_ensemble_averages_the_chances_of_each_word():
    one, other = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    found = tagger().averaged([one.numpy(), other.numpy()], [0.5, 0.5], "probabilities")
    assert found.softmax(2) == pytest.approx(((one.softmax(2) + other.softmax(2)) / 2).numpy(), abs=1e-6)


# Words and tokens


@pytest.mark.parametrize("pads_left", [False, True])
def test_a_words_tag_is_that_of_its_first_token(pads_left, file):
    with toy_tokenizer(pads_left):
        split = sv.Kitchen.load(file).splits.load("held_out")
    rows = sentences(1, 40)
    for row in range(3):
        words = rows[row]["tokens"]
        example = split.example(row)
        starts, length = example[STARTS][: len(words)], int(split.lengths[row])
        before = [1 + sum(-(-len(word) // 2) for word in words[:place]) for place in range(len(words))]
        assert starts.tolist() == ([place - length for place in before] if pads_left else before)
        assert (example[STARTS][len(words) :] == NOWHERE).all()
        assert split.labels[row, : len(words)].tolist() == [TAGS.index(tag) for tag in rows[row]["ner_tags"]]
        assert split.texts[row].split(" ") == words


def test_padding_on_either_side_gives_the_same_scores(file):
    values = []
    for pads_left in (False, True):
        shutil.rmtree(file.parent / ".soupviz", ignore_errors=True)
        with toy_tokenizer(pads_left):
            score = sv.Kitchen.load(file).scores.score((("m_0", 1.0),))
        values.append({name: float(value) for name, value in score.values.items()})
    assert values[0]["f1"] > 0.5 and values[0] == pytest.approx(values[1], abs=1e-6)


def test_words_that_are_cut_off_are_told_and_count_as_wrong(file):
    whole = sv.Kitchen.load(file).scores.score((("m_1", 1.0),))
    change_yaml(file, lambda keys: keys["data"]["held_out"].update(max_length=12))
    kitchen = sv.Kitchen.load(file)
    split = kitchen.splits.load("held_out")
    lost = split.labels <= CUT
    assert any("12 fit" in note and f"{int(lost.sum()):,} words" in note for note in split.notes)
    score = kitchen.scores.score((("m_1", 1.0),))
    assert (score.outcomes["words"] == whole.outcomes["words"]).all()
    assert (score.outcomes["entities"] == whole.outcomes["entities"]).all()
    assert (score.outcomes["said"][lost.numpy()] == -1).all()
    assert score.values["token_accuracy"] < whole.values["token_accuracy"] and score.value < whole.value
    assert score.outcomes["judged"].sum() == (split.labels >= 0).sum()


def test_a_word_that_makes_no_token_is_told(file):
    rows = sentences(1, 6)
    rows[2]["tokens"][0] = ""
    change_yaml(file, lambda keys: keys["data"].update(held_out=write_split(file.parent / "e.jsonl", rows)))
    [told] = [one for one in sv.Kitchen.load(file).splits.load("held_out").notes if "no token" in one]
    assert "1 words of 1 sentences" in told and "None" not in told


def test_sentences_without_an_entity_are_told_to_say_nothing(file):
    rows = [{**row, "ner_tags": ["O"] * len(row["tokens"])} for row in sentences(1, 6)]
    change_yaml(file, lambda keys: keys["data"].update(held_out=write_split(file.parent / "o.jsonl", rows)))
    assert any(
        "none of 6 sentences has an entity" in one for one in sv.Kitchen.load(file).splits.load("held_out").notes
    )


def test_other_names_of_tags_are_another_score(file):
    first = sv.Kitchen.load(file).scores.score((("m_0", 1.0),))
    rows = [{**row, "ner_tags": [TAGS.index(tag) for tag in row["ner_tags"]]} for row in sentences(1, 40)]
    change_yaml(file, lambda keys: keys["data"].update(held_out=write_split(file.parent / "n.jsonl", rows)))
    kitchen = sv.Kitchen.load(file)
    assert kitchen.scores.score((("m_0", 1.0),)).values == first.values
    change_yaml(file, lambda keys: keys.update(classes=["O", "B-PER", "I-PER", "I-PER2"]))
    other = sv.Kitchen.load(file).scores.score((("m_0", 1.0),))
    assert other.facts["kinds"] == ["PER", "PER2"]


def test_a_data_set_of_python_has_tags_of_tokens(file):
    (file.parent / "data.py").write_text(
        "import torch\n\ndef build():\n    found = []\n    for seed in range(6):\n"
        "        ids = torch.arange(3, 7 + seed)\n"
        "        labels = [-100, *[1 + index % 3 for index in range(len(ids) - 2)], -100]\n"
        "        found.append({'input_ids': ids, 'attention_mask': torch.ones_like(ids), 'labels': labels})\n"
        "    return found\n"
    )
    change_yaml(file, lambda keys: keys["data"].update(held_out={"format": "python", "path": "data.py:build"}))
    kitchen = sv.Kitchen.load(file)
    score = kitchen.scores.score((("m_0", 1.0),))
    assert score.outcomes["words"].tolist() == [2, 3, 4, 5, 6, 7]
    assert score.outcomes["entities"].sum(axis=1).tolist() == [1, 2, 3, 3, 4, 5]


# The journey


def test_scores_have_the_metrics_of_the_task_the_objective_first(file, capsys):
    found = json_of(capsys, "score", file)["ingredients"]["m_0"]
    assert (found["metric"], found["num_units"], found["kinds"]) == ("f1", 40, ["LOC", "PER"])
    assert list(found["metrics"]) == ["f1", "precision", "recall", "token_accuracy", "loss"]
    _, out, _ = run_command(capsys, "score", file)
    assert "F1 of entities" in out and "token accuracy" in out


def test_every_command_speaks_of_entities(file, tmp_path, capsys):
    out, report = tmp_path / "soup.safetensors", tmp_path / "report.html"
    for command in (
        ("soup", file, "--recipe", "greedy", "--out", out),
        ("soup", file, "--recipe", "ensemble"),
        ("soup", file, "--recipe", "learned", "--epochs", 1),
        ("soup", file, "--recipe", "distilled", "--epochs", 1),
        ("soup", file, "--recipe", "regmean"),
        ("interpolate", file, "m_0", "m_1", "--points", 3),
        ("menu", file, "--budget", 12),
    ):
        status, told, err = run_command(capsys, *command)
        assert status == 0, (command, err)
        assert "F1 of entities" in told and "example" not in told.replace("--examples", ""), command
    for command in (
        ("bake", out, "--kitchen", file, "--out", tmp_path / "b.safetensors"),
        ("report", file, "--out", report),
    ):
        status, _, err = run_command(capsys, *command)
        assert status == 0, (command, err)
    assert "F1 of entities" in report.read_text("utf-8")


def test_what_needs_one_class_a_sentence_says_why_it_is_not_offered(file, capsys):
    status, _, err = run_command(capsys, "soup", file, "--recipe", "fisher")
    assert status == 2 and "each word has a tag" in err


def test_every_page_speaks_of_sentences(file: Path) -> None:
    for name in [name for name in PAGES if name != "kitchens.py"]:
        told = told_by(page(name, file))
        assert not re.findall(r"\bexample|\bcorrect\b|(?<!token )accura", told), name
        if name == "preflight.py":
            assert "of each word" in told
        if name in ("ingredients.py", "soup.py", "compare.py"):
            assert "f1 of entities" in told.lower(), name


def test_cards_mark_the_entities_of_truth_soup_and_rival(file: Path) -> None:
    at = soup_and_rival(file)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert "a tag for each word" in said(at)
    assert all(f">{name}</b>" in shown for name in ("truth", "soup", "rival"))
    assert ">PER</span>" in shown and re.search(r"soup ✗ \d+ of \d+ entities", shown)


# Bad input


def rows_with(change) -> list[dict]:
    rows = sentences(1, 6)
    change(rows)
    return rows


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[2]["ner_tags"].pop(), r"line 3, has \d+ words and \d+ tags"),
        (lambda rows: rows[1].update(tokens=[], ner_tags=[]), r"line 2, has 0 words and 0 tags"),
        (lambda rows: rows[1].update(tokens="a b c"), r"line 2: 'tokens' is the str 'a b c'; expected a list"),
        (lambda rows: rows[0].update(ner_tags=["B-XYZ"] * len(rows[0]["tokens"])), r"labels B-XYZ; expected O, B-PER"),
        (lambda rows: rows[3].update(tokens=None), r"line 4, has nothing in 'tokens'"),
        (lambda rows: rows.clear(), r"no rows|no column"),
    ],
)
def test_words_and_tags_that_do_not_go_together_are_told_in_one_line(change, told, file, capsys):
    (file.parent / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_with(change)))
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "Traceback" not in err
    assert re.search(told, err), err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda keys: keys["model"].update(args={"size": 300}), r"\(704, 12\); expected \(300, 12\)"),
        (lambda keys: keys["data"]["held_out"].update(pair="ner_tags"), "remove `pair`"),
        (lambda keys: keys.update(classes=["O", "B-PER"]), "labels B-LOC, I-PER; expected O, B-PER"),
        (lambda keys: keys.update(task="segmentation"), r"take format masks"),
    ],
)  # fmt: skip
def test_a_kitchen_that_does_not_go_with_tags_is_told_in_one_line(change, told, file, capsys):
    change_yaml(file, change)
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "Traceback" not in err
    assert re.search(told, err), err


def test_numbers_of_tags_without_names_are_refused(file, capsys):
    rows = [{**row, "ner_tags": [TAGS.index(tag) for tag in row["ner_tags"]]} for row in sentences(1, 6)]
    change_yaml(file, lambda keys: keys["data"].update(held_out=write_split(file.parent / "n.jsonl", rows)))
    change_yaml(file, lambda keys: keys.pop("classes"))
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "numbers without names" in err and "all 4 in `classes:`" in err


def test_tokens_that_the_embedding_does_not_have_are_told_with_both_numbers(file):
    model = sv.Kitchen.load(file).evaluator.model
    assert capacity.check("data.test", 703, 5, 704, model) == []
    with pytest.raises(sv.SoupError, match=r"data\.test: its texts have tokens up to 704, .* has 704 rows"):
        capacity.check("data.test", 704, 5, 704, model)
    assert capacity.check("data.test", 704, 5, 704, torch.nn.Linear(2, 2)) == []  # which does not say


def test_rows_that_are_longer_than_the_models_table_of_positions_are_told_with_both_numbers():
    model = torch.nn.Module()
    model.config = type("Config", (), {"max_position_embeddings": 9})()
    capacity.check("data.test", 0, 10, 0, model)  # it has none: they are turned, and have no end
    model.position_embeddings = torch.nn.Embedding(9, 2)
    capacity.check("data.test", 0, 9, 0, model)
    with pytest.raises(
        sv.SoupError, match=r"data\.test: its longest row has 10 tokens, .* positions for 9; set max_length"
    ):
        capacity.check("data.test", 0, 10, 0, model)
