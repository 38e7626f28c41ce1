"""Several curves on a page: which pairs, what it costs, the pictures, the table, and a point that is kept."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import curve_sets
from soupviz.analysis.curve_sets import Curve, CurveSet, Place, Reading
from soupviz.analysis.verdicts import by_merit
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures import curves as pictures
from soupviz.recipes import Interpolation
from soupviz.soups import curves, planning
from soupviz.spec import HELD_OUT, SHIFTS, TEST
from soupviz.tasks import wording
from soupviz.tasks.metric import Metric
from soupviz.ui import charts, session, tables, widgets
from soupviz.ui.ending import end_page
from soupviz.ui.formats import note, value_format
from soupviz.ui.path import Choice, choices
from soupviz.ui.verbatim import verbatim
from soupviz.weights.selection import BASE

RANGES = {"0 to 1": (0.0, 1.0), "-0.5 to 1.5": (-0.5, 1.5)}
MOST = len(pictures.PAIRS)
Lines = Mapping[tuple[str, str, str], Curve]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the page shows: the ends of each pair by its title, and the curves between them."""

    ends: Mapping[str, tuple[Choice, Choice]]
    curve_set: CurveSet

    def key(self, opened: Kitchen) -> str:
        """The key of its job: by content, so that a file that changed is scored anew."""
        ends = [opened.scores.key(end.mix, HELD_OUT, "average") for pair in self.ends.values() for end in pair]
        curve_set = self.curve_set
        data = opened.spec.data.model_dump_json()
        named = [list(self.ends), list(curve_set.alphas), list(curve_set.splits), list(curve_set.statistics)]
        return f"curves {digest([ends, named, data])}"

    def recipe(self, place: Place) -> Interpolation:
        a, b = self.ends[place.pair]
        return Interpolation(
            a=a.name, b=b.name, mix_a=a.mix, mix_b=b.mix, alpha=place.alpha, batchnorm=place.statistics
        )


def usual(opened: Kitchen) -> tuple[list[str], list[str]]:
    """The pairs of a first visit: from the base and the three next best ingredients to the best one."""
    first, *others = by_merit(opened)
    return ([BASE] if opened.base else []) + others[:3], [first]


def choose(opened: Kitchen) -> Chosen:
    """The pairs and how they are looked at; all of it in the URL. The page stops here where there is no pair."""
    ends = choices(opened, session.finished_runs(opened))
    if len(ends) < 2:
        st.info("A curve needs two ends. Add a checkpoint or a base to kitchen.yaml, or cook a soup on the Soup page.")
        end_page()
    pinned = f"usual curves of {opened.file}"  # scores that come in later must not change what was chosen
    start, goal = st.session_state.setdefault(pinned, usual(opened))
    bound: dict[str, Any] = {"bind": "query-params"}
    left, right = st.columns(2)
    names = list(ends)
    from_ = left.multiselect("From (alpha 0)", names, [n for n in start if n in ends], key="from", **bound)
    to = right.multiselect("To (alpha 1)", names, [n for n in goal if n in ends], key="to", **bound)
    row = st.container(horizontal=True)
    offered = opened.splits.reporting
    splits = row.multiselect("Splits", offered, offered[:2], key="splits", width=330, **bound)
    points = row.selectbox("Points", [5, 11, 21, 41], index=1, key="points", width=90, **bound)
    span = row.selectbox("Range of alpha", list(RANGES), key="range", width=150, **bound)
    statistics = ["average"]
    if widgets.has_batchnorm(opened):
        used = [ends[name].batchnorm for name in (*from_, *to)]
        kinds = widgets.aggregations(opened, *used)
        statistics = row.multiselect(
            "BatchNorm statistics", kinds, ["average"], key="statistics", width=330, max_selections=3, **bound
        )
    pairs = pairs_of(ends, from_, to)
    if not pairs or not splits or not statistics:
        st.info("Choose at least one end on each side, two different ones, a split, and what becomes of BatchNorm.")
        end_page()
    if len(pairs) > MOST:
        st.warning(f"{len(pairs)} pairs are more than can be told apart; the first {MOST} are shown.")
        pairs = dict(itertools.islice(pairs.items(), MOST))
    alphas = sorted({0.0, 1.0, *curves.grid(points, *RANGES[span])})
    mixes = {title: (a.mix, b.mix) for title, (a, b) in pairs.items()}
    return Chosen(pairs, CurveSet(mixes, alphas, [s for s in offered if s in splits], statistics))


