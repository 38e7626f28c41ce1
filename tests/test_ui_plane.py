"""The plane on a page: the map's marks, the table of distances, and a spot that is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from kitchens import BATCHNORM, change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_contrast import TEXT, THEMES, contrast, parsed
from test_pages import errors, fresh_server, page, settle, trusted  # noqa: F401 - a fixture
from test_ui_curves import computed

import soupviz as sv
from soupviz.analysis import planes
from soupviz.recipes.paths import in_plane
from soupviz.ui import theme
from soupviz.ui.plane import terrain


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three checkpoints, a base and the soup of the first two."""
    found = trusted(
        small_kitchen(tmp_path / "k", source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=40, train=32)
    )
    sv.uniform(sv.Kitchen.load(found), members=["m_0", "m_1"])
    return found


def opened(file: Path, **state: str) -> AppTest:
    """The page with its corners m_0, m_1 and m_2, on the coarsest grid."""
    at = page("plane.py", file)
    for letter, name in zip("ABC", ("m_0", "m_1", "m_2"), strict=True):
        at.selectbox(key=f"corner_{letter}").set_value(name)
    at.selectbox(key="grid").set_value("5 × 5")
    for key, value in state.items():
        at.selectbox(key=key).set_value(value)
    settle(at.run())
    assert not at.exception, at.exception[0].stack_trace
    return at


def figure(at: AppTest) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(at.get("plotly_chart")[0].proto.spec)
    return spec


def marks(at: AppTest, kind: str) -> list[str]:
    """What can be clicked, by what it is."""
    found = [one for trace in figure(at)["data"] for one in trace.get("customdata", [])]
    return [value for name, value in found if name == kind]


def test_before_it_is_computed_the_page_says_what_it_costs_and_shows_every_model(file: Path) -> None:
    at = opened(file)
    assert any("evaluations of" in caption.value for caption in at.caption)
    assert {*marks(at, "model")} == {"base", "m_0", "m_1", "m_2", sv.Kitchen.load(file).store.runs()[0].name}


@pytest.mark.parametrize("is_dark", [False, True])
def test_the_corners_letters_can_be_read_before_the_map_is_there_and_on_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_dark: bool
) -> None:
    monkeypatch.setattr(theme, "is_dark", lambda: is_dark)
    page_color = parsed(THEMES["dark" if is_dark else "light"]["backgroundColor"])

    def letters(at: AppTest) -> list[dict[str, Any]]:
        return [trace["textfont"] for trace in figure(at)["data"] if "A" in str(trace.get("text", ""))]

    at = opened(file)
    found = letters(at)
    assert found and all(contrast(parsed(font["color"]), page_color) >= TEXT for font in found)
    found = letters(computed(at, "Compute the map"))
    for font in found:
        rim = next(color for color in terrain.SCALE if color in font["shadow"])
        assert contrast(parsed(font["color"]), parsed(rim)) >= TEXT


def test_the_map_is_what_was_measured_and_the_table_tells_how_far_every_model_is_from_it(file: Path) -> None:
    at = computed(opened(file), "Compute the map")
    contour = next(trace for trace in figure(at)["data"] if trace["type"] == "contour")
    kitchen = sv.Kitchen.load(file)
    corners = [((name, 1.0),) for name in ("m_0", "m_1", "m_2")]
    frame, _ = planes.locate(kitchen, corners)
    size = len(contour["x"])
    spots = planes.rows(frame, size)
    measured = set(planes.rows(frame, 5)[0])
    assert size == 9
    for column in range(0, size, 2):
        assert spots[0][column] in measured
        score = kitchen.scores.known(in_plane(corners, *spots[0][column]), "held_out")
        assert score is not None
        assert contour["z"][0][column] == pytest.approx(100 * score.accuracy)
    layout = figure(at)["layout"]
    assert layout["yaxis"]["scaleanchor"] == "x"
    assert layout["yaxis"]["scaleratio"] == 1
    rows = at.dataframe[0].value.set_index("model")
    soup = kitchen.store.runs()[0].name
    assert rows.loc[["m_0", "m_1", "m_2"], "distance"].tolist() == [0.0, 0.0, 0.0]
    assert rows.loc["base", "distance"] > 0
    assert rows.loc[soup, ["A", "B", "C"]].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-5)
    assert rows.loc[soup, "share"] < 0.1
    assert rows.loc["m_1", "own"] == rows.loc["m_1", "below"]


def test_a_spot_is_kept_as_a_soup_and_judged(file: Path) -> None:
    at = opened(file)
    at.query_params["spot"] = "0.25,0.5"
    settle(at.run())
    computed(at, "Keep as a soup")
    run = sv.Kitchen.load(file).store.runs()[-1]
    assert run.recipe["method"] == "point"
    assert run.result is not None
    assert run.result["coefficients"] == {"m_0": 0.25, "m_1": 0.25, "m_2": 0.5}
    assert "Verdict" in [heading.value for heading in at.header]
    assert run.name in marks(at, "model")


def test_a_model_that_is_clicked_says_how_far_it_is(file: Path) -> None:
    at = opened(file)
    at.query_params["model"] = "base"
    at.run()
    assert any("away from the plane" in text.value for text in at.markdown)


def test_loss_on_test_with_reestimated_statistics(file: Path) -> None:
    at = opened(file, split="test", statistics="recalibrate")
    at.segmented_control(key="show").set_value("loss").run()
    assert any("re-estimated on train" in caption.value for caption in at.caption)
    computed(at, "Compute the map")
    bar = next(trace for trace in figure(at)["data"] if trace["type"] == "contour")["colorbar"]
    assert bar["title"]["text"].startswith("loss on test")


def test_three_points_on_one_line_are_refused_in_words(file: Path) -> None:
    at = opened(file)
    at.selectbox(key="corner_C").set_value(sv.Kitchen.load(file).store.runs()[0].name).run()
    settle(at)
    assert any("lie on one line" in message for message in errors(at))
    assert not at.exception


@pytest.mark.parametrize("number", [1, 2])
def test_a_kitchen_with_too_few_models_says_so(tmp_path: Path, number: int) -> None:
    file = small_kitchen(tmp_path / "k", num_ingredients=number, num_examples=30)
    change_yaml(file, lambda document: (document.pop("base"), document["data"].pop("test")))
    at = page("plane.py", trusted(file))
    assert any("A plane needs three points" in box.value for box in at.info)
