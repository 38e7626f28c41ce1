"""Preflight: which ingredients can be mixed, and why not the others?"""

import streamlit as st

from soupviz.ui import closeup, kinship, preflight, session

st.title("Preflight")
st.write("Before cooking: which of these checkpoints belong together, and why not the others?")
opened = session.kitchen()
session.keep_url()

summary = st.container()
found = preflight.weights(opened)
preflight.facts(opened, found)
treatment = preflight.treatment(opened)
judged = preflight.report(opened, treatment)
if judged is not None:
    with summary:
        preflight.summary(opened, judged)
        preflight.take_basin(judged)
chosen = preflight.table(opened, found, judged)
if found is not None and len(opened.names) > 1:
    kinship.matrices(opened, found, judged, chosen)
if judged is not None:
    closeup.pair_curve(opened, judged, treatment)
closeup.layer_diff(opened, chosen)
