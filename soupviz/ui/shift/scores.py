"""Whose scores the Shift page shows: the open kitchen's, or those of a table."""

import posixpath
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
import yaml

from soupviz.analysis.robustness import ENSEMBLE, Mixed, Scores, mixes_of, read_scores, scores_of
from soupviz.analysis.score_files import Source, score_files
from soupviz.errors import SoupError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.soups import planning
from soupviz.soups.needs import lacking_for
from soupviz.spec import HELD_OUT, SHIFTS, TEST, SplitSpec
from soupviz.ui import asking, session, work, workspace
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

KITCHEN, TABLE = "this kitchen", "a table of scores"
CORRUPTED = {"corrupt": "gaussian_blur", "severity": 3}
FORMATS = (
    "One row for each model: a name, and at least two scores, as fractions or in percent. Several files are read "
    "as one table. Rows and files named soup, uniform or greedy are soups, unless a column `kind` says otherwise. A "
    ".json file may say more of each model by its name. A folder that `lm_eval --log_samples` wrote opens, too."
)


def how_to_add(like: SplitSpec) -> tuple[str, str]:
    """What a shift is in kitchen.yaml, in a sentence and as an example that is made of a split of the kitchen's own."""
    told, keys = "Add some under `data:` in kitchen.yaml", like.model_dump(mode="json", exclude_defaults=True)
    if like.takes_transform:
        told, name = f"{told}; a corruption of the images that report is one, too", "blur"
        keys["transform"] = keys.get("transform", {}) | CORRUPTED
    elif like.format == "python":
        name, keys = "elsewhere", {"format": "python", "path": "elsewhere.py:function"}
    else:
        folder, file = posixpath.split(keys.get("path", ""))
        name, keys["path"] = "elsewhere", posixpath.join(folder, f"elsewhere{posixpath.splitext(file)[1]}")
    return f"{told}:", yaml.safe_dump({"data": {"shifts": {name: keys}}}, sort_keys=False).rstrip()


def of_kitchen() -> Scores:
    """The open kitchen's; what is missing can be asked for, with its cost."""
    opened = session.kitchen()
    if lacking_for(opened, {"shifts"}):
        st.info("This kitchen has no shifts: further test splits, of data unlike what the models were tuned for.")
        told, example = how_to_add(opened.spec.data.test or opened.spec.data.held_out)
        st.caption(told)
        st.code(example, language="yaml")
        end_page()
    reading = work.find_read_job(opened)
    if reading is not None and reading.is_active:
        session.watch(reading)
        end_page()
    mixes = mixes_of(opened, session.finished_runs(opened))
    if any(one.model.id == ENSEMBLE for one in mixes) and not st.toggle(
        f"With the ensemble of all {len(opened.pool)}", key="ensemble", bind="query-params",
        help="The yardstick: it takes every ingredient's answer, and so as many forward passes.",
    ):  # fmt: skip
        mixes = [one for one in mixes if one.model.id != ENSEMBLE]
    _ask_for_missing(opened, mixes)
    return scores_of(opened, mixes)


def _ask_for_missing(opened: Kitchen, mixes: Sequence[Mixed]) -> None:
    """Score on test and the shifts what is not scored there."""
    splits = [name for name in opened.splits.reporting if name != HELD_OUT or TEST not in opened.splits.names]
    wanted = [(one.mix, split, one.aggregation) for one in mixes for split in splits]
    pinned = [opened.weights.resolve(name).fingerprint for name in opened.names]
    # Of a soup its id says what it is made of, thousands of which would take long to write down.
    plain = [pinned, [(one.model.id, one.aggregation) for one in mixes], opened.spec.data.model_dump(mode="json")]
    key = f"shift {digest(plain)}"
    before = asking.find(opened, key)
    was_over = before is not None and before.state == "finished"
    if not planning.lacking(opened, wanted):
        return
    if was_over:  # its scores were forgotten since
        work.jobs().forget(lambda job: job is before)

    def score(job: Job) -> None:
        opened.scores.score_all(wanted, job.progress)

    title = f"Score all {len(mixes)} models on {', '.join(map(short, splits))}"
    if asking.result(opened, key, title, lambda: planning.cost(opened, wanted), score):
        st.rerun()  # the last score came while this page was drawn


def open_soup(model: str) -> None:
    """A soup that was clicked here is open on the other pages, too."""
    run = session.kitchen().store.run(model)
    if run is not None:
        session.choose_soup(run)


def of_table() -> Scores | None:
    """A table's: uploaded, or below the folders that the dashboard was started with; None before there is one."""
    left, right = st.columns(2)
    uploaded = left.file_uploader(
        "Tables of scores", ["csv", "tsv", "jsonl", "ndjson", "json"], accept_multiple_files=True, key="uploaded tables"
    )
    typed = right.text_input(
        "or a file or folder", key="table", bind="query-params", placeholder="results/scores.csv",
        help=f"Below {', '.join(map(str, workspace.roots()))}.",
    )  # fmt: skip
    right.caption(FORMATS)
    try:
        sources: list[Source] = [(file.name, file.getvalue()) for file in uploaded]
        if typed and not sources:
            sources = [workspace.allowed(path) for path in score_files(workspace.allowed(Path(typed)))]
        if not sources:
            return None
        scores = read_scores(sources)
    except (SoupError, OSError) as error:
        st.error(verbatim(str(error)))
        return None
    st.caption(verbatim(" ".join(scores.notes)))
    return scores


def short(split: str) -> str:
    """A split without the word that says it is a shift."""
    return split.removeprefix(SHIFTS)
