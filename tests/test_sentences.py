"""The format `text`: tables of sentences, their labels, and the tokens that a model is fed."""

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import json_of, write_yaml
from shared import SHARED
from torch import nn

import soupviz as sv
from soupviz.data import splits, tables
from soupviz.data.split import Split
from soupviz.data.text import capacity, tokens
from soupviz.errors import DataError, KitchenError
from soupviz.scoring.evaluator import Evaluator, Trial
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")
ROWS = [("good , good fun", "pos"), ("bad", "neg"), ("NA", "neg"), ("a good one to see again", "pos")]


class Mean(nn.Module):
    """Two logits from the mean of the embeddings that the mask leaves; says what it was given."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(50, 8)
            self.head = nn.Linear(8, 2)
        self.widths: list[int] = []

    def forward(self, input_ids, attention_mask):
        self.widths.append(input_ids.shape[1])
        mask = attention_mask[:, :, None]
        return self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))


class Plain(nn.Module):
    def forward(self, x):
        return x[:, :2].float()


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A tokenizer that needs no library: a word's token is its length, after a 1."""
    changes: dict[str, object] = {"pads_left": False}

    def encode(texts, pairs, longest):
        both = texts if pairs is None else [f"{text} {pair}" for text, pair in zip(texts, pairs, strict=True)]
        ids = [[1, *(len(word) for word in text.split())][:longest] for text in both]
        return {"input_ids": ids, "token_type_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

    def load(_where: str, _folder: Path) -> tokens.Tokenizer:
        return tokens.Tokenizer(encode, {"input_ids": 9}, **changes)

    monkeypatch.setattr(tokens, "load", load)
    return changes


def write_table(path: Path, rows=ROWS, text: str = "text", label: str = "label") -> Path:
    import pandas as pd

    table = pd.DataFrame([{text: sentence, label: answer} for sentence, answer in rows])
    kind = path.suffix
    if kind == ".parquet":
        table.to_parquet(path)
    elif kind == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep={".csv": ",", ".tsv": "\t"}[kind])
    (path.parent / "tokens").mkdir(exist_ok=True)
    return path


def load(path: Path, model: nn.Module | None = None, name: str = "held_out", classes=None, **keys) -> Split:
    spec = SplitSpec(**{"format": "text", "path": path.name, "tokenizer": "tokens"} | keys)
    return splits.load(name, spec, path.parent, model or Mean(), classes=classes)


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".jsonl", pytest.param(".parquet", marks=pytest.mark.extras)]
)  # fmt: skip
def test_a_table_gives_sentences_with_their_labels_by_name(tmp_path, words, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    split = load(write_table(tmp_path / f"x{suffix}"))
    assert split.classes == ("neg", "pos")
    assert split.labels.tolist() == [1, 0, 0, 1]
    assert split.texts == tuple(text for text, _ in ROWS)
    assert split.inputs["input_ids"][:2].tolist() == [[1, 4, 1, 4, 3, 9, 9], [1, 3, 9, 9, 9, 9, 9]]
    assert split.inputs["attention_mask"].sum(1).tolist() == [5, 2, 2, 7]
    assert set(split.inputs) == {"input_ids", "attention_mask"}


def test_of_plain_text_each_line_that_is_not_blank_is_a_row(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("good , good fun\n\n  \nbad\n", encoding="utf-8")
    table = tables.read("data.held_out", path, ["text"])
    assert table.column("text", "text") == ["good , good fun", "bad"] and list(table.numbers) == [1, 4]
    with pytest.raises(DataError, match="no column 'label'"):
        load(path)


def test_the_keys_name_the_columns(tmp_path, words):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "x.csv").write_text('id,first,second,answer\n1,"a, bb",ccc,yes\n2,a,bb,no\n')
    split = load(tmp_path / "x.csv", text="first", pair="second", label="answer", group="id")
    assert split.texts == ("a, bb / ccc", "a / bb")
    assert split.inputs["input_ids"].tolist() == [[1, 2, 2, 3], [1, 1, 2, 9]]
    assert split.group is None
    assert any("each example has its own id" in note for note in split.notes)


def test_a_column_says_which_rows_belong_together_and_their_content_is_found_as_before(tmp_path, words):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "x.csv").write_text("page,text,label\np10,good one,pos\np2,bad,neg\np10,fine,pos\n")
    split = load(tmp_path / "x.csv", group="page")
    assert (split.group.names, split.group_of.tolist()) == (("p2", "p10"), [1, 0, 1])
    assert any("2 groups by page" in note for note in split.notes)
    assert split.fingerprint == load(tmp_path / "x.csv").fingerprint
    with pytest.raises(DataError, match="no column 'book'"):
        load(tmp_path / "x.csv", group="book")


