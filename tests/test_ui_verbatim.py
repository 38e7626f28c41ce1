"""Messages and names are read on a page as the core wrote them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from soupviz.ui.verbatim import code, verbatim

MESSAGE = "/x/y_z* lies outside. Start it with: streamlit run app.py -- /x/y_z*"


def read(markdown: str) -> str:
    """The text of the paragraph that CommonMark makes of it."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    [inline] = [token for token in tokens if token.type == "inline"]
    assert all(child.type in ("text", "text_special", "code_inline") for child in inline.children), "nothing is markup"
    return "".join(child.content for child in inline.children)


@pytest.mark.parametrize(
    "text",
    [
        MESSAGE, "file_name_with_underscores.pt", "*starred*", "[a](b)", "$5 and $6", ":red[x]", "# no heading",
        "a `code` b", "<b>", "100% ~~x~~", "1. one", ":material/home:",
    ],
)  # fmt: skip
def test_punctuation_is_no_markup(text):
    assert read(verbatim(text)) == text


@given(st.lists(st.text("abc_*`[]()#$:~<>-=|!1.&;", min_size=1), min_size=1))
def test_any_words_are_read_as_they_are(words):
    text = " ".join(words)
    assert read(verbatim(text)) == text


@given(st.text("ab_*`[]#$:~<>-=|!1. \n&;+"))
def test_no_line_of_a_name_is_more_than_text(text):
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(verbatim(text))
    told = [child.type for token in tokens for child in token.children or []]
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close", "code_block"}
    assert {*told} <= {"text", "text_special", "code_inline", "softbreak", "hardbreak"}


@given(st.text("ab_*`[]#$:\n", min_size=1))
def test_code_is_one_line_of_code_whatever_is_in_it(text):
    [inline] = [token for token in MarkdownIt("commonmark").parse(f"a {code(text)} b") if token.type == "inline"]
    assert [child.type for child in inline.children] == ["text", "code_inline", "text"]


def test_what_streamlit_would_replace_is_set_as_code():
    """It makes a dash of `--` and arrows of `->` in text, after escapes are gone; code it leaves alone."""
    assert verbatim("see HTTPS://a.b www.a.b and a@b.c") == "see `HTTPS://a.b` `www.a.b` and `a@b.c`"
    assert verbatim("a -- b -> c") == "a `--` b `->` c"
    assert verbatim("--skip-corrupt").replace("\\", "") == "--skip-corrupt"
