"""Of many ingredients a cheaper answer than all barriers: a midpoint of the best with each other."""

import streamlit as st

from soupviz.analysis import barriers, regime
from soupviz.analysis.regime import Regime
from soupviz.kitchen import Kitchen
from soupviz.soups import planning
from soupviz.soups.planning import Cost
from soupviz.spec import HELD_OUT
from soupviz.ui import asking
from soupviz.ui.formats import gap_format, in_unit
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

MANY = 300
"""Pairs from which on the cheaper answer is offered first: of 25 ingredients and more."""


def draw(opened: Kitchen, content: str) -> None:
    """Whether averaging pays, by as many evaluations as there are ingredients.

    Args:
        content: what the kitchen holds, for the job's key.
    """
    pairs = len(barriers.pairs_of(opened))
    if pairs <= MANY:
        return
    others = len(set(barriers.twins(opened))) - 1

    def measure(job: Job) -> Regime | None:
        return regime.measure(opened, job.progress)

    def cost() -> Cost:
        return planning.cost(opened, regime.wanted(opened))

    title = f"First the {others} midpoints with the best"
    job = asking.result(opened, f"midpoints {content}", title, cost, measure, ahead=True)
    if job is None:
        st.caption(f"They tell whether averaging pays, and with whom; all {pairs:,} pairs tell which belong together.")
    elif job.result is not None:
        _tell(opened, job.result)


def _tell(opened: Kitchen, found: Regime) -> None:
    st.info(verbatim(found.sentence))
    metric = opened.objective
    form = gap_format(metric, of=opened.splits.num_examples(HELD_OUT))
    rows = [
        {
            "ingredient": one.name,
            "lacks": in_unit(metric, one.lacks),
            "gains": in_unit(metric, one.gains),
            "better": one.is_better,
        }
        for one in sorted(found.halves, key=lambda half: half.lacks / 2 - half.gains)
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        column_config={
            "lacks": number(f"lacks to {found.best}", format=form.replace("+", "")),
            "gains": number("half-way above both ends' mean", format=form),
            "better": st.column_config.CheckboxColumn(f"half-way better than {found.best}"),
        },
        hide_index=True,
        height=300,
        alt="What each ingredient lacks to the best, and what a mix half-way gains",
    )
