"""Forms made from records: every recipe has one, and what it gives is a recipe."""

import pytest
from streamlit.testing.v1 import AppTest

from soupviz.recipes import MENU, own_parameters
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.regression import Regression
from soupviz.tasks.task import Task


def a_form() -> None:
    import streamlit as st

    from soupviz.recipes import MENU
    from soupviz.tasks.classes.classification import Classification
    from soupviz.ui.soup import forms

    kind = MENU[st.session_state["method"]]
    goals = ["accuracy", "loss", "worst_class", "with_shifts"]
    st.session_state["made"] = kind(**forms.parameters(kind, st, Classification(), goals, decided=("alpha",)))


@pytest.mark.parametrize("method", MENU)
def test_a_form_left_alone_gives_the_recipe_with_its_defaults(method: str) -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = method
    app.run()
    assert not app.exception
    assert app.session_state["made"] == MENU[method]()
    widgets = [*app.selectbox, *app.slider, *app.number_input, *app.text_input]
    fields = MENU[method].model_fields
    names = [name for name in own_parameters(MENU[method]) if name != "alpha"]
    expected = [name for name in names if "only_with" not in (fields[name].json_schema_extra or {})]
    assert {widget.key for widget in widgets} == set(expected)
    for widget in widgets:
        assert widget.help == MENU[method].model_fields[widget.key].description


@pytest.mark.parametrize("method", MENU)
def test_no_widget_offers_what_the_record_refuses(method: str) -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = method
    app.run()
    for widget in [*app.slider, *app.number_input]:
        for end in (widget.min, widget.max):
            if end is not None:
                app.session_state[widget.key] = end
                app.run()
                assert not app.exception, (widget.key, end)
                assert getattr(app.session_state["made"], widget.key) == pytest.approx(end)


def test_the_shifts_weight_is_asked_for_where_shifts_count() -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = "greedy"
    app.run()
    assert not app.slider
    app.selectbox(key="objective").select("with shifts").run()
    assert [widget.key for widget in app.slider] == ["shift_weight"]
    app.slider(key="shift_weight").set_value(0.25).run()
    assert app.session_state["made"].shift_weight == 0.25


def a_form_of_wise_ft() -> None:
    import streamlit as st

    from soupviz.recipes import MENU
    from soupviz.tasks.classes.classification import Classification
    from soupviz.ui.soup import forms

    st.session_state["made"] = MENU["wise_ft"](**forms.parameters(MENU["wise_ft"], st, Classification(), ["accuracy"]))


def test_a_word_or_a_number_is_one_choice() -> None:
    app = AppTest.from_function(a_form_of_wise_ft).run()
    assert app.session_state["made"].alpha == "best"
    app.selectbox(key="alpha").select(0.3).run()
    assert app.session_state["made"].alpha == 0.3


def test_a_seed_is_asked_for_where_something_is_random() -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = "greedy"
    app.run()
    assert not app.number_input
    app.selectbox(key="order").select("random").run()
    assert [widget.key for widget in app.number_input] == ["seed"]
    app.number_input(key="seed").set_value(7).run()
    assert app.session_state["made"].seed == 7


def a_form_for_a_task() -> None:
    import streamlit as st

    from soupviz.recipes import MENU
    from soupviz.ui.soup import forms

    kind, task = MENU[st.session_state["method"]], st.session_state["task"]
    st.session_state["made"] = kind(**forms.parameters(kind, st, task, [task.metrics[0].name]))


@pytest.mark.parametrize(
    ("method", "name", "task", "offered"),
    [
        ("ensemble", "output", Classification(), ["probabilities", "logits"]),
        ("ensemble", "output", Regression(), []),
        ("weighted", "per", Classification(), ["all", "class", "slice"]),
        ("weighted", "per", Regression(), ["all", "slice"]),
    ],
)
def test_only_what_a_task_can_have_is_offered(method: str, name: str, task: Task, offered: list[str]) -> None:
    app = AppTest.from_function(a_form_for_a_task)
    app.session_state["method"], app.session_state["task"] = method, task
    app.run()
    assert not app.exception
    assert [box.options for box in app.selectbox if box.key == name] == ([offered] if offered else [])
    assert not app.session_state["made"].suited(task).unfit(task)
