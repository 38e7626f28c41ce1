"""The Shift page: a kitchen's scatter, and a table of scores without a kitchen."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kitchens import small_kitchen
from shared import SHARED
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, page, press, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.spec import SplitSpec
from soupviz.ui.shift import scores

CLIP = SHARED / "data" / "published-clip-soups"

CSV = "model,val,test,blur\n" + "".join(
    f"m_{index},{0.7 + index / 100},{0.7 + index / 90},{0.5 + index % 3 / 50}\n" for index in range(5)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kitchen of four, with two shifts; one soup, and nothing else scored under shift."""
    file = trusted(small_kitchen(tmp_path / "small", num_examples=40, shifts=("blur", "noise")))
    sv.uniform(sv.Kitchen.load(file))
    return file


def of_table(path: str, **more: str) -> AppTest:
    """The page with a table's path in its address; the kitchen of the address does not exist."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = "nowhere/kitchen.yaml"
    at.switch_page("pages/shift.py")
    for name, value in {"source": scores.TABLE, "table": path, **more}.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception[0].stack_trace
    return at


def texts(at: AppTest) -> str:
    kinds: tuple[Any, ...] = (at.header, at.caption, at.info, at.warning, at.markdown)
    return as_read(" ".join(element.value for kind in kinds for element in kind))


def table_of(at: AppTest) -> Any:
    return at.dataframe[0].value


def test_what_is_missing_is_scored_when_asked_at_the_cost_that_was_told(file: Path, evaluations: list[int]) -> None:
    at = page("shift.py", file)
    evaluations.clear()
    # Four ingredients and the base, on test and two shifts; the soup was scored when it was cooked.
    assert any(caption.value.startswith("15 evaluations of 600 examples in all") for caption in at.caption)
    press(at, "Score all 6 models on test, blur, noise")
    assert len(evaluations) == 15
    assert not any(button.label.startswith("Score all") for button in at.button)
    assert "the line of the 4 individual models" in texts(at)
    opened = sv.Kitchen.load(file)
    rows = table_of(at).set_index("model")
    assert len(rows) == 6
    expected = [
        opened.scores.score((("m_1", 1.0),), split).accuracy for split in ("test", "shifts.blur", "shifts.noise")
    ]
    assert rows.loc["m_1", "x"] == pytest.approx(100 * expected[0])
    assert rows.loc["m_1", "y"] == pytest.approx(50 * (expected[1] + expected[2]))
    assert (rows["y"] - rows["line"]).tolist() == pytest.approx(rows["above"].tolist())
    assert rows.index[0] == "average"


def test_a_kitchen_without_shifts_says_how_to_add_some(tmp_path: Path) -> None:
    at = page("shift.py", trusted(small_kitchen(tmp_path / "small", num_examples=40)))
    assert errors(at) == []
    assert "has no shifts" in at.info[0].value
    assert "shifts:" in at.code[0].value


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        ({"format": "arrays", "path": "data/held_out.npz"}, {"format": "arrays", "path": "data/elsewhere.npz"}),
        ({"format": "imagefolder", "path": "val"}, {"format": "imagefolder", "path": "val"}),
        ({"format": "coco", "path": "val", "annotations": "val.json"}, {"path": "val", "annotations": "val.json"}),
        ({"format": "python", "path": "a.py:data", "args": {"part": "test"}}, {"path": "elsewhere.py:function"}),
        ({"format": "text", "path": "a.csv", "tokenizer": "run"}, {"path": "elsewhere.csv", "tokenizer": "run"}),
    ],
)
def test_what_is_to_be_added_is_like_the_kitchens_own_split(held_out: dict[str, str], expected: dict[str, str]) -> None:
    told, example = scores.how_to_add(SplitSpec(**held_out))
    [shift] = yaml.safe_load(example)["data"]["shifts"].values()
    SplitSpec(**shift)
    assert shift.items() >= expected.items()
    assert ("images" in told) == ("transform" in shift) == (held_out["format"] in ("imagefolder", "coco"))


def test_a_kitchen_with_nothing_scored_yet_opens_and_says_what_is_missing(tmp_path: Path) -> None:
    at = page("shift.py", trusted(small_kitchen(tmp_path / "small", num_examples=40, shifts=("blur",))))
    assert errors(at) == []
    assert "models are not drawn: they lack a score" in texts(at)
    assert any(button.label.startswith("Score all 5 models") for button in at.button)


def test_a_table_opens_without_a_kitchen(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    at = of_table("scores.csv")
    assert errors(at) == []
    assert "Scores are read as fractions" in texts(at)
    assert "val is taken for the held-out split that selected, so x is test." in texts(at)
    assert len(table_of(at)) == 5


def test_a_table_can_be_uploaded() -> None:
    at = of_table("")
    at.file_uploader[0].upload("scores.csv", CSV.encode(), "text/csv").run()
    assert not at.exception
    assert len(table_of(at)) == 5


def test_what_is_wrong_with_a_table_is_said_in_the_cores_words(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV + "m_9,0.7,75,0.5\n")
    at = of_table("scores.csv")
    assert "scores.csv, line 7, column 'test' has 75, which is percent" in errors(at)[0]
    at = of_table("/etc/hosts")
    assert "lies outside the folders" in errors(at)[0]


def test_a_soup_can_be_named_where_no_rule_finds_it(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    at = of_table("scores.csv")
    assert "no soup among them" in texts(at)
    next(box for box in at.multiselect if box.label == "Soups").select("m_4").run()
    assert "1 soups lie" in texts(at) or "of 1 soups" in texts(at)
    assert table_of(at)["kind"].tolist()[0] == "soup"


def test_a_model_in_the_address_is_shown_with_what_is_known_of_it(tmp_path: Path) -> None:
    text = "model,lr,test,blur\n" + "".join(f"m_{index},{index}e-5,0.{60 + index},0.5{index}\n" for index in range(5))
    (tmp_path / "scores.csv").write_text(text)
    at = of_table("scores.csv", model="m_3")
    assert "m_3" in [as_read(heading.value) for heading in at.header]
    assert "3e-5" in as_read(at.table[0].value.to_string())
    assert "63.00 % on test, 53.00 % on blur" in texts(at)


def test_logit_axes_and_other_columns_are_in_the_address(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    at = of_table("scores.csv", logit="true", in_distribution="val")
    assert (
        next(metric for metric in at.metric if metric.label == "Slope of the line").delta == "logits of y for one of x"
    )
    assert at.selectbox(key="in_distribution").value == "val"
    spec = at.get("vega_lite_chart")[0].proto.spec
    assert "accuracy on val (%)" in spec and "exp(-datum.value)" in spec


def test_the_published_models_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    if not CLIP.is_dir():
        pytest.skip("needs ../shared/data/published-clip-soups, which is not here")
    monkeypatch.setattr("sys.argv", ["app.py", str(CLIP)])
    at = of_table(str(CLIP))
    assert errors(at) == []
    assert (
        "2 of 2 soups lie above the line of the 71 individual models, 2 do better under shift than each of these"
        in texts(at)
    )
    shown = table_of(at).set_index("model")
    assert shown.loc["greedy_soup", ["x", "y"]].round(2).tolist() == [81.03, 50.86]
    assert shown["kind"].tolist()[:4] == ["soup", "soup", "base", "best"]
