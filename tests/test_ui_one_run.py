"""The Soup page of one run: the map of windows, one click on a cell, and what choosing by loss comes to."""

import json
from pathlib import Path
from typing import Any

import pytest
from kitchens import json_of, run_command, small_kitchen
from own_kitchens import kitchen_from_outside
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, press_all, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.analysis import choices
from soupviz.analysis.grids import only_in_grids
from soupviz.recipes import parse
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.ui import charts


def one_run(folder: Path, **options: Any) -> Path:
    """A kitchen of four checkpoints, each with its epoch and a validation loss that its run logged."""
    file = small_kitchen(folder, num_examples=60, scale=0.4, **options)
    for index in range(4):
        values = {"epoch": index + 1, "val_loss": [0.9, 0.3, 0.2, 0.5][index]}
        (folder / f"m_{index}.json").write_text(json.dumps(values))
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trusted(one_run(tmp_path / "k"))


def soup_page(file: Path, **address: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in ({"kitchen": str(file)} | address).items():
        at.query_params[name] = value
    at.switch_page("pages/soup.py")
    settle(at.run())
    assert not at.exception, at.exception[0].stack_trace
    return at


def maps(at: AppTest) -> list[str]:
    return [one.proto.spec for one in at.get("vega_lite_chart") if "checkpoints averaged" in one.proto.spec]


def test_the_map_of_windows_is_there_once_they_were_searched(file: Path) -> None:
    at = soup_page(file, recipe="best window, over time")
    assert not maps(at)
    sv.cook(sv.Kitchen.load(file), {"method": "windows"})
    settle(at.run())
    assert len(maps(at)) == 1
    assert "last checkpoint (step or epoch)" in maps(at)[0] and "accuracy on held_out (%)" in maps(at)[0]
    assert any("the best of 10 windows, chosen on held_out" in one.value for one in at.caption)
    assert errors(at) == []


def test_the_map_is_there_for_a_search_that_was_exported_and_loaded_back(file: Path, tmp_path: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    exported = sv.export(sv.cook(kitchen, {"method": "windows"}), tmp_path / "soup.safetensors")[0]
    kitchen.store.clear()
    restore(kitchen, read_record(exported))
    at = soup_page(file, recipe="best window, over time")
    assert len(maps(at)) == 1
    assert errors(at) == []


def test_one_click_takes_a_window_up_and_cooks_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sv.cook(sv.Kitchen.load(file), {"method": "windows"})
    real, clicks = charts.show, [[{"column": "3", "row": "2"}]]

    def show(chart: Any, *, clicked: str | None = None, key: str, **more: Any) -> list[dict[str, Any]]:
        drawn = real(chart, clicked=clicked, key=key, **more)
        return clicks[0] if key.startswith("windows") else drawn

    monkeypatch.setattr(charts, "show", show)
    at = soup_page(file, recipe="best window, over time")
    recipe = parse({"method": "lawa", "last": 2, "end": 3})
    assert at.selectbox(key="recipe").value == "LAWA, over time"
    assert (at.slider(key="last").value, at.number_input(key="end").value) == (2, 3.0)
    assert recipe.title in [as_read(one.value) for one in at.caption]
    runs = {run.name: run for run in sv.Kitchen.load(file).store.runs()}
    assert runs[recipe.title].status == "finished"
    assert runs[recipe.title].result["coefficients"] == {"m_0": 0.0, "m_1": 0.5, "m_2": 0.5, "m_3": 0.0}
    assert len(maps(at)) == 1, "the map stays, with the window framed"
    assert errors(at) == []


def test_a_search_of_other_ingredients_is_not_shown_for_a_window(file: Path) -> None:
    sv.cook(sv.Kitchen.load(file), {"method": "windows", "members": ["m_0", "m_1"]})
    assert not maps(soup_page(file, recipe="LAWA, over time"))


def test_what_was_given_up_is_told_as_a_bound() -> None:
    from scores import BY_ACCURACY

    from soupviz.pictures.grids import heat

    row = {"column": "3", "row": "2", "value": None, "state": "rejected early", "reason": "", "frame": ""}
    data, spec = heat([row | {"bound": "≤ 91.20 %"}], ("a", "b"), (["3"], ["2"]), BY_ACCURACY.metric, "held_out")
    assert data["bound"].tolist() == ["≤ 91.20 %"]
    assert any(layer.get("encoding", {}).get("text", {}).get("field") == "bound" for layer in spec["layer"])


# By loss, and by what counts


def test_the_page_sets_both_choices_side_by_side(file: Path) -> None:
    cooked = sv.cook(sv.Kitchen.load(file), {"method": "lawa", "last": 2})
    at = soup_page(file, recipe="LAWA, over time", last="2")
    assert "Chosen by accuracy or by loss or by the logged val_loss?" in [as_read(one.value) for one in at.header]
    press_all(at, "Cook the 2 best by each")
    table = next(one.value for one in at.dataframe if "what" in one.value.columns)
    assert [as_read(one) for one in table["what"]] == [
        "2 best by accuracy", "2 best by loss", "2 best by the logged val_loss", "this soup",
    ]  # fmt: skip
    assert table["made of"].tolist()[2] == "m_2, m_1"
    assert table["accuracy, held_out"].tolist()[3] == pytest.approx(100 * cooked.scores["held_out"].accuracy)
    assert len(only_in_grids(sv.Kitchen.load(file))) == 3, "lists of soups leave them out"


def test_the_command_tells_what_both_choices_come_to(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, "soup", file, "--recipe", "nbest", "--n", "2", "--metric", "loss")
    by = {one["by"]: one for one in found["best_by"]}
    assert list(by) == ["accuracy", "loss", "the logged val_loss"]
    assert by["the logged val_loss"]["ingredients"] == ["m_2", "m_1"]
    kitchen = sv.Kitchen.load(file)
    for choice in choices.choices(kitchen, parse({"method": "nbest", "n": 2})):
        again = kitchen.scores.score(choice.run.result["mix"] and tuple((n, 0.5) for n in choice.names), "test")
        assert by[choice.by]["scores"]["test"]["accuracy"] == pytest.approx(again.accuracy)
    _, out, _ = run_command(capsys, "soup", file, "--recipe", "nbest", "--n", "2", "--metric", "loss")
    assert "the 2 best by loss: accuracy " in out and "the 2 best by accuracy: accuracy " in out


def test_of_other_recipes_what_is_known_is_told_and_nothing_scored(
    file: Path, capsys: pytest.CaptureFixture[str], evaluations: list[int]
) -> None:
    assert "best_by" not in json_of(capsys, "soup", file, "--recipe", "lawa", "--last", "2")
    assert len(evaluations) == 2, "held_out and test of the soup"
    json_of(capsys, "soup", file, "--recipe", "nbest", "--n", "2")
    evaluations.clear()
    assert len(json_of(capsys, "soup", file, "--recipe", "lawa", "--last", "2")["best_by"]) == 3
    assert not evaluations


def test_where_there_is_nothing_else_to_choose_by_nothing_is_told(tmp_path: Path) -> None:
    speech = kitchen_from_outside("wer", tmp_path / "speech", num_units=20, steps=30)
    kitchen = sv.Kitchen.load(speech)
    assert choices.choices(kitchen, parse({"method": "nbest", "n": 2})) == []
    for index in range(4):
        (speech.parent / f"m_{index}.json").write_text(json.dumps({"cv_loss": 1 / (1 + index)}))
    kitchen = sv.Kitchen.load(speech)
    found = choices.cook_all(kitchen, choices.choices(kitchen, parse({"method": "nbest", "n": 2})))
    assert [one.by for one in found] == ["word error rate", "the logged cv_loss"]
    assert found[1].names == ("m_3", "m_2")
    assert choices.told(kitchen, found)[1].startswith("the 2 best by the logged cv_loss: word error rate ")
    assert choices.choices(kitchen, parse({"method": "nbest", "n": 4})) == [], "all of them are the same by any"
    assert choices.choices(kitchen, parse({"method": "greedy"})) == []


def test_a_metric_that_is_lower_at_best_has_lower_bounds(tmp_path: Path) -> None:
    speech = kitchen_from_outside("wer", tmp_path / "speech", num_units=20, steps=30)
    for index in range(4):
        (speech.parent / f"m_{index}.json").write_text(json.dumps({"epoch": index + 1}))
    sv.cook(sv.Kitchen.load(speech), {"method": "windows"})
    at = soup_page(trusted(speech), recipe="best window, over time")
    assert "word error rate on held_out (%)" in maps(at)[0] and '"reverse": true' in maps(at)[0]
    assert errors(at) == []
