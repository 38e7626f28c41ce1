"""Plane: what does the landscape between three models look like, and where in it do the soups lie?"""

import itertools

import streamlit as st

from soupviz.analysis import planes
from soupviz.analysis.planes import Value
from soupviz.recipes.paths import in_plane
from soupviz.soups.planning import FREE, cost
from soupviz.tasks.wording import titled
from soupviz.ui import asking, session, widgets
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.plane import overview, terrain
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import verbatim


def work(job: Job) -> list[Value]:
    job.events.clear()
    options = {"split": SHOWN.split, "aggregation": SHOWN.batchnorm}
    return planes.scan(OPENED, SHOWN.mixes, SPOTS, **options, progress=job.progress, on_value=job.events.append)


def known() -> list[Value]:
    """What is known of the map; while it is computed, as of the last of a few steps, so that it does not blink."""
    if JOB is None or not JOB.is_active:
        return STORED if JOB is None or JOB.state != "finished" else list(JOB.result)
    step = max(1, len(SPOTS) // terrain.STEPS)
    return list({value.spot: value for value in (*STORED, *JOB.events[: len(JOB.events) // step * step])}.values())


def draw() -> None:
    """The map as far as it is known, and what a click in it chooses."""
    values = known()
    names = ", ".join(verbatim(corner.name) for corner in SHOWN.corners)
    st.write(f"**{titled(SHOWN.metric)} on {verbatim(SHOWN.split)} of the mixes of {names}**")
    if len(values) < len(SPOTS):
        st.caption(f"{len(values)} of {len(SPOTS)} spots are computed; between them the map is interpolated linearly.")
    kind, value = terrain.draw(SHOWN, FRAME, values, ITEMS, key=f"map {KEY}")
    for clicked in widgets.newly_clicked(map=[f"{kind}={value}"] if kind else []):
        overview.choose_item(*clicked.split("=", 1))
        st.rerun()


st.title("Plane")
st.write("What does the landscape between three models look like, and where in it do the soups lie?")
OPENED = session.kitchen()
session.keep_url()
SHOWN = overview.choose(OPENED)
overview.altered(OPENED, SHOWN)
mixes = [item.mix for item in SHOWN.items]


def locate(job: Job) -> object:
    return planes.locate(OPENED, mixes, job.progress)


placed = asking.result(OPENED, SHOWN.key(OPENED, of_scores=False), "Find the plane", lambda: FREE, locate, ahead=True)
if placed is None:
    end_page()
FRAME, PLACES = placed.result
SPOTS = list(itertools.chain(*planes.around(FRAME, SHOWN.fineness)))
ITEMS = overview.items(OPENED, SHOWN, PLACES)
KEY = SHOWN.key(OPENED, of_scores=True)
before = asking.find(OPENED, KEY)
is_done = before is not None and before.state == "finished"
STORED = [] if is_done else overview.stored(OPENED, SHOWN, SPOTS)
wanted = [(in_plane(SHOWN.mixes, *spot), SHOWN.split, SHOWN.batchnorm) for spot in SPOTS]
asking.result(OPENED, KEY, "Compute the map", lambda: cost(OPENED, wanted), work, ahead=True)
JOB = asking.find(OPENED, KEY)
redrawn(draw, every=session.REFRESH if JOB is not None and JOB.is_active else None)
overview.clamped(OPENED, SHOWN, FRAME)
st.write("**Every model, with its distance from the plane**")
st.caption("The map shows mixes of the three. A model beside the plane is drawn hollow, at its nearest mix.")
rows = overview.table(FRAME, ITEMS, known(), SHOWN.metric)
for name in widgets.newly_clicked(plane=overview.draw_table(OPENED, rows, SHOWN.metric, SHOWN.split)):
    overview.choose_item("model", name)
    st.rerun()
st.download_button(
    "Save the map as CSV", lambda: overview.data(FRAME, known(), SHOWN), "plane.csv", "text/csv", on_click="ignore"
)
item = next((item for item in ITEMS if item.choice.name == st.query_params.get("model")), None)
if (spot := overview.chosen_spot()) is not None:
    overview.draw_spot(OPENED, SHOWN, spot)
elif item is not None:
    overview.draw_model(OPENED, item, FRAME.side, SHOWN.split)
else:
    st.caption("Click a spot of the map to keep it as a soup; the models are clickable too.")
