"""What a screen reader is told: every picture and table says what it shows, and every page has one title."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "pages").glob("*.py"), *(ROOT / "soupviz" / "ui").rglob("*.py")])
PAGES = sorted((ROOT / "pages").glob("*.py"))

SPOKEN = {"dataframe", "data_editor", "vega_lite_chart", "altair_chart", "plotly_chart", "line_chart", "bar_chart"}
"""Streamlit's commands whose content is drawn on a canvas: without `alt` a screen reader finds nothing there."""

HOMES = {ROOT / "soupviz" / "ui" / name for name in ("charts.py", "plane/terrain.py")}
"""Where pictures are drawn: `charts.show` has to be given `alt`; contours over a plane are Plotly's."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a method or a module's function, with its name: `charts.show` is `show`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node


def silent(source: str) -> list[int]:
    """Lines of pictures, tables and images that say nothing: no `alt`, or one that is empty."""
    found = []
    for name, call in calls(ast.parse(source)):
        of_charts = name == "show" and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "charts"
        if name not in SPOKEN and not of_charts:
            continue
        alt = next((keyword.value for keyword in call.keywords if keyword.arg == "alt"), None)
        if alt is None or (isinstance(alt, ast.Constant) and not str(alt.value or "").strip()):
            found.append(call.lineno)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_picture_and_table_says_what_it_shows(file: Path) -> None:
    assert silent(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "file", [file for file in FILES if file not in HOMES], ids=lambda file: str(file.relative_to(ROOT))
)
def test_pictures_are_drawn_at_one_place(file: Path) -> None:
    drawn = [name for name, _ in calls(ast.parse(file.read_text(encoding="utf-8"))) if name.endswith("_chart")]
    assert drawn == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("st.dataframe(x)", [1]), ("st.dataframe(x, alt='')", [1]), ("st.dataframe(x, alt=None)", [1]),
        ("st.dataframe(x, alt='Scores')", []), ("place.vega_lite_chart(x, y)", [1]), ("charts.show(c, key='k')", [1]),
        ("charts.show(c, key='k', alt=told)", []), ("other.show(c)", []), ("st.write(x)", []),
    ],
)  # fmt: skip
def test_what_says_nothing_is_found(source: str, lines: list[int]) -> None:
    assert silent(source) == lines


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_page_has_one_title_which_is_its_name(file: Path) -> None:
    titles = [call for name, call in calls(ast.parse(file.read_text(encoding="utf-8"))) if name == "title"]
    assert [ast.literal_eval(call.args[0]) for call in titles] == [file.stem.capitalize()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_sections_of_all_pages_are_headings_of_one_level(file: Path) -> None:
    """So that no level is left out between two sections, and none stands above the one before it."""
    assert "subheader" not in [name for name, _ in calls(ast.parse(file.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_labels_of_widgets_are_not_empty(file: Path) -> None:
    """A label may be hidden, but a screen reader needs one."""
    widgets = {"selectbox", "multiselect", "text_input", "number_input", "slider", "toggle", "button", "checkbox",
               "segmented_control", "pills", "radio", "file_uploader"}  # fmt: skip
    tree = ast.parse(file.read_text(encoding="utf-8"))
    labels = [call.args[0] for name, call in calls(tree) if name in widgets and call.args]
    assert not [label.lineno for label in labels if isinstance(label, ast.Constant) and not str(label.value).strip()]
