"""Preflight: which ingredients can be mixed, and why not the others?"""

import streamlit as st

from soupviz.ui import session
from soupviz.ui.preflight import first, matrices, pair_of_checkpoints, report

st.title("Preflight")
st.write("Before cooking: which of these checkpoints belong together, and why not the others?")
opened = session.kitchen()
session.keep_url()

summary = st.container()
found = report.weights(opened)
report.facts(opened, found)
aggregation = report.aggregation(opened)
first.draw(opened, report.content(opened))
judged = report.report(opened, aggregation)
if judged is not None:
    with summary:
        report.summary(opened, judged)
        report.take_basin(judged)
chosen = report.table(opened, found, judged)
if found is not None and len(opened.names) > 1:
    matrices.matrices(opened, found, judged, chosen)
if judged is not None:
    pair_of_checkpoints.pair_curve(opened, judged, aggregation)
pair_of_checkpoints.layer_diff(opened, chosen)
