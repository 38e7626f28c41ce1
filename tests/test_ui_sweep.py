"""The Soup page's alpha sweep: the same search for other alphas, whatever else the recipe says."""

import pytest
from kitchens import small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest

import soupviz as sv
from soupviz.errors import Cancelled
from soupviz.recipes import parse
from soupviz.soups.cooking import cook
from soupviz.soups.soup import run_key
from soupviz.ui import computing
from soupviz.ui.soup import soups


def a_sweep() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui.soup import soups

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    soups.alpha_sweep(st.session_state["opened"], st.session_state["recipe"])


RECIPES = {
    "loss": {"objective": "loss"},
    "with shifts": {"objective": "with_shifts", "shift_weight": 0.25},
    "all else": {
        "objective": "worst_class", "order": "random", "seed": 3, "members": ("m_0", "m_2"), "batchnorm": "first"
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_sweep_is_of_the_recipe_with_another_alpha_and_it_ends(name, tmp_path, monkeypatch):
    monkeypatch.setattr(soups, "SWEPT", (0.5, 0.2))
    recipe = parse({"method": "greedy", "alpha": 0.1} | RECIPES[name])
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=40, shifts=("far",))
    app = AppTest.from_function(a_sweep, default_timeout=60)
    app.session_state["file"], app.session_state["recipe"] = str(file), recipe
    app.run()
    assert not sv.Kitchen.load(file).store.runs()  # nobody asked for it yet
    app.toggle(key="ahead").set_value(True).run()
    settled(app)
    kitchen = sv.Kitchen.load(file)
    wanted = {run_key(kitchen, recipe.model_copy(update={"alpha": alpha})) for alpha in (0.2, 0.5)}
    assert {run.key for run in kitchen.store.runs() if run.status == "finished"} == wanted
    assert app.caption[-1].value.startswith("2 of 2 alphas computed.")
    first = computing.find_sweep_job(app.session_state["opened"], recipe)
    settled(app)
    assert (
        computing.find_sweep_job(app.session_state["opened"], recipe) is first
    )  # nothing was missing, none was started


def test_a_sweep_that_was_cancelled_can_be_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(soups, "SWEPT", (0.5, 0.2))
    app = AppTest.from_function(a_sweep, default_timeout=60)
    app.session_state["file"] = str(small_kitchen(tmp_path, num_ingredients=2, num_examples=40))
    app.session_state["recipe"] = parse({"method": "greedy", "alpha": 0.1})

    def cancelled(*_args, **_parameters):
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(computing, "sweep", cancelled)
        app.run().toggle(key="ahead").set_value(True).run()
        settled(app)
    [go_on] = app.button
    go_on.click()
    settled(app.run())
    assert app.caption[-1].value.startswith("2 of 2 alphas computed.")
    assert not app.button and not app.info


def test_the_best_alpha_is_best_by_what_the_search_raises(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=60))
    recipe = parse({"method": "greedy", "alpha": 0.1, "objective": "loss"})
    made = sv.sweep(kitchen, [0.1, 0.9], objective="loss")
    values = [soups.raised(kitchen, recipe, kitchen.store.run(soup.key)) for soup in made]
    assert values == [(0, -soup.scores["held_out"].loss) for soup in made]


def a_soup() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui import session
    from soupviz.ui.soup import soups

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    opened, recipe = st.session_state["opened"], st.session_state["recipe"]
    job = soups.find_cook_job(opened, recipe)
    if job is None or not session.watch(job):
        soups.draw_soup(opened, recipe)


def test_a_search_that_goes_on_elsewhere_is_neither_told_as_cancelled_nor_as_ended(tmp_path, monkeypatch):
    recipe = parse({"method": "greedy", "alpha": 0.1})
    app = AppTest.from_function(a_soup, default_timeout=60)
    app.session_state["file"] = str(small_kitchen(tmp_path, num_ingredients=4, num_examples=40))
    app.session_state["recipe"] = recipe
    app.run()
    kitchen = app.session_state["opened"]

    class Enough:
        steps = 0

        def __call__(self, *_args, progress=None, **_parameters):
            return cook(kitchen, recipe, on_step=self.look)

        def look(self, _step):
            self.steps += 1
            if self.steps == 2:
                raise Cancelled

    monkeypatch.setattr(computing, "cook", Enough())
    computing.cook_job(kitchen, recipe)
    settled(app)
    assert "was cancelled" in app.info[0].value
    assert app.markdown[-1].value.startswith("So far: started from m_")
    kitchen.store.begin_run(run_key(kitchen, recipe), recipe.title, recipe.model_dump(mode="json"))  # as a sweep does
    app.run()
    [told] = app.info
    assert told.value.startswith("Another process is at this very search")
    assert "no other candidate" not in app.markdown[-1].value