def test_a_row_that_belongs_nowhere_is_refused(tmp_path, words):
    (tmp_path / "x.csv").write_text("text,label,page\na b,neg,p1\nc d,pos,\ne f,neg,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: page is ''; expected a name"):
        load(tmp_path / "x.csv", group="page")


def test_batches_are_cut_to_their_longest_sentence_on_the_side_of_the_padding(tmp_path, words):
    rows = torch.tensor([1, 0])
    right = load(write_table(tmp_path / "x.csv")).take(rows, CPU)
    assert right["input_ids"].tolist() == [[1, 3, 9, 9, 9], [1, 4, 1, 4, 3]]
    assert right["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    words["pads_left"] = True
    shutil.move(tmp_path / "x.csv", tmp_path / "y.csv")
    left = load(tmp_path / "y.csv").take(rows, CPU)
    assert left["input_ids"].tolist() == [[9, 9, 9, 1, 3], [1, 4, 1, 4, 3]]


def many(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 30, 60)
    sentences = [" ".join("x" * int(size) for size in generator.integers(1, 9, number)) for number in sizes]
    return write_table(folder / "many.csv", [(text, int(generator.integers(2))) for text in sentences])


@pytest.mark.parametrize("order", [None, np.random.default_rng(1).permutation(60)])
def test_masked_padding_changes_no_decision(tmp_path, words, order):
    split = load(many(tmp_path))
    answers = []
    for batch_size in (1, 7, 60):
        model = Mean()
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        used = Evaluator(model, CPU, batch_size=batch_size)
        trial = Trial(weights.items, used.blank(split))
        used.evaluate(split, trial, order=order)
        answers.append(trial.found)
    for other in answers[1:]:
        assert np.array_equal(answers[0]["prediction"], other["prediction"])
        np.testing.assert_allclose(answers[0]["loss"], other["loss"], rtol=1e-5)


def test_a_model_without_a_mask_sees_the_same_padding_in_every_batch(tmp_path, words):
    split = load(many(tmp_path), Plain())
    assert split.take(torch.tensor([0]), CPU)[""].shape[1] == split.take(torch.arange(60), CPU)[""].shape[1]
    assert any("takes no attention_mask" in note for note in split.notes)


def test_the_longest_is_the_kitchens_then_the_tokenizers_then_the_models(tmp_path, words):
    path = write_table(tmp_path / "x.csv")
    model = Mean()
    model.config = type("Config", (), {"max_position_embeddings": 5})()
    assert load(path, model).inputs["input_ids"].shape[1] == 5
    (tmp_path / "tokens" / "tokenizer_config.json").write_text('{"model_max_length": 6}')
    assert load(path, model).inputs["input_ids"].shape[1] == 6
    assert load(path, model, max_length=3).inputs["input_ids"].shape[1] == 3


def test_positions_that_begin_behind_the_padding_are_not_counted():
    model = Mean()
    model.config = type("Config", (), {"max_position_embeddings": 514})()
    assert capacity.positions(model) == 514
    model.position_embeddings = nn.Embedding(514, 4, padding_idx=1)
    assert capacity.positions(model) == 512


def test_what_was_read_for_one_model_is_looked_at_again_for_a_smaller_one(tmp_path, words):
    path, small = write_table(tmp_path / "x.csv"), Mean()
    load(path)
    small.get_input_embeddings = lambda: nn.Embedding(3, 2)
    with pytest.raises(DataError, match=r"tokens up to 5, .* embedding of the model has 3 rows"):
        load(path, small)


# Labels


def test_whole_numbers_are_positions_in_the_classes(tmp_path, words):
    path = write_table(tmp_path / "x.csv", [("a", 1), ("b", 0), ("c", 1)])
    assert load(path).classes is None
    split = load(path, classes=("yes", "no"))
    assert (split.classes, split.labels.tolist()) == (("yes", "no"), [1, 0, 1])


def test_numbers_that_are_names_of_classes_are_names_and_it_is_told(tmp_path, words):
    path = write_table(tmp_path / "x.csv", [("a", 1), ("b", 3), ("c", 2)])
    split = load(path, classes=("1", "2", "3"))
    assert split.labels.tolist() == [0, 2, 1]
    assert any("read as names of classes, not as positions" in note for note in split.notes)


def test_a_model_that_names_its_classes_gives_their_order_and_it_is_told(tmp_path, words):
    model = Mean()
    model.config = type("Config", (), {"id2label": {0: "pos", 1: "neg"}})()
    split = load(write_table(tmp_path / "x.csv"), model)
    assert (split.classes, split.labels.tolist()) == (("pos", "neg"), [0, 1, 1, 0])
    assert any("the order of the classes is the model's own: pos, neg" in note for note in split.notes)
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    assert load(tmp_path / "x.csv", model).classes == ("neg", "pos")


@pytest.mark.parametrize(
    ("rows", "classes", "message"),
    [
        ([("a", "yes"), ("b", "maybe")], ("no", "yes"), "labels maybe; expected no, yes"),
        ([("a", -1), ("b", 0)], None, "labels -1, 0; expected positions of classes, from 0"),
        ([("a", 2), ("b", 0)], ("no", "yes"), "labels 0, 2; expected no, yes, or positions in these from 0"),
        ([], None, "has no column 'text'"),
        ([("a", None), ("b", "x")], None, r"line 1, has nothing in 'label'"),
    ],
)
def test_labels_that_are_no_classes_are_refused_by_name(tmp_path, words, rows, classes, message):
    path = write_table(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=f"x.jsonl.* {message}" if rows else message):
        load(path, classes=classes)


def test_a_test_split_may_have_fewer_classes_and_no_others(tmp_path, words):
    path = write_table(tmp_path / "x.csv", [("a", "pos"), ("b", "pos")])
    split = load(path, name="test", classes=("neg", "pos"))
    assert split.labels.tolist() == [1, 1]
    assert any("1 of 2 classes have examples, none of neg" in note for note in split.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "sentence,answer\na,1\n", "has no column 'text'; it has sentence, answer"),
        ("x.xlsx", "text,label\n", "ends in .xlsx; expected .csv, .tsv, .jsonl, .parquet or .txt"),
        ("x.jsonl", '{"text": "a"}\n{broken', "line 2, is no JSON"),
        ("x.jsonl", '[{"text": "a"}]', "line 1, is a list; expected one JSON object a line"),
        ("x.csv", "text,label\n", "has no rows"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path, words, name, content, message):
    (tmp_path / "tokens").mkdir()
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "other.csv")


