"""What can be asked of a finished soup beside its scores: is its confidence right, and what did BatchNorm do to it?"""

import streamlit as st

from soupviz.analysis.verdicts import by_merit
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import is_affine
from soupviz.pictures.reliability import reliability
from soupviz.soups import planning
from soupviz.soups.scaling import Scaled, no_temperature, scale
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.slicing import has_slices, slice_table
from soupviz.tasks.wording import titled
from soupviz.types import Coefficients
from soupviz.ui import charts, session, tables, widgets, work
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

SLICES, CALIBRATION, BATCHNORM = "Slices", "Calibration", "BatchNorm"


def draw(opened: Kitchen, run: Run) -> None:
    """One panel of a finished run: the one that is asked for."""
    mixture = mix_in(run)
    offered = [SLICES, CALIBRATION]
    if widgets.has_batchnorm(opened) and aggregation_in(run) not in OUTPUTS:
        offered.append(BATCHNORM)
    asked = st.segmented_control("Look closer", offered, key="panel", bind="query-params")
    if asked in offered:
        {SLICES: slices, CALIBRATION: calibration, BATCHNORM: batchnorm}[asked](opened, run, mixture)


def slices(opened: Kitchen, run: Run, mixture: Coefficients) -> None:
    """Each slice before and after: the best ingredient on held_out, and the soup."""
    splits = [split for split in (TEST, HELD_OUT) if split in opened.splits.names and opened.splits.is_loaded(split)]
    split = st.segmented_control("Split", splits, default=splits[0], required=True, key=f"slices of {run.key}")
    if not has_slices(opened.task, opened.splits.load(split)):
        st.write(
            f"{verbatim(split)} has no slices, and {opened.task.without_classes}: name a column that "
            "divides it, with `slices:` in kitchen.yaml."
        )
        return
    best = by_merit(opened)[0]
    before = planning.known(opened, ((best, 1.0),), split)
    after = planning.known(opened, mixture, split, aggregation_in(run))
    if before is None or after is None:
        st.write(
            f"{verbatim(best)}, the best ingredient on held_out, is not scored on {split} yet: the Compare page scores "
            "it."
        )
        return
    rows = slice_table(opened.task, opened.objective, after, before, opened.splits.load(split))
    st.dataframe(
        tables.slices(opened.task, opened.objective, rows),
        hide_index=True,
        column_config=widgets.slice_columns(opened, best, split),
        alt=f"{titled(opened.objective)} on {split} by slice, of {best} and of the soup",
    )
    st.caption("One slice in twenty has p below 0.05 by chance alone: look at the sum before you believe a single one.")


def calibration(opened: Kitchen, run: Run, mixture: Coefficients) -> None:
    """A temperature fitted on held_out, what it changes, and the reliability diagram."""
    if not opened.task.has_temperature:
        st.write(no_temperature(opened.task))
        return
    divided, squashed = opened.task.divides
    told = (
        f"One number, fitted on every {opened.task.decides} of held_out, divides {divided} before {squashed}, so that "
        "confidence comes nearer to what is right. It changes no prediction."
    )

    def fit(job: Job) -> Scaled:
        return scale(opened, mixture, aggregation_in(run), job.progress)

    key = f"calibrate {run.key} {opened.file}"
    job = work.jobs().find(key)
    if job is None or job.state in ("cancelled", "failed"):
        st.write(told)
        if st.button("Fit a temperature", key=f"fit {run.key}"):
            work.jobs().submit(key, "Fitting a temperature", fit, kitchen=str(opened.file))
            st.rerun()
    if job is None or session.watch(job) or job.state != "finished":
        return
    scaled: Scaled = job.result
    before, after = scaled.before[scaled.reported], scaled.after[scaled.reported]
    left, right = st.columns(2)
    left.metric(
        "Temperature", f"{scaled.temperature:.3f}", "fitted on held_out", delta_color="off", delta_arrow="off",
        help=told,
    )  # fmt: skip
    left.dataframe(tables.calibrations(scaled), hide_index=True, alt="Calibration before and after, by split")
    charts.show(
        reliability(scaled.bins_before, scaled.bins_after),
        key=f"reliability {run.key}",
        alt=f"Reliability on {scaled.reported}: ECE {before.ece:.3f} before, {after.ece:.3f} after",
        place=right,
    )


def batchnorm(opened: Kitchen, run: Run, mixture: Coefficients) -> None:
    """The three scores: statistics averaged, from the first ingredient, re-estimated on train."""
    names = widgets.aggregations(opened)
    key = f"aggregations {run.key} {opened.file}"

    def score(job: Job) -> None:
        opened.scores.score_all(
            [(mixture, split, name) for name in names for split in opened.splits.reporting], job.progress
        )

    job = work.jobs().find(key)
    if job is not None and session.watch(job):
        return
    if not is_affine(opened.scores.resolved(mixture)):
        st.caption("The coefficients do not sum to one, so averaged statistics are scaled with them.")
    rows = tables.aggregations(opened, mixture, names)
    if rows is not None:
        st.dataframe(
            rows,
            hide_index=True,
            placeholder="–",
            alt=f"{titled(opened.objective)} with each BatchNorm setting, by split",
        )
    is_over = job is None or job.state in ("cancelled", "failed") or rows is None
    if is_over and st.button(f"Score with {len(names)} BatchNorm settings", key=f"aggregations {run.key}"):
        work.jobs().submit(key, "Scoring each BatchNorm setting", score, kitchen=str(opened.file))
        st.rerun()
    if len(names) < 3:
        st.caption("Re-estimating them needs train data: add `train:` under `data:` in kitchen.yaml.")
