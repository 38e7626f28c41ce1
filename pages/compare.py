"""Compare: is a soup better than the best ingredient, or is that chance?"""

import streamlit as st

from soupviz.pictures.models import MODEL
from soupviz.pictures.sampling import told
from soupviz.spec import HELD_OUT, TEST
from soupviz.ui import charts, computing, samples, session, tables, widgets, work
from soupviz.ui.compare import entries, picture, table
from soupviz.ui.ending import end_page
from soupviz.ui.soup import panels, soups
from soupviz.ui.verbatim import verbatim

st.title("Compare")
st.write("Is a soup really better than the best ingredient, or is that chance?")
session.keep_url()
source = st.segmented_control(
    "Models of", [samples.KITCHEN, samples.LOGGED], default=samples.KITCHEN, required=True, key="models_of",
    bind="query-params",
)  # fmt: skip
if source == samples.LOGGED:
    if (logged := samples.choose()) is not None:
        samples.draw(logged)
    end_page()
opened = session.kitchen()

split = TEST if TEST in opened.splits.names else HELD_OUT
if split == HELD_OUT:
    st.warning("This kitchen has no test split. Soups were selected on held_out: their numbers there are optimistic.")
if scoring := computing.find_score_job(opened, split):
    session.watch(scoring)
if (cooking := work.jobs().find(f"menu {opened.file}")) and not session.watch(cooking) and cooking.result:
    with st.expander(f"{len(cooking.result)} recipes of the menu were left out"):
        st.table({verbatim(title): verbatim(reason) for title, reason in cooking.result.items()})
runs = session.finished_runs(opened)
task, metric = opened.task, opened.objective
rows = entries.ranked(entries.entries(opened, runs, split), metric)
if comparing := entries.compare_job(opened, rows, split):
    session.watch(comparing)
row = st.container(horizontal=True)
if missing := sum(entry.judged is None for entry in rows):
    # A key of its own: a click counts though the number changes while the split is read in the background.
    if row.button(
        f"Score {missing} model{'s' if missing > 1 else ''} on {split}", type="primary", key=f"score {split}"
    ):
        computing.score_job(opened, split, [(entry.mix, entry.aggregation) for entry in rows if entry.judged is None])
        st.rerun()
if not runs:
    st.info("No soup yet: cook one on the Soup page, or the menu, and it appears here.")
if row.button("Cook the menu", help="Every recipe that fits this kitchen, with sensible defaults."):
    computing.menu_job(opened)
    st.rerun()

run = session.chosen_run(opened, runs)
ids = [entry.id for entry in rows]
picked = session.picked_ingredient(ids) or (run.key if run else "")
by = opened.splits.grouped(split)
state = st.dataframe(
    table.table(rows, split, task, metric),
    hide_index=True,
    on_select="rerun",
    selection_mode="single-row",
    key=f"compare {tables.digest(ids)}",
    column_config=table.columns(opened, metric, by),
    placeholder="–",
    alt=f"Every ingredient and soup with its {metric.label} and the verdict",
)
st.caption(verbatim(table.correction(rows, split, task, metric, by)))
points = []
if any(entry.judged for entry in rows):
    drawn = picture.drawn(rows, picked)
    selected = charts.show(
        picture.picture(drawn, split, picked, metric, by),
        key=f"picture {tables.digest(ids)}",
        alt=f"{metric.label[:1].upper()}{metric.label[1:]} on {split} with intervals",
        clicked=MODEL,
    )
    points = [str(one["id"]) for one in selected]
    number = sum(entry.judged is not None for entry in rows)
    st.caption(told(len(drawn), number, "models", "the first of the table, with the base and the best checkpoint"))
rows_clicked = widgets.of_rows(state, ids)
clicked = widgets.newly_clicked(table=rows_clicked, picture=points)
if clicked and clicked[0] != picked:
    session.pick(clicked[0], runs)
    st.rerun()

if entry := next((entry for entry in rows if entry.id == picked), None):
    st.header(verbatim(entry.name))
    if run is not None and entry.id == run.key and run.result is not None:
        soups.draw_result(opened, run)
        panels.draw(opened, run)
        if entry.kind == "soup":
            st.page_link("pages/export.py", label="Export this soup", icon=":material/download:")
    else:
        picture.draw_checkpoint(opened, entry)
