"""Records to pictures: what a reader can tell from them."""

import math
from dataclasses import replace

import altair
import pytest
from scores import a_step

from soupviz.pictures import search
from soupviz.pictures.basics import matrix, quantity, room_for
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS
from soupviz.tasks.wording import factor

STEPS = [
    a_step(0, "a", 0.7, 0.7, True),
    a_step(1, "b", 0.72, 0.72, True),
    a_step(2, "c", None, 0.72, False, num_scored=40, at_most=0.715),
    a_step(3, "d", 0.71, 0.72, False),
    a_step(4, "e", None, 0.72, False, num_scored=90, at_most=0.02),
]


def test_a_candidate_that_was_given_up_is_drawn_as_a_bound_and_says_so():
    rows = {row["ingredient"]: row for row in search.trajectory(STEPS, ACCURACY)[0].to_dict("records")}
    assert rows["c"]["decision"] == "rejected early"
    assert rows["c"]["value"] == "at most 71.5 %, given up after 40 examples"
    assert rows["c"]["drawn"] == 71.5
    assert rows["d"]["decision"] == "rejected"
    assert rows["d"]["value"] == "71.0 %"


@pytest.mark.parametrize(
    ("metric", "of", "shown"), [(ACCURACY, 1000, ".1f"), (ACCURACY, 1001, ".2f"), (LOSS, 100, ".4~g")]
)
def test_pointed_at_a_value_has_as_many_digits_as_its_units_can_tell_apart(metric, of, shown):
    spec = search.trajectory(STEPS, metric, of=of)[1]
    tooltip = spec["layer"][-1]["encoding"]["tooltip"]
    assert [channel["format"] for channel in tooltip if "format" in channel] == [shown]


def test_one_far_below_does_not_flatten_the_others():
    drawn = search.trajectory(STEPS, ACCURACY)[0]["drawn"].tolist()
    assert min(drawn) > 60


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_what_stood_once_is_drawn_where_it_is(metric):
    """However far the last is from the first."""
    sign = 1 if metric.higher_is_better else -1
    values = [0.5 + sign * gain for gain in (0.0, 0.4, 0.41, 0.42, 0.43)]
    steps = [
        replace(a_step(number, "x", 0.5, 0.5, True), metrics={metric.name: value}, best_metrics={metric.name: value})
        for number, value in enumerate(values)
    ]
    assert search.trajectory(steps, metric)[0]["drawn"].tolist() == [factor(metric) * value for value in values]


def test_only_the_data_change_with_the_search_and_with_the_slider():
    """Another specification would make the browser build the picture anew."""
    assert search.trajectory(STEPS, ACCURACY)[1] == search.trajectory(STEPS[:1], ACCURACY)[1]
    row = {"alpha": 0.1, "held_out": 0.7, "test": None}
    assert search.sweep([row], 0.1, ACCURACY)[1] == search.sweep([row, row | {"alpha": 0.2}], None, ACCURACY)[1]


def test_where_vega_has_one_tick_it_is_a_short_number():
    """With one value it has one tick, there, and six digits behind its point."""
    layers = search.trajectory(STEPS[:1], ACCURACY)[1]["layer"]
    axes = [layer["encoding"]["y"]["axis"] for layer in layers]
    assert all("format(datum.value, '.5~g')" in axis["labelExpr"] for axis in axes)
    assert "axis" not in quantity("y", scale={"scheme": "blues", "zero": False})
    assert quantity("y", scale={"zero": False}, axis={"grid": False})["axis"].keys() == {"labelExpr", "grid"}


@pytest.mark.parametrize(
    "chart",
    [
        search.trajectory(STEPS, ACCURACY),
        search.coefficients({"a": 0.75, "b": 0.25, "c": 0.0}),
        search.sweep([{"alpha": 0.1, "held_out": 0.7, "test": None}], None, ACCURACY),
    ],
)
def test_every_specification_is_vega_lite(chart):
    """Altair, which comes with Streamlit, knows the schema."""
    data, spec = chart
    altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})


def test_what_was_not_measured_is_not_drawn():
    assert search.coefficients({"a": 1.0, "c": 0.0})[0]["ingredient"].tolist() == ["a"]
    rows = search.sweep([{"alpha": 0.1, "held_out": 0.7, "test": None}], 0.5, ACCURACY)[0]
    assert rows.dropna(subset=["value"])[["alpha", "split", "value"]].to_numpy().tolist() == [[0.1, "held_out", 70]]
    assert rows["slider"].dropna().tolist() == [0.5]


def test_long_names_take_their_room_from_the_page_and_not_from_a_matrix_cells():
    short, long = ["a", "b", "c"], [f"lr0.0003-two-epochs-seed{seed}" for seed in range(3)]
    lower, higher = (matrix(names, title="cosine")["height"] for names in (short, long))
    axis = matrix(long, title="cosine")["encoding"]["x"]["axis"]
    written = room_for(long, axis["labelLimit"]) * math.sin(math.radians(-axis["labelAngle"]))
    assert higher - written >= lower - room_for(short, axis["labelLimit"])
