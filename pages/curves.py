"""Curves: which of these lie in one basin, and what stands between the others?"""

import streamlit as st

from soupviz.analysis import curve_sets
from soupviz.soups.planning import cost
from soupviz.ui import asking, curves, keeping, session, widgets
from soupviz.ui.jobs import Job
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import verbatim


def work(job: Job) -> list[curve_sets.Reading]:
    job.events.clear()
    return curve_sets.survey(OPENED, SHOWN.curve_set, job.progress, job.events.append)


def draw() -> None:
    """The curves as far as they are known, and what a click in a picture or in the table chooses."""
    lines = curve_sets.lines(known(), METRICS)
    if not lines:
        return
    place = curves.draw(OPENED, SHOWN, METRICS, lines, curves.chosen_pair(SHOWN))
    pairs = curves.draw_table(SHOWN, METRICS, lines)
    if place is not None:
        curves.choose_place(place)
        st.rerun()
    for pair in widgets.newly_clicked(curves=pairs):
        curves.choose_pair(pair)
        st.rerun()


def known() -> list[curve_sets.Reading]:
    return [*STORED, *JOB.events] if JOB is not None else STORED


st.title("Curves")
st.write("What lies on the straight lines between several pairs of models: one basin, or a barrier?")
OPENED = session.kitchen()
session.keep_url()
SHOWN = curves.choose(OPENED)
METRICS = curve_sets.drawn_metrics(OPENED)
curves.warn(OPENED, SHOWN)
KEY = SHOWN.key(OPENED)
before = asking.find(OPENED, KEY)
is_done = before is not None and before.state == "finished"
STORED = [] if is_done else curves.stored(OPENED, SHOWN.curve_set)
asking.result(OPENED, KEY, "Compute the curves", lambda: cost(OPENED, SHOWN.curve_set.wanted()), work, ahead=True)
JOB = asking.find(OPENED, KEY)
redrawn(draw, every=session.REFRESH if JOB is not None and JOB.is_active else None)
if (chosen := curves.chosen_place(SHOWN)) is not None:
    st.header(verbatim(SHOWN.recipe(chosen).title))
    widgets.metric_row(
        curves.told_at(OPENED.objective, curve_sets.lines(known(), METRICS), chosen, SHOWN.curve_set.splits)
    )
    keeping.offer(OPENED, SHOWN.recipe(chosen))
else:
    st.caption("Click a point of a curve to keep that mix as a soup, or a row of the table to bring out its curves.")
