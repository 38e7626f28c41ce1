"""The Diversity page's pairs: their errors in common, what averaging two gains, and one pair closely."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from soupviz.analysis import wording
from soupviz.analysis.diversity import Names, Pair, gather, pairs_of, singles
from soupviz.analysis.gains import Gain, gains, midpoints, score_ensembles, score_midpoints, without_logits
from soupviz.analysis.trend import Trend, trend
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures import sampling
from soupviz.pictures.diversity import (
    AGAINST,
    BY_DISTANCE,
    CELL,
    DISAGREEMENT,
    ENSEMBLE,
    MADE,
    MIDPOINT,
    PAIR,
    across,
    against_disagreement,
    overlaps,
)
from soupviz.soups import planning
from soupviz.soups.planning import Cost, cost
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.tasks.metric import Metric
from soupviz.tasks.significance import chance
from soupviz.tasks.wording import PERCENT, factor
from soupviz.ui import asking, charts, clicks, computing, session, tables, widgets, work
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

Values = dict[Names, float | None]
"""The objective of what was made of each pair."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is asked: on which split, of which ingredients, with which running statistics."""

    split: str
    names: tuple[str, ...]
    chosen: tuple[str, ...]
    batchnorm: str

    def key(self, opened: Kitchen, what: str) -> str:
        """Of a job: by content, so that a file that changed is scored anew. No split is read for it."""
        fingerprints = [opened.weights.resolve(name).fingerprint for name in self.names]
        spec = [opened.spec.split_specs()[self.split].model_dump_json(exclude={"slices"})]
        train = opened.spec.data.train
        spec += [train.model_dump_json()] if train and self.batchnorm != "average" else []
        context = [opened.model_fingerprint, *opened.evaluator.numerics, self.split, self.batchnorm, spec]
        return f"{what} {digest([list(self.names), fingerprints, context])}"


def choose_split(opened: Kitchen) -> str:
    """Where errors are looked at; held_out unless another is asked for. Test examples are read only on demand."""
    splits = opened.splits.reporting
    split = st.segmented_control(
        "Split", splits, default=HELD_OUT, required=True, key="split", bind="query-params",
        format_func=lambda name: f"{name} (selects)" if name == HELD_OUT else verbatim(name.removeprefix(SHIFTS)),
    )  # fmt: skip
    if split != HELD_OUT:
        st.caption(
            f"{verbatim(split)} reports. To look at its {opened.task.unit}s and then change a recipe spends it: what "
            "it says afterwards is no longer an honest report. Look at held_out while you still choose."
        )
    return str(split)


def wait_for(opened: Kitchen, split: str) -> None:
    """Show the jobs that read or score a split, and stop the page: what they find need not be asked for."""
    for job in (work.find_read_job(opened), computing.find_score_job(opened, split)):
        if job is not None and job.is_active and session.watch(job):
            end_page()


