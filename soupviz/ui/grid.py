"""The Grid page's parts: which parameters against which, the heat map as it fills, and the soup of a cell."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from soupviz.analysis import grids
from soupviz.analysis.grids import Cell, Grid, Outcome
from soupviz.analysis.parameters import COUNT, Parameter, as_text, default_values, parse_values
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures.grids import CELL, DONE, EMPTY, WAITING, heat
from soupviz.recipes import MENU
from soupviz.soups.goals import goals_of
from soupviz.soups.planning import Cost
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.store.runs import Run
from soupviz.tasks import wording
from soupviz.ui import asking, charts, session, widgets, work
from soupviz.ui.charts import Place
from soupviz.ui.ending import end_page
from soupviz.ui.formats import in_unit
from soupviz.ui.jobs import Job
from soupviz.ui.soup import forms, soups
from soupviz.ui.verbatim import verbatim

MEAN_SHIFT = "mean of the shifts"
VALUES = "Numbers such as 0.1, 0.2, 0.5, or a range: 0.1 to 0.9 in 5."


def choose(opened: Kitchen) -> Grid:
    """The recipe, its two axes and their values, and what stays fixed; all of it in the URL."""
    offered = grids.offered(opened)
    if not offered:
        st.info("A grid needs a recipe with two numbers to vary; this kitchen has one ingredient and no base.")
        end_page()
    row = st.container(horizontal=True)
    labels = {MENU[method].label: method for method in offered}
    label = row.selectbox("Recipe", list(labels), key="grid_recipe", bind="query-params", width=230)
    method = labels[label]
    parameters = {one.name: one for one in offered[method]}
    first, second = _usual(offered[method])
    x = _axis(row, "Across", method, list(parameters), first)
    y = _axis(row, "Upwards", method, [name for name in parameters if name != x], second if second != x else first)
    row = st.container(horizontal=True)
    xs, ys = (_values(row, method, parameters[name]) for name in (x, y))
    fixed, pool = _fixed(opened, method, parameters[x], parameters[y])
    return Grid(method, x, y, tuple(xs), tuple(ys), fixed, tuple(pool))


def _usual(parameters: Sequence[Parameter]) -> tuple[str, str]:
    """Two numbers of the recipe's own, or one and how many ingredients; no seeds, and nothing that implies more."""
    own = [one.name for one in parameters if one.name != COUNT and not one.is_seed and not one.implies]
    rest = [one.name for one in parameters if one.name not in own]
    chosen = [*own[:2], *(name for name in (COUNT, *rest) if name in {one.name for one in parameters})]
    return chosen[0], chosen[1]


def _axis(place: Place, title: str, method: str, names: list[str], usual: str) -> str:
    return str(
        place.selectbox(
            title, names, names.index(usual), format_func=_spoken, key=f"{method}_{title.lower()}", bind="query-params",
            width=210,
        )
    )  # fmt: skip


def _values(place: Place, method: str, parameter: Parameter) -> list[float]:
    text = place.text_input(
        f"Values of {_spoken(parameter.name)}", as_text(default_values(parameter)), bind="query-params", width=330,
        key=f"{method}_{parameter.name.replace(' ', '_')}_values", help=f"{parameter.description}. {VALUES}",
    )  # fmt: skip
    return parse_values(text, parameter)


