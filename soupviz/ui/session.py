"""The state that pages share: which kitchen is open, which soup is chosen, what stands in the URL, what is watched."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from soupviz.analysis import history
from soupviz.analysis.grids import only_in_grids
from soupviz.errors import CorruptImagesError, KitchenError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.soups.standing import current
from soupviz.store.runs import Run
from soupviz.trust import Request
from soupviz.ui import work, workspace
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import code, verbatim
from soupviz.weights.names import as_values, names_in
from soupviz.yaml_file import kitchen_file

REFRESH = 0.5
"""Seconds between two looks at a running job."""

MEMBERS, LINKED = "members", "members in the URL"
"""The names of the chosen ingredients, in the session and in the URL; and what this session wrote there last."""

ANSWERED = "answered"
"""In the session: the kitchen's file and the soup that the first page has shown last."""


def chosen_file() -> Path:
    """The kitchen in the URL, else the first of the folders that the server was started with, else the demo."""
    named = st.query_params.get("kitchen") or st.session_state.get("kitchen")
    if named == "demo":
        return workspace.demo_file()
    if named:
        if "\0" in named:
            raise KitchenError(
                "The kitchen that the address names is no path: it has a NUL in it. Open one by its path."
            )
        # Of a folder outside nothing is looked at, not even whether it is one; opening it says why.
        return kitchen_file(Path(named)) if workspace.is_allowed(Path(named)) else Path(named)
    return workspace.first_kitchen() or workspace.demo_file()


def choose_file(file: Path) -> None:
    """Switch to another kitchen; what was chosen in the last one is let go."""
    name = "demo" if file == workspace.demo_file() else str(file)
    st.session_state["kitchen"] = name
    for key in ("soup", "members", "picked"):
        st.session_state.pop(key, None)
    st.query_params.from_dict({"kitchen": name})


def next_address() -> dict[str, str | list[str]]:
    """What links to other pages carry: the same, and the soup that the first page answered with, if none is open."""
    file, key = st.session_state.get(ANSWERED, ("", ""))
    return ({"soup": key} if file == str(chosen_file()) and key else {}) | address()


def address() -> dict[str, str | list[str]]:
    """The state that matters, as it stands in the URL of each page."""
    file = chosen_file()
    wanted: dict[str, str | list[str]] = {"kitchen": "demo" if file == workspace.demo_file() else str(file)}
    wanted |= {key: value for key, value in (("soup", soup_key()), ("picked", _picked())) if value}
    return wanted | ({MEMBERS: members} if (members := as_values(st.session_state.get(MEMBERS) or [])) else {})


def _went_back() -> bool:
    """Whether the browser came here by its history: what is added to the address then would cut off the way back."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def keep_url() -> None:
    """Write the state that matters into the URL, unless the browser has just gone back to it."""
    wanted = address()
    st.session_state["kitchen"] = wanted["kitchen"]
    if _went_back():
        return
    members = wanted.pop(MEMBERS, [])
    if members and st.query_params.get_all(MEMBERS) != members:
        st.query_params[MEMBERS] = members
    if any(st.query_params.get(key) != value for key, value in wanted.items()):
        st.query_params.update(wanted)
    if MEMBERS in st.session_state:
        st.session_state[LINKED] = members
        if not members and MEMBERS in st.query_params:
            del st.query_params[MEMBERS]


def _take_members(opened: Kitchen) -> None:
    """The ingredients that a link chose, unless it is the link that this session wrote itself.

    An empty `members=` means all. What the link names and is not here is told.
    """
    named = st.query_params.get_all(MEMBERS)
    if not named or named == st.session_state.get(LINKED):
        return
    names = names_in(named, opened.names)
    st.session_state[MEMBERS] = [name for name in names if name in opened.names]
    st.session_state[LINKED] = named
    if missing := [name for name in names if name not in opened.names]:
        st.warning(verbatim(f"The link chooses ingredients that this kitchen lacks: {', '.join(missing)}."))


def soup_key() -> str:
    """The run that is open, by the start of its key."""
    return str(st.query_params.get("soup") or st.session_state.get("soup") or "")


def choose_soup(run: Run) -> None:
    st.session_state["soup"] = run.key[:12]
    if not _went_back():
        st.query_params["soup"] = run.key[:12]
    _let_go("picked")


def _let_go(key: str) -> None:
    """Forget a choice, in the session and in the URL."""
    st.session_state.pop(key, None)
    if key in st.query_params:
        del st.query_params[key]


def forget_soups(keys: Sequence[str]) -> None:
    """Let go of the open soup, and of that of the first page, if they are among the runs that were deleted."""
    st.session_state.pop(ANSWERED, None)  # the first page finds it anew
    if soup_key() and any(key.startswith(soup_key()) for key in keys):
        _let_go("soup")


def pick(clicked: str, runs: Sequence[Run]) -> None:
    """Open a soup, by its run's key, or look at a checkpoint, by its name."""
    chosen = next((run for run in runs if run.key == clicked), None)
    if chosen is not None:
        choose_soup(chosen)
    else:
        st.session_state["picked"] = clicked
        st.query_params["picked"] = clicked


def _picked() -> str:
    return str(st.session_state.get("picked") or st.query_params.get("picked") or "")


def picked_ingredient(names: Sequence[str]) -> str | None:
    """The checkpoint that was clicked last, or that a link names, unless a soup was clicked after it."""
    name = _picked()
    if name and name not in names:
        st.warning(verbatim(f"The link looks at {name}, which is not among the models of this kitchen."))
    return name if name in names else None