def choose_ingredients(opened: Kitchen, split: str) -> Asked:
    """Which ingredients stand out, whether only they are looked at, and what becomes of running statistics."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    before = [name for name in st.session_state.get("members") or [] if name in opened.names]
    chosen = row.multiselect(
        "Ingredients that stand out", opened.names, default=before, placeholder="none", key="standing out",
        help="Rows selected on the Ingredients page arrive here.",
    )  # fmt: skip
    st.session_state["members"] = chosen
    only = row.toggle("Only these", disabled=len(chosen) < 2, key="only", bind="query-params")
    batchnorm = "average"
    if widgets.has_batchnorm(opened):
        batchnorm = row.selectbox(
            "BatchNorm of averages", widgets.aggregations(opened), key="batchnorm", bind="query-params", width=180
        )
    # In kitchen order, whatever the order of choosing: a midpoint is scored once, under one order of its two names.
    names = [name for name in opened.names if not (only and len(chosen) > 1) or name in chosen]
    return Asked(split, tuple(names), tuple(chosen), batchnorm)


def pairs(opened: Kitchen, asked: Asked) -> list[Pair] | None:
    """How each pair errs together, once it is known what each ingredient says of each example, which is not kept."""

    def do(job: Job) -> list[Pair]:
        return pairs_of(gather(opened, asked.names, asked.split, job.progress))

    wanted = [(mixture, asked.split, "average") for mixture in singles(asked.names)]
    title = f"Score {len(asked.names)} ingredients on {asked.split}"
    job = asking.result(opened, asked.key(opened, "answers"), title, lambda: cost(opened, wanted), do, ahead=True)
    return job.result if job else None


def draw_made(opened: Kitchen, asked: Asked, pairs: Sequence[Pair], selected: Names | None) -> list[str]:
    """What averages, or ensembles, of two gain; returns the pair that is clicked."""
    st.header("Does averaging two gain more where they disagree more?")
    row = st.container(horizontal=True)
    able = list(MADE) if opened.task.has_ensembles else [MIDPOINT]
    made = row.segmented_control("Made of two", able, default=MIDPOINT, required=True, key="made", bind="query-params")
    axes = axes_of(pairs)
    against = row.segmented_control(
        "Against", list(axes), default=next(iter(axes)), required=True, key="against", bind="query-params"
    )

    if not opened.task.has_ensembles:
        why = opened.task.without("ensembles")
        st.caption(f"There are no ensembles of two: what the task {opened.task.name} answers cannot be averaged{why}.")

    def draw(values: Values) -> list[str]:
        found = gains(pairs, values, opened.objective)
        return draw_gains(opened, found, asked, str(made), str(against), selected, len(pairs))

    live = False

    def draw_live(job: Job) -> None:
        nonlocal live
        live = True
        draw(dict(job.events))

    values = (ask_ensembles if made == ENSEMBLE else ask_averages)(opened, asked, draw_live)
    return [] if live else draw(values)


def axes_of(pairs: Sequence[Pair]) -> Mapping[str, str]:
    """What the gain can be drawn against, with the titles of the axes: of choices no correlation of errors is known."""
    return AGAINST if all(pair.correlation is None for pair in pairs) else BY_DISTANCE


def ask_averages(opened: Kitchen, asked: Asked, draw: Callable[[Job], None]) -> Values:
    """What is known of the average of each pair; what is not is asked for."""
    mixes = midpoints(opened, asked.names)

    def do(job: Job) -> Values:
        return score_midpoints(
            opened, mixes, asked.split, asked.batchnorm, progress=job.progress,
            on_score=lambda names, value: job.events.append((names, value)),
        )  # fmt: skip

    wanted = [(mixture, asked.split, asked.batchnorm) for mixture in mixes.values()]
    title = f"Score {len(mixes)} averages of two" if len(mixes) > 1 else "Score their average"
    key = asked.key(opened, MIDPOINT)
    job = asking.result(opened, key, title, lambda: cost(opened, wanted), do, draw=draw, ahead=True)
    if job:
        found: Values = job.result
        return found
    known = planning.summaries(opened, wanted)
    metric = opened.objective
    return {pair: known[one].whole(metric) for pair, one in zip(mixes, wanted, strict=True) if one in known}


def ask_ensembles(opened: Kitchen, asked: Asked, draw: Callable[[Job], None]) -> Values:
    """The ensemble of each pair, once all are known: their averaged answers."""

    def do(job: Job) -> Values:
        return score_ensembles(
            opened, asked.names, asked.split, progress=job.progress,
            on_score=lambda names, value: job.events.append((names, value)),
        )  # fmt: skip

    missing = without_logits(opened, asked.names, asked.split)
    examples = len(missing) * len(opened.splits.load(asked.split))
    wanted = Cost(len(missing), len(asked.names) - len(missing), examples, opened.scores.seconds_for(examples))
    job = asking.result(
        opened, asked.key(opened, ENSEMBLE), "Ask each pair together", lambda: wanted, do, draw=draw, ahead=True
    )
    return job.result if job else {}


def draw_overlaps(opened: Kitchen, pairs: Sequence[Pair], asked: Asked, selected: Names | None) -> list[str]:
    """The heat map of errors in common; returns the pair that is clicked."""
    st.header("Errors in common")
    low = min(pairs, key=lambda pair: pair.overlap if pair.overlap is not None else 1.0)
    clicked = charts.show(
        overlaps(pairs, asked.names, asked.chosen, selected, opened.task.unit),
        key=f"overlaps {asked.split} {tables.digest(asked.names)}",
        alt=f"Share of errors in common of {len(pairs)} pairs on {asked.split}",
        clicked=CELL,
    )
    if low.overlap is not None and low.expected_overlap is not None:
        share, worst = "the share that both get wrong.", ""
        if pairs[0].same_wrong is None:
            worst = "What lies in the worst quarter of all ingredients' answers counts as wrong. "
        st.caption(
            f"Of the {opened.task.unit}s on {verbatim(asked.split)} that at least one of two gets wrong, {share} "
            f"{worst}Least in common: {verbatim(low.a)} and {verbatim(low.b)}, {low.overlap:.2f}; were their errors "
            f"independent, it would be {low.expected_overlap:.2f}."
        )
    return [f"{one['row']}\0{one['column']}" for one in clicked if "row" in one and "column" in one]


def draw_gains(
    opened: Kitchen, found: Sequence[Gain], asked: Asked, made: str, against: str, selected: Names | None, total: int
) -> list[str]:
    """The scatter of gain against disagreement, once there is a point of it; returns the pair that is clicked."""
    if not found:
        return []
    metric = opened.objective
    scale = factor(metric)
    points = {one.pair.names: (x, scale * one.gain) for one in found if (x := across(one.pair, against)) is not None}
    line = trend(points)
    drawn = _drawn(found, asked, selected)
    clicked = charts.show(
        against_disagreement(
            drawn,
            line,
            made,
            metric,
            against,
            asked.chosen,
            selected,
            axis=axes_of([one.pair for one in found]).get(against, ""),
            of=found[0].pair.num_units,
        ),
        key=f"gains {made} {against} {asked.split} {tables.digest(asked.names)}",
        alt=f"Gain of the {made} over the mean of the two against {against}, {len(found)} of {total} pairs",
        clicked=PAIR,
    )
    st.caption(verbatim(told(line, found, made, against, asked.split, total, metric)))
    rest = "What is said above is of all of them."
    if left := sampling.told(len(drawn), len(found), "pairs", "they are thinned out evenly", rest):
        st.caption(left)
    return [f"{one['a']}\0{one['b']}" for one in clicked if "a" in one and "b" in one]


def _drawn(found: Sequence[Gain], asked: Asked, selected: Names | None) -> list[Gain]:
    """What the scatter shows: the pair that is looked at, those of a few ingredients that stand out, and a sample."""
    stand_out = {one.pair.names for one in found if {one.pair.a, one.pair.b} & {*asked.chosen}}
    kept = stand_out if 2 * len(stand_out) <= sampling.MOST_POINTS else set()
    return sampling.thinned(
        found, sampling.MOST_POINTS, keeps=lambda one: one.pair.names in kept or one.pair.names == selected
    )


def told(
    line: Trend | None, found: Sequence[Gain], made: str, against: str, split: str, total: int, metric: Metric
) -> str:
    """The line in words, with what may be concluded from it."""
    above = sum(one.gain > 0 for one in found)
    better = "above" if metric.higher_is_better else "better than"
    first = f"On {split}, the {made} is {better} the mean of the two for {above} of {len(found)} pairs"
    first += f" ({total - len(found)} are not scored yet)." if len(found) < total else "."
    if line is None:
        return f"{first} A line needs three pairs that differ."
    unit = "point of disagreement" if against == DISAGREEMENT else f"unit of the {against}"
    form = ".2f" if metric.unit == PERCENT else ".3g"
    values = (line.slope, form), (line.pearson, ".2f"), (line.spearman, ".2f")
    slope, pearson, spearman = (f"{value:+{form}}".replace("-", wording.MINUS) for value, form in values)
    first += (
        f" Least squares: {slope} {wording.measure(metric)} for each {unit}; correlation {pearson} (Pearson), "
        f"{spearman} (Spearman)."
    )
    shared = f"The {line.num_pairs} pairs share {line.num_members} ingredients, so they are not independent"
    if line.p_value is None:
        return f"{first} {shared}: the usual p-value of a correlation does not hold."
    return f"{first} {shared}; a test that relabels the ingredients gives {chance(line.p_value)} (Mantel)."


def chosen_pair(pairs: Sequence[Pair]) -> Names | None:
    """The pair that is looked at, before its widget is drawn: of the URL, or clicked."""
    label = st.session_state.get("pair") or st.query_params.get("pair")
    return next((pair.names for pair in pairs if label_of(pair) == label), None)


def label_of(pair: Pair) -> str:
    return f"{pair.a} + {pair.b}"


def take_click(pairs: Sequence[Pair], **clicked: list[str]) -> None:
    """A click in a picture chooses a pair: the page is drawn anew with it."""
    for names in widgets.newly_clicked(**clicked):
        wanted = set(names.split("\0"))
        pair = next((pair for pair in pairs if set(pair.names) == wanted), None)
        if pair is not None and st.session_state.get("pair") != label_of(pair):
            clicks.choose(pair=label_of(pair))
