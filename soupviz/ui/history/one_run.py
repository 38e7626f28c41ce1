"""One run of the history: open it, cook it again, change one parameter, pin it, name it, delete it."""

from typing import Any, Literal, get_origin

import streamlit as st

from soupviz.analysis import history as core
from soupviz.analysis.history import Entry
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.recipes import MENU, Recipe, parse
from soupviz.spec import HELD_OUT
from soupviz.store.runs import Run
from soupviz.ui import session, widgets
from soupviz.ui.history import runs
from soupviz.ui.soup import forms, soups
from soupviz.ui.verbatim import verbatim


def draw(opened: Kitchen, entry: Entry) -> None:
    """What is known of a run, and all that can be done with it."""
    run = entry.run
    st.header(f"#{run.id} {verbatim(run.name)}")
    if run.person:
        st.caption(f"Started by {verbatim(run.person)}.")
    if entry.reason:
        st.warning(verbatim(f"{entry.state.capitalize()}: {entry.reason}"))
    recipe = runs.recipe_of(run)
    _actions(opened, entry, recipe)
    _name(opened, run)
    result = run.result or {}
    if "scores" in result:
        widgets.score_metrics(opened.objective, core.scores_in(opened, run), result.get("selected_on", [HELD_OUT]))
    left, right = st.columns(2)
    with left:
        st.header("Recipe")
        st.table({verbatim(name): verbatim(core.plain(value)) for name, value in core.fields_of(run).items()})
    with right:
        if recipe is not None:
            st.header("Change one parameter")
            change(opened, run, recipe)


def _actions(opened: Kitchen, entry: Entry, recipe: Recipe | None) -> None:
    run = entry.run
    # Links, not buttons: Streamlit lets no script leave a page whose filters stand in the URL.
    row = st.container(horizontal=True, vertical_alignment="center")
    kitchen = {"kitchen": str(st.session_state["kitchen"])}
    if entry.is_soup:
        query = kitchen | {"soup": run.key[:12]}
        row.page_link("pages/compare.py", label="Open on Compare", icon=":material/balance:", query_params=query)
    if recipe is not None and (target := settings(opened, recipe)) is not None:
        page, query, left = target
        told = f"On the {page.capitalize()} page."
        told += f" Not among its choices, and left as usual: {', '.join(left)}." if left else ""
        row.page_link(
            f"pages/{page}.py", label="Load its settings", icon=":material/tune:", query_params=kitchen | query,
            help=verbatim(told),
        )  # fmt: skip
    can_cook = recipe is not None and entry.state != "running"
    if row.button("Cook again", type="primary", disabled=not can_cook, shortcut="Ctrl+Enter"):
        assert recipe is not None
        runs.cook(opened, recipe)
    if row.button("Unpin" if run.pinned else "Pin", icon=":material/keep:"):
        opened.store.pin_run(run.key, not run.pinned)
        st.rerun()
    if row.button("Delete", icon=":material/delete:", disabled=entry.state == "running"):
        runs.delete(opened, [run])


def _name(opened: Kitchen, run: Run) -> None:
    """A name of the user's own, which stands everywhere instead of the recipe's title."""
    own = run.name if run.name != run.title else ""
    typed = st.text_input(
        "Name", own, key=f"name of {run.key} {own}", placeholder=run.title, max_chars=60, width=420,
        help="Shown on every page instead of the recipe's title; empty it to have the title back.",
    )  # fmt: skip
    if typed is not None and typed.strip() != own:
        opened.store.name_run(run.key, typed)
        st.rerun()


def change(opened: Kitchen, run: Run, recipe: Recipe) -> None:
    """One parameter of a run's recipe, a new value for it, and Cook; the recipe's own record checks it."""
    all_fields = type(recipe).model_fields
    fields = {
        name: field
        for name, field in all_fields.items()
        if name not in ("method", "members") and f"mix_{name}" not in all_fields  # which only says what a mix is called
        and (name != "batchnorm" or widgets.has_batchnorm(opened))
        and isinstance(getattr(recipe, name), (str, int, float))
        and (get_origin(field.annotation) is not Literal or len(recipe.choices(name, opened.task)) > 1)
    }  # fmt: skip
    if not fields:
        st.caption("This recipe has none.")
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    name = row.selectbox("Parameter", list(fields), key=f"changed {run.key}", width=170)
    field, now = fields[name], getattr(recipe, name)
    key = f"new {name} {run.key}"
    value: Any
    if name == "batchnorm":
        value = row.selectbox("New value", widgets.aggregations(opened, now), key=key, width=150)
    elif get_origin(field.annotation) is Literal:
        choices = recipe.choices(name, opened.task)
        value = row.selectbox("New value", choices, choices.index(now), key=key, width=150)
    elif isinstance(now, bool):
        value = row.selectbox("New value", [False, True], int(now), format_func=core.plain, key=key, width=150)
    else:
        value = row.text_input("New value", core.plain(now), key=key, width=150)
    if field.description:
        st.caption(verbatim(f"{name}: {field.description}"))
    try:
        changed = parse(recipe.model_dump() | {name: value})
    except SoupError as error:
        st.error(verbatim(str(error)))
        return
    if row.button("Cook the variant", disabled=changed == recipe, key=f"variant {run.key}"):
        runs.cook(opened, changed)
    st.caption("That is the run's own recipe." if changed == recipe else f"Cooks: {verbatim(changed.title)}")


def settings(opened: Kitchen, recipe: Recipe) -> tuple[str, dict[str, str], list[str]] | None:
    """The page that makes such a recipe, its settings as they stand in the URL, and what that page cannot choose."""
    if recipe.on_path is not None:
        a, b, alpha = recipe.on_path
        return "alpha", {"a": a, "b": b, "alpha": f"{alpha:g}"}, []
    kind = MENU.get(recipe.method)
    if kind is None:
        return None
    query, left = {"recipe": kind.label, session.MEMBERS: ",".join(recipe.considered or ())}, []
    fields = {name: field for name, field in kind.model_fields.items() if name not in ("method", "members")}
    own = {name: getattr(recipe, name) for name, field in fields.items() if getattr(recipe, name) != field.default}
    has_alpha = recipe.newcomer_weight is not None and "alpha" in fields
    if has_alpha:
        query["recipe"] = soups.BY_MEAN if recipe.newcomer_weight == "mean" else soups.BY_ALPHA
    for name, value in own.items():
        if (has_alpha and name == "alpha") or _can_choose(fields[name].annotation, value):
            query[name] = str(value)
        else:
            left.append(f"{name} = {core.plain(value)}")
    return "soup", query, left


def _can_choose(annotation: Any, value: Any) -> bool:
    """Whether the form has the value: of a word or a number it offers tenths only."""
    return get_origin(annotation) not in forms.UNIONS or not isinstance(value, float) or value in forms.TENTHS
