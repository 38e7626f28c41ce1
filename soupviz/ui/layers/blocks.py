"""The Layers page's second half: a weight for every layer group, and what the mix does, scored as it is moved."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis.curve_sets import drawn_metrics
from soupviz.analysis.sensitivity import changes, half
from soupviz.analysis.telling import verdict
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures import layers
from soupviz.recipes import Blocks
from soupviz.soups import planning
from soupviz.soups.blending import presets
from soupviz.soups.planning import Cost, cost
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Score
from soupviz.tasks.wording import of_score
from soupviz.types import Coefficients
from soupviz.ui import asking, charts, computing, formats, keeping, session, tables, widgets, work
from soupviz.ui.jobs import URGENT, Job
from soupviz.ui.layers.sensitivity import Asked, change_columns
from soupviz.ui.verbatim import verbatim

STATE = "block weights"
KEPT = "kept blocks"
MOST_SLIDERS = 64
"""More groups than that are edited in a table."""

SHOWN_WHOLE = 24
"""Sliders that are shown without scrolling."""


def weights_of(opened: Kitchen, names: Sequence[str]) -> list[float]:
    """The weights as they were left; at first those in the URL, or all of A."""
    known = f"{opened.file} {digest(list(names))}"
    state = st.session_state.get(STATE)
    if state is None or state["of"] != known:
        state = {"of": known, "weights": _from_url(len(names)), "revision": 0}
        st.session_state[STATE] = state
    weights: list[float] = state["weights"]
    return weights


def _from_url(count: int) -> list[float]:
    try:
        weights = [float(text) for text in st.query_params.get("weights", "").split(",")]
    except ValueError:
        weights = []
    is_usable = len(weights) == count and all(abs(weight) <= 3 for weight in weights)
    return weights if is_usable else [0.0] * count


def set_weights(weights: Sequence[float]) -> None:
    """From elsewhere than the sliders, which are then made anew."""
    state = st.session_state[STATE]
    state |= {"weights": list(weights), "revision": state["revision"] + 1}


def draw(opened: Kitchen, asked: Asked, names: Sequence[str], chosen: str | None) -> None:
    """Presets, sliders, and the mix against A, B and their plain average."""
    alpha = asked.probe.alpha
    number = len(opened.splits.load(HELD_OUT))
    each = asking.told(Cost(1, 0, number, opened.scores.seconds_for(number)), opened)
    st.caption(f"0 is A, “{verbatim(asked.a.name)}”; 1 is B, “{verbatim(asked.b.name)}”. A new mix takes {each}.")
    with st.container(horizontal=True):
        for label, weights in presets(names).items():
            st.button(verbatim(label), key=f"preset {label}", on_click=set_weights, args=(weights,))
        if chosen in names:
            alone = [alpha if name == chosen else 0.0 for name in names]
            st.button(f"Only {verbatim(str(chosen))}", key="preset only", on_click=set_weights, args=(alone,))
    weights = _edited(names, weights_of(opened, names), chosen)
    st.session_state[STATE]["weights"] = weights
    if any(weights):
        st.query_params["weights"] = ",".join(f"{weight:g}" for weight in weights)
    elif "weights" in st.query_params:
        del st.query_params["weights"]
    named = dict(zip(names, weights, strict=True))
    if any(weights):
        bars = layers.profile(named, [chosen] if chosen else [])
        charts.show(bars, key="profile", alt="The weight of each group, front to back")
    mixture = asked.probe.moved(opened, named)
    _score(opened, asked, mixture)
    _keep(opened, asked, named, mixture)


def _edited(names: Sequence[str], weights: list[float], chosen: str | None) -> list[float]:
    """A slider for each group; a table where these are too many."""
    revision = st.session_state[STATE]["revision"]
    key = f"{tables.digest(names)} {revision}"
    if len(names) > MOST_SLIDERS:
        frame = pd.DataFrame({"layer group": names, "weight": weights})
        column = st.column_config.NumberColumn("weight", min_value=-3.0, max_value=3.0, step=0.05, required=True)
        edited = st.data_editor(
            frame,
            hide_index=True,
            disabled=["layer group"],
            key=f"weights {key}",
            column_config={"weight": column},
            alt=f"The weight of each of {len(names)} layer groups",
        )
        return [float(weight) for weight in edited["weight"]]
    low, high = min(0.0, *weights), max(1.0, *weights)
    place = st.container(horizontal=True, height=420 if len(names) > SHOWN_WHOLE else "content")
    return [
        place.slider(
            f"**{verbatim(name)}**" if name == chosen else verbatim(name),
            low, high, weight, 0.05, key=f"weight {key} {name}", width=150,
        )
        for name, weight in zip(names, weights, strict=True)
    ]  # fmt: skip


def _score(opened: Kitchen, asked: Asked, mixture: Coefficients) -> None:
    """Score the mix in the background at once; a former one that is not ready yet is given up."""
    aggregation = asked.batchnorm
    others = {"A": asked.a.mix, "B": asked.b.mix, "half of each": half(asked.probe)}
    wanted = list(dict.fromkeys([mixture, *others.values()]))
    unknown = planning.lacking(opened, [(one, HELD_OUT, aggregation) for one in wanted])
    # By content; train is not read for a key: what kitchen.yaml says of it stands for it.
    train = opened.spec.data.train
    content = [opened.scores.key(one, HELD_OUT, "average") for one in wanted]
    key = f"weights {digest([content, aggregation, train.model_dump_json() if train else ''])} {opened.file}"

    def do(job: Job) -> None:
        opened.scores.score_all([(one, HELD_OUT, aggregation) for one in wanted], job.progress)

    def start() -> Job:
        # Before what takes long: a slider is answered at once, and what makes way goes on from its scores.
        return work.jobs().submit(key, "Scoring the mix", do, kitchen=str(opened.file), priority=URGENT)

    row = st.container(horizontal=True, vertical_alignment="center")
    is_live = row.toggle(
        "Score at once", value=True, key="live", help="As soon as a slider is let go; otherwise a button asks first."
    )
    told = asking.told(cost(opened, [(one, HELD_OUT, aggregation) for one in wanted]), opened)
    former = st.session_state.get("weights job")
    st.session_state["weights job"] = key
    if former not in (None, key) and (job := work.jobs().find(former)):
        work.jobs().cancel(job)
    job = work.jobs().find(key)
    if unknown and mixture != asked.a.mix:
        if is_live and (job is None or former != key):
            job = start()
        elif (job is None or not job.is_active) and row.button("Score this mix", help=told):
            job = start()
        if not is_live:
            row.caption(f"{told[0].upper()}{told[1:]}.")
    _compared(opened, mixture, others, aggregation)
    if job is not None:
        session.watch(job)


def _compared(opened: Kitchen, mixture: Coefficients, others: dict[str, Coefficients], aggregation: str) -> None:
    """The mix beside A, B and their plain average, example by example."""
    score = planning.known(opened, mixture, HELD_OUT, aggregation)
    known = {name: planning.known(opened, other, HELD_OUT, aggregation) for name, other in others.items()}
    metrics = drawn_metrics(opened)
    items = [_metric(metrics, "this mix", score)]
    rows: list[dict[str, Any]] = []
    for name, other in known.items():
        items.append(_metric(metrics, name, other))
        if score and other and mixture != others[name]:
            assert score.outcomes is not None and other.outcomes is not None
            better, worse = opened.task.better(score.outcomes, other.outcomes)
            told = changes(opened.task, score, other)
            row: dict[str, Any] = {"this mix against": name}
            row |= {metric.name: formats.in_unit(metric, told[metric.name]) for metric in metrics}
            row |= {"better": better, "worse": worse} if opened.task.judges_units else {}
            rows.append(row | {"verdict": verdict(opened, score, other)})
    widgets.metric_row(items)
    if rows:
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder="–",
            column_config=change_columns(opened, metrics, "this mix", "the other"),
            alt="This mix against others",
        )


def _metric(metrics: Sequence[Metric], name: str, score: Score | None) -> tuple[str, str, str]:
    title = f"{name[0].upper()}{name[1:]}, held_out"
    if score is None:
        return title, "–", "not scored yet"
    objective, *beside = metrics
    told = [
        f"no finite {one.label}" if score.shown(one.name) is None else f"{of_score(one, score)} ({one.label})"
        for one in beside
    ]
    return title, of_score(objective, score), ", ".join(told)


def _keep(opened: Kitchen, asked: Asked, weights: dict[str, float], mixture: Coefficients) -> None:
    """A button that cooks the mix as a recipe."""
    is_end = mixture in (asked.a.mix, asked.b.mix)
    if st.button(
        "Keep as a soup", type="primary", disabled=is_end, help="These are A's or B's own weights." if is_end else None
    ):
        recipe = Blocks(
            a=asked.a.name, b=asked.b.name, mix_a=asked.a.mix, mix_b=asked.b.mix, weights=weights, by=asked.by,
            batchnorm=asked.batchnorm,
        )  # fmt: skip
        computing.cook_job(opened, recipe)
        st.session_state[KEPT] = recipe
        st.rerun()


def kept(opened: Kitchen) -> None:
    """The mix that was kept last, as a soup, and the verdict on it."""
    recipe = st.session_state.get(KEPT)
    job = work.jobs().find(computing.cook_key(opened, recipe)) if recipe else None
    if job is None or session.watch(job) or job.state != "finished":
        return
    run = opened.store.run(job.result)
    if run is not None and run.status == "finished":
        if not session.soup_key() or not run.key.startswith(session.soup_key()):
            session.choose_soup(run)
        keeping.show(opened, run)
        st.page_link("pages/export.py", label="Export this soup", icon=":material/download:")
