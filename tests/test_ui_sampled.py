"""What pages draw of more than a picture can show: no more marks than there may be, and a sentence that says so."""

from pathlib import Path

import pytest
from kitchens import small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import as_read, fresh_server, page, press_all, settle, trusted  # noqa: F401 - a fixture among them
from test_ui_plane import marks
from test_ui_shift import of_table

import soupviz as sv
from soupviz.pictures import sampling
from soupviz.ui import charts
from soupviz.ui.plane import overview


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many rows each picture was given last, by the first word of its key."""
    found: dict[str, int] = {}
    show = charts.show

    def counted(chart, **more):
        found[more["key"].split()[0]] = len(chart[0])
        return show(chart, **more)

    monkeypatch.setattr(charts, "show", counted)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four checkpoints and three soups."""
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=4, num_examples=40))
    kitchen = sv.Kitchen.load(file)
    for members in (["m_0", "m_1"], ["m_1", "m_2"], ["m_0", "m_3"]):
        sv.uniform(kitchen, members=members)
    return file


def captions(at: AppTest) -> str:
    return as_read(" ".join(one.value for one in at.caption))


def test_there_are_at_most_as_many_marks_as_a_picture_can_show() -> None:
    assert sampling.MOST_POINTS <= 1000 and sampling.MOST_ROWS <= 100 and overview.MOST_SOUPS <= 200


def test_of_many_pairs_the_scatter_shows_some_and_tells_the_line_of_all(file: Path, drawn, monkeypatch) -> None:
    at = page("diversity.py", file)
    press_all(at, "Score")
    assert drawn["gains"] == 6 + 2  # the two ends of the line
    assert "Drawn are" not in captions(at)
    told = next(one.value for one in at.caption if one.value.startswith("On held_out"))
    monkeypatch.setattr(sampling, "MOST_POINTS", 4)
    at.query_params["pair"] = "m_2 + m_3"
    settle(at.run())
    assert drawn["gains"] == 4 + 2
    assert "Drawn are 4 of 6 pairs" in captions(at)
    assert told in [one.value for one in at.caption]


def test_pairs_of_what_stands_out_are_drawn_while_they_are_few(file: Path, drawn, monkeypatch) -> None:
    at = page("diversity.py", file)
    press_all(at, "Score")
    monkeypatch.setattr(sampling, "MOST_POINTS", 5)
    at.multiselect(key="standing out").set_value(["m_0", "m_1", "m_2", "m_3"])
    settle(at.run())
    assert drawn["gains"] == 5 + 2


def test_of_many_soups_the_scatter_of_shift_shows_some(tmp_path: Path, drawn, monkeypatch) -> None:
    rows = [f"soup_{index},0.{60 + index},0.5{index},soup" for index in range(8)]
    rows += [f"m_{index},0.6{index},0.5{index},individual" for index in range(2)]
    (tmp_path / "scores.csv").write_text("model,test,blur,kind\n" + "\n".join(rows) + "\n")
    monkeypatch.setattr(sampling, "MOST_POINTS", 5)
    at = of_table("scores.csv")
    assert drawn["shift"] <= 5 + 2
    assert "Drawn are 5 of 10 models" in captions(at)
    assert len(at.dataframe[0].value) == 10


def test_of_many_models_compare_draws_the_first(file: Path, drawn, monkeypatch) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 2)
    at = page("compare.py", file)
    press_all(at, "Score")
    number = len(at.dataframe[0].value)
    assert 2 <= drawn["picture"] <= 4 < number  # the best checkpoint and the base are there in any case
    assert f"of {number} models" in captions(at)


def test_of_many_soups_the_plane_marks_the_best(file: Path, monkeypatch) -> None:
    every = marks(page("plane.py", file), "model")
    monkeypatch.setattr(overview, "MOST_SOUPS", 1)
    at = page("plane.py", file)
    assert len(marks(at, "model")) == len(every) - 2
    assert "the 1 best on held_out are drawn; 2 more can be chosen" in captions(at)