def test_changed_sentences_and_another_tokenizer_are_read_anew(tmp_path, words):
    path = write_table(tmp_path / "x.csv")
    first = load(path)
    path.write_text(path.read_text().replace("bad", "sad"))
    assert load(path).texts[1] == "sad"
    (tmp_path / "tokens" / "tokenizer.json").write_text("{}")
    assert load(path, max_length=2).inputs["input_ids"].shape[1] == 2
    assert first.texts[1] == "bad"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "text", "path": "x.csv"}, "format text needs a tokenizer"),
        ({"format": "arrays", "path": "x.npz", "max_length": 3}, "format arrays takes no max_length"),
    ],
)
def test_the_keys_of_text_go_with_text_only(tmp_path, keys, message):
    (tmp_path / "model.py").write_text("def build(): ...")
    file = write_yaml(tmp_path, model={"factory": "model.py:build"}, ingredients=["*.pt"], data={"held_out": keys})
    with pytest.raises(KitchenError, match=message):
        sv.Kitchen.load(file)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    path = write_table(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"nowhere is no folder; expected one with tokenizer\.json"):
        load(path, tokenizer="nowhere")


@pytest.mark.parametrize(
    ("missing", "name", "message"),
    [
        (("transformers", "tokenizers"), "x.csv", "needs transformers, which is not installed: pip install"),
        (("pyarrow", "fastparquet"), "x.parquet", "needs pyarrow, which is not installed: pip install"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command(tmp_path, monkeypatch, missing, name, message):
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    write_table(tmp_path / "x.csv")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


# Real tokenizers


@pytest.fixture(scope="module")
def real_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece-like tokenizer of whole words, as a folder."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "fun"])}
    tokens_ = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokens_.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokens_.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens_.enable_truncation(6)
    tokens_.enable_padding(length=6)
    tokens_.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    return folder


@pytest.mark.extras
@pytest.mark.parametrize("library", ["transformers", "tokenizers"])
def test_both_libraries_give_the_same_tokens_cut_where_the_tokenizer_says(real_tokenizer, library):
    pytest.importorskip(library)
    tokenizer = getattr(tokens, f"_by_{library}")(real_tokenizer)
    longest = tokens.longest("data.test", real_tokenizer)
    assert longest == 6
    found = tokenizer.encode(["good fun", "bad bad bad bad bad bad bad"], None, longest)
    assert found["input_ids"] == [[2, 4, 6, 3], [2, 5, 5, 5, 5, 3]]
    assert found["attention_mask"] == [[1] * 4, [1] * 6]
    assert tokens.padded(found, tokenizer)["input_ids"].tolist() == [[2, 4, 6, 3, 0, 0], [2, 5, 5, 5, 5, 3]]
    pairs = tokenizer.encode(["good"], ["bad"], None)
    assert pairs["input_ids"] == [[2, 4, 3, 5, 3]]


@pytest.mark.extras
def test_a_damaged_tokenizer_is_refused_by_name(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokenizer.json").write_text("{}")
    path = write_table(tmp_path / "x.csv")
    with pytest.raises(DataError, match="holds no tokenizer that can be read"):
        load(path)


FACTORY = """
from pathlib import Path

def build():
    from transformers import AutoConfig, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(Path(__file__).parent / "base"))
"""


@pytest.mark.extras
def test_a_run_of_trainer_has_the_counts_of_its_own_evaluation(tmp_path, capsys):
    pytest.importorskip("transformers")
    archive = SHARED / "runs" / "runs.tar.xz"
    if not archive.is_file():
        pytest.skip("needs the runs of ../shared/runs, which are not here")
    with tarfile.open(archive) as runs:
        wanted = [one for one in runs.getmembers() if "trainer/" in one.name]
        runs.extractall(tmp_path, wanted, filter="data")
    [folder] = tmp_path.rglob("trainer")
    (folder / "model.py").write_text(FACTORY)
    held_out = {"format": "text", "path": "held_out.csv", "text": "sentence", "tokenizer": "output/checkpoint-94"}
    file = write_yaml(
        folder, model={"factory": "model.py:build"}, data={"held_out": held_out}, device="cpu",
        ingredients={path.name: f"output/{path.name}/model.safetensors" for path in (folder / "output").iterdir()},
    )  # fmt: skip
    expected = json.loads((SHARED / "runs" / "expected.json").read_text())["trainer"]["correct"]
    found = json_of(capsys, "score", file)["ingredients"]
    assert {name: score["correct"] for name, score in found.items()} == pytest.approx(expected, abs=1)


def test_a_quote_in_a_tab_separated_sentence_is_a_quote(tmp_path, words):
    """GLUE writes them without quoting: two that begin with one are not merged with what lies between."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "x.tsv").write_text('text\tlabel\n"a bb\tyes\nccc\tno\n"a\tno\nbb\tyes\n')
    assert load(tmp_path / "x.tsv").texts == ('"a bb', "ccc", '"a', "bb")
    (tmp_path / "q.tsv").write_text('"text"\t"label"\n"a\tbb"\t"yes"\n"ccc"\t"no"\n')
    assert load(tmp_path / "q.tsv").texts == ("a\tbb", "ccc")


TABLE = "text,label\na b,yes\nccc,no\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", TABLE.replace(",", ";")),
        ("x.csv", TABLE.replace(",", "\t")),
        ("x.tsv", TABLE.replace(",", "|")),
        ("x.csv", "\ufeff" + TABLE),
        ("x.csv", TABLE.replace("\n", "\r\n")),
        ("x.csv", TABLE.replace("\n", "\r")),
        ("x.csv", TABLE.replace("\n", ",\n")),
        ("x.csv", TABLE.replace("text,label\n", "\n text ,label \n").replace("yes\n", "yes,,\n\n")),
        ("x.csv", "label,text\n" + 'yes,"a b"\nno,ccc'),
    ],
)
def test_a_table_is_read_however_its_cells_are_separated_and_its_lines_end(tmp_path, words, name, content):
    (tmp_path / "tokens").mkdir()
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    split = load(tmp_path / name)
    assert split.texts == ("a b", "ccc")
    assert split.labels.tolist() == [1, 0]
    is_other = ";" in content or "|" in content or "\t" in content
    assert any("its cells are separated by" in note for note in split.notes) == is_other


def test_a_table_of_utf_16_and_a_line_break_in_quotes_are_read(tmp_path, words):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "x.csv").write_text('text,label\n"a\nb, ""c""",yes\né,no\n', encoding="utf-16")
    assert load(tmp_path / "x.csv").texts == ('a\nb, "c"', "é")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE + "d,yes,more\n", "x.csv, line 4, has 3 cells, the header 2; put quotes around a cell that holds ','"),
        (TABLE + "\nd\n", "x.csv, line 5, has nothing in 'label'; fill it in"),
        (TABLE + "d,\n", "has nothing for the label of 1 rows"),
        (TABLE + '"d,yes\ne,no\n', "x.csv, line 4: a quote that opens in this row is never closed"),
        (TABLE + "\u00e9,yes\n", "x.csv, line 4, has the byte 0xe9, which is no UTF-8; save the table as UTF-8"),
        ("text,label,label\na,yes,no\n", "has 2 columns 'label'; expected one"),
        ("", "has no column 'text'; it has none"),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused_with_its_line(tmp_path, words, content, message):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "x.csv").write_text(content, encoding="latin-1", newline="")
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path / "x.csv")
