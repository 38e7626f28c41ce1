"""Messages and names are read on a page as the core wrote them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from soupviz.ui.verbatim import verbatim

MESSAGE = "/x/y_z* lies outside. Start it with: streamlit run app.py -- /x/y_z*"


def read(markdown: str) -> str:
    """The text of the paragraph that CommonMark makes of it."""
    [inline] = [token for token in MarkdownIt().parse(markdown) if token.type == "inline"]
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


@given(st.lists(st.text("abc_*`[]()#$:~<>-=|!1.", min_size=1), min_size=1))
def test_any_words_are_read_as_they_are(words):
    text = " ".join(words)
    assert read(verbatim(text)) == text


def test_what_streamlit_would_replace_is_set_as_code():
    """It makes a dash of `--` and arrows of `->` in text, after escapes are gone; code it leaves alone."""
    assert verbatim("a -- b -> c") == "a `--` b `->` c"
    assert verbatim("--skip-corrupt").replace("\\", "") == "--skip-corrupt"
