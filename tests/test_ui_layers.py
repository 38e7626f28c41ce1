"""The Layers page: one group at a time, weights for all of them, and the soup that is kept."""

from pathlib import Path
from typing import Any

import pytest
from kitchens import BATCHNORM, small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, page, settle, trusted  # noqa: F401 - an autouse fixture

import soupviz as sv
from soupviz.mixing.averaging import mean_of
from soupviz.soups.blending import blend
from soupviz.soups.soup import recall
from soupviz.tasks.wording import of_score
from soupviz.ui.layers import blocks

A, B = (("m_0", 1.0),), (("m_1", 1.0),)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two ingredients and what the first page scores: each of them, their mean and the base."""
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=2, num_examples=60, scale=0.3))
    kitchen = sv.Kitchen.load(file)
    for mixture in (A, B, mean_of(kitchen.names), (("base", 1.0),)):
        for split in ("held_out", "test"):
            kitchen.scores.score(mixture, split)
    return file


def button(at: AppTest, label: str) -> Any:
    return next(one for one in at.button if one.label == label)


def labels(at: AppTest) -> list[str]:
    return [one.label for one in at.button]


def shown_with(at: AppTest, column: str) -> Any:
    """The table that has a column."""
    return next(one.value for one in at.dataframe if column in one.value)


def ends(at: AppTest) -> list[str]:
    return [next(box.value for box in at.selectbox if box.label.startswith(end)) for end in ("A,", "B,")]


def opened(file: Path) -> AppTest:
    return page("layers.py", file)


def scored(file: Path) -> AppTest:
    at = opened(file)
    button(at, "Score 2 mixes").click()
    return settle(at)


def test_the_cost_is_told_before_anything_is_scored(file: Path, evaluations: list[int]) -> None:
    evaluations.clear()
    at = opened(file)
    assert evaluations == []
    assert any(text.value.startswith("2 evaluations of 120 examples") for text in at.caption)


def test_each_group_alone_is_in_the_table(file: Path) -> None:
    at = scored(file)
    table = shown_with(at, "apart").set_index("group")
    kitchen = sv.Kitchen.load(file)
    a, b = (((name, 1.0),) for name in ends(at))
    for group, other in (("0", "2"), ("2", "0")):
        mixture = blend(kitchen, a, b, {group: 1.0, other: 0.0})
        assert table["value"][group] == pytest.approx(100 * kitchen.scores.score(mixture).accuracy)
    assert not at.exception


def test_what_is_known_is_drawn_without_being_asked_for(file: Path) -> None:
    scored(file)
    at = opened(file)
    assert "Score 2 mixes" not in labels(at)
    assert len(shown_with(at, "apart")) == 2


def test_a_slider_that_is_let_go_scores_the_mix_at_once(file: Path) -> None:
    at = opened(file)
    at.slider[0].set_value(0.25)
    settle(at)
    kitchen = sv.Kitchen.load(file)
    a, b = (((name, 1.0),) for name in ends(at))
    known = kitchen.scores.known(blend(kitchen, a, b, {"0": 0.25, "2": 0.0}), "held_out")
    assert known is not None
    mix = next(metric for metric in at.metric if metric.label == "This mix, held_out")
    assert mix.value == of_score(kitchen.objective, known)
    assert list(shown_with(at, "this mix against")["this mix against"]) == ["A", "B", "half of each"]
    assert at.query_params["weights"] == "0.25,0"


def test_without_scoring_at_once_a_button_asks(file: Path, evaluations: list[int]) -> None:
    evaluations.clear()
    at = opened(file)
    at.toggle[0].set_value(False)
    at.run()
    at.slider[0].set_value(0.25)
    settle(at)
    assert evaluations == []
    button(at, "Score this mix").click()
    settle(at)
    assert len(evaluations) == 1


def test_a_mix_that_was_left_is_given_up(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soupviz.ui import work

    cancelled: list[str] = []
    cancel = work.jobs().cancel
    at = opened(file)
    monkeypatch.setattr(work.jobs(), "cancel", lambda job: (cancelled.append(job.key), cancel(job)))
    at.slider[0].set_value(0.25).run()
    former = at.session_state["weights job"]
    at.slider[0].set_value(0.5).run()
    assert former in cancelled
    settle(at)
    assert next(metric.value for metric in at.metric if metric.label == "This mix, held_out") != "–"


@pytest.mark.parametrize(("preset", "weights"), [("All B", [1, 1]), ("Half", [0.5, 0.5]), ("Head only", [0, 1])])
def test_a_preset_sets_every_slider(file: Path, preset: str, weights: list[float]) -> None:
    at = opened(file)
    button(at, preset).click()
    settle(at)
    assert [slider.value for slider in at.slider] == weights
    assert [as_read(slider.label) for slider in at.slider] == ["0", "2"]


def test_weights_come_back_from_the_address(file: Path) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"], at.query_params["weights"] = str(file), "0.75,0.5"
    at.switch_page("pages/layers.py")
    settle(at)
    assert [slider.value for slider in at.slider] == [0.75, 0.5]


@pytest.mark.parametrize("text", ["1", "0.5,much", "0.5,nan", "9,9", ""])
def test_an_address_that_cannot_be_is_all_of_a(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks.st, "query_params", {"weights": text})
    assert blocks._from_url(2) == [0.0, 0.0]


def test_a_chosen_group_can_be_moved_alone(file: Path) -> None:
    at = scored(file)
    at.query_params["group"] = "2"
    at.slider[0].set_value(0.25).run()
    button(at, "Only 2").click()
    settle(at)
    assert [slider.value for slider in at.slider] == [0.0, 1.0]
    assert any(slider.label == "**2**" for slider in at.slider)


def test_kept_it_is_a_soup_with_a_verdict(file: Path) -> None:
    at = opened(file)
    assert button(at, "Keep as a soup").disabled  # it is A itself
    at.slider[1].set_value(0.5)
    settle(at)
    button(at, "Keep as a soup").click()
    settle(at)
    assert not at.exception
    kitchen = sv.Kitchen.load(file)
    run = next(run for run in kitchen.store.runs() if run.recipe["method"] == "blocks")
    a, b = (((name, 1.0),) for name in ends(at))
    assert recall(kitchen, run).mix == blend(kitchen, a, b, {"0": 0.0, "2": 0.5})
    assert any("is among the soups" in message.value for message in at.success)
    assert at.query_params["soup"] == run.key[:12]


def test_the_ends_can_be_exchanged(file: Path) -> None:
    at = opened(file)
    before = ends(at)
    button(at, "⇄").click()
    settle(at)
    assert ends(at) == before[::-1]


def test_scaling_is_towards_the_base(file: Path) -> None:
    at = opened(file)
    next(box for box in at.selectbox if box.label == "A layer group is").set_value("update scaled")
    settle(at)
    assert any("reset to the base" in text.value for text in at.caption)
    button(at, "Score 2 mixes").click()
    settle(at)
    kitchen = sv.Kitchen.load(file)
    a = ((next(box.value for box in at.selectbox if box.label.startswith("A,")), 1.0),)
    expected = kitchen.scores.known(blend(kitchen, a, (("base", 1.0),), {"0": 1.0, "2": 0.0}), "held_out")
    assert expected is not None
    assert shown_with(at, "apart").set_index("group")["value"]["0"] == pytest.approx(100 * expected.accuracy)


def test_without_a_base_scaling_is_not_offered_and_the_page_says_why(tmp_path: Path) -> None:
    at = opened(trusted(small_kitchen(tmp_path / "s", num_ingredients=2, num_examples=40, base=None)))
    box = next(box for box in at.selectbox if box.label == "A layer group is")
    assert box.options == ["taken from B"]
    assert any("needs a base" in text.value for text in at.caption)


def test_statistics_are_said_to_move_with_their_layer(tmp_path: Path) -> None:
    kitchen = {"source": BATCHNORM, "shape": (3, 8, 8), "num_ingredients": 2, "num_examples": 40, "train": 32}
    at = opened(trusted(small_kitchen(tmp_path / "s", **kitchen)))
    assert any("running statistics belong to their layer" in text.value for text in at.caption)
    assert next(box.options for box in at.selectbox if box.label == "BatchNorm") == ["average", "first", "recalibrate"]


def test_many_groups_are_edited_in_a_table(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(blocks, "MOST_SLIDERS", 1)
    at = opened(file)
    assert len(at.slider) == 0
    assert list(shown_with(at, "weight")["layer group"]) == ["0", "2"]


def test_identical_models_are_said_to_be_identical(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path / "s", num_ingredients=2, num_examples=40, scale=0.0))
    at = opened(file)
    assert any("identical" in message.value for message in at.info)
    assert errors(at) == []
