"""The Shift page's picture: the line of the individual models, and what lies above it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import wording
from soupviz.analysis.robustness import Line, Model, Scale, Scores, fit_line, individuals
from soupviz.errors import SoupError
from soupviz.pictures import robustness, sampling
from soupviz.spec import SHIFTS
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, factor, is_improvement, places, shown
from soupviz.ui import charts, tables, widgets
from soupviz.ui.formats import gap_format, in_unit, value_format
from soupviz.ui.shift.scores import short
from soupviz.ui.verbatim import verbatim

LOGIT = "As in “Accuracy on the line”: log(a / (1 − a))."
FIRST = ("soup", "ensemble", "base", "best")
"""What the table begins with: what the page is about; then every ingredient, the highest above the line first."""


@dataclass(frozen=True, slots=True)
class View:
    """What is drawn: the points on the axes chosen, whose names these are, and the line of the individual models.

    of: over how many units the values on either axis are; None: that is not known, or they are means of several.
    """

    scores: Scores
    points: pd.DataFrame
    line: Line | None
    names: tuple[str, str]
    scale: Scale
    of: tuple[int | None, int | None]

    @property
    def titles(self) -> tuple[str, str]:
        label = self.metric.label
        return f"{label} on {self.names[0]}", f"{label} on {self.names[1]}"

    @property
    def metric(self) -> Metric:
        return self.scores.metric

    def above(self, x: float, y: float) -> float | None:
        """How far above the line, in the metric's unit."""
        return None if self.line is None else in_unit(self.metric, self.line.above(x, y))

    def is_beyond(self, x: float, y: float) -> bool:
        """Whether it is better under shift than the line says: above it, of an error below it."""
        return self.line is not None and is_improvement(self.metric, self.line.above(x, y))

    @property
    def better_side(self) -> str:
        return "above" if self.metric.higher_is_better else "below"


