"""The Kitchens page's first part: a run's folder is looked into, and becomes a kitchen."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.recognition import Checked, Proposal, check, recognise
from soupviz.recognition.runs import DATA, FACTORY, VOCABULARY, Fact, Question, parse_arguments
from soupviz.recognition.writing import text_of, write
from soupviz.trust import runs_code
from soupviz.ui import session, work, workspace
from soupviz.ui.jobs import URGENT, Job
from soupviz.ui.verbatim import code as as_code
from soupviz.ui.verbatim import verbatim
from soupviz.weights.pickles import command_of

GIVEN = "given to recognise"
"""What the user typed, in the session: folder, data, and answers."""
TITLES = {
    "task": "task",
    "model.factory": "model", "model.args": "its arguments", "ingredients": "checkpoints", "base": "base",
    "weights": "weights", "classes": "classes", "data.held_out": "held-out data (selects)",
    "data.test": "test data (reports)", "data.train": "training data",
}  # fmt: skip
WEIGHTS = {"raw": "raw", "ema": "their moving average (EMA)"}
OPENED = "opened run"
SHOWN = "code that was shown"
OPEN = "Check it, write kitchen.yaml and open it"


def a_folder() -> None:
    """Ask for a folder, show what it is, ask what nobody can know, and open it."""
    with st.form("open a folder"):
        folder = st.text_input(
            "Folder of a training run, or of checkpoints",
            placeholder="as timm, Trainer, Lightning, torchvision's references, Ultralytics or your own loop left it",
        )
        data = st.text_input(
            "Its data (optional)",
            placeholder="a file, or the folder of val and test, unless it lies in the folder above",
        )
        pressed = st.form_submit_button("Look into it", type="primary")
    st.caption("The dashboard may then read and write below the folders that you name here.")
    if pressed:
        st.session_state.pop(GIVEN, None)
        places = {"folder": str(workspace.open_folder(folder))} if folder else {}
        if not places:
            st.info("Name the folder first.")
            return
        st.session_state[GIVEN] = places | ({"data": str(workspace.open_folder(data))} if data else {})
    if GIVEN in st.session_state:
        _proposed(st.session_state[GIVEN])


def _proposed(given: dict[str, Any]) -> None:
    proposal = recognise(**given, may_read=workspace.is_allowed)
    st.markdown(
        f"**{verbatim(proposal.what[:1].upper() + proposal.what[1:])}: {verbatim(str(proposal.document['name']))}**"
    )
    if proposal.run.convert:
        number = len(proposal.run.convert)
        st.warning(
            f"Reading its checkpoints ({number} of them) runs code that is in them. If you trust them, convert them "
            "once, then look again:"
        )
        st.code(command_of(proposal.run.convert), language="sh", wrap_lines=True)
        return
    _facts(proposal)
    _answer(proposal, given)
    _follow(proposal)


def _facts(proposal: Proposal) -> None:
    rows = [{"": TITLES[fact.key], "found": _shown(fact), "from": fact.source} for fact in proposal.facts]
    st.table(pd.DataFrame(rows).map(verbatim).set_index(""))
    for note in proposal.notes:
        st.caption(verbatim(f"{note[:1].upper()}{note[1:]}"))


def _shown(fact: Fact) -> str:
    """A value for people: data by its path first, lists and mappings without brackets."""
    if not fact.key.startswith("data."):
        return _plain(fact.value)
    others = {key: value for key, value in fact.value.items() if key not in ("path", "format")}
    return f"{fact.value['path']} ({fact.value['format']}{'; ' * bool(others)}{_plain(others)})"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        nested = {key: f"({_plain(one)})" if isinstance(one, dict) else _plain(one) for key, one in value.items()}
        return ", ".join(f"{key}: {one}" for key, one in nested.items())
    if isinstance(value, list):
        return (" × " if all(isinstance(one, int) for one in value) else ", ").join(map(str, value))
    return str(value)


def _answer(proposal: Proposal, given: dict[str, Any]) -> None:
    """What nobody can know, and the button; one press goes on as soon as everything is answered."""
    answers: dict[str, Any] = {}
    with st.form("what nobody can know", border=bool(proposal.questions)):
        for question in proposal.questions:
            answers |= _ask(question)
        if "weights" in proposal.document:
            answers["weights"] = st.radio(
                "Weights", ["raw", "ema"], horizontal=True, format_func=WEIGHTS.get, help="The files hold both."
            )
        code, seen = _unasked_code(proposal), st.session_state.get(SHOWN)
        st.session_state[SHOWN] = code
        if code:
            st.warning(f"Opening it runs Python code that the run names: {as_code(code)}. Go on only if you trust it.")
        pressed = st.form_submit_button(OPEN, type="primary")
    if not pressed or (code and code != seen):  # what was pressed under named other code, or none
        return
    if typed := answers.get("arguments"):
        answers["arguments"] = parse_arguments(typed)
    if answers.get(DATA):
        answers[DATA] = str(workspace.open_folder(answers[DATA]))
    if answers.get(VOCABULARY):
        answers[VOCABULARY] = str(workspace.open_folder(answers[VOCABULARY]))
    if answers.get(FACTORY):
        _open_code(proposal, answers[FACTORY])
    st.session_state[GIVEN] = given | {key: value for key, value in answers.items() if value}
    whole = recognise(**st.session_state[GIVEN], may_read=workspace.is_allowed)
    if whole.questions:
        missing = "; ".join(question.text for question in whole.questions)
        st.warning(verbatim(f"Still to be said: {missing}."))
        return
    asked = workspace.request(workspace.allowed(whole.file), whole.spec())
    workspace.check_paths(asked)
    workspace.trust(asked)  # it was typed here, or named above the button that was pressed
    workspace.bind(asked)
    _check_job(whole)
    st.rerun()


def _open_code(proposal: Proposal, factory: str) -> None:
    """A file of code that the user names may be read, wherever it lies."""
    place = factory.rpartition(":")[0]
    files = [folder / place for folder in (proposal.file.parent, proposal.run.folder)]
    if place.endswith(".py") and (file := next((path for path in files if path.is_file()), None)):
        workspace.open_folder(str(file))


def _ask(question: Question) -> dict[str, Any]:
    title = verbatim(f"{question.text[:1].upper()}{question.text[1:]}")
    if question.key == DATA:
        return {DATA: st.text_input(title, key="asked data")}
    if question.key == VOCABULARY and not question.choices:
        return {VOCABULARY: st.text_input(title, key="asked vocabulary")}
    if question.key != FACTORY:
        return {question.key: st.selectbox(title, question.choices, index=None, key=f"asked {question.key}")}
    left, right = st.columns([2, 1])
    near = f"Found near the run: {', '.join(question.choices)}." if question.choices else None
    factory = left.text_input(title, key="asked factory", placeholder=near, help=near and verbatim(near))
    arguments = right.text_input("Its arguments (JSON, optional)", placeholder='{"num_classes": 10}')
    return {FACTORY: factory, "arguments": arguments}


def _unasked_code(proposal: Proposal) -> str:
    """Code of the run's folder that its own files name as the factory."""
    factory = str(proposal.document["model"].get("factory", ""))
    named = any(question.key == FACTORY for question in proposal.questions)
    return factory if factory and not named and runs_code(factory) else ""