def _fixed(opened: Kitchen, method: str, *axes: Parameter) -> tuple[dict[str, Any], list[str]]:
    """The recipe's other parameters, and the ingredients that it may take."""
    kind = MENU[method]
    implied = dict(pair for axis in axes for pair in axis.implies)
    chosen = [name for name in st.session_state.get("members") or [] if name in opened.names]
    with st.expander("What stays the same in all cells"):
        pool = st.multiselect(
            "Ingredients", opened.names, chosen, placeholder=f"all {len(opened.names)}", key="grid_pool"
        )
        row = st.container(horizontal=True)
        values: dict[str, Any] = dict(implied)
        if widgets.has_batchnorm(opened) and kind.mixes_weights:
            values["batchnorm"] = row.selectbox(
                "BatchNorm statistics", widgets.aggregations(opened), key="batchnorm", bind="query-params", width=170
            )
        values |= forms.parameters(
            kind, row, opened.task, goals_of(opened), decided={*implied, *(axis.name for axis in axes)}
        )
        if implied:
            st.caption(
                verbatim(", ".join(f"{name} is {value}" for name, value in implied.items()) + ": an axis needs it.")
            )
    wanted = pool or opened.names
    return values, [name for name in opened.names if name in wanted]


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def compute(opened: Kitchen, grid: Grid) -> tuple[list[Cell], list[Outcome], bool]:
    """What of the grid is known, and the button that cooks the rest, with its cost.

    Returns:
        The cells, their outcomes, and whether the map is drawn already, as it is while it fills.
    """
    planned = grids.cells(opened, grid)
    key = _key(opened, grid)
    job = asking.find(opened, key)
    was_over = job is not None and job.state == "finished"
    kept = [grids.known(opened, cell) for cell in planned]
    outcomes = [outcome for outcome in kept if outcome is not None]
    waiting = [cell for cell, outcome in zip(planned, kept, strict=True) if outcome is None]
    if not waiting:
        return planned, outcomes, False
    if was_over:  # its runs were deleted since
        work.jobs().forget(lambda other: other is job)
    is_drawn: list[bool] = []

    def cook(job: Job) -> None:
        job.events.clear()
        grids.cook_grid(opened, grid, progress=job.progress, on_cell=job.events.append)

    def live(job: Job) -> None:
        is_drawn.append(True)
        draw_map(opened, grid, planned, list(job.events))

    count = f"{len(waiting)} soup{'s' if len(waiting) > 1 else ''}"

    def cost() -> Cost:
        return grids.cost_of(opened, grid, waiting)

    if asking.result(opened, key, f"Cook the grid: {count}", cost, cook, draw=live, ahead=True):
        st.rerun()  # the last cell came while this page was drawn
    if not is_drawn:
        st.caption(
            "At most that: searches give up candidates that cannot win, and cells share what they have in common. "
            f"{len(outcomes)} of {len(planned)} cells are known."
        )
    return planned, outcomes, bool(is_drawn)


def _key(opened: Kitchen, grid: Grid) -> str:
    names = [*grid.pool, *(["base"] if opened.base else [])]
    pinned = [opened.weights.resolve(name).fingerprint for name in names]
    plain = [grid.method, grid.x, grid.y, grid.xs, grid.ys, dict(grid.fixed), grid.pool]
    return f"grid {digest([plain, pinned, opened.splits.load(HELD_OUT).fingerprint, *opened.evaluator.numerics])}"


def choose_shown(opened: Kitchen) -> str:
    """Of which split the colours are."""
    splits = opened.splits.reporting
    shifts = [split for split in splits if split.startswith(SHIFTS)]
    options = [*splits, *([MEAN_SHIFT] if len(shifts) > 1 else [])]
    if len(options) == 1:
        return options[0]
    shown = st.segmented_control(
        "Colour",
        options,
        default=HELD_OUT,
        required=True,
        key="grid_split",
        format_func=lambda one: verbatim(_short(one)),
        bind="query-params",
    )
    return str(shown)


def _short(split: str) -> str:
    return split.removeprefix(SHIFTS)


def _value(opened: Kitchen, outcome: Outcome, shown: str) -> float | None:
    """By the objective, as it is shown."""
    found = outcome.values or {}
    if shown == MEAN_SHIFT:
        shifts = [value for split, value in found.items() if split.startswith(SHIFTS) and value is not None]
        return in_unit(opened.objective, sum(shifts) / len(shifts)) if shifts else None
    return in_unit(opened.objective, found.get(shown))


