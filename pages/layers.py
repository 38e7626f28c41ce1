"""Layers: which of them make the difference, and what does a weight of its own for each give?"""

import streamlit as st

from soupviz.ui import session
from soupviz.ui.layers import blocks, sensitivity
from soupviz.ui.redrawing import redrawn

st.title("Layers")
st.write("Which layers make the difference between two models, and what does a mix with a weight for each layer give?")
OPENED = session.kitchen()
session.keep_url()
ASKED = sensitivity.choose(OPENED)
NAMES = sensitivity.names_of(OPENED, ASKED)
CHOSEN = st.query_params.get("group")
WEIGHTS = blocks.weights_of(OPENED, NAMES)
st.header("One layer group at a time")
sensitivity.choose_view(OPENED)
KNOWN = sensitivity.effects(OPENED, ASKED)
if KNOWN and (clicked := sensitivity.draw(OPENED, ASKED, KNOWN, CHOSEN)):
    st.query_params["group"] = clicked
    alpha = ASKED.probe.alpha
    blocks.set_weights([alpha if name == clicked else weight for name, weight in zip(NAMES, WEIGHTS, strict=True)])
    st.rerun()
st.header("A weight for every layer group")
redrawn(blocks.draw, OPENED, ASKED, NAMES, CHOSEN)
blocks.kept(OPENED)
