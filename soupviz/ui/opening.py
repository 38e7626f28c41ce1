"""The Kitchens page's parts: opening by path, opening without a file, what is kept on disk."""

import os
from pathlib import Path
from typing import Any

import streamlit as st

from soupviz.addresses import is_remote
from soupviz.data import splitting
from soupviz.errors import KitchenError
from soupviz.kitchen import Kitchen
from soupviz.recognition.runs import parse_arguments
from soupviz.spec import TEST, KitchenSpec
from soupviz.store.cache import clear_caches, sizes
from soupviz.store.logits import BUDGET
from soupviz.store.runs import at_stake
from soupviz.ui import computing, people, session, work, workspace
from soupviz.ui.verbatim import code, verbatim
from soupviz.yaml_file import kitchen_file, validate

HELP = "Its path; a relative one starts at the folder of checkpoints, as in kitchen.yaml."

ABOVE = "above, under Open a folder"
"""Where the page has what lets it read elsewhere."""


def by_path() -> None:
    """Open a kitchen.yaml by its path."""
    typed = st.text_input("Path of a kitchen.yaml, or of its folder", key="kitchen path")
    if st.button("Open", disabled=not typed):
        file = kitchen_file(workspace.allowed(typed, ABOVE))
        if not file.is_file():
            raise KitchenError(f"{file}: no such file; expected a kitchen.yaml, or the folder that holds one.")
        session.choose_file(file)
        st.switch_page("pages/ingredients.py")


def without_file() -> None:
    """Open a folder of checkpoints, a factory and a data folder, and offer to write the kitchen.yaml."""
    with st.form("without a file"):
        left, right = st.columns(2)
        folder = left.text_input("Folder of checkpoints", str(workspace.roots()[0]))
        pattern = right.text_input("Files", "*.safetensors", help="A glob, relative to the folder.")
        factory = left.text_input("Model factory", placeholder="torchvision:resnet18, timm:NAME, or model.py:build")
        arguments = right.text_input("Its arguments (JSON)", "{}", placeholder='{"num_classes": 10}')
        data = left.text_input("Held-out data", placeholder="a folder per class, .npz or .safetensors", help=HELP)
        test = right.text_input("Test data (optional)", placeholder="the same kind", help=HELP)
        resize = left.number_input("Resize images to", 0, value=0, help="Pixels of the short side; 0 leaves them.")
        means = right.text_input(
            "Mean; std (of values in [0, 1])", placeholder="0.485, 0.456, 0.406; 0.229, 0.224, 0.225"
        )
        pressed = st.form_submit_button("Open it", type="primary")
    if pressed:
        root = workspace.allowed(folder, ABOVE)
        if not root.is_dir():
            raise KitchenError(f"{root}: no such folder; expected the one that holds the checkpoints.")
        document: dict[str, Any] = {
            "name": root.name,
            "model": {"factory": factory, "args": parse_arguments(arguments)},
            "ingredients": [pattern],
            "data": {"held_out": _split(root, data, int(resize), means)},
        }
        if test:
            document["data"]["test"] = _split(root, test, int(resize), means)
        file = root / "kitchen.yaml"
        spec = validate(document, file)
        asked = workspace.request(file, spec)
        workspace.check_paths(asked)
        workspace.trust(asked)  # who types a factory's name here means its code to run
        st.session_state["typed kitchen"] = (file, spec)
        work.open_kitchen(file, asked)
    _offer_to_write()


def _offer_to_write() -> None:
    typed: tuple[Path, KitchenSpec] | None = st.session_state.get("typed kitchen")
    if typed is None:
        return
    file, spec = typed
    if job := work.find_open_job(file):
        if session.watch(job) or job.state != "finished":
            return
    exists = f" (the one there is kept as {verbatim(splitting.kept_as(file).name)})" if file.is_file() else ""
    st.success(f"It opens. Write {code(str(file))}{exists}, so that the next visit and the command line find it?")
    row = st.container(horizontal=True)
    if row.button("Write kitchen.yaml", type="primary"):
        splitting.write_document(splitting.document_of(spec), file)
        _go(file)
    if row.button("Go on without"):
        _go(file)


def _go(file: Path) -> None:
    st.session_state.pop("typed kitchen")
    session.choose_file(file)
    st.switch_page("pages/ingredients.py")


def _split(root: Path, place: str, resize: int, means: str) -> dict[str, object]:
    if not place:
        raise KitchenError("Held-out data is empty; name a folder of images, or an .npz or .safetensors file.")
    place = place if is_remote(place) else str(root / place)  # joined, an address would be none
    path = Path(os.path.relpath(workspace.allowed(place, ABOVE), root)).as_posix()
    if path.endswith((".npz", ".safetensors")):
        return {"format": "arrays", "path": path}
    mean, _, std = means.partition(";")
    transform: dict[str, object] = {"resize": resize} if resize else {}
    transform |= {name: _numbers(text) for name, text in (("mean", mean), ("std", std)) if text.strip()}
    return {"format": "imagefolder", "path": path} | ({"transform": transform} if transform else {})


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise KitchenError(f"{text!r} is not a list of numbers; expected such as 0.485, 0.456, 0.406.") from None


def offer_split(opened: Kitchen) -> None:
    """Where test is missing: deal held_out in two, and say so."""
    file, kept = st.session_state.get("dealt", ("", ""))
    if file == str(opened.file):
        st.success(
            "held_out was dealt in two: kitchen.yaml now has a test split. The old file, with its comments, is kept as "
            f"{verbatim(kept)}. Soups cooked before were selected on examples that are now test: they are no longer "
            "listed."
        )
    if TEST in opened.splits.names:
        return
    st.info("This kitchen has no test split, so nothing can report on what held_out selects.", icon="ℹ️")
    meaning = "One half selects and the other reports, stratified by class; kitchen.yaml says so, the old one is kept."
    if opened.file.is_file() and st.button("Split held_out in two", help=meaning):
        was = splitting.split_held_out(opened.file)
        work.close_kitchen(opened.file)
        st.session_state["dealt"] = (str(opened.file), was.name)
        st.rerun()


def kept(opened: Kitchen | None) -> None:
    """What is kept on disk, and clearing it."""
    rows = {f"{name} (cache folder)": size for name, size in sizes().items()}
    if opened is not None:
        store = opened.store.size()
        rows[f"store of {opened.name}: {store['scores']} scores, {store['runs']} runs"] = store["bytes"]
        rows[f"of it answers of single models, kept unasked up to {BUDGET / 1e6:.0f} MB"] = store["logits"]
    st.table({verbatim(name): f"{size / 1e6:.1f} MB" for name, size in rows.items()})
    row = st.container(horizontal=True)
    if row.button(
        "Clear the caches", help="Decoded splits and converted checkpoints; they are made again when needed."
    ):
        clear_caches()
        work.close_kitchens()
        st.rerun()
    if opened is None:
        return
    with row.popover("Forget this kitchen's scores and runs"):
        st.write("They are measured anew when they are needed; soups that were exported stay. There is no way back.")
        runs = at_stake(opened.store.runs(), people.person())
        if runs:
            st.warning(verbatim(f"{runs} All who open this kitchen see them."))
        # Another key where there is more to lose: a yes to less is none to that.
        agreed = not runs or st.checkbox("They may go", key=f"may go: {runs}")
        if st.button("Forget them", type="primary", disabled=not agreed):
            opened.store.clear()
            computing.forget_started()
            st.rerun()
