"""Forms made from records: every recipe has one, and what it gives is a recipe."""

import pytest
from streamlit.testing.v1 import AppTest

from soupviz.options import own_parameters
from soupviz.recipes import MENU


def a_form() -> None:
    import streamlit as st

    from soupviz.recipes import MENU
    from soupviz.ui import forms

    kind = MENU[st.session_state["method"]]
    st.session_state["made"] = kind(**forms.parameters(kind, st, decided=("alpha",)))


@pytest.mark.parametrize("method", MENU)
def test_a_form_left_alone_gives_the_recipe_with_its_defaults(method: str) -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = method
    app.run()
    assert not app.exception
    assert app.session_state["made"] == MENU[method]()
    widgets = [*app.selectbox, *app.slider, *app.number_input]
    expected = [name for name in own_parameters(MENU[method]) if name not in ("alpha", "seed")]
    assert {widget.key for widget in widgets} - {"seed"} == set(expected)
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


def test_a_seed_is_asked_for_where_something_is_random() -> None:
    app = AppTest.from_function(a_form)
    app.session_state["method"] = "greedy"
    app.run()
    assert not app.number_input
    app.selectbox(key="order").select("random").run()
    assert [widget.key for widget in app.number_input] == ["seed"]
    app.number_input(key="seed").set_value(7).run()
    assert app.session_state["made"].seed == 7
