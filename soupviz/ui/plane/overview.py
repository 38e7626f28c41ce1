"""The plane on a page: its three points, the map, the table of what lies beside it, and a spot that is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import history, planes
from soupviz.analysis.planes import FINENESS, Frame, Projection, Spot, Value
from soupviz.analysis.verdicts import by_merit
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import Point
from soupviz.recipes.paths import in_plane
from soupviz.soups import planning
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.store.runs import Run
from soupviz.tasks import wording
from soupviz.tasks.figures import interval
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Score
from soupviz.ui import formats, keeping, session, tables, verdict, widgets
from soupviz.ui.ending import end_page
from soupviz.ui.path import Choice, choices
from soupviz.ui.verbatim import verbatim
from soupviz.weights.selection import BASE

FAR = 1e4
"""A weight beyond it is a mistake in a URL."""

IN_PLANE = 1e-3
"""Of the triangle's mean side: what is nearer counts as in the plane; weights are rounded to their format."""

MOST_SOUPS = 100
"""That are drawn beside the plane."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the page shows. others: every further model that is projected on the plane."""

    corners: tuple[Choice, Choice, Choice]
    others: tuple[Choice, ...]
    split: str
    metric: Metric
    batchnorm: str
    fineness: int

    @property
    def mixes(self) -> tuple[Any, ...]:
        return tuple(corner.mix for corner in self.corners)

    @property
    def items(self) -> tuple[Choice, ...]:
        """The corners, then the others."""
        return (*self.corners, *self.others)

    def key(self, opened: Kitchen, *, of_scores: bool) -> str:
        """The key of a job: by content; the geometry depends on all models, the scores on the corners alone."""
        items = self.corners if of_scores else self.items
        keys: list[Any] = [opened.scores.key(item.mix, HELD_OUT, "average") for item in items]
        if of_scores:
            keys += [self.split, self.batchnorm, self.fineness, opened.spec.data.model_dump_json()]
        return f"plane {'scores' if of_scores else 'places'} {digest(keys)}"

    def recipe(self, spot: Spot) -> Point:
        a, b, c = self.corners
        return Point(
            a=a.name, b=b.name, c=c.name, mix_a=a.mix, mix_b=b.mix, mix_c=c.mix,
            beta=spot[0], gamma=spot[1], batchnorm=self.batchnorm,
        )  # fmt: skip


def choose(opened: Kitchen) -> Chosen:
    """Three points, a split, a metric and how fine; all of it in the URL. The page stops where there are too few."""
    ends = choices(opened, session.finished_runs(opened))
    if len(ends) < 3:
        st.info(
            "A plane needs three points. Add checkpoints or a base to kitchen.yaml, or cook a soup on the Soup page."
        )
        end_page()
    pinned = f"usual plane of {opened.file}"  # scores that come in later must not change what was chosen
    first = st.session_state.setdefault(pinned, ([BASE] if opened.base else []) + by_merit(opened))
    bound: dict[str, Any] = {"bind": "query-params"}
    names = list(ends)
    usual = [*(name for name in first if name in ends), *(name for name in names if name not in first)]
    row = st.container(horizontal=True)
    chosen = [
        row.selectbox(f"Point {letter}", names, names.index(usual[index]), key=f"corner_{letter}", width=210, **bound)
        for index, letter in enumerate("ABC")
    ]
    row = st.container(horizontal=True)
    metrics = formats.offered(opened)
    metric = row.segmented_control(
        "Show", list(metrics), default=opened.objective.name, required=True, key="show",
        format_func=lambda name: metrics[name].label, **bound,
    )  # fmt: skip
    split = row.selectbox("Split", opened.splits.reporting, key="split", width=150, **bound)
    grids = {f"{size} × {size}": size for size in FINENESS}
    fineness = row.selectbox("Grid", list(grids), index=1, key="grid", width=110, **bound)
    batchnorm = "average"
    if widgets.has_batchnorm(opened):
        offered = widgets.aggregations(opened, *(ends[name].batchnorm for name in chosen))
        batchnorm = row.selectbox("BatchNorm", offered, key="statistics", width=150, **bound)
    if len(set(chosen)) < 3:
        st.info("Two of the points are the same; choose three different ones.")
        end_page()
    corners = (ends[chosen[0]], ends[chosen[1]], ends[chosen[2]])
    shown = _drawn(opened, ends)
    others = tuple(ends[name] for name in shown if name not in chosen)
    if left := len(ends) - len(shown):
        st.caption(f"Of the soups the {MOST_SOUPS} best on held_out are drawn; {left} more can be chosen as points.")
    return Chosen(corners, others, split, metrics[str(metric)], batchnorm, grids[fineness])