def kitchen() -> Kitchen:
    """The open kitchen; while it is being opened, its progress is shown and the page stops here."""
    file = chosen_file()
    opened = work.opened_kitchen(file)
    if opened is not None:
        _take_members(opened)
        return opened
    job = work.find_open_job(file)
    if job is not None and job.state == "failed":
        show_failure(job)
        if st.button("Try again"):
            work.forget_failure(job)
            st.rerun()
        end_page()
    if job is None or not job.is_active:
        job = work.open_kitchen(file, _ask_for_trust(file))
    place = st.empty()
    while job.is_active:  # a click elsewhere ends this loop; the page that follows takes it up again
        with place.container():
            progress_line(job)
        time.sleep(REFRESH / 2)
    st.rerun()
    raise AssertionError("st.rerun() does not return")


def _ask_for_trust(file: Path) -> Request | None:
    """Name the code that would run and ask once; the page stops until the answer.

    Returns:
        What was approved, to be opened as it was read here; None for the demo, which may not have been built yet.
    """
    if file == workspace.demo_file():
        return None
    try:
        workspace.allowed(file)
        asked = workspace.request(file, work.specification(file))
        workspace.check_paths(asked)
    except SoupError as error:
        st.error(verbatim(str(error)))
        end_page()
    if not workspace.is_trusted(asked):
        told = [f"{what} {', '.join(code(name) for name in names)}" for what, names in _uses(asked) if names]
        called = " ".join((asked.spec.name or file.parent.name).split())
        st.warning(f"Opening **{verbatim(called)}** {'; and '.join(told)}. Open it only if you trust it.")
        if st.button("I trust it: open", type="primary"):
            workspace.trust(asked)
            st.rerun()
        end_page()
    return asked


def _uses(asked: Request) -> list[tuple[str, Sequence[str]]]:
    return [
        ("runs Python code:", asked.code),
        ("reads, with the credentials of whoever started this dashboard, from:", asked.places),
    ]


def finished_runs(opened: Kitchen) -> list[Run]:
    """The soups of this kitchen as it is, oldest first; of those that only a grid asked for, the one that is open."""
    hidden, key = only_in_grids(opened), soup_key()
    shown = [run for run in opened.store.runs() if run.key not in hidden or (key and run.key.startswith(key))]
    return current(opened, shown)


def chosen_run(opened: Kitchen, runs: Sequence[Run] | None = None) -> Run | None:
    """The soup that is open, else the best on held_out; where a link names another, the page says why it is not.

    Args:
        runs: the soups of the kitchen, where they were looked up before.
    """
    runs = finished_runs(opened) if runs is None else runs
    key = soup_key()
    best = history.best_of(opened, runs)
    named = next((run for run in runs if key and run.key.startswith(key)), None)
    if key and named is None:
        st.warning(verbatim(why_not_open(opened, key, best)))
    found = named or best
    return opened.store.whole(found) if found else None


def why_not_open(opened: Kitchen, key: str, instead: Run | None = None) -> str:
    """Why the soup of a link is not shown, and what is shown instead."""
    entry = next((history.entry_of(opened, run) for run in opened.store.runs() if run.key.startswith(key)), None)
    if entry is None:
        told = f"This kitchen has no soup {key!r}, which the link opens: it was deleted, or cooked in another kitchen."
    elif entry.state == history.OUTDATED:
        told = f"The link opens “{entry.run.name}”, which is no soup of this kitchen any more. {entry.reason}"
    else:
        told = f"The link opens “{entry.run.name}”, a run that is {entry.state}, so there is no soup of it."
    return f"{told} Shown instead: “{instead.name}”, the best on held_out." if instead else told


def progress_line(job: Job) -> None:
    """A bar with what is done, how far, and how long to go."""
    left = job.remaining()
    eta = "" if left is None else f", about {left:.0f} s to go" if left < 90 else f", about {left / 60:.0f} min to go"
    st.progress(job.fraction, text=verbatim(f"{job.title}: {job.what or 'waiting for its turn'}{eta}"))


def show_failure(job: Job) -> None:
    """Why a job failed; where images cannot be decoded, a way on without them."""
    st.error(verbatim(job.error))
    if isinstance(job.exception, CorruptImagesError) and st.button(
        "Leave them out and go on", key=f"leave out {job.number}", type="primary"
    ):
        work.leave_out_corrupt(Path(job.kitchen))
        st.rerun()


def watch(job: Job, draw: Callable[[Job], None] | None = None) -> bool:
    """Draw a job again and again while it is active, with Cancel; the page is run anew when it ends.

    Returns:
        Whether it was active when it was asked. A job may end at any moment: a page that asks a second time,
        and draws by that answer, can miss the end.
    """

    def panel() -> None:
        if draw is not None:
            draw(job)
        if not job.is_active:
            st.rerun()
        bar, button = st.columns([4, 1], vertical_alignment="center")
        with bar:
            progress_line(job)
        if button.button("Cancel", key=f"cancel {job.number}", width="stretch"):
            work.jobs().cancel(job)

    state = job.state
    if state in ("queued", "running"):
        redrawn(panel, every=REFRESH)
        return True
    if state == "failed":
        show_failure(job)
    elif state == "cancelled":
        st.info(
            f"{verbatim(job.title)} was cancelled; what it measured is kept, and starting it again goes on from there."
        )
    return False
