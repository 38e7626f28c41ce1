"""Records to figures: what a reader can tell from them."""

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
    data = charts.trajectory(STEPS).to_dict()["datasets"]
    rows = {row["ingredient"]: row for row in next(iter(data.values()))}
    assert rows["c"]["decision"] == "rejected early: at most"
    assert rows["c"]["accuracy"] == "at most 71.50 %, given up after 40 examples"
    assert rows["c"]["drawn"] == 71.5
    assert rows["d"]["decision"] == "rejected"
    assert rows["d"]["accuracy"] == "71.00 %"


def test_one_far_below_does_not_flatten_the_others():
    data = charts.trajectory(STEPS).to_dict()["datasets"]
    drawn = [row["drawn"] for row in next(iter(data.values()))]
    assert min(drawn) > 60


def test_the_legend_names_only_what_is_drawn():
    spec = charts.trajectory(STEPS[:2]).to_dict()
    color = spec["layer"][1]["encoding"]["color"]["scale"]
    assert color["domain"] == ["start", "accepted"]
    assert len(color["range"]) == 2
