"""Two runs side by side: recipes field by field, scores with the paired test, coefficients, decisions."""

from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import history as core
from soupviz.analysis import wording
from soupviz.analysis.history import Entry
from soupviz.kitchen import Kitchen
from soupviz.pictures.history import searches
from soupviz.soups.planning import cost, lacking
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.tasks.wording import axis_title, of_score
from soupviz.ui import asking, charts, session, work
from soupviz.ui.formats import CHANCE, gap_format, in_unit, value_format
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim


def draw(opened: Kitchen, a: Entry, b: Entry) -> None:
    """All that tells two runs apart; a is the older one."""
    a, b = (core.whole(opened, entry) for entry in (a, b))
    names = (f"#{a.run.id} {a.run.name}", f"#{b.run.id} {b.run.name}")
    st.header(f"{verbatim(names[0])} beside {verbatim(names[1])}")
    for name, entry in zip(names, (a, b), strict=True):
        if entry.reason:
            st.warning(verbatim(f"{name} is {entry.state}: {entry.reason}"))
    scores(opened, a, b, names)
    left, right = st.columns(2)
    with left:
        recipes(a, b)
    with right:
        coefficients(a, b)
    steps = core.steps_of(a.run), core.steps_of(b.run)
    if any(steps):
        st.header("Decisions")
        told = [f"{name}: {len(one)} candidates" for name, one in zip(names, steps, strict=True) if one]
        charts.show(
            searches(*steps, names, opened.objective, of=opened.splits.num_examples(HELD_OUT)),
            key=f"searches {a.run.key} {b.run.key}",
            alt=f"Best so far. {told}",
        )


def scores(opened: Kitchen, a: Entry, b: Entry, names: tuple[str, str]) -> None:
    """The objective on each split, with the paired test where both soups are of this kitchen."""
    st.header("Scores")
    if not (a.is_soup and b.is_soup):
        st.caption("Only soups of this kitchen as it is can be tested against each other; these are what was kept.")
        _kept(opened, a, b, names)
        return
    reading = work.find_read_job(opened)
    if reading is not None and session.watch(reading):  # a split that is not read yet would seem not to be scored
        return
    wanted = core.wanted(opened, (a.run, b.run))
    if lacking(opened, wanted):

        def score(job: Job) -> None:
            opened.scores.score_all(wanted, job.progress)

        key = f"pair {a.run.key} {b.run.key}"
        asking.result(opened, key, "Score both on every split", lambda: cost(opened, wanted), score)
    rows, task, metric = core.pairs(opened, a.run, b.run), opened.task, opened.objective
    if rows:
        gained, lost = task.gains
        how = wording.test_of(metric, rows[-1].grouped)
        st.dataframe(
            pd.DataFrame(
                {
                    "split": pair.split.removeprefix(SHIFTS), "a": in_unit(metric, pair.old),
                    "b": in_unit(metric, pair.new), "difference": in_unit(metric, pair.difference),
                    gained: pair.better, lost: pair.worse, "p": pair.p_value, "verdict": pair.judgement,
                }
                for pair in rows
            ).drop(columns=[] if task.judges_units else [gained, lost]),
            hide_index=True,
            column_config=_columns((f"#{a.run.id}", f"#{b.run.id}"), opened, how),
            alt=f"{axis_title(metric)} of {names[0]} and {names[1]} on each split, and the paired test",
        )  # fmt: skip
        st.caption(
            f"What {verbatim(names[1])} is against {verbatim(names[0])}, on the same {task.unit}s, by the {how}. "
            f"{wording.direction(metric)} held_out selected both: believe the other splits."
        )


def _columns(names: tuple[str, str], opened: Kitchen, test: str) -> dict[str, Any]:
    number, task, metric = st.column_config.NumberColumn, opened.task, opened.objective
    gained, lost = task.gains
    of = max((opened.splits.num_examples(split) or 0 for split in opened.splits.reporting), default=0) or None
    return {
        "a": number(names[0], format=value_format(metric, of=of), width=80),
        "b": number(names[1], format=value_format(metric, of=of), width=80),
        "difference": number("difference", format=gap_format(metric, of=of), help=wording.measure(metric)),
        gained: number(gained, help=task.only("the newer run")),
        lost: number(lost, help=task.only("the older run")),
        "p": number("p", format=CHANCE, width=95, help=f"{test}, two-sided"),
        "verdict": st.column_config.TextColumn("verdict", help="of the newer run against the older one"),
    }


def _kept(opened: Kitchen, a: Entry, b: Entry, names: tuple[str, str]) -> None:
    """The values that were kept with two runs, each of the data of its time."""
    kept, metric = [core.scores_in(opened, entry.run) for entry in (a, b)], opened.objective
    rows = {
        split.removeprefix(SHIFTS): [of_score(metric, scores[split]) if split in scores else "–" for scores in kept]
        for split in dict.fromkeys([*kept[0], *kept[1]])
    }
    if rows:
        st.table(pd.DataFrame(rows, index=[verbatim(name) for name in names]).T)


def recipes(a: Entry, b: Entry) -> None:
    """Two recipes field by field, what differs first."""
    st.header("Recipes")
    fields = core.recipe_fields(a.run, b.run)
    first, second = f"#{a.run.id}", f"#{b.run.id}"
    st.dataframe(
        pd.DataFrame(
            {"field": field.name, first: field.a, second: field.b, "differs": "≠" if field.differs else ""}
            for field in fields
        ),
        hide_index=True,
        height="content",
        placeholder="–",
        alt=f"{sum(field.differs for field in fields)} of {len(fields)} fields of the recipes differ",
    )


def coefficients(a: Entry, b: Entry) -> None:
    """The ingredients of both with their coefficients, and what became of them where they were candidates."""
    st.header("Coefficients")
    parts = core.parts(a.run, b.run)
    if not parts:
        st.caption("Neither is one weighted sum of ingredients.")
        return
    table = pd.DataFrame(
        {
            "ingredient": part.name, "a": part.weight_a, "decision a": part.decision_a or None,
            "b": part.weight_b, "decision b": part.decision_b or None,
        }
        for part in parts
    )  # fmt: skip
    number = st.column_config.NumberColumn
    config = {side: number(f"#{run.id}", format="%.4f") for side, run in (("a", a.run), ("b", b.run))}
    config |= {f"decision {side}": st.column_config.TextColumn("decision") for side in "ab"}
    st.dataframe(
        table.dropna(axis="columns", how="all"),
        hide_index=True,
        height="content" if len(parts) <= 20 else 460,
        placeholder="–",
        column_config=config,
        alt=f"Coefficients of {len(parts)} ingredients in both runs",
    )
