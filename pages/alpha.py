"""Alpha: what lies on the straight line between two mixes?"""

import streamlit as st

from soupviz.analysis.curve_sets import drawn_metrics
from soupviz.analysis.verdicts import by_merit
from soupviz.kitchen import Kitchen
from soupviz.soups import curves, planning
from soupviz.spec import HELD_OUT
from soupviz.ui import computing, keeping, session, widgets, work
from soupviz.ui.curve import curve
from soupviz.ui.ending import end_page
from soupviz.ui.path import Path, best_alpha, choices, compute, figures, usual_batchnorm
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import verbatim

RANGES = {"0 to 1": (0.0, 1.0), "-0.5 to 1.5": (-0.5, 1.5)}


def choose(opened: Kitchen) -> Path:
    """The ends, the points and what becomes of running statistics; all of it in the URL."""
    ends = choices(opened, session.finished_runs(opened))
    if len(ends) < 2:
        st.info("A path needs two ends. Add a checkpoint or a base to kitchen.yaml, or cook a soup on the Soup page.")
        end_page()
    names = list(ends)
    default = f"best of {opened.file}"
    if default not in st.session_state:
        st.session_state[default] = by_merit(opened)[0]
    best = names.index(st.session_state[default])
    has_statistics = widgets.has_batchnorm(opened)
    row = st.container(horizontal=True)
    wide, bound = 195 if has_statistics else 220, {"bind": "query-params"}
    a = row.selectbox("A, at alpha 0", names, index=0 if best else 1, key="a", width=wide, **bound)
    b = row.selectbox("B, at alpha 1", names, index=best, key="b", width=wide, **bound)
    points = row.selectbox("Points", [11, 21, 41], index=1, key="points", width=90, **bound)
    span = row.selectbox("Range", list(RANGES), key="range", width=140, **bound)
    batchnorm = "average"
    if has_statistics:
        if st.session_state.get("ends", (a, b)) != (a, b) or not {"batchnorm"} & {*st.session_state, *st.query_params}:
            st.session_state["batchnorm"] = usual_batchnorm(ends[a], ends[b])
        st.session_state["ends"] = (a, b)
        offered = widgets.aggregations(opened, ends[a].batchnorm, ends[b].batchnorm)
        batchnorm = row.selectbox("BatchNorm", offered, key="batchnorm", width=130, **bound)
    if a == b:
        st.warning("Both ends are the same; choose two different ones.")
        end_page()
    alphas = sorted({0.0, 1.0, *curves.grid(points, *RANGES[span])})
    path = Path(ends[a], ends[b], alphas, batchnorm)
    for end in path.altered_ends() if has_statistics else ():
        st.warning(
            f"“{verbatim(end.name)}” was cooked with BatchNorm {end.batchnorm}: on a path of "
            f"{batchnorm} its end differs from it."
        )
    return path


def draw() -> None:
    """The curve as far as it is known, and what can be done with the mix at the slider."""
    scores = STORED | dict(JOB.events)
    left = PATH.inside(st.query_params.get("alpha"))
    alpha = curve(PATH.picture(METRICS, scores, left), key=f"curve {PATH.id}")
    if alpha is not None:
        st.query_params["alpha"] = f"{alpha:g}"
    alpha = next((known for known in (alpha, left, best_alpha(METRICS[0], scores)) if known is not None), 0.5)
    figures(METRICS, scores)
    if st.button(f"Keep this mix as a soup (alpha {alpha:g})", type="primary", shortcut="Ctrl+Enter"):
        computing.cook_job(OPENED, PATH.recipe(alpha))
        st.session_state["kept"] = PATH.recipe(alpha)
        st.rerun()


st.title("Alpha")
st.write("What lies on the straight line between two sets of weights, and where on it is the best mix?")
OPENED = session.kitchen()
session.keep_url()
PATH = choose(OPENED)
METRICS = drawn_metrics(OPENED)
JOB = work.jobs().find(PATH.key(OPENED)) or compute(OPENED, PATH)
STORED = {}
if not JOB.events:
    wanted = {alpha: (PATH.mix(alpha), HELD_OUT, PATH.batchnorm) for alpha in PATH.alphas}
    known = planning.summaries(OPENED, wanted.values())
    STORED = {(HELD_OUT, alpha): known[one] for alpha, one in wanted.items() if one in known}
# The same fragment while the job runs and afterwards: the slider is not mounted anew under the user's hand.
redrawn(draw, every=session.REFRESH if JOB.is_active else None)
session.watch(JOB)
if JOB.state in ("cancelled", "failed") and st.button("Go on"):
    compute(OPENED, PATH)
    st.rerun()
clamped = [
    OPENED.scores.count_clamped(PATH.mix(alpha), PATH.batchnorm) for alpha in PATH.alphas[:: len(PATH.alphas) - 1]
]
if max(clamped):
    st.caption(f"Beyond [0, 1] up to {max(clamped)} running variances would be negative; they are clamped at 0.")
if kept := st.session_state.get("kept"):
    keeping.offer(OPENED, kept)
