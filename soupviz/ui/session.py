"""The state that pages share: which kitchen is open, which soup is chosen, what is selected, what runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from soupviz.config import KitchenSpec, read_kitchen_file
from soupviz.cooking import cook, sweep
from soupviz.demo import demo_kitchen
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.mixing import mean_of
from soupviz.recipes import Alpha, Greedy, Recipe, recipe_digest
from soupviz.records import Coefficients
from soupviz.soups import is_current
from soupviz.store import Run
from soupviz.ui import workspace
from soupviz.ui.jobs import AHEAD, URGENT, Job, Jobs

REFRESH = 0.5
"""Seconds between two looks at a running job."""


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The one queue of the server."""
    return Jobs()


@st.cache_resource(show_spinner=False)
def _opened() -> dict[str, Kitchen]:
    return {}


@st.cache_resource(show_spinner=False)
def _typed() -> dict[str, KitchenSpec]:
    """Kitchens that were opened without a file, as long as the server runs."""
    return {}


def _specification(file: Path) -> KitchenSpec:
    typed = _typed().get(str(file))
    return typed if typed is not None and not file.is_file() else read_kitchen_file(file)


def opened_kitchen(file: Path) -> Kitchen | None:
    """A kitchen that is open already."""
    return _opened().get(str(file))


def chosen_file() -> Path:
    """The kitchen in the URL, else the first found below the folders the server was started with, else the demo."""
    named = st.query_params.get("kitchen") or st.session_state.get("kitchen")
    if named == "demo":
        return workspace.demo_file()
    if named:
        return Path(named)
    given = workspace.found_kitchens() if len(workspace.found_kitchens()) == 1 else []
    return given[0] if given else workspace.demo_file()


def choose_file(file: Path) -> None:
    """Switch to another kitchen; what was chosen in the last one is let go."""
    name = "demo" if file == workspace.demo_file() else str(file)
    st.session_state["kitchen"] = name
    for key in ("soup", "members"):
        st.session_state.pop(key, None)
    st.query_params.from_dict({"kitchen": name})


def keep_url() -> None:
    """Write the state that matters into the URL, which a change of page empties."""
    file = chosen_file()
    name = "demo" if file == workspace.demo_file() else str(file)
    st.session_state["kitchen"] = name
    wanted = {"kitchen": name} | ({"soup": soup_key()} if soup_key() else {})
    if any(st.query_params.get(key) != value for key, value in wanted.items()):
        st.query_params.update(wanted)


def soup_key() -> str:
    """The run that is open, by the start of its key."""
    return str(st.query_params.get("soup") or st.session_state.get("soup") or "")


def choose_soup(run: Run) -> None:
    st.session_state["soup"] = run.key[:12]
    st.query_params["soup"] = run.key[:12]


def kitchen() -> Kitchen:
    """The open kitchen; while it is being opened, its progress is shown and the page stops here."""
    file = chosen_file()
    opened = _opened().get(str(file))
    if opened is not None:
        return opened
    key = f"open {file}"
    job = jobs().find(key)
    if job is not None and job.state == "failed":
        st.error(job.error)
        if st.button("Try again"):
            open_kitchen(file)
            st.rerun()
        st.stop()
    if job is None or not job.is_active:
        _ask_for_trust(file)
        job = open_kitchen(file)
    place = st.empty()
    while job.is_active:  # a click elsewhere ends this loop; the page that follows takes it up again
        with place.container():
            progress_line(job)
        time.sleep(REFRESH / 2)
    st.rerun()
    raise AssertionError("st.rerun() does not return")


def _ask_for_trust(file: Path) -> None:
    """Name the code that would run and ask once; the page stops until the answer."""
    if file == workspace.demo_file():
        return
    try:
        workspace.allowed(file)
        spec = _specification(file)
        workspace.check_paths(spec, file.parent)
    except SoupError as error:
        st.error(str(error))
        st.stop()
    if not workspace.is_trusted(spec, file.parent):
        names = ", ".join(f"`{name}`" for name in workspace.code_of(spec))
        st.warning(
            f"Opening **{spec.name or file.parent.name}** runs Python code: {names}. Open it only if you trust it."
        )
        if st.button("I trust it: open", type="primary"):
            workspace.trust(spec, file.parent)
            st.rerun()
        st.stop()


def open_kitchen(file: Path, spec: KitchenSpec | None = None) -> Job:
    """Open (or open again) a kitchen in the background: checkpoints are read, held_out is decoded."""

    queue = jobs()
    opened_kitchens = _opened()
    if spec is not None:
        _typed()[str(file)] = spec
    elif not file.is_file():
        spec = _typed().get(str(file))

    def work(job: Job) -> None:
        if file == workspace.demo_file():
            demo_kitchen(progress=job.progress)
        known = spec or read_kitchen_file(file)
        opened = Kitchen(known, file, skip_incompatible=True, progress=job.progress)
        opened.split("held_out", job.progress)
        opened_kitchens[str(file)] = opened
        if file != workspace.demo_file() and file.is_file():
            workspace.remember_opened(file)
        queue.submit(f"read {file}", "Reading the other splits", read_others, kitchen=str(file), priority=AHEAD)

    def read_others(job: Job) -> None:
        opened = opened_kitchens[str(file)]
        for split in opened.report_splits():
            opened.split(split, job.progress)

    return queue.submit(f"open {file}", "Opening the kitchen", work, kitchen=str(file), priority=URGENT)


