"""Records to figures: what a reader can tell from them."""

import altair
import pytest

from soupviz.records import Step
from soupviz.ui import charts

STEPS = [
    Step(0, "a", 0.7, 70, 0.7, True, 100, 0.7),
    Step(1, "b", 0.72, 72, 0.72, True, 100, 0.72),
    Step(2, "c", None, None, 0.72, False, 40, 0.715),
    Step(3, "d", 0.71, 71, 0.72, False, 100, 0.71),
    Step(4, "e", None, None, 0.72, False, 90, 0.02),
]


def test_a_candidate_that_was_given_up_is_drawn_as_a_bound_and_says_so():
    rows = {row["ingredient"]: row for row in charts.trajectory(STEPS)["data"]["values"]}
    assert rows["c"]["decision"] == "rejected early: at most"
    assert rows["c"]["accuracy"] == "at most 71.50 %, given up after 40 examples"
    assert rows["c"]["drawn"] == 71.5
    assert rows["d"]["decision"] == "rejected"
    assert rows["d"]["accuracy"] == "71.00 %"


def test_one_far_below_does_not_flatten_the_others():
    drawn = [row["drawn"] for row in charts.trajectory(STEPS)["data"]["values"]]
    assert min(drawn) > 60


def test_the_legend_names_only_what_is_drawn():
    spec = charts.trajectory(STEPS[:2])
    color = spec["layer"][1]["encoding"]["color"]["scale"]
    assert color["domain"] == ["start", "accepted"]
    assert len(color["range"]) == 2


@pytest.mark.parametrize(
    "spec",
    [
        charts.trajectory(STEPS),
        charts.coefficients({"a": 0.75, "b": 0.25, "c": 0.0}),
        charts.sweep([{"alpha": 0.1, "held_out": 0.7, "test": None}], None),
    ],
)
def test_every_specification_is_vega_lite(spec):
    """Altair, which comes with Streamlit, knows the schema."""
    altair.Chart.from_dict(spec)


def test_what_was_not_measured_is_not_drawn():
    assert [row["ingredient"] for row in charts.coefficients({"a": 1.0, "c": 0.0})["data"]["values"]] == ["a"]
    rows = charts.sweep([{"alpha": 0.1, "held_out": 0.7, "test": None}], None)["data"]["values"]
    assert rows == [{"alpha": 0.1, "split": "held_out", "accuracy": 70.0}]