def pairs_of(ends: Mapping[str, Choice], from_: Iterable[str], to: Iterable[str]) -> dict[str, tuple[Choice, Choice]]:
    """Each of the one side with each of the other, every two of them once, by title."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for a, b in itertools.product(from_, to):
        if a != b:
            found.setdefault(frozenset((a, b)), (a, b))
    return {f"{a} → {b}": (ends[a], ends[b]) for a, b in found.values()}


def stored(opened: Kitchen, curve_set: CurveSet) -> list[Reading]:
    """What was measured before; nothing is computed."""
    found = []
    for place in curve_set.places():
        score = planning.known(opened, curve_set.mix(place.pair, place.alpha), place.split, place.statistics)
        if score is not None:
            found.append(Reading.of(place, score, opened))
    return found


def draw(opened: Kitchen, shown: Chosen, metrics: Sequence[Metric], lines: Lines, chosen: str | None) -> Place | None:
    """The metrics on each split of which something is known, side by side; what was clicked last."""
    curve_set, clicked = shown.curve_set, None
    pairs, measured = list(curve_set.pairs), {split for _, _, split in lines}
    for split in [one for one in curve_set.splits if one in measured]:
        row = st.container(horizontal=True, gap="small")
        for metric in metrics:
            place = row.container(
                width=charts.SIDE
            )  # one below the other on a narrow page, where names would be cut off
            key = f"curves {metric.name} {split} {tables.digest([*pairs, *curve_set.statistics])} {curve_set.alphas[0]}"
            picture = pictures.curves(
                lines, pairs=pairs, statistics=curve_set.statistics, metric=metric, split=split,
                span=(curve_set.alphas[0], curve_set.alphas[-1]), chosen=chosen, unit=opened.task.unit,
                of=opened.splits.num_examples(split),
            )  # fmt: skip
            alt = f"{metric.label} on {split} along {len(pairs)} paths"
            found = charts.show(picture, key=key, alt=alt, clicked=pictures.POINT, place=place)
            ids = [f"{one['pair']}\0{one['statistics']}\0{float(one['alpha'])!r}" for one in found]
            for new in widgets.newly_clicked(**{key: ids}):
                pair, statistics, alpha = new.split("\0")
                clicked = Place(pair, statistics, split, float(alpha))
    return clicked


def table(shown: Chosen, metrics: Sequence[Metric], lines: Lines) -> pd.DataFrame:
    """One row for each curve: its barriers on each split, and its best alpha on held_out with what test has there."""
    rows, objective = [], metrics[0]
    for pair, statistics in itertools.product(shown.curve_set.pairs, shown.curve_set.statistics):
        row: dict[str, object] = {"pair": pair, "BatchNorm": statistics}
        of_split = {split: lines.get((pair, statistics, split)) for split in shown.curve_set.splits}
        for split, line in of_split.items():
            row[f"barrier on {split.removeprefix(SHIFTS)}"] = _barrier(line, metrics)
        if (held := of_split.get(HELD_OUT)) is not None:
            best = curve_sets.best(held)
            row["best alpha"] = best.place.alpha
            value = best.values[objective.name]
            row["held_out there"] = None if value is None else wording.factor(objective) * value
            test = of_split.get(TEST)
            there = [each for each in test.readings if each.place.alpha == best.place.alpha] if test else []
            if there:
                row["test there"] = " ".join(filter(None, _value(there[0], objective)))
        rows.append(row)
    found = pd.DataFrame(rows)
    return found if len(shown.curve_set.statistics) > 1 else found.drop(columns="BatchNorm")


def _value(reading: Reading, metric: Metric) -> tuple[str, str]:
    """A value, and its interval in brackets where it is known."""
    between = wording.span(metric, reading.intervals[metric.name])
    return wording.shown(metric, reading.values[metric.name], 1), f"({between})" if between else ""


def _barrier(line: Curve | None, metrics: Sequence[Metric]) -> str | None:
    """Of each metric, an error's first."""
    peaks = {metric.name: line.barriers[metric.name] if line else None for metric in metrics}
    if peaks[metrics[0].name] is None:
        return None
    if not any(
        found is None or pictures.is_told(found, metric) for metric in metrics for found in [peaks[metric.name]]
    ):
        return "none"
    told = [
        wording.height(metric, found.height) if (found := peaks[metric.name]) else f"{metric.label} not finite"
        for metric in sorted(metrics, key=lambda metric: metric.higher_is_better)
    ]
    return ", ".join(told)


