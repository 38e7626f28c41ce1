"""Sentences with a word and its tag in each line, as CoNLL and Universal Dependencies have them."""

import pytest
from kitchens import build_model
from tagging import MODEL, TAGS, sentences, toy_tokenizer, write_split

from soupviz.data import splits
from soupviz.data.text import conll
from soupviz.errors import DataError
from soupviz.recognition.data import kind_of
from soupviz.spec import SplitSpec


def load(folder, name="held_out", **keys):
    (folder / "tokenizer").mkdir(exist_ok=True)
    spec = SplitSpec(**({"format": "text", "tokenizer": "tokenizer"} | keys))
    with toy_tokenizer():
        return splits.load(name, spec, folder, build_model(MODEL), classes=tuple(TAGS), kind="tags")


def write(path, rows, separator=" ", between="x"):
    lines = [
        "".join(f"{word}{separator}{between}{separator}{tag}\n" for word, tag in zip(*row.values(), strict=True))
        for row in rows
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(path, text):
    path.write_text(text, encoding="utf-8")
    return conll.read("data.held_out", path)


@pytest.mark.parametrize(("suffix", "separator"), [("conll", " "), ("txt", "\t"), ("iob2", "  ")])
def test_a_file_of_lines_is_the_same_split_as_a_table_of_lists(tmp_path, suffix, separator):
    rows = sentences(1, 12)
    table = load(tmp_path, **write_split(tmp_path / "t.jsonl", rows))
    write(tmp_path / f"t.{suffix}", rows, separator)
    lines = load(tmp_path, path=f"t.{suffix}")
    assert lines.fingerprint == table.fingerprint and lines.texts == table.texts


def test_a_column_is_named_by_its_number_and_what_begins_a_document_is_no_sentence(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\n# NN I-NP O\n\n-DOCSTART- -X- O O\n\nPeter NNP B-NP B-PER\n"
    table = read(tmp_path / "x.conll", text)
    assert table.lists("text", "text") == [["EU", "#"], ["Peter"]]
    assert table.lists("label", "label") == [["B-ORG", "O"], ["B-PER"]]
    assert table.lists("label", "1") == [["NNP", "NN"], ["NNP"]]
    assert table.column("group", "document") == ["1", "2"]
    assert table.numbers == [3, 8]


def test_universal_dependencies_give_forms_and_universal_tags(tmp_path):
    rest = "\t_" * 6
    text = (
        "# sent_id = 1\n# text = Vámonos ya\n"
        f"1-2\tVámonos\t_\t_{rest}\n1\tVamos\tir\tVERB{rest}\n2\tnos\tnosotros\tPRON{rest}\n3\t#\t#\tSYM{rest}\n\n"
        f"1\tya\tya\tADV{rest}\n1.1\tva\tir\tVERB{rest}\n"
    )
    table = read(tmp_path / "x.conllu", text)
    assert table.lists("text", "text") == [["Vamos", "nos", "#"], ["ya"]]
    assert table.lists("label", "label") == [["VERB", "PRON", "SYM"], ["ADV"]]


def test_a_line_that_is_no_word_with_its_tag_is_refused_by_its_number(tmp_path):
    with pytest.raises(DataError, match=r"x\.conll, line 2, is 'dog', with 1 columns; expected 2, as the first"):
        read(tmp_path / "x.conll", "a O\ndog\n")
    with pytest.raises(DataError, match=r"line 1, is 'dog', .*expected a word and its tag, at least"):
        read(tmp_path / "x.conll", "dog\ncat\n")
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path, path="none.conll")
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path / "e.conll", "\n\n")
        load(tmp_path, path="e.conll")


def test_new_takes_it_for_a_table_of_words_and_tags(tmp_path):
    place = kind_of(write(tmp_path / "val.conll", sentences(1, 3)))
    assert (place.format, place.columns) == ("text", ("text", "label"))
