"""Pages and what they show under RMSE, which falls: directions, units, and sentences for what a regression lacks."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import json_of, regression_kitchen, run_command
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, press_all, settle, trusted  # noqa: F401 - a fixture
from test_ui_curves import computed
from test_ui_panels import opened_on

import soupviz as sv
from soupviz.analysis import barriers, diversity, examples, gains, grids, preflight, telling
from soupviz.analysis.sensitivity import Probe, sensitivity
from soupviz.data.slices import divided
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.pictures import layers
from soupviz.pictures import preflight as preflight_pictures
from soupviz.pictures.grids import heat
from soupviz.reports.page import report
from soupviz.soups import scaling
from soupviz.tasks.slicing import has_slices, slice_table
from soupviz.ui.plane import terrain
from soupviz.ui.soup import panels
from soupviz.ui.viewers.finding import viewer_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trusted(regression_kitchen(tmp_path / "k", num_ingredients=4, scale=0.05))


def page(name: str, kitchen: Path) -> AppTest:
    """A page alone, as it is when all is computed."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(kitchen)
    at.switch_page(f"pages/{name}")
    settle(at.run())
    assert not at.exception, at.exception[0].stack_trace
    assert errors(at) == []
    return at


def said(at: AppTest) -> str:
    """All that the page tells in sentences."""
    parts = [*at.title, *at.header, *at.markdown, *at.caption, *at.info, *at.success, *at.warning]
    return " ".join(as_read(part.value) for part in parts)


# Preflight


