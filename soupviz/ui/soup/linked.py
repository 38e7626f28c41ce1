"""What the Soup page is opened with: the settings of the soup that is open, as other pages and links mean it."""

import streamlit as st

from soupviz.analysis import history
from soupviz.kitchen import Kitchen
from soupviz.ui import clicks, session
from soupviz.ui.history import runs
from soupviz.ui.history.one_run import settings
from soupviz.ui.soup import soups
from soupviz.ui.verbatim import verbatim


def take_open_soup(opened: Kitchen) -> None:
    """Set the widgets as the open soup was cooked, else the best on held_out, where nothing else says what they are to
    show; tell what stands in the way.

    Else it is a link that chooses a recipe or ingredients, or this page itself, once it was drawn. To be called before
    the address is written anew.
    """
    is_drawn = clicks.ASKED in st.session_state or "recipe" in st.session_state
    is_led = "recipe" in st.query_params or (session.MEMBERS in st.query_params and "soup" not in st.query_params)
    is_free = not is_drawn and not is_led
    key = session.soup_key()
    if not key and is_free and (best := history.best_of(opened, session.finished_runs(opened))):
        key = best.key
    run = next((run for run in opened.store.runs() if key and run.key.startswith(key)), None)
    if run is None or run.status != "finished":
        if key:
            st.warning(verbatim(session.why_not_open(opened, key)))
        return
    if (recipe := runs.recipe_of(run)) is None:
        return
    page, query, left = settings(opened, recipe) or ("", {}, [])
    if page != "soup":
        told = "is made on another page: *Why these?* on Ingredients leads there, and History cooks it again."
        st.info(f"“{verbatim(run.name)}”, the soup that is open, {told}")
        return
    if left:
        st.info(verbatim(f"“{run.name}”, the soup that is open, has what this page cannot choose: {', '.join(left)}."))
    if is_free:
        values = {name: getattr(recipe, name) for name in query if name in type(recipe).model_fields}
        if query["recipe"] == soups.BY_MEAN:
            values.pop("alpha", None)  # it has no slider
        if not st.session_state.get(session.MEMBERS):
            st.session_state[session.MEMBERS] = list(recipe.considered or ())
        clicks.choose(**values | {"recipe": query["recipe"]})