def close_kitchen() -> None:
    """Forget the open kitchen, so that it is read anew."""
    _opened().pop(str(chosen_file()), None)


def close_kitchens() -> None:
    """Forget every open kitchen: they hold what is kept in the cache folder."""
    _opened().clear()


def score_job(opened: Kitchen, split: str, extra: list[Coefficients] | None = None) -> Job:
    """Score every ingredient (and the base and the uniform soup) on a split."""
    mixes: list[Coefficients] = [((name, 1.0),) for name in opened.names]
    mixes += [(("base", 1.0),)] if opened.base else []
    mixes += extra or []

    def work(job: Job) -> None:
        for index, mixture in enumerate(mixes):

            def within(done: int, total: int, what: str, index: int = index) -> None:
                job.progress(index * total + done, len(mixes) * total, what)

            opened.score_mix(mixture, split, progress=within)
            job.events.append(mixture)

    return jobs().submit(f"score {split} {opened.file}", f"Scoring on {split}", work, kitchen=str(opened.file))


def find_score_job(opened: Kitchen, split: str) -> Job | None:
    """The newest job that scores a split of this kitchen."""
    return jobs().find(f"score {split} {opened.file}")


def score_job_if_needed(opened: Kitchen, split: str) -> Job:
    """The job that scores a split; started once for each opening of a kitchen (what is in the store costs nothing)."""
    job = find_score_job(opened, split)
    started = _started().get(f"{split} {opened.file}")
    if job is not None and started is opened:
        return job
    _started()[f"{split} {opened.file}"] = opened
    return score_job(opened, split, [mean_of(opened.names)])


@st.cache_resource(show_spinner=False)
def _started() -> dict[str, Kitchen]:
    return {}


def forget_started() -> None:
    """Let the ingredients be scored anew, after their scores were forgotten."""
    _started().clear()


def cook_job(opened: Kitchen, recipe: Recipe) -> Job:
    """Cook a recipe; the job's events are its decisions."""

    def work(job: Job) -> Any:
        job.events.clear()
        return cook(opened, recipe, progress=job.progress, on_step=job.events.append).key

    return jobs().submit(cook_key(opened, recipe), recipe.title, work, kitchen=str(opened.file))


def cook_key(opened: Kitchen, recipe: Recipe) -> str:
    return f"cook {recipe_digest(recipe)} {opened.file}"


def sweep_job(opened: Kitchen, recipe: Greedy, alphas: list[Alpha]) -> Job:
    """Cook greedy soups for a grid of alphas, behind everything the user asks for."""
    parameters = recipe.model_dump(include={"order", "seed", "members", "batchnorm"})

    def work(job: Job) -> None:
        sweep(opened, alphas, progress=job.progress, on_soup=job.events.append, **parameters)

    key = _sweep_key(opened, recipe)
    return jobs().submit(key, "Alpha sweep", work, kitchen=str(opened.file), priority=AHEAD)


def _sweep_key(opened: Kitchen, recipe: Greedy) -> str:
    return f"sweep {recipe_digest(recipe.model_copy(update={'alpha': 'mean'}))} {opened.file}"


def find_sweep_job(opened: Kitchen, recipe: Greedy) -> Job | None:
    """The newest sweep of this recipe."""
    return jobs().find(_sweep_key(opened, recipe))


def finished_runs(opened: Kitchen) -> list[Run]:
    """The soups of this kitchen as it is, oldest first."""
    return [run for run in opened.store.runs() if run.status == "finished" and is_current(opened, run)]


def chosen_run(opened: Kitchen) -> Run | None:
    """The soup that is open, else the newest."""
    runs = finished_runs(opened)
    key = soup_key()
    return next((run for run in runs if key and run.key.startswith(key)), runs[-1] if runs else None)


def progress_line(job: Job) -> None:
    """A bar with what is done, how far, and how long to go."""
    left = job.remaining()
    eta = "" if left is None else f", about {left:.0f} s to go" if left < 90 else f", about {left / 60:.0f} min to go"
    st.progress(job.fraction, text=f"{job.title}: {job.what or 'waiting for its turn'}{eta}")


def watch(job: Job, draw: Callable[[Job], None] | None = None) -> None:
    """Draw a job again and again while it is active, with Cancel; the page is run anew when it ends."""

    @st.fragment(run_every=REFRESH if job.is_active else None)
    def panel() -> None:
        if draw is not None:
            draw(job)
        if not job.is_active:
            st.rerun()
        bar, button = st.columns([6, 1], vertical_alignment="center")
        with bar:
            progress_line(job)
        if button.button("Cancel", key=f"cancel {job.number}", width="stretch"):
            jobs().cancel(job)

    if job.is_active:
        panel()
    elif job.state == "failed":
        st.error(job.error)
    elif job.state == "cancelled":
        st.info(f"{job.title} was cancelled; what it measured is kept, and starting it again goes on from there.")
