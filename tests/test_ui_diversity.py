"""The Diversity page without a browser: on the demo, on kitchens of one ingredient, of two classes, of texts."""

from pathlib import Path

import pytest
from kitchens import BATCHNORM, change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_examples import REVIEWS
from test_pages import errors, fresh_server, page, settle, trusted  # noqa: F401 - a fixture among them

import soupviz as sv
from soupviz.analysis.diversity import gather, pairs_of
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.ui import clicks
from soupviz.ui.diversity import examples as ui
from soupviz.ui.diversity import overlaps, pair

PAIRS, SOUP = "Pairs of ingredients", "A soup and its rival"


def shown(at: AppTest) -> str:
    """All that the page says."""
    places = (at.markdown, at.caption, at.header, at.info, at.warning)
    return " ".join(str(element.value) for place in places for element in place)


def pictures(at: AppTest) -> int:
    return len(at.get("vega_lite_chart"))


def gallery(at: AppTest) -> str:
    return " ".join(element.proto.body for element in at.get("html"))


def press(at: AppTest, label: str) -> AppTest:
    button = next(button for button in at.button if button.label.startswith(label))
    button.click().run()
    return settle(at)


def look_at_soup(at: AppTest, **state: object) -> AppTest:
    at.session_state["view"] = SOUP
    for key, value in state.items():
        at.session_state[key] = value
    at.run()
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    return at


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four ingredients that were scored, with all that the first page scores, in a kitchen that is trusted."""
    file = trusted(small_kitchen(tmp_path, num_ingredients=4, num_examples=60))
    kitchen = sv.Kitchen.load(file)
    kitchen.scores.of_ingredients()
    kitchen.scores.score((("base", 1.0),)), kitchen.scores.score(mean_of(kitchen.names))
    return file


def test_pairs_are_averaged_when_asked_at_a_cost_that_is_told(small: Path, evaluations: list[int]) -> None:
    at = page("diversity.py", small)
    assert "Errors in common" in shown(at)
    assert evaluations == []
    assert "6 evaluations of 360 examples in all" in shown(at)
    press(at, "Score 6 averages of two")
    assert len(evaluations) == 6
    assert "of 6 pairs." in shown(at)
    at.run()
    assert len(evaluations) == 6
    assert errors(at) == []


def test_what_is_known_of_all_pairs_is_shown_without_being_asked_for(small: Path, evaluations: list[int]) -> None:
    kitchen = Kitchen.load(small)
    for index, a in enumerate(kitchen.names):
        for b in kitchen.names[index + 1 :]:
            kitchen.scores.score(mean_of([a, b]))
    evaluations.clear()
    at = page("diversity.py", small)
    assert not [button for button in at.button if "averages" in button.label]
    assert "Least squares" in shown(at)
    at.session_state["made"] = "ensemble of the two"
    at.run()
    settle(at)
    assert "the ensemble of the two is above the mean" in shown(at)
    assert evaluations == []


def test_a_pair_is_told_in_counts_and_its_average_with_a_verdict(small: Path) -> None:
    at = page("diversity.py", small)
    press(at, "Score 6 averages of two")
    before = pictures(at)
    at.session_state["pair"] = "m_1 + m_2"
    at.run()
    assert pictures(at) == before + 2
    assert sum(int(metric.value) for metric in at.metric) == 60
    assert "Their average against" in shown(at)


def test_the_ensemble_of_a_pair_is_what_the_kitchen_scores_and_not_their_average(small: Path) -> None:
    kitchen = Kitchen.load(small)
    wanted = overlaps.Asked("held_out", tuple(kitchen.names), (), "average")
    for two in pairs_of(gather(kitchen, kitchen.names, "held_out")):
        expected = kitchen.scores.score(mean_of(two.names), "held_out", "probabilities").shown("accuracy")
        assert pair.ensemble_of(kitchen, wanted, two) == expected


def test_only_the_chosen_ingredients_are_paired(small: Path, evaluations: list[int]) -> None:
    at = page("diversity.py", small)
    at.multiselect[0].set_value(["m_3", "m_0"]).run()
    settle(at)
    at.toggle[0].set_value(True).run()
    settle(at)
    press(at, "Score their average")
    assert len(evaluations) == 1
    # In kitchen order, whatever was chosen first: the same mix as among all pairs.
    kitchen = Kitchen.load(small)
    kitchen.splits.load("held_out")
    assert kitchen.scores.known(mean_of(["m_0", "m_3"]), "held_out") is not None


def test_another_split_says_that_looking_spends_it(small: Path) -> None:
    at = page("diversity.py", small)
    assert "spends it" not in shown(at)
    at.session_state["split"] = "test"
    at.run()
    settle(at)
    assert "spends it" in shown(at)
    assert [button.label for button in at.button if button.label.startswith("Score")] == ["Score 4 ingredients on test"]
    press(at, "Score 4 ingredients")
    assert "Errors in common" in shown(at)


def test_a_kitchen_of_one_ingredient_says_what_is_missing(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path, num_ingredients=1, num_examples=40))
    change_yaml(file, lambda document: (document.pop("base"), document["data"].pop("test")))
    at = page("diversity.py", file)
    assert "a pair needs two" in shown(at)
    look_at_soup(at)
    assert "There is one model only" in shown(at)
    assert errors(at) == []


def test_a_kitchen_of_two_classes_and_two_ingredients(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=60, args={"classes": 2}, classes=["no", "yes"])
    at = page("diversity.py", trusted(file))
    assert "A line needs three pairs" in shown(at)  # the average of the two is the average of all, which is known
    look_at_soup(at)
    assert pictures(at) == 2
    assert errors(at) == []


def test_a_kitchen_with_batchnorm_averages_as_asked(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=40, train=32)
    at = page("diversity.py", trusted(file))
    at.session_state["batchnorm"] = "recalibrate"
    at.run()
    settle(at)
    press(at, "Score their average")
    kitchen = Kitchen.load(file)
    kitchen.splits.load("held_out"), kitchen.splits.load("train")
    assert kitchen.scores.known(mean_of(kitchen.names), "held_out", "recalibrate") is not None


def test_the_average_of_all_meets_the_best_ingredient_where_nothing_was_cooked(small: Path) -> None:
    at = look_at_soup(page("diversity.py", small))
    kitchen = Kitchen.load(small)
    best = max(kitchen.names, key=lambda name: kitchen.scores.score(((name, 1.0),)).correct)
    by_label = {box.label: box.value for box in at.selectbox}
    assert (by_label["Soup"], by_label["Rival"]) == ("average of all 4", best)
    assert pictures(at) == 2


def test_a_soup_that_was_cooked_is_the_default_and_its_split_says_that_it_selected(small: Path) -> None:
    sv.greedy(Kitchen.load(small))
    at = look_at_soup(page("diversity.py", small))
    assert next(box.value for box in at.selectbox if box.label == "Soup").startswith("greedy")
    assert "held_out selected this soup" in shown(at)


def test_models_are_soups_averages_ingredients_and_the_base(small: Path) -> None:
    kitchen = Kitchen.load(small)
    sv.greedy(kitchen)
    sv.greedy(kitchen, alpha=0.1)
    found = ui.models(kitchen, kitchen.store.runs())
    assert [one.kind for one in found.values()] == ["soup"] * 3 + ["ensemble"] + ["ingredient"] * 4 + ["base"]
    assert ui.models(kitchen, kitchen.store.runs() * 2).keys() > found.keys()  # the same name twice


def test_the_same_model_twice_is_told(small: Path) -> None:
    at = look_at_soup(page("diversity.py", small), examined="m_0", rival="m_0")
    assert "Both are the same model" in shown(at)


def test_examples_are_shown_page_by_page_and_filtered(small: Path) -> None:
    at = look_at_soup(page("diversity.py", small), kind="any")
    assert "60 of 60 examples" in shown(at)
    assert gallery(at).count("<figure") == 24
    first = gallery(at)
    at.number_input[0].set_value(3).run()
    assert gallery(at).count("<figure") == 12
    assert gallery(at) != first
    look_at_soup(at, label="0", predicted="0")
    kitchen = Kitchen.load(small)
    scored = kitchen.scores.score(mean_of(kitchen.names)).outcomes
    cell = (kitchen.splits.load("held_out").labels.numpy() == 0) & (scored["prediction"] == 0)
    assert f"{cell.sum()} of 60 examples" in shown(at)
    look_at_soup(at, kind="both are wrong")  # right and wrong at once
    assert "No example is of this kind" in shown(at)


def test_what_a_click_asks_for_is_chosen_once_and_can_be_changed_afterwards(small: Path) -> None:
    at = look_at_soup(page("diversity.py", small), **{clicks.ASKED: {"label": "1", "predicted": None, "kind": "any"}})
    boxes = {box.label: box for box in at.selectbox}
    assert (boxes["Label"].value, boxes["Which"].value) == ("1", "any")
    assert clicks.ASKED not in at.session_state
    boxes["Label"].set_value("0").run()
    assert {box.label: box.value for box in at.selectbox}["Label"] == "0"


def test_a_text_is_shown_as_it_is_and_not_as_html(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=30)
    told = REVIEWS.replace("review {index}", "<b>review</b> {index}")
    (tmp_path / "reviews.py").write_text(told)
    spec = {"format": "python", "path": "reviews.py:reviews"}
    change_yaml(file, lambda document: document["data"].update(held_out=spec))
    at = page("diversity.py", trusted(file))
    look_at_soup(at, kind="any")
    assert "&lt;b&gt;review&lt;/b&gt; 3" in gallery(at)
    assert "<b>review" not in gallery(at)
    assert "<img" not in gallery(at)


def test_small_images_are_shown_as_pictures_whose_pixels_stay_squares(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=40)
    at = look_at_soup(page("diversity.py", trusted(file)), kind="any")
    assert gallery(at).count("data:image/png;base64,") == 24
    assert gallery(at).count("width='128' height='128'") == 24
    assert "image-rendering: pixelated" in gallery(at)
    assert "scaled from its own smallest" in shown(at)
    assert errors(at) == []


STALE = {
    "split": "shifts.gone", "pair": "x + y", "standing out": ["gone"], "members": ["gone"], "examined": "gone",
    "rival": "lost", "label": "fish", "predicted": "fowl", "kind": "none", "order": "odd",
}  # fmt: skip


@pytest.mark.parametrize("view", [PAIRS, SOUP])
def test_what_was_chosen_in_another_kitchen_is_let_go(small: Path, view: str) -> None:
    at = page("ingredients.py", small)
    for key, value in (STALE | {"view": view}).items():
        at.session_state[key] = value
    at.switch_page("pages/diversity.py")
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    assert errors(at) == []
    assert ("Errors in common" if view == PAIRS else "of 60 examples") in shown(at)
