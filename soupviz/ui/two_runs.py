"""Two runs side by side: recipes field by field, scores with the paired test, coefficients, decisions."""

from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import history as core
from soupviz.analysis.history import Entry
from soupviz.kitchen import Kitchen
from soupviz.pictures.history import searches
from soupviz.soups.planning import cost, lacking
from soupviz.ui import asking, charts, session, work
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim


def draw(opened: Kitchen, a: Entry, b: Entry) -> None:
    """All that tells two runs apart; a is the older one."""
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
        charts.show(searches(*steps, names), key=f"searches {a.run.key} {b.run.key}", alt=f"Best so far. {told}")


def scores(opened: Kitchen, a: Entry, b: Entry, names: tuple[str, str]) -> None:
    """Accuracy on each split, with the paired test where both soups are of this kitchen."""
    st.header("Scores")
    if not (a.is_soup and b.is_soup):
        st.caption("Only soups of this kitchen as it is can be tested against each other; these are what was kept.")
        _kept(a, b, names)
        return
    reading = work.find_read_job(opened)
    if reading is not None and session.watch(reading):  # a split that is not read yet would seem not to be scored
        return
    wanted = core.wanted(opened, (a.run, b.run))
    if lacking(opened, wanted):

        def score(job: Job) -> None:
            for mixture, split, treatment in wanted:
                opened.scores.score(mixture, split, treatment, job.progress)

        key = f"pair {a.run.key} {b.run.key}"
        asking.result(opened, key, "Score both on every split", lambda: cost(opened, wanted), score)
    rows = core.pairs(opened, a.run, b.run)
    if rows:
        st.dataframe(
            pd.DataFrame(
                {
                    "split": pair.split.removeprefix("shifts."), "a": 100 * pair.a.accuracy,
                    "b": 100 * pair.b.accuracy, "points": 100 * (pair.b.accuracy - pair.a.accuracy),
                    "fixed": pair.fixed, "broken": pair.broken, "p": pair.p_value, "verdict": pair.verdict,
                }
                for pair in rows
            ),
            hide_index=True,
            column_config=_columns((f"#{a.run.id}", f"#{b.run.id}")),
            alt=f"Accuracy of {names[0]} and {names[1]} on each split, and the paired test",
        )  # fmt: skip
        st.caption(
            f"What {verbatim(names[1])} is against {verbatim(names[0])}, on the same examples, by McNemar's exact "
            "test. held_out selected both: believe the other splits."
        )


def _columns(names: tuple[str, str]) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "a": number(names[0], format="%.2f %%", width=80),
        "b": number(names[1], format="%.2f %%", width=80),
        "points": number("difference", format="%+.2f", help="points"),
        "fixed": number("fixed", help="examples that only the newer run has right"),
        "broken": number("broken", help="examples that only the older run has right"),
        "p": number("p", format="%.3f", help="exact McNemar test, two-sided"),
        "verdict": st.column_config.TextColumn("verdict", help="of the newer run against the older one"),
    }


def _kept(a: Entry, b: Entry, names: tuple[str, str]) -> None:
    """The accuracies that were kept with two runs, each of the data of its time."""
    kept = [(entry.run.result or {}).get("scores", {}) for entry in (a, b)]
    rows = {
        split.removeprefix("shifts."): [
            f"{100 * scores[split]['accuracy']:.2f} %" if split in scores else "–" for scores in kept
        ]
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
