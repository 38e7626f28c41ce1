"""Alpha: what lies on the straight line between two mixes?"""

import streamlit as st

from soupviz import curves
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.metrics import wilson
from soupviz.mixing import count_clamped
from soupviz.ui import session
from soupviz.ui.curve import Path, Scores, best_alpha, choices, curve
from soupviz.ui.jobs import Job

RANGES = {"0 to 1": (0.0, 1.0), "−0.5 to 1.5": (-0.5, 1.5)}


def compute(opened: Kitchen, path: Path) -> Job:
    """Score the path on held_out and test in the background, both ends first, then ever finer."""
    splits = [split for split in ("held_out", "test") if split in opened.split_names]
    wanted = [(split, alpha) for alpha in curves.coarse_to_fine(path.alphas) for split in splits]

    def work(job: Job) -> None:
        job.events.clear()
        for index, (split, alpha) in enumerate(wanted):

            def within(done: int, total: int, what: str, index: int = index, alpha: float = alpha) -> None:
                job.progress(index * total + done, len(wanted) * total, f"alpha {alpha:g}, {what}")

            job.events.append(((split, alpha), opened.score_mix(path.mix(alpha), split, path.batchnorm, within)))

    return session.jobs().submit(path.key(opened), path.title, work, kitchen=str(opened.file))


def choose(opened: Kitchen) -> Path:
    """The ends, the points and what becomes of running statistics; all of it in the URL."""
    ends = choices(opened, session.finished_runs(opened))
    if len(ends) < 2:
        st.info("A path needs two ends. Add a checkpoint or a base to kitchen.yaml, or cook a soup on the Soup page.")
        st.stop()
    names = list(ends)
    default = f"best of {opened.file}"
    if default not in st.session_state:
        known = {name: opened.known_score(ends[name].mix, "held_out") for name in opened.names}
        st.session_state[default] = max(opened.names, key=lambda n: known[n].correct if known[n] else -1)
    best = names.index(st.session_state[default])
    has_statistics = any(key.endswith("running_var") for key in opened.evaluator.model.state_dict())
    places = st.columns([3, 3, 2, 2, 2] if has_statistics else [3, 3, 2, 2])
    a = places[0].selectbox("A, at alpha 0", names, index=0 if best else 1, key="a", bind="query-params")
    b = places[1].selectbox("B, at alpha 1", names, index=best, key="b", bind="query-params")
    points = places[2].selectbox("Points", [11, 21, 41], index=1, key="points", bind="query-params")
    span = places[3].selectbox("Range", list(RANGES), key="range", bind="query-params")
    batchnorm = "average"
    if has_statistics:
        batchnorm = places[4].selectbox("BatchNorm", ["average", "first"], key="batchnorm", bind="query-params")
    if a == b:
        st.warning("Both ends are the same; choose two different ones.")
        st.stop()
    return Path(ends[a], ends[b], curves.grid(points, *RANGES[span]), batchnorm)


def figures(scores: Scores) -> None:
    """The best alpha with its test accuracy, and the barrier."""
    best = best_alpha(scores)
    if best is None:
        return
    row = st.container(horizontal=True)
    row.metric("Best alpha (selected on held_out)", f"{best:g}".replace("-", "−"), border=True)
    row.metric("held_out there", f"{scores['held_out', best].accuracy:.1%}", border=True)
    if (test := scores.get(("test", best))) is not None:
        low, high = wilson(test.correct, test.num_examples)
        row.metric(f"test there (95%: {low:.1%} to {high:.1%})", f"{test.accuracy:.1%}", border=True)
    held = sorted((alpha, score.loss) for (split, alpha), score in scores.items() if split == "held_out")
    alphas, losses = zip(*held, strict=True)
    if len(alphas) > 2 and (alphas[0], alphas[-1]) == (0.0, 1.0) and None not in losses:
        tip = "The height of the held_out loss above the straight line between its two ends."
        row.metric("Barrier on held_out", f"{curves.barrier(alphas, losses):.3f} nats", border=True, help=tip)


def draw(job: Job) -> None:
    """The curve as far as it is known, and what can be done with the mix at the slider."""
    scores = STORED | dict(job.events)
    left = float(st.query_params.get("alpha", "nan"))
    left = left if PATH.alphas[0] <= left <= PATH.alphas[-1] else None
    alpha = curve(PATH.picture(scores, left), key=f"curve {PATH.id}")
    if alpha is not None:
        st.query_params["alpha"] = f"{alpha:g}"
    alpha = next((known for known in (alpha, left, best_alpha(scores)) if known is not None), 0.5)
    figures(scores)
    if st.button(f"Keep this mix as a soup (alpha {alpha:g})", type="primary", icon="🍲"):
        session.cook_job(OPENED, PATH.recipe(alpha))
        st.session_state["kept"] = PATH.recipe(alpha)
        st.rerun()


st.title("Alpha")
st.write("What lies on the straight line between two sets of weights, and where on it is the best mix?")
OPENED = session.kitchen()
session.keep_url()
try:
    PATH = choose(OPENED)
    JOB = session.jobs().find(PATH.key(OPENED)) or compute(OPENED, PATH)
    STORED = {}
    if not JOB.events:
        known = {alpha: OPENED.known_score(PATH.mix(alpha), "held_out", PATH.batchnorm) for alpha in PATH.alphas}
        STORED = {("held_out", alpha): score for alpha, score in known.items() if score}
    if JOB.is_active:
        session.watch(JOB, draw)
    else:
        draw(JOB)
        session.watch(JOB)
        if JOB.state != "finished" and st.button("Go on"):
            compute(OPENED, PATH)
            st.rerun()
    clamped = [
        count_clamped(OPENED.resolved(PATH.mix(alpha)), PATH.batchnorm)
        for alpha in PATH.alphas[:: len(PATH.alphas) - 1]
    ]
    if max(clamped):
        st.caption(f"Beyond [0, 1] up to {max(clamped)} running variances would be negative; they are clamped at 0.")
    if kept := st.session_state.get("kept"):
        cooking = session.jobs().find(session.cook_key(OPENED, kept))
        if cooking is not None and cooking.state == "finished":
            st.success(f"Kept: “{kept.title}” is among the soups on the Compare page.")
        elif cooking is not None:
            session.watch(cooking)
except SoupError as error:
    st.error(str(error))