def _drawn(opened: Kitchen, ends: Mapping[str, Choice]) -> list[str]:
    """What the map shows: of soups the best, beside all else; more would hide each other."""
    best = history.ranked(opened, session.finished_runs(opened))
    soups = {(mix_in(run), aggregation_in(run)) for run in best if aggregation_in(run) not in OUTPUTS}
    if len(soups) > MOST_SOUPS:
        soups = {(mix_in(run), aggregation_in(run)) for run in best[:MOST_SOUPS]}
    return [name for name, end in ends.items() if end.kind != "soup" or (end.mix, end.batchnorm) in soups]


@dataclass(frozen=True, slots=True)
class Item:
    """A model beside the plane: where, how far from it, and its own score, where that is known."""

    letter: str
    choice: Choice
    place: Projection
    score: Score | None


def items(opened: Kitchen, shown: Chosen, places: Sequence[Projection]) -> list[Item]:
    """Every model with its place; the corners first, by letter."""
    letters = ["A", "B", "C", *([""] * len(shown.others))]
    wanted = [(choice.mix, shown.split, choice.batchnorm or "average") for choice in shown.items]
    found = planning.summaries(opened, wanted)
    return [
        Item(letter, choice, place, found.get(one))
        for letter, choice, place, one in zip(letters, shown.items, places, wanted, strict=True)
    ]


def stored(opened: Kitchen, shown: Chosen, spots: Sequence[Spot]) -> list[Value]:
    """What was measured before; nothing is computed."""
    wanted = {spot: (in_plane(shown.mixes, *spot), shown.split, shown.batchnorm) for spot in spots}
    found = planning.summaries(opened, wanted.values())
    return [Value.of(opened, spot, found[one]) for spot, one in wanted.items() if one in found]


def table(frame: Frame, found: Sequence[Item], values: Sequence[Value], metric: Metric) -> pd.DataFrame:
    """One row per model: how far from the plane, its own figure, and the plane's at the point below it."""
    # To six decimals, as spots of the map are: a corner is then the spot that was measured there.
    exact = [frame.spot(item.place.x, item.place.y) for item in found]
    spots = [(round(beta, 6) + 0.0, round(gamma, 6) + 0.0) for beta, gamma in exact]
    below = planes.between(frame, figures(values, metric), spots)
    rows = []
    for item, (beta, gamma), number in zip(found, spots, below, strict=True):
        row: dict[str, object] = {"point": item.letter, "model": item.choice.name, "kind": item.choice.kind}
        share = item.place.distance / frame.side
        row |= {"distance": item.place.distance if share > 1e-6 else 0.0, "share": 100 * share}
        shares = {"A": 1 - beta - gamma, "B": beta, "C": gamma}
        row |= {name: round(weight, 6) + 0.0 for name, weight in shares.items()}  # + 0.0: no minus before a zero
        row["own"] = own(item.score, metric)
        rows.append(row | {"below": number})
    return pd.DataFrame(rows)


def own(score: Score | None, metric: Metric) -> float | None:
    """The figure of a model itself, as it is shown."""
    return formats.in_unit(metric, score.whole(metric)) if score else None


def figures(values: Sequence[Value], metric: Metric) -> dict[Spot, float]:
    """The figure of each spot where there is one, as it is shown."""
    shown = {value.spot: formats.in_unit(metric, value.figures[metric.name]) for value in values}
    return {spot: number for spot, number in shown.items() if number is not None}