def test_a_barrier_is_how_far_the_rmse_rises_half_way(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    found = preflight.inspect(kitchen).barriers
    values = [kitchen.scores.score(((name, 1.0),)).shown("rmse") for name in ("m_0", "m_1")]
    middle = kitchen.scores.score(barriers.midpoint(kitchen, 0, 1)).shown("rmse")
    assert found.rises[0, 1] == pytest.approx(middle - np.mean(values)) == found.drops[0, 1]
    assert found.metric.name == "rmse" and found.heights.min() >= 0


def test_an_ingredient_of_another_start_is_told_in_rmse(file: Path) -> None:
    """Half-way to reordered hidden units most is lost: the standard error comes from resamples, as RMSE is no mean."""
    from safetensors.torch import load_file, save_file

    first = load_file(file.parent / "m_0.safetensors")
    other = {key: tensor.flip(0) if key.startswith("0.") else tensor.clone() for key, tensor in first.items()}
    other["2.weight"] = first["2.weight"].flip(1)
    save_file({key: tensor.contiguous() for key, tensor in other.items()}, file.parent / "m_3.safetensors")
    found = {one.name: one for one in preflight.inspect(sv.Kitchen.load(file)).verdicts}
    assert found["m_3"].verdict == "far" and "RMSE" in found["m_3"].sentence and "nats" not in found["m_3"].sentence
    assert found["m_0"].verdict == "in_basin"


def test_the_command_inspects_a_regression(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, "inspect", file)
    assert found["metric"] == "rmse" and len(found["barriers"]) == 4


def test_the_map_is_lighter_where_the_error_is_lower(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    from soupviz.analysis import geometry

    flat = geometry.flat_map(geometry.gram(kitchen).distances)
    data, spec = preflight_pictures.weights_map(
        flat, kitchen.names, dict.fromkeys(kitchen.names, 0.5), metric=kitchen.objective
    )
    fill = spec["layer"][0]["encoding"]["fill"]
    assert fill["scale"]["reverse"] and fill["legend"]["title"] == "RMSE on held_out" and set(data["value"]) == {0.5}


def test_preflight_speaks_of_rmse_and_of_no_classes(file: Path) -> None:
    at = computed(page("preflight.py", file), "Measure 6 barriers and judge")
    assert "RMSE half-way above the ends" in said(at)
    assert "nats" not in said(at) and "classes" not in said(at) and "accuracy" not in said(at)
    assert "Outputs" in [metric.label for metric in at.metric]


# Layers


def test_a_layer_whose_error_falls_is_better_and_on_top(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    effects = sensitivity(kitchen, Probe((("m_3", 1.0),), (("base", 1.0),)))
    table = layers.rows(effects, kitchen.task, kitchen.objective)
    names = table["group"].tolist()
    data, spec = layers.bars(table, kitchen.objective, names, has_interval=True)
    assert [effect == "better" for effect in data["effect"]] == (table["rmse"] <= 0).tolist()
    assert layers.ordered(table, kitchen.objective, names)[0] == table.sort_values("rmse")["group"].iloc[0]
    assert ((table["low"] <= table["rmse"]) & (table["rmse"] <= table["high"])).all()
    title = spec["layer"][0]["encoding"]["x"]["axis"]["title"]
    assert title == ["change of RMSE on held_out", "95 % interval; below 0 is better"]


def test_layers_are_judged_by_rmse(file: Path) -> None:
    at = computed(page("layers.py", file), "Score 2 mixes")
    assert at.segmented_control(key="measure").options == ["RMSE", "MAE", "R²"]
    table = next(one.value for one in at.dataframe if "apart" in one.value)
    assert table["rmse"].is_monotonic_increasing and {"mae", "better", "worse"} <= set(table)
    assert "accuracy" not in said(at)


# Plane


def test_a_plane_of_errors_is_light_where_they_are_low(file: Path) -> None:
    at = page("plane.py", file)
    at.selectbox(key="grid").set_value("5 × 5").run()
    at = computed(at, "Compute the map")
    contour = next(
        trace for trace in json.loads(at.get("plotly_chart")[0].proto.spec)["data"] if trace["type"] == "contour"
    )
    assert contour["colorbar"]["title"]["text"] == "RMSE on held_out"
    assert contour["colorscale"][0][1] == terrain.SCALE[-1]
    assert "RMSE on held_out of the mixes" in said(at)


# Grid


def test_the_best_cell_of_a_grid_has_the_lowest_error(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    grid = grids.Grid("dare", "density", "scale", (0.5, 1.0), (0.5, 1.0), {}, tuple(kitchen.names))
    outcomes = grids.cook_grid(kitchen, grid)
    best = grids.best_of(kitchen, outcomes)
    assert best is not None and best.values["held_out"] == min(one.values["held_out"] for one in outcomes)
    assert [grids.known(kitchen, cell) for cell in grids.cells(kitchen, grid)] == outcomes
    _, spec = heat([], ("a", "b"), (["1"], ["1"]), kitchen.objective, "held_out")
    color = spec["layer"][1]["encoding"]["color"]["condition"]
    assert color["scale"]["reverse"] and color["legend"]["title"] == ["RMSE", "on held_out"]


def test_the_best_ingredients_of_a_grid_are_those_of_the_lowest_error(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    scores = kitchen.scores.of_ingredients()
    assert grids.ranked(kitchen, kitchen.names) == sorted(kitchen.names, key=lambda name: scores[name].shown("rmse"))


# Diversity


def test_a_pair_of_regressions_is_told_by_its_worst_answers_and_by_how_its_residuals_relate(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    found = diversity.gather(kitchen, kitchen.names, "held_out")
    outcomes = [kitchen.scores.score(((name, 1.0),)).outcomes for name in kitchen.names]
    squared = np.stack([one["squared"][:, 0] for one in outcomes])
    assert (found.wrong == (squared > np.quantile(squared, 0.75))).all()
    first = diversity.pairs_of(found)[0]
    residuals = [(one["prediction"] - one["target"])[:, 0] for one in outcomes[:2]]
    assert first.correlation == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert first.same_wrong is None and first.different == first.only_a + first.only_b
    middle = kitchen.scores.score(mean_of(["m_0", "m_1"])).shown("rmse")
    (gain,) = gains.gains([first], {first.names: middle}, kitchen.objective)
    assert gain.gain == pytest.approx((first.value_a + first.value_b) / 2 - middle)


def test_diversity_of_a_regression_is_against_the_correlation_of_errors(file: Path) -> None:
    sv.Kitchen.load(file).scores.of_ingredients()
    at = computed(page("diversity.py", file), "Score 6 averages of two")
    assert "better than the mean of the two" in said(at) and "unit of the correlation of errors" in said(at)
    assert "accuracy" not in said(at)
    at.session_state["pair"] = "m_0 + m_1"
    settle(at.run())
    assert not at.exception and errors(at) == []
    assert "Both badly" in [metric.label for metric in at.metric]
    assert "the better of the two" in said(at)


def test_diversity_of_a_regression_shows_what_ensembles_of_two_gain(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    kitchen.scores.of_ingredients()
    at = page("diversity.py", file)
    at.segmented_control(key="made").set_value("ensemble of the two")
    at.session_state["pair"] = "m_0 + m_1"
    settle(at.run())
    assert not at.exception and errors(at) == []
    assert "the ensemble of the two is better than the mean of the two for 6 of 6 pairs" in said(at)
    together = kitchen.scores.score(mean_of(["m_0", "m_1"]), "held_out", "outputs").shown("rmse")
    values = {one.label: one.value for one in at.metric}
    assert values["ensemble of the two"] == f"{together:.4g}"
    assert not any(word in said(at) for word in ("probabilit", "logit", "accuracy"))


# Examples


def test_the_largest_gains_losses_and_errors_come_first(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    new, old = (kitchen.scores.score(((name, 1.0),)).outcomes for name in ("m_0", "m_3"))
    gain = (old["squared"] - new["squared"])[:, 0]
    picked = {kind: examples.ranked(kitchen.task, new, old, kind) for kind in examples.BY_HARDNESS}
    assert picked["largest gain"][0] == gain.argmax() and len(picked["largest gain"]) == (gain > 0).sum()
    assert picked["largest loss"][0] == gain.argmin() and len(picked["largest loss"]) == (gain < 0).sum()
    assert picked["largest error"][0] == new["squared"].argmax() and len(picked["largest error"]) == len(new)


def test_a_soup_and_its_rival_are_told_unit_by_unit_without_charts_of_classes(file: Path) -> None:
    at = page("diversity.py", file)
    at.session_state["view"] = "A soup and its rival"
    settle(at.run())
    press_all(at, "Score both")
    assert not at.exception and errors(at) == []
    assert [header.value for header in at.header] == ["Examples"]
    assert "regression has no classes" in said(at) and "accuracy" not in said(at)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert "predicted " in shown and ", is " in shown and "float32: " in shown


def test_viewers_are_chosen_by_what_a_split_holds(file: Path) -> None:
    opened = sv.Kitchen.load(file)
    numbers = opened.splits.load("held_out")
    pictures = replace(numbers, arrays={"": torch.zeros(60, 3, 8, 8)})
    texts = replace(numbers, texts=("told",) * 60)
    assert [viewer_of(opened.task, one, 0).name for one in (numbers, pictures, texts)] == ["numbers", "picture", "text"]


# Slices and calibration


def test_slices_of_a_regression_are_by_the_column_alone_and_tell_its_error(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    new, old = (kitchen.scores.score(((name, 1.0),)) for name in ("m_0", "m_3"))
    held_out = kitchen.splits.load("held_out")
    assert not has_slices(kitchen.task, held_out)
    half = len(held_out) // 2
    halves = replace(held_out, slices=divided("half", ["a"] * half + ["b"] * half))
    first, second = slice_table(kitchen.task, kitchen.objective, new, old, halves)
    assert first.value == pytest.approx(np.sqrt(new.outcomes["squared"][:half].mean()))
    assert second.difference == pytest.approx(second.value - second.old_value)
    gained = new.outcomes["squared"][:half, 0] < old.outcomes["squared"][:half, 0]
    assert (first.better, first.worse) == (gained.sum(), (~gained).sum()) and 0 < first.p_value <= 1


def test_a_regression_has_no_temperature(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen = sv.Kitchen.load(file)
    with pytest.raises(RecipeError, match="no confidence that one mends"):
        scaling.scale(kitchen, (("m_0", 1.0),), "average")
    status, _, told = run_command(capsys, "soup", file, "--recipe", "uniform", "--calibrate")
    assert status == 2 and "regression" in told and "temperature" in told


@pytest.mark.parametrize("panel", [panels.SLICES, panels.CALIBRATION])
def test_a_panel_that_a_regression_lacks_is_a_sentence(file: Path, panel: str) -> None:
    sv.uniform(sv.Kitchen.load(file))
    at = opened_on(file, panel)
    assert not at.dataframe and not at.exception
    assert "regression" in said(at) and "accuracy" not in said(at)


# Words of the task where a page could take others


def test_a_difference_of_a_metric_without_a_unit_is_told_as_what_it_is_of(file: Path) -> None:
    kitchen = sv.Kitchen.load(file)
    for new, old in (("base", "m_3"), ("m_3", "base")):
        found = telling.verdict(kitchen, *(kitchen.scores.score(((name, 1.0),)) for name in (new, old)))
        assert " RMSE" in found and "points" not in found


def test_export_asks_for_no_temperature_of_a_regression(file: Path) -> None:
    sv.uniform(sv.Kitchen.load(file))
    labels = [group.label for group in page("export.py", file).get("button_group")]
    assert "Format" in labels and "Temperature" not in labels


def test_a_report_on_a_regression_has_its_ensemble_and_speaks_of_no_other_task(file: Path) -> None:
    soup = sv.uniform(sv.Kitchen.load(file))
    together = sv.cook(soup.kitchen, {"method": "ensemble"})
    text = re.sub(
        r"<(style|script).*?</\1>|<[^>]+>",
        " ",
        report(soup, file.parent / "r.html").read_text("utf-8"),
        flags=re.DOTALL,
    )
    assert "ensemble of all 4" in text and "Judge the soup by test" in text
    assert f"{together.scores['test'].shown('rmse'):.4g}" in text
    assert not any(word in text for word in ("accuracy", "probabilit", "logits", "ScoredPool"))
