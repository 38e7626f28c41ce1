"""Two checkpoints looked at closely on the page Preflight: the curve between them, and what differs layer by layer."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from soupviz.analysis.barriers import metric_of
from soupviz.analysis.differences import Difference, by_layer, difference
from soupviz.analysis.preflight import Report
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import combine
from soupviz.pictures import preflight as pictures
from soupviz.soups import curves, planning
from soupviz.soups.planning import FREE, Cost
from soupviz.spec import HELD_OUT
from soupviz.tasks.score import Score
from soupviz.tasks.wording import titled
from soupviz.types import Coefficients
from soupviz.ui import asking, charts
from soupviz.ui.formats import in_unit
from soupviz.ui.jobs import Job
from soupviz.weights.selection import BASE

POINTS = 11

LAYERS, TENSORS = "layer groups", "tensors"
DRAWN = 40
"""Layer groups that are drawn as bars; more are a table only."""


def pair_curve(opened: Kitchen, judged: Report, aggregation: str) -> None:
    """The whole curve between two ingredients: which, is said by a cell that was clicked or by the boxes here."""
    names = opened.names
    if len(names) < 2:
        return
    st.header("From one to the other")
    first, second = _highest(judged)
    for key, name in (("first", first), ("second", second)):
        if (st.session_state.get(key) or st.query_params.get(key)) not in names:
            st.session_state[key] = name
    row = st.container(horizontal=True)
    a = row.selectbox("From", names, key="first", width=220, bind="query-params")
    b = row.selectbox("To", names, key="second", width=220, bind="query-params")
    if a == b:
        st.caption("Choose two different ones.")
        return
    alphas = curves.grid(POINTS)

    def mixture(alpha: float) -> Coefficients:
        return combine(((a, 1.0),), ((b, 1.0),), alpha)

    def how(alpha: float) -> str:  # the ends are the ingredients as they are
        return "average" if alpha in (0.0, 1.0) else aggregation

    def trace(job: Job) -> dict[float, Score]:
        ordered = curves.coarse_to_fine(alphas)
        wanted = [(mixture(alpha), HELD_OUT, how(alpha)) for alpha in ordered]
        return dict(zip(ordered, opened.scores.each(wanted, job.progress), strict=True))

    def cost() -> Cost:
        return planning.cost(opened, [(mixture(alpha), HELD_OUT, how(alpha)) for alpha in alphas])

    key = f"pair {opened.scores.key(mixture(0.5), HELD_OUT, aggregation)} {a} {b}"
    job = asking.result(opened, key, f"Draw the curve from {a} to {b}", cost, trace, ahead=True)
    if job is not None:
        _draw(opened, alphas, [job.result[alpha] for alpha in alphas], (a, b))


def _highest(judged: Report) -> tuple[str, str]:
    """The pair of the highest barrier; the first of equals."""
    names, heights = judged.barriers.names, judged.barriers.heights
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    i, j = max(pairs, key=lambda pair: heights[pair] if heights[pair] == heights[pair] else float("inf"))
    return names[i], names[j]


def _draw(opened: Kitchen, alphas: Sequence[float], scores: Sequence[Score], ends: tuple[str, str]) -> None:
    """The metric of barriers and the objective, each with its chord and barrier; what is not finite leaves a gap."""
    row = st.container(horizontal=True, gap="small")
    shown = {metric.name: metric for metric in (metric_of(opened), opened.objective)}
    for metric in shown.values():
        values = [in_unit(metric, score.whole(metric)) for score in scores]
        if None in (values[0], values[-1]):
            continue  # without both ends there is no chord
        title = f"{metric.label} on {HELD_OUT}" + (f" ({metric.unit})" if metric.unit else "")
        charts.show(
            pictures.curve(
                alphas,
                [float("nan") if value is None else value for value in values],
                ends,
                title=title,
                metric=metric,
                of=scores[0].num_units,
            ),
            key=f"pair {metric.name}",
            alt=f"{titled(metric)} between {ends[0]} and {ends[1]}",
            place=row.container(width=charts.SIDE),
        )
    st.caption("Circles are the two ingredients, stars are mixes; the dashed line is what no barrier would look like.")


def layer_diff(opened: Kitchen, chosen: Sequence[str]) -> None:
    """What differs between two checkpoints, by layer group or by tensor, the largest change first."""
    names = [*([BASE] if opened.base else []), *opened.names]
    if len(names) < 2:
        return
    st.header("What changed, layer by layer")
    row = st.container(horizontal=True, vertical_alignment="bottom")
    start = names.index(chosen[0]) if chosen and not opened.base else 0
    a = row.selectbox("a", names, index=start, key="old", width=165)
    last = next((name for name in [*reversed(chosen), *opened.names] if name != a), names[0])
    b = row.selectbox("b", names, index=names.index(last), key="new", width=165)
    level = row.segmented_control("Compare", (LAYERS, TENSORS), default=LAYERS, required=True, key="level")
    words = row.text_input("Search names", key="search", placeholder="head, 3.weight …", width=185)
    if a == b:
        st.caption("Choose two different ones.")
        return
    one, two = opened.weights.resolve(a), opened.weights.resolve(b)

    def compare(job: Job) -> list[Difference]:
        return difference(one.tensors, two.tensors, ties=opened.architecture.ties, progress=job.progress)

    key = f"difference {one.fingerprint} {two.fingerprint}"
    job = asking.result(opened, key, f"Compare {a} with {b}", lambda: FREE, compare, ahead=True)
    if job is not None:
        rows = by_layer(job.result) if level == LAYERS else list(job.result)
        _rows(
            [found for found in rows if all(word in found.name.lower() for word in words.lower().split())], a, b, level
        )


def _rows(rows: Sequence[Difference], a: str, b: str, level: str) -> None:
    if not rows:
        st.caption("No name has these words in it.")
        return
    shown = sorted(rows, key=lambda row: -1.0 if row.relative is None else row.relative, reverse=True)
    table = pd.DataFrame([row.as_dict() for row in shown])
    number = st.column_config.NumberColumn
    st.dataframe(
        table.assign(relative=100 * table["relative"].astype(float), share=100 * table["share"]).drop(columns="layer"),
        hide_index=True,
        height="auto",
        column_config={
            "name": st.column_config.TextColumn(level.removesuffix("s"), pinned=True),
            "numbers": number("numbers", format="localized"),
            "relative": number("relative change", format="%.3f %%", help="‖b − a‖ / ‖a‖"),
            "cosine": number("cosine", format="%.5f", help="of the angle between a and b"),
            "largest": number("largest change", format="%.2e", help="of a single number, absolute"),
            "share": number("numbers changed", format="%.1f %%"),
            "identical": st.column_config.CheckboxColumn("identical"),
        },
        placeholder="–",
        alt=f"What changed from {a} to {b}",
    )
    if level == LAYERS:
        st.caption("Of the weights: running statistics and counters are among the tensors only.")
    if level == LAYERS and 1 < len(rows) <= DRAWN:
        charts.show(
            pictures.layers([row.as_dict() for row in rows]), key="layer changes", alt="Relative change by layer"
        )