def _check_job(proposal: Proposal) -> Job:
    def checked(job: Job) -> Checked:
        return check(proposal, job.progress)

    return work.jobs().submit(_key(proposal.file), "Checking the first checkpoint", checked, priority=URGENT)


def _key(file: Path) -> str:
    return f"recognise {file}"


def _follow(proposal: Proposal) -> None:
    """The check's progress, then the kitchen; where the logged score is another, the user decides."""
    job = work.jobs().find(_key(proposal.file))
    if job is None or session.watch(job) or job.state != "finished":
        return
    checked: Checked = job.result
    if not checked.is_doubtful:
        _write_and_go(proposal, checked)
    st.warning(verbatim(checked.sentence))
    with st.expander("The kitchen.yaml that would be written"):
        st.code(text_of(proposal), language="yaml")
    if st.button("Write it and open it all the same"):
        _write_and_go(proposal, checked)


def _write_and_go(proposal: Proposal, checked: Checked) -> None:
    kept = write(proposal)
    work.jobs().forget(lambda job: job.key == _key(proposal.file))
    work.close_kitchen(proposal.file)
    st.session_state.pop(GIVEN, None)
    told = f" The one that was there is kept as {kept.name}." if kept else ""
    st.session_state[OPENED] = str(proposal.file), f"Wrote {proposal.file}.{told} {checked.sentence}"
    session.choose_file(proposal.file)
    st.switch_page("pages/ingredients.py")


def told(opened: Kitchen) -> None:
    """What came of opening a run's folder, until something was cooked in it."""
    file, sentence = st.session_state.get(OPENED, ("", ""))
    if file == str(opened.file) and not opened.store.num_runs():
        st.success(verbatim(sentence))
