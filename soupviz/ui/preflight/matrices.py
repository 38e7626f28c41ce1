"""Who is close to whom, on the page Preflight: the two matrices, their tree, and the map of the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from soupviz.analysis import geometry
from soupviz.analysis.differences import Sameness
from soupviz.analysis.geometry import Clustering, Geometry
from soupviz.analysis.preflight import Report
from soupviz.kitchen import Kitchen
from soupviz.pictures import preflight as pictures
from soupviz.soups import planning
from soupviz.spec import HELD_OUT
from soupviz.tasks.wording import factor, gap_unit
from soupviz.ui import charts, tables, widgets
from soupviz.ui.charts import Place
from soupviz.ui.formats import in_unit
from soupviz.ui.verbatim import verbatim
from soupviz.weights.selection import BASE

ORDERS = ("barriers", "angles", "kitchen")
OUTLYING = 4.0
"""Times the usual distance: what lies farther off leaves the others no room on the map."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the weights alone tell."""

    geometry: Geometry
    sameness: Sameness


def matrices(opened: Kitchen, found: Weights, judged: Report | None, chosen: Sequence[str]) -> None:
    """Barriers and angles of every pair in one order, the tree of that order, and the map."""
    order = st.segmented_control(
        "Order of rows and columns", ORDERS, default=ORDERS[0], required=True, key="order", bind="query-params"
    )
    if order == "barriers" and judged is None:
        order = "angles"
    clustering = _clustering(order, found.geometry, judged)
    leaves = list(clustering.order) if clustering else list(range(len(opened.names)))
    names = [opened.names[leaf] for leaf in leaves]
    grid = np.ix_(leaves, leaves)
    clicks: dict[str, list[str]] = {}
    row = st.container(horizontal=True, gap="small")
    key = f"{tables.digest(names)} {judged.barriers.aggregation if judged else ''}"
    if judged is not None:
        place = row.container(width=charts.SIDE)
        metric = judged.barriers.metric
        counted_in = f"{'below' if metric.higher_is_better else 'above'} the ends" + (
            f", in {gap_unit(metric)}" if metric.unit else ","
        )
        place.markdown(f"**Barriers: {metric.label} half-way {counted_in} on held_out.** Click a cell for its curve.")
        picture = pictures.barriers(names, judged.barriers.heights[grid], metric, chosen)
        clicks["barriers"] = _cells(picture, f"barriers {key}", "Barriers of every pair", place)
    place = row.container(width=charts.SIDE)
    place.markdown(
        f"**Angles: cosine of the updates from the {verbatim(found.geometry.reference_name)}.** 1 is one direction."
    )
    picture = pictures.pairs(names, found.geometry.cosines[grid], chosen, **pictures.COSINE)
    clicks["angles"] = _cells(picture, f"angles {key}", "Cosines of every two updates", place)
    if pair := widgets.newly_clicked(**clicks):
        st.session_state["first"], st.session_state["second"] = pair[0].split("\n")
    row = st.container(horizontal=True, gap="small")
    place = row.container(width=charts.SIDE)
    weights_map(opened, found, chosen, place)
    if clustering is not None and len(names) > 1:
        place = row.container(width=charts.SIDE)
        place.markdown(f"**Tree of the {order}: what joins early is alike.**")
        x_title = "1 - cosine"
        if order == "barriers" and judged is not None:
            metric = judged.barriers.metric
            x_title = f"{metric.label} half-way less the ends'" + (f" ({gap_unit(metric)})" if metric.unit else "")
        picture = pictures.tree(clustering, opened.names, chosen, x_title=x_title)
        _toggle(charts.show(picture, key=f"tree {key} {_nonce()}", alt="Tree", clicked=pictures.PLACE, place=place))


def _clustering(order: str, found: Geometry, judged: Report | None) -> Clustering | None:
    """The tree of an order; barriers are taken with their sign, so that pairs without one are told apart as well."""
    if order == "barriers" and judged is not None:
        rises = np.nan_to_num(judged.barriers.rises, nan=np.nanmax(judged.barriers.rises))
        apart = ~np.eye(len(rises), dtype=bool)
        low = rises[apart].min(initial=0.0)
        return geometry.cluster(factor(judged.barriers.metric) * np.where(apart, rises - low, 0.0))
    return geometry.cluster(1.0 - found.cosines) if order == "angles" else None


def _cells(picture: Any, key: str, alt: str, place: Place) -> list[str]:
    selected = charts.show(picture, key=key, alt=alt, clicked=pictures.CELL, place=place)
    return [f"{one['row']}\n{one['column']}" for one in selected if one["row"] != one["column"]]


def weights_map(opened: Kitchen, found: Weights, chosen: Sequence[str], place: Place) -> None:
    """Distances between weights in the plane; what lies far off is left out, as it leaves the others no room."""
    place.markdown("**Map: distances between weights, as well as a plane can show them.**")
    far = _outliers(found.geometry)
    without = bool(far) and place.toggle(
        f"Leave out what lies far off: {verbatim(listed(far))}", True, key="without far"
    )
    names = [name for name in opened.names if not (without and name in far)]
    if len(names) < 2:
        place.caption("A map needs two checkpoints.")
        return
    shown = [*names, BASE] if opened.base else names
    flat = geometry.flat_map(_distances(opened, found.geometry, names))
    known = planning.ingredient_summaries(opened, HELD_OUT, shown)
    metric = opened.objective
    values = {name: in_unit(metric, known[name].shown(metric.name)) if name in known else None for name in shown}
    picture = pictures.weights_map(flat, shown, values, chosen, metric=metric, of=opened.splits.num_examples(HELD_OUT))
    key = f"map {tables.digest(shown)} {_nonce()}"
    _toggle(charts.show(picture, key=key, alt="Map of the weights", clicked=pictures.PLACE, place=place))
    square = " The square is the base." if opened.base else ""
    place.caption(f"The plane shows {100 * flat.share:.0f} % of the squared distances.{square}")


def _outliers(found: Geometry) -> list[str]:
    """Ingredients several times as far from the others as these usually are from each other."""
    distances = found.distances
    n = len(distances)
    usual = np.median(distances[~np.eye(n, dtype=bool)].reshape(n, n - 1), axis=1)
    return [name for name, distance in zip(found.names, usual, strict=True) if distance > OUTLYING * np.median(usual)]


def _distances(opened: Kitchen, found: Geometry, names: Sequence[str]) -> geometry.Matrix:
    """Between the named ingredients, and the base last where there is one."""
    mixes = [((name, 1.0),) for name in names] + ([((BASE, 1.0),)] if opened.base else [])
    return geometry.distances_of(found.of_mixes(mixes))


def _nonce() -> int:
    return int(st.session_state.get("selection", 0))


def _toggle(clicked: Sequence[dict[str, Any]]) -> None:
    """Take the ingredient that was clicked into the selection, or out of it."""
    if clicked and clicked[0]["id"] != BASE:
        name = str(clicked[0]["id"])
        members = list(st.session_state.get("members") or [])
        st.session_state["members"] = [one for one in members if one != name] if name in members else [*members, name]
        st.session_state["selection"] = _nonce() + 1
        st.rerun()


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