def draw_table(opened: Kitchen, rows: pd.DataFrame, metric: Metric, split: str) -> list[str]:
    """The models beside the plane; those that were clicked in it."""
    names = rows["model"].tolist()
    number = st.column_config.NumberColumn
    form = formats.value_format(metric, of=opened.splits.num_examples(split))
    state = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        key=f"plane table {tables.digest([*names, metric.name, split])}",
        column_config={
            "point": st.column_config.TextColumn("at", width=40, help="which corner of the map it is"),
            "model": st.column_config.TextColumn("model", pinned=True, width=190),
            "distance": number("distance", format="%.4g", help="from the plane, in the unit of the weights"),
            "share": number("share of a side", format="%.1f %%", help="of the mean distance between the three points"),
            "A": number("of A", format="%.2f", help="weights of the point of the plane that is nearest to it"),
            "B": number("of B", format="%.2f"),
            "C": number("of C", format="%.2f"),
            "own": number("its own", format=form, help=f"{metric.label} on {split}"),
            "below": number(
                "plane there", format=form, help=f"{metric.label} on {split} at its nearest point of the plane"
            ),
        },
        alt="Each model with its distance from the plane",
    )
    return widgets.of_rows(state, names)


def clamped(opened: Kitchen, shown: Chosen, frame: Frame) -> None:
    """Tell of running variances that are clamped at the corners of the grid."""
    edges = planes.rows(frame, FINENESS[0])
    outermost = [edges[row][column] for row in (0, -1) for column in (0, -1)]
    counts = [opened.scores.count_clamped(in_plane(shown.mixes, *spot), shown.batchnorm) for spot in outermost]
    if most := max(counts):
        st.caption(f"Outside the triangle up to {most} running variances would be negative; they are clamped at 0.")


def altered(opened: Kitchen, shown: Chosen) -> None:
    """Tell of corners that are soups of another BatchNorm aggregation than the plane's."""
    for corner in shown.corners:
        if widgets.has_batchnorm(opened) and corner.batchnorm not in (None, shown.batchnorm):
            st.warning(
                f"“{verbatim(corner.name)}” was cooked with BatchNorm {corner.batchnorm}: in a plane of "
                f"{shown.batchnorm} its corner differs from it."
            )


def data(frame: Frame, values: Sequence[Value], shown: Chosen) -> bytes:
    """What was measured, as CSV: a row for each spot."""
    rows = []
    for value in values:
        (beta, gamma), (x, y) = value.spot, frame.place(value.spot)
        row: dict[str, object] = dict(zip("xy", (x, y), strict=True))
        row |= {shown.corners[0].name: 1 - beta - gamma, shown.corners[1].name: beta, shown.corners[2].name: gamma}
        row |= {"split": shown.split, "batchnorm": shown.batchnorm}
        rows.append(row | dict(value.figures) | dict(value.counts))
    return tables.as_csv(pd.DataFrame(rows)).encode()


def chosen_spot() -> Spot | None:
    """The spot that was clicked, as the URL has it."""
    try:
        beta, gamma = map(float, st.query_params.get("spot", "").split(","))
    except ValueError:
        return None
    return (beta, gamma) if abs(beta) <= FAR and abs(gamma) <= FAR else None


def choose_item(kind: str, value: str) -> None:
    """Look at a spot, or at a model, by the URL."""
    for name in ("spot", "model"):
        st.query_params.pop(name, None)
    st.query_params[kind] = value


def run_of(opened: Kitchen, name: str) -> Run | None:
    """The soup of a name."""
    runs = session.finished_runs(opened)
    return next((run for run in runs if name in (run.name, f"{run.name} #{run.key[:6]}")), None)


def draw_spot(opened: Kitchen, shown: Chosen, spot: Spot) -> None:
    """What is known of a spot, and a button that keeps it."""
    recipe = shown.recipe(spot)
    st.header(verbatim(recipe.title))
    keeping.offer(opened, recipe)


def draw_model(opened: Kitchen, item: Item, side: float, split: str) -> None:
    """A model beside the plane: how far it is, and how good it is itself."""
    st.header(verbatim(item.choice.name))
    share = item.place.distance / side
    lies = "lies in the plane" if share < IN_PLANE else f"lies {100 * share:.1f} % of a side away from the plane"
    st.write(
        f"This {item.choice.kind} {lies}."
        + ("" if share < IN_PLANE else f" The map shows the plane below it, not {verbatim(item.choice.name)} itself.")
    )
    if (run := run_of(opened, item.choice.name)) is not None:
        verdict.draw(opened, run)
    elif item.score is not None:
        metric = opened.objective
        note = formats.note(metric, interval(metric, item.score))
        widgets.metric_row([(split.removeprefix(SHIFTS), wording.of_score(metric, item.score), note)])
