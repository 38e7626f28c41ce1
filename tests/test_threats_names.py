"""Names that others chose are text wherever they are shown or exported: no markup, no script, no formula."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kitchens import small_kitchen
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest
from test_links import opened
from test_pages import OPENING, ROOT, fresh_server, press_all, settle, trusted  # noqa: F401 - fresh_server is a fixture

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.ui import tables

PICTURE = "![i](MARK.png)"
TAG = "<img src=MARK onerror=MARK()>"
FORMULA = "=MARK(1) $MARK$ :red[MARK] **MARK** `MARK"
TITLE = "[MARK](https://mark.invalid) ![i](https://mark.invalid/MARK.png) <script>MARK()</script> $MARK$ :red[MARK]"
SHIFT = "![MARK](MARK) $MARK$"
MARKDOWN = {"body", "label", "help", "text", "caption", "content", "delta", "captions"}
"""Fields of Streamlit's elements that a browser reads as Markdown."""

CODE = re.compile(r"(?<!\\)(`+)[^`].*?\1")
STREAMLITS = re.compile(r"(?<!\\)(?:\$MARK|:red\[MARK|\*\*MARK)")
"""Formulas, colours and bold type, where nothing escapes them."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kitchen in which every name is one that somebody hostile would choose, with two soups."""
    named = {PICTURE: "m_0.safetensors", TAG: "m_1.safetensors", FORMULA: "m_2.safetensors"}
    file = small_kitchen(
        tmp_path / "served", num_ingredients=3, num_examples=60, train=40, shifts=[SHIFT], name=TITLE,
        ingredients=named, classes=[PICTURE, TAG, FORMULA],
    )  # fmt: skip
    kitchen = Kitchen.load(trusted(file))
    for split in ("held_out", "test", f"shifts.{SHIFT}"):
        kitchen.scores.of_ingredients(split)
    sv.greedy(kitchen)
    sv.uniform(kitchen, [PICTURE, TAG])
    return file


def texts(at: AppTest) -> Iterator[tuple[str, str]]:
    """What a browser reads as Markdown, each with its field."""
    for node in _nodes(at._tree):
        proto = getattr(node, "proto", None)
        if proto is not None:
            yield from _fields(proto, type(proto).__name__)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", {}).values():
        yield from _nodes(child)


def _fields(proto: Any, where: str) -> Iterator[tuple[str, str]]:
    if not hasattr(proto, "ListFields"):
        return
    for field, value in proto.ListFields():
        place = f"{where}.{field.name}"
        values = [value] if isinstance(value, str) or hasattr(value, "ListFields") else value
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for one in values:
                yield from _fields(one, place)
        elif field.name in MARKDOWN and field.type == field.TYPE_STRING:
            yield from ((place, text) for text in values)


def markup(text: str) -> list[str]:
    """What of a hostile name would be more than text."""
    found = []
    for token in MarkdownIt("commonmark", {"html": True}).parse(text):
        for one in [token, *(token.children or [])]:
            attributes = " ".join(map(str, one.attrs.values()))
            if one.type in ("image", "link_open", "html_inline", "html_block") and "MARK" in one.content + attributes:
                found.append(f"{one.type}: {one.content or attributes}")
    return found + STREAMLITS.findall(CODE.sub("", text))


@pytest.mark.parametrize("page", OPENING)
def test_a_name_is_text_on_every_page(page: str, file: Path) -> None:
    at = opened(page.removesuffix(".py"), file)
    for label in ("Compute", "Score", "Measure", "Look"):
        press_all(at, label)
    found = {f"{where}: {one} in {text[:200]!r}" for where, text in texts(at) for one in markup(text)}
    assert not found, "\n".join(sorted(found))


def test_the_question_for_trust_is_not_reworded_by_the_kitchen_that_it_is_about(
    fresh_server: None,  # noqa: F811
    tmp_path: Path,
) -> None:
    hostile = "safe** by [MARK](MARK).\n\n# MARK\n\nNothing `runs"
    code = f"{PICTURE}\n\n**MARK**\u202e.py:build"
    small_kitchen(tmp_path / "small", num_examples=20, name=hostile, model={"factory": code, "args": {}})
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(tmp_path / "small" / "kitchen.yaml")
    at.run()
    [asked] = at.warning
    [inline] = [token for token in MarkdownIt().parse(asked.value) if token.type == "inline"]
    kinds = {child.type for child in inline.children}
    assert kinds <= {"text", "text_special", "code_inline", "strong_open", "strong_close", "softbreak"}
    assert "runs Python code" in asked.value and "\u202e" not in asked.value


def test_no_name_is_a_formula_in_a_table_that_is_downloaded() -> None:
    names = ["=MARK(1)", "+MARK", "-MARK", "@MARK", "\t=MARK", "\r=MARK", "plain", 'quo"ted, =x']
    table = pd.DataFrame({"=HEAD": names, "number": [-1.5, 2.0] * 4})
    rows = list(csv.reader(io.StringIO(tables.as_csv(table))))
    assert not any(cell.startswith(tables.FORMULA) for row in rows for cell in row[:1])
    assert rows[0] == ["'=HEAD", "number"]
    assert [row[0].replace("\n", "\r") for row in rows[1:]] == [f"'{name}" for name in names[:6]] + names[6:]
    assert [float(row[1]) for row in rows[1:]] == [-1.5, 2.0] * 4  # a number may be negative


def test_every_table_that_is_downloaded_is_written_in_the_one_place() -> None:
    sources = [*(ROOT / "soupviz").rglob("*.py"), *(ROOT / "pages").glob("*.py")]
    written = {path.name for path in sources if ".to_csv(" in path.read_text(encoding="utf-8")}
    assert written == {"tables.py"}


def test_a_name_is_text_in_the_model_card(file: Path, tmp_path: Path) -> None:
    kitchen = Kitchen.load(file)
    soup = sv.uniform(kitchen, [PICTURE, TAG, FORMULA])
    (tmp_path / "out").mkdir()
    sv.export(soup, tmp_path / "out" / "soup.safetensors")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    assert markup(body) == []
    assert yaml.safe_load(front)["model_name"] == "soup.safetensors"  # what the hub reads is plain data
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert len({re.sub(r"\\.", "", row).count("|") for row in rows[-4:]}) == 1  # no name divides a row