def draw_map(opened: Kitchen, grid: Grid, planned: Sequence[Cell], outcomes: Sequence[Outcome]) -> str:
    """The heat map; a click opens the soup of a cell. Returns of which split its colours are."""
    shown = choose_shown(opened)
    found = {(outcome.column, outcome.row): outcome for outcome in outcomes}
    best, open_key = grids.best_of(opened, outcomes), session.soup_key()
    metric = opened.objective
    texts = ([f"{value:g}" for value in grid.xs], [f"{value:g}" for value in grid.ys])
    rows = []
    for cell in planned:
        outcome = found.get((cell.column, cell.row))
        value = _value(opened, outcome, shown) if outcome else None
        is_open = outcome is not None and bool(open_key) and outcome.run.startswith(open_key)
        frame = [
            name for name, is_it in (("best", outcome is not None and outcome is best), ("open", is_open)) if is_it
        ]
        rows.append(
            {
                "column": texts[0][cell.column], "row": texts[1][cell.row], "value": value,
                "state": WAITING if outcome is None else DONE if outcome.run else EMPTY,
                "reason": outcome.reason if outcome else "", "frame": " ".join(frame),
            }
        )  # fmt: skip
    axes, of = (_spoken(grid.x), _spoken(grid.y)), opened.splits.num_examples(shown)
    clicked = charts.show(
        heat(rows, axes, texts, metric, _short(shown), of=of),
        key=f"grid {digest([grid.method, grid.x, grid.y, texts, shown])[:12]}",
        alt=f"{wording.titled(metric)} on {_short(shown)} for {len(outcomes)} of {len(planned)} cells",
        clicked=CELL,
    )
    wanted = [f"{one['column']} {one['row']}" for one in clicked]
    if newly := widgets.newly_clicked(grid=wanted):
        places = {f"{texts[0][column]} {texts[1][row]}": outcome for (column, row), outcome in found.items()}
        outcome = places.get(newly[0])
        run = opened.store.run(outcome.run) if outcome and outcome.run else None
        if run is not None:
            session.choose_soup(run)
            st.rerun()
    return shown


def _place(grid: Grid, outcome: Outcome) -> str:
    return f"{_spoken(grid.x)} {grid.xs[outcome.column]:g}, {_spoken(grid.y)} {grid.ys[outcome.row]:g}"


def summarize(opened: Kitchen, grid: Grid, outcomes: Sequence[Outcome], shown: str) -> None:
    """What the grid found, and what choosing in it means; why cells are empty."""
    cooked = [outcome for outcome in outcomes if outcome.run]
    best = grids.best_of(opened, outcomes)
    if best is not None and best.values is not None:
        digits = wording.places(opened.splits.num_examples(HELD_OUT))
        value = wording.shown(opened.objective, best.values[HELD_OUT], digits)
        st.caption(
            f"Green frame: the best on held_out, {value}, at {_place(grid, best)}. It is the best "
            f"of {len(cooked)}, chosen on held_out, so that number is optimistic: believe its test score."
        )
    if shown != HELD_OUT:
        st.caption(f"Who chooses a cell by {verbatim(_short(shown))} selects on it, and it can no longer report.")
    reasons: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.reason:
            reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
    if reasons:
        with st.expander(f"{sum(reasons.values())} cells are empty"):
            for reason, count in reasons.items():
                st.write(f"{count}: {verbatim(reason)}")


def open_cell(opened: Kitchen, grid: Grid, outcomes: Sequence[Outcome]) -> Run | None:
    """The run of the cell that was clicked, or is chosen by its name, if it is one of this grid."""
    key, cooked = session.soup_key(), [outcome for outcome in outcomes if outcome.run]
    if not cooked:
        return None
    found = next((outcome for outcome in cooked if key and outcome.run.startswith(key)), None)
    chosen = st.selectbox(
        "Soup of the cell", cooked, cooked.index(found) if found else None, lambda outcome: _place(grid, outcome),
        placeholder="Click one in the map, or choose it here", width=400,
    )  # fmt: skip
    run = opened.store.run(chosen.run) if chosen else None
    if run is not None and (found is None or found.run != run.key):
        session.choose_soup(run)
        st.rerun()
    return run


def draw_cell(opened: Kitchen, run: Run) -> None:
    """The soup of a cell: scores, decisions, coefficients; and a way to have it among the soups."""
    st.header(verbatim(run.name))
    if run.key in grids.only_in_grids(opened):
        if st.button("Keep it among the soups", help="Soups that only a grid made are left out of comparisons."):
            grids.unmark(opened, run.key)
            st.rerun()
    else:
        st.caption("It is among the soups of the Compare page.")
    soups.draw_result(opened, run)