def draw_table(shown: Chosen, metrics: Sequence[Metric], lines: Lines) -> list[str]:
    """The table of curves; the pairs that were clicked in it."""
    rows = table(shown, metrics, lines)
    form = "%.1f %%" if metrics[0].unit == wording.PERCENT else value_format(metrics[0])
    config: dict[str, Any] = {
        "pair": st.column_config.TextColumn("pair", pinned=True, width=200),
        "best alpha": st.column_config.NumberColumn("best alpha", format="%g", help="selected on held_out"),
        "held_out there": st.column_config.NumberColumn("held_out there", format=form, help="selects"),
        "test there": st.column_config.TextColumn("test there", help="reports; with a 95 % interval"),
    }
    labels = ", and by ".join(metric.label for metric in sorted(metrics, key=lambda metric: metric.higher_is_better))
    help_text = f"how far the curve is worse than the chord between the ends: by {labels}"
    config |= {
        name: st.column_config.TextColumn(name, help=help_text) for name in map(str, rows) if name.startswith("barrier")
    }
    state = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config=config,
        placeholder="–",
        key=f"curves table {tables.digest([*shown.curve_set.pairs, *shown.curve_set.statistics])}",
        alt="Each curve with its barriers and its best alpha",
    )
    return widgets.of_rows(state, rows["pair"].tolist())


def warn(opened: Kitchen, shown: Chosen) -> None:
    """What is not as it seems: ends that were cooked otherwise, variances that are clamped."""
    curve_set = shown.curve_set
    for end in {end.name: end for pair in shown.ends.values() for end in pair}.values():
        if widgets.has_batchnorm(opened) and end.batchnorm not in (None, *curve_set.statistics):
            st.warning(
                f"“{verbatim(end.name)}” was cooked with BatchNorm {end.batchnorm}: with "
                f"{', '.join(curve_set.statistics)} the end of its curve differs from it."
            )
    beyond = [curve_set.alphas[0], curve_set.alphas[-1]] if curve_set.alphas[0] < 0 else []
    counts = [
        opened.scores.count_clamped(curve_set.mix(pair, alpha), statistics)
        for pair in curve_set.pairs for alpha in beyond for statistics in curve_set.statistics
    ]  # fmt: skip
    if clamped := max(counts, default=0):
        st.caption(f"Beyond [0, 1] up to {clamped} running variances would be negative; they are clamped at 0.")


def choose_pair(pair: str) -> None:
    """Let a pair stand out, by the URL; a point of another pair is let go."""
    if st.query_params.get("pair") != pair:
        for name in ("statistic", "at"):
            st.query_params.pop(name, None)
    st.query_params["pair"] = pair


def choose_place(place: Place) -> None:
    """Look at a point of a curve, by the URL."""
    st.query_params.update({"pair": place.pair, "statistic": place.statistics, "at": f"{place.alpha:g}"})


def chosen_pair(shown: Chosen) -> str | None:
    """The pair that stands out."""
    pair = st.query_params.get("pair")
    return pair if pair in shown.curve_set.pairs else None


def chosen_place(shown: Chosen) -> Place | None:
    """The point that was clicked, where it is on one of the curves."""
    pair, statistics = chosen_pair(shown), st.query_params.get("statistic")
    at = [alpha for alpha in shown.curve_set.alphas if f"{alpha:g}" == st.query_params.get("at")]
    if pair is None or statistics is None or statistics not in shown.curve_set.statistics or not at:
        return None
    return Place(pair, statistics, shown.curve_set.splits[0], at[0])


def told_at(metric: Metric, lines: Lines, place: Place, splits: Sequence[str]) -> list[tuple[str, str, str]]:
    """The figures of one mix on each split, for a row of metrics."""
    items = []
    for split in splits:
        line = lines.get((place.pair, place.statistics, split))
        for each in line.readings if line else ():
            if each.place.alpha == place.alpha:
                value = wording.shown(metric, each.values[metric.name], 1)
                items.append((split.removeprefix(SHIFTS), value, note(metric, each.intervals[metric.name])))
    return items
