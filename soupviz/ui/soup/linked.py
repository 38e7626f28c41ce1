"""What the Soup page is opened with: the settings of the soup that is open, as other pages and links mean it."""

from typing import Any

import streamlit as st

from soupviz.analysis import history
from soupviz.kitchen import Kitchen
from soupviz.recipes import MENU, Recipe, own_parameters
from soupviz.soups.standing import current
from soupviz.ui import clicks, session, widgets
from soupviz.ui.history import runs
from soupviz.ui.history.one_run import settings
from soupviz.ui.soup import soups
from soupviz.ui.verbatim import verbatim

SHOWN = "the Soup page shows"
"""In the session: of which kitchen and open soup the page was drawn last, and with which ingredients."""

SETTINGS = {"recipe", "alpha", "batchnorm"} | {name for kind in MENU.values() for name in own_parameters(kind)}
"""What of the address chooses a recipe."""


def take_open_soup(opened: Kitchen) -> None:
    """Set the widgets as the open soup was cooked, else the best on held_out, where nothing else says what they are to
    show; tell what stands in the way.

    Else it is a link that chooses a recipe or ingredients, or this page itself, once it was drawn of that soup. To be
    called before the address is written anew.
    """
    key, (file, shown, members) = session.soup_key(), st.session_state.get(SHOWN, ("", "", []))
    is_led = not SETTINGS.isdisjoint(st.query_params) or (
        session.MEMBERS in st.query_params and "soup" not in st.query_params
    )
    is_free = (file, shown) != (str(opened.file), key) and not is_led and clicks.ASKED not in st.session_state
    kept = [run for run in opened.store.runs() if key and run.key.startswith(key)]
    if key and not current(opened, kept):
        st.warning(verbatim(session.why_not_open(opened, key)))
        return
    run = kept[0] if key else history.best_of(opened, session.finished_runs(opened)) if is_free else None
    recipe = runs.recipe_of(run) if run else None
    if run is None or recipe is None:
        return
    place, values, left = _widgets_of(opened, recipe)
    if key and (place != "soup" or left):
        elsewhere = f"what the page {place.capitalize()} chooses" if place else "other settings"
        which = ", ".join(left) or elsewhere
        st.info(f"“{verbatim(run.name)}”, the soup that is open, has {verbatim(which)}: this page cannot choose that.")
    if not is_free or place != "soup" or left or (recipe.considered and not key):
        return
    if key and st.session_state.get(session.MEMBERS, []) in ([], members):  # else the user has chosen others since
        st.session_state[session.MEMBERS] = list(recipe.considered or ())
    note_open_soup(opened)
    clicks.ask(**values)


def note_open_soup(opened: Kitchen) -> None:
    """Remember of which soup the page is drawn."""
    members = list(st.session_state.get(session.MEMBERS) or [])
    st.session_state[SHOWN] = str(opened.file), session.soup_key(), members


def _widgets_of(opened: Kitchen, recipe: Recipe) -> tuple[str, dict[str, Any], list[str]]:
    """The page that makes such a recipe, what its widgets are to be set to, and what they cannot be set to."""
    place, query, left = settings(opened, recipe) or ("", {}, [])
    values = {name: getattr(recipe, name) for name in query if name in type(recipe).model_fields}
    values |= {name: query[name] for name in ("recipe",) if name in query}
    if query.get("recipe") == soups.BY_MEAN:
        values.pop("alpha", None)  # it has no slider
    least, most = soups.ALPHAS
    if place == "soup" and isinstance(alpha := values.get("alpha"), float) and not least <= alpha <= most:
        left = [*left, f"alpha = {alpha:g}"]
    if (batchnorm := values.get("batchnorm")) and batchnorm not in widgets.aggregations(opened):
        left = [*left, f"batchnorm = {batchnorm}"]
    return place, values, left
