"""Several curves: what is measured, its intervals and barriers, the pictures, and the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kitchens import BATCHNORM, change_yaml, small_kitchen
from scipy import stats
from streamlit.testing.v1 import AppTest
from test_pages import errors, fresh_server, page, settle, trusted  # noqa: F401 - a fixture

from soupviz import Kitchen
from soupviz.analysis import curve_sets
from soupviz.analysis.curve_sets import CurveSet, Place, Reading
from soupviz.errors import CurveError
from soupviz.pictures import curves as pictures
from soupviz.soups import curves
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS
from soupviz.tasks.metric import Metric
from soupviz.tasks.significance import wilson
from soupviz.ui.curves import pairs_of
from soupviz.ui.path import Choice


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    file = small_kitchen(tmp_path_factory.mktemp("curves"), num_examples=120, shifts=["blur"], scale=0.8)
    return Kitchen.load(file)


def whole(name: str) -> tuple[tuple[str, float], ...]:
    return ((name, 1.0),)


METRICS = (ACCURACY, LOSS)


def a_reading(pair: str, alpha: float, right: int, loss: float, split: str = "test") -> Reading:
    """Of ten examples."""
    values, intervals = {"accuracy": right / 10, "loss": loss}, {"accuracy": wilson(right, 10), "loss": (loss, loss)}
    return Reading(Place(pair, "average", split, alpha), 10, values, intervals, (0, right / 10))


def a_bundle(splits: tuple[str, ...] = ("held_out", "test", "shifts.blur"), points: int = 5) -> CurveSet:
    pairs = {"m_0 → m_1": (whole("m_0"), whole("m_1")), "base → m_1": (whole("base"), whole("m_1"))}
    return CurveSet(pairs, curves.grid(points), splits, ["average"])


@pytest.fixture(scope="module")
def readings(kitchen: Kitchen) -> list[Reading]:
    return curve_sets.survey(kitchen, a_bundle())


# What is measured


def test_a_survey_reads_every_place_coarse_to_fine(kitchen: Kitchen, readings: list[Reading]) -> None:
    places = [reading.place for reading in readings]
    assert places == a_bundle().places()
    assert len(places) == len(set(places)) == 2 * 5 * 3
    assert [place.alpha for place in places[::6]] == [0.0, 1.0, 0.5, 0.25, 0.75]


def test_the_splits_of_a_mix_follow_each_other_so_that_it_is_reestimated_once() -> None:
    curve_set = CurveSet(a_bundle().pairs, [0.0, 0.5, 1.0], ["held_out", "test"], ["average", "recalibrate"])
    groups = [(place.pair, place.statistics, place.alpha) for place in curve_set.places()]
    assert groups[::2] == groups[1::2]
    assert len(set(groups[::2])) == len(groups) / 2


def test_a_survey_evaluates_shared_ends_once_and_nothing_again(tmp_path: Path, evaluations: list[int]) -> None:
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=40))
    kitchen.splits.load("held_out")
    kitchen.scores.width(kitchen.splits.load("held_out"))
    before = len(evaluations)
    first = curve_sets.survey(kitchen, a_bundle(("held_out",)))
    assert len(evaluations) - before == 3 + 2 * 3  # m_0, m_1 and base, and three points between each pair
    assert curve_sets.survey(kitchen, a_bundle(("held_out",))) == first
    assert len(evaluations) - before == 9


def test_readings_are_scores_with_wilson_and_normal_intervals(kitchen: Kitchen, readings: list[Reading]) -> None:
    for reading in readings:
        mix = a_bundle().mix(reading.place.pair, reading.place.alpha)
        score = kitchen.scores.score(mix, reading.place.split)
        assert reading.values == {"accuracy": score.accuracy, "loss": score.loss}
        assert reading.num_units == score.num_units
        assert reading.intervals["accuracy"] == wilson(score.correct, score.num_examples)
        assert score.outcomes is not None
        losses = score.outcomes["loss"].astype(float)
        expected = stats.norm.interval(0.95, losses.mean(), stats.sem(losses))
        assert reading.intervals["loss"] == pytest.approx(expected)


# Barriers


def test_a_peak_by_hand() -> None:
    found = curves.peak([0.0, 0.25, 0.5, 1.0], [1.0, 2.0, 1.5, 3.0])
    assert (found.alpha, found.height, found.chord) == (0.25, 0.5, 1.5)


def test_below_the_chord_there_is_no_peak() -> None:
    assert curves.peak([0.0, 0.5, 1.0], [1.0, 0.5, 1.0]).height == 0.0


def test_a_peak_needs_both_ends() -> None:
    with pytest.raises(CurveError, match="at least 3 points from alpha 0 to 1"):
        curves.peak([0.0, 0.5], [1.0, 2.0])


def test_a_line_has_the_barriers_of_its_losses_and_of_its_errors(readings: list[Reading]) -> None:
    for line in curve_sets.lines(readings, METRICS).values():
        alphas = [each.place.alpha for each in line.readings]
        assert alphas == sorted(alphas)
        in_loss, in_errors = line.barriers["loss"], line.barriers["accuracy"]
        assert in_loss is not None and in_errors is not None
        assert in_loss.height == curves.barrier(alphas, [each.values["loss"] or 0.0 for each in line.readings])
        errors_of = [1 - (each.values["accuracy"] or 0.0) for each in line.readings]
        assert in_errors.height == pytest.approx(curves.barrier(alphas, errors_of))


def test_a_barrier_is_of_the_path_and_not_of_what_lies_beyond_it(kitchen: Kitchen) -> None:
    wide = CurveSet(a_bundle().pairs, curves.grid(9, -0.5, 1.5), ["held_out"], ["average"])
    narrow = CurveSet(a_bundle().pairs, curves.grid(5), ["held_out"], ["average"])
    both = [curve_sets.lines(curve_sets.survey(kitchen, curve_set), METRICS) for curve_set in (wide, narrow)]
    assert [line.barriers for line in both[0].values()] == [line.barriers for line in both[1].values()]


def test_half_a_line_has_no_barrier_yet(readings: list[Reading]) -> None:
    for line in curve_sets.lines(readings[:12], METRICS).values():
        assert line.barriers == {"accuracy": None, "loss": None}


def test_the_best_of_equals_is_nearest_to_the_middle(readings: list[Reading]) -> None:
    equals = [a_reading("p", alpha, 5, 1.0, "held_out") for alpha in (0.0, 0.4, 1.0)]
    (line,) = curve_sets.lines(equals, METRICS).values()
    assert curve_sets.best(line).place.alpha == 0.4


# Pictures


def a_picture(readings: list[Reading], metric: Metric, chosen: str | None = None) -> pictures.Chart:
    pairs = list(a_bundle().pairs)
    return pictures.curves(
        curve_sets.lines(readings, METRICS), pairs=pairs, statistics=["average"], metric=metric, split="test",
        chosen=chosen,
    )  # fmt: skip


def test_a_picture_shows_points_in_percent_with_their_bands(readings: list[Reading]) -> None:
    data, _ = a_picture(readings, ACCURACY)
    points = data[data["value"].notna()]
    expected = {(r.place.pair, r.place.alpha): r for r in readings if r.place.split == "test"}
    assert len(points) == len(expected)
    for _, row in points.iterrows():
        reading = expected[row["pair"], row["alpha"]]
        assert row["value"] == 100 * (reading.values["accuracy"] or 0.0)
        assert (row["low"] / 100, row["high"] / 100) == pytest.approx(reading.intervals["accuracy"])


def hill(pair: str, height: float) -> list[Reading]:
    """Losses of 1, 1 + height and 2 nats at alpha 0, 0.5 and 1; accuracies of 9, 6 and 7 tenths."""
    figures = [(0.0, 1.0, 9), (0.5, 1.0 + height, 6), (1.0, 2.0, 7)]
    return [a_reading(pair, alpha, right, loss) for alpha, loss, right in figures]


def test_a_barrier_is_drawn_from_the_chord_to_the_curve_and_the_highest_is_written() -> None:
    both = [*hill("m_0 → m_1", 1.0), *hill("base → m_1", 0.9)]
    losses, _ = a_picture(both, LOSS)
    told = losses[losses["chord"].notna()].set_index("pair")
    assert told.loc["m_0 → m_1", ["alpha", "chord", "curve", "text"]].tolist() == [0.5, 1.5, 2.0, "barrier 0.500 nats"]
    assert told.loc["base → m_1", "text"] == ""
    accuracies, _ = a_picture(both, ACCURACY, "base → m_1")
    told = accuracies[accuracies["chord"].notna()].set_index("pair")
    assert told.loc["base → m_1", ["chord", "curve"]].tolist() == pytest.approx([80.0, 60.0])
    assert told["text"].to_dict() == {"m_0 → m_1": "", "base → m_1": "barrier 20.0 points"}


def test_a_barrier_too_low_to_be_written_is_not_drawn() -> None:
    data, _ = a_picture(hill("m_0 → m_1", 0.5 + 1e-5), LOSS)
    assert not data["chord"].notna().any()


def test_the_specification_stays_while_data_grow_and_a_pair_is_chosen(readings: list[Reading]) -> None:
    first = a_picture(readings[:9], LOSS)
    last = a_picture(readings, LOSS, "base → m_1")
    assert first[1] == last[1]
    assert list(first[0].columns) == list(last[0].columns)
    assert set(last[0].loc[last[0]["pair"] == "base → m_1", "faint"]) == {False}
    assert set(last[0].loc[last[0]["pair"] != "base → m_1", "faint"]) == {True}


def test_pairs_are_each_of_the_one_side_with_each_of_the_other_once() -> None:
    ends = {name: Choice(name, "ingredient", whole(name)) for name in "abc"}
    assert list(pairs_of(ends, ["a", "b"], ["b", "a", "c"])) == ["a → b", "a → c", "b → c"]
    assert pairs_of(ends, ["a"], ["a"]) == {}


# The page


def computed(at: AppTest, label: str) -> AppTest:
    """The page after what it offers to compute is computed."""
    next(button for button in at.button if button.label == label).click().run()
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    assert errors(at) == []
    return at


@pytest.fixture
def with_statistics(tmp_path: Path) -> Iterator[Path]:
    yield trusted(
        small_kitchen(
            tmp_path / "k", source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=40, train=32,
            shifts=["blur"],
        )
    )  # fmt: skip


def test_the_page_computes_curves_and_keeps_a_point_of_one(with_statistics: Path) -> None:
    at = page("curves.py", with_statistics)
    at.multiselect(key="statistics").set_value(["average"])
    at.selectbox(key="points").set_value(5)
    at.multiselect(key="splits").set_value(["held_out", "test", "shifts.blur"]).run()
    computed(at, "Compute the curves")
    rows = at.dataframe[0].value
    kitchen = Kitchen.load(with_statistics)
    assert rows["pair"][0].startswith("base → ")
    for _, row in rows.iterrows():
        a, b = row["pair"].split(" → ")
        line = [kitchen.scores.score(curve_sets.combine(whole(a), whole(b), alpha)) for alpha in curves.grid(5)]
        height = curves.barrier(curves.grid(5), [score.loss or 0.0 for score in line])
        told = row["barrier on held_out"]
        assert told.startswith(f"{height:.3f} nats") or (told == "none" and height < pictures.TOLD)
        assert row["held_out there"] == pytest.approx(100 * max(score.accuracy for score in line))
    at.query_params["pair"], at.query_params["statistic"] = rows["pair"][0], "average"
    at.query_params["at"] = "0.25"
    computed(at.run(), "Keep as a soup")
    (run,) = kitchen.store.runs()
    assert run.recipe["method"] == "interpolation"
    assert run.recipe["alpha"] == 0.25
    assert any("is among the soups" in box.value for box in at.success)


def test_averaged_and_reestimated_statistics_stand_beside_each_other(with_statistics: Path) -> None:
    at = page("curves.py", with_statistics)
    at.multiselect(key="statistics").set_value(["average", "recalibrate"])
    at.selectbox(key="points").set_value(5).run()
    assert any("re-estimated on train" in caption.value for caption in at.caption)
    computed(at, "Compute the curves")
    assert list(at.dataframe[0].value["BatchNorm"][:2]) == ["average", "recalibrate"]


def test_what_is_known_costs_nothing_and_is_drawn_at_once(with_statistics: Path) -> None:
    at = page("curves.py", with_statistics)
    at.selectbox(key="points").set_value(5).run()
    computed(at, "Compute the curves")
    again = page("curves.py", with_statistics)
    again.selectbox(key="points").set_value(5).run()
    settle(again)
    assert "Compute the curves" not in [button.label for button in again.button]
    assert len(again.dataframe)


def test_without_base_test_and_scores_the_page_still_opens(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "k", num_ingredients=1, num_examples=30)
    change_yaml(file, lambda document: (document.pop("base"), document["data"].pop("test")))
    at = page("curves.py", trusted(file))
    assert any("A curve needs two ends" in box.value for box in at.info)