def choose(scores: Scores, *, kinds_can_change: bool) -> View | None:
    """The axes, their scale and, of a table, what is a soup; all of it in the URL."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    bound: dict[str, Any] = {"bind": "query-params"}
    x = row.selectbox(
        "In distribution (x)", scores.x_columns, scores.x_columns.index(scores.x), key="in_distribution", width=210,
        **bound,
    )  # fmt: skip
    others = [name for name in scores.y_columns if name != x]
    y = row.multiselect(
        "Under shift (y): the mean of", others, [name for name in scores.y if name in others], format_func=short,
        key="under_shift", width=420, **bound,
    )  # fmt: skip
    # Only shares have logits.
    is_logit = scores.metric.unit == PERCENT and row.toggle("Logit axes", key="logit", help=LOGIT, **bound)
    kinds = _kinds(scores) if kinds_can_change else {}
    if not y:
        st.info("Choose at least one split under shift.")
        return None
    if x == scores.selecting:
        st.warning(f"{verbatim(x)} selected: what the chosen have there is optimistic.")
    points = scores.points(x, y, kinds)
    if left := len(scores.models) - len(points):
        st.caption(
            f"{left} of {len(scores.models)} models are not drawn: they lack a score on {verbatim(x)} or under shift."
        )
    scale: Scale = "logit" if is_logit else "linear"
    if is_logit:
        extreme = ~points[["x", "y"]].gt(0).all(axis=1) | ~points[["x", "y"]].lt(1).all(axis=1)
        if extreme.any():
            st.caption(f"{int(extreme.sum())} models at 0 or 100 % have no logit and are left out.")
        points = points[~extreme]
    if points.empty:
        return None
    line = None
    try:
        singles = individuals(points)
        line = fit_line(singles["x"].tolist(), singles["y"].tolist(), scale)
    except SoupError as error:
        st.info(verbatim(f"There is no line: {error}"))
    under = short(y[0]) if len(y) == 1 else f"the mean of {len(y)} shifts"
    of = scores.num_units.get(x), scores.num_units.get(y[0]) if len(y) == 1 else None
    return View(scores, points, line, (short(x), under), scale, of)


def _kinds(scores: Scores) -> dict[str, str]:
    """What the user says is a soup, and what is the base; the rest stays as it was found."""
    names = [model.id for model in scores.models]
    found = {kind: [model.id for model in scores.models if model.kind == kind] for kind in ("soup", "base")}
    key = tables.digest(names)
    with st.expander("What is a soup, and what the base"):
        soups = st.multiselect("Soups", names, found["soup"], key=f"soups {key}")
        bases = st.multiselect("Base", names, found["base"], key=f"bases {key}")
    rest = {model.id: "ingredient" if model.kind in ("soup", "base") else model.kind for model in scores.models}
    return rest | dict.fromkeys(soups, "soup") | dict.fromkeys(bases, "base")


def draw(view: View, marked: Sequence[str] = (), on_click: Callable[[str], None] = lambda _model: None) -> None:
    """The picture with its line, every model's height above it, and what was clicked.

    Args:
        marked: ids that stand out beside the one that was clicked. on_click: told of it, by its id.
    """
    st.header(verbatim(_told(view)))
    if view.line is not None:
        _figures(view.line, view)
    ids = [model.id for model in view.scores.models]
    picked = st.query_params.get("model", "")
    stand_out = {picked, *marked} - {""}
    kept = sampling.thinned(
        list(zip(view.points.index, view.points["id"], view.points["kind"], strict=True)),
        sampling.MOST_POINTS,
        keeps=lambda point: point[2] != "soup" or point[1] in stand_out,
    )
    clicked_points = charts.show(
        robustness.scatter(
            view.points.loc[[index for index, *_ in kept]],
            view.line,
            view.titles,
            view.metric,
            stand_out,
            scale=view.scale,
            of=view.of,
        ),
        key=f"shift {tables.digest([*ids, *view.titles, view.scale])}",
        alt=f"{view.titles[1]} against {view.titles[0]}. {_told(view)}.",
        clicked=robustness.MODEL,
    )
    if left := sampling.told(len(kept), len(view.points), "models", "soups are thinned out evenly"):
        st.caption(left)
    table = _table(view)
    order = table.pop("id").tolist()
    state = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [order.index(picked)] if picked in order else [], "columns": []}},
        key=f"shift table {tables.digest(order)} {picked}",
        column_config=_columns(view),
        placeholder="–",
        alt="Every model with its height above the line of the individual models",
    )
    rows = widgets.of_rows(state, order)
    clicked = widgets.newly_clicked(shift_table=rows, shift_picture=[str(one["id"]) for one in clicked_points])
    if clicked and clicked[0] != picked:
        st.query_params["model"] = clicked[0]
        on_click(clicked[0])
        st.rerun()
    if picked in order:
        _details(view, next(model for model in view.scores.models if model.id == picked))


def _told(view: View) -> str:
    """What the picture shows, in a sentence."""
    soups = view.points[view.points["kind"] == "soup"]
    singles = individuals(view.points)
    if view.line is None or soups.empty:
        return f"{len(view.points)} models, no soup among them" if soups.empty else f"{len(view.points)} models"
    above = sum(view.is_beyond(x, y) for x, y in zip(soups["x"], soups["y"], strict=True))
    highest = view.metric.higher_is_better
    beyond = int((soups["y"] > singles["y"].max() if highest else soups["y"] < singles["y"].min()).sum())
    return (
        f"{above} of {len(soups)} soups lie {view.better_side} the line of the {len(singles)} individual models, "
        f"{beyond} do better under shift than each of these"
    )


def _figures(line: Line, view: View) -> None:
    metric = view.metric
    unit = wording.measure(metric) if line.scale == "linear" else "logits"
    soups = view.points[view.points["kind"] == "soup"]
    items = [("Slope of the line", f"{line.slope:.2f}", f"{unit} of y for one of x")]
    items.append(("R²", f"{line.r_squared:.2f}", f"of {line.num_models} individual models"))
    if len(soups):
        best = soups.sort_values("y", ascending=not metric.higher_is_better).iloc[0]
        height = line.above(best["x"], best["y"])
        items.append(("Best soup under shift", shown(metric, best["y"], places(view.of[1])), best["name"]))
        items.append(("Its height above the line", wording.apart(metric, height), wording.measure(metric)))
    widgets.metric_row(items)
    st.caption(
        f"How far a model lies {view.better_side} the line is its effective robustness: {metric.label} under shift "
        f"beyond what {metric.label} in distribution leads one to expect. In the grey band 95 % of further individual "
        f"models would lie. {wording.direction(metric)}".rstrip()
        + ("" if line.r_squared >= 0.5 else " The line explains less than half of what differs among them.")
    )


def _table(view: View) -> pd.DataFrame:
    models = {model.id: model for model in view.scores.models}
    table = pd.DataFrame({"id": view.points["id"], "model": view.points["name"], "kind": view.points["kind"]})
    scale = factor(view.metric)
    table["x"], table["y"] = scale * view.points["x"], scale * view.points["y"]
    if view.line is not None:
        pairs = list(zip(view.points["x"], view.points["y"], strict=True))
        around = [view.line.around(x) for x, _ in pairs]
        table["line"] = [scale * view.line.at(x) for x, _ in pairs]
        table["above"] = [view.above(x, y) for x, y in pairs]
        table["band"] = [
            "above" if y > high else "below" if y < low else "inside"
            for (_, y), (low, high) in zip(pairs, around, strict=True)
        ]
    # A soup that the shifts helped to choose has no report on them.
    table["note"] = ["chosen on the shifts too" if _saw_shifts(models[one]) else None for one in table["id"]]
    table = table.dropna(axis="columns", how="all")
    height = "above" if view.line is not None else "y"
    first = table["kind"].map(lambda kind: FIRST.index(kind) if kind in FIRST else len(FIRST))
    falling = not view.metric.higher_is_better
    return table.assign(first=first).sort_values(["first", height], ascending=[True, falling]).drop(columns="first")


def _saw_shifts(model: Model) -> bool:
    return any(split.startswith(SHIFTS) for split in model.selected_on)


def _columns(view: View) -> dict[str, Any]:
    number, metric = st.column_config.NumberColumn, view.metric
    in_distribution, under_shift = (value_format(metric, of=of) for of in view.of)
    return {
        "model": st.column_config.TextColumn("model", pinned=True, width=225),
        "x": number(view.names[0], format=in_distribution),
        "y": number(view.names[1].removeprefix("the "), format=under_shift),
        "line": number(
            "by the line",
            format=under_shift,
            help=f"what an individual model of this {metric.label} is expected to have",
        ),
        "above": number(
            "above the line",
            format=gap_format(metric, of=view.of[1]),
            help=f"{wording.measure(metric)}: effective robustness",
        ),
        "band": st.column_config.TextColumn("95 % band", help="of where further individual models would lie"),
    }


def _details(view: View, model: Model) -> None:
    """One model: its two values, its height, and what else is known of it."""
    point = view.points[view.points["id"] == model.id].iloc[0]
    st.header(verbatim(model.name))
    x, y = (
        f"{shown(view.metric, point[axis], places(of))} on {name}"
        for axis, name, of in zip("xy", view.names, view.of, strict=True)
    )
    sentence = f"{x}, {y}"
    if view.line is not None:
        height = view.line.above(point["x"], point["y"])
        side = "above" if height >= 0 else "below"
        sentence += (
            f": {wording.apart(view.metric, height, signed=False)} {wording.measure(view.metric)} {side} the line"
        )
        if not view.line.low <= point["x"] <= view.line.high:
            sentence += ", which is extended here beyond the individual models"
    st.write(verbatim(f"{sentence}."))
    each = view.scores.values.loc[[model.id]].dropna(axis="columns").to_dict("records")[0]
    values = {
        short(str(name)): shown(view.metric, value, places(view.scores.num_units.get(str(name))))
        for name, value in each.items()
    }
    st.table(values | {verbatim(key): verbatim(str(value)) for key, value in (model.facts or {}).items()})
