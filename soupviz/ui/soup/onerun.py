"""What the Soup page shows of one run's checkpoints: the windows that a search tried, and the n best by each metric."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from soupviz.analysis import choices
from soupviz.analysis.choices import Choice
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures.grids import CELL, DONE, heat
from soupviz.recipes import Recipe, parse
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.recipes.windows import WINDOWS
from soupviz.soups.goals import goal_of
from soupviz.spec import HELD_OUT
from soupviz.store.runs import Run
from soupviz.tasks.figures import two_metrics
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, factor, places, titled
from soupviz.ui import asking, charts, computing, session, widgets
from soupviz.ui.formats import in_unit, value_format
from soupviz.ui.jobs import Job
from soupviz.ui.soup import forms
from soupviz.ui.verbatim import verbatim

AXES = ("last checkpoint (step or epoch)", "checkpoints averaged")


def draw_windows(opened: Kitchen, recipe: Recipe) -> None:
    """The windows of the search that this recipe is, or whose window it is; a click takes one up, and cooks it."""
    run = _search_of(opened, recipe)
    told = ((run and run.result) or {}).get("notes", {}).get(WINDOWS, [])
    if run is None or not told:
        return
    search = parse(run.recipe)
    assert run.result is not None
    steps = steps_from(opened.store.decisions(run))
    metric = goal_of(opened, search.goal).metric
    best = max(index for index, step in enumerate(steps) if step.accepted)
    shown = _shown(recipe, told)
    rows = [
        _row(metric, step, end, length, index == best, (end, length) == shown)
        for index, (step, (end, length)) in enumerate(zip(steps, told, strict=True))
    ]
    ends, lengths = (sorted({one[place] for one in told}) for place in (0, 1))
    texts = ([f"{end:g}" for end in ends], [f"{length}" for length in lengths])
    st.header("Windows")
    clicked = charts.show(
        heat(rows, AXES, texts, metric, HELD_OUT, of=opened.splits.num_examples(HELD_OUT)),
        key=f"windows {digest([run.key, texts])[:12]}",
        alt=f"{titled(metric)} on held_out of {len(steps)} windows, by where they end and how long they are",
        clicked=CELL,
    )
    early = sum(step.value is None for step in steps)
    st.caption(
        f"Green frame: the best of {len(steps)} windows, chosen on held_out, so that its value there is optimistic, as "
        "is that of any other that is taken for it. "
        + (f"{early} were given up once they could not win: of them the best they could be is told. " if early else "")
        + "Click a cell to cook its window."
    )
    places = {f"{one['column']} {one['row']}": window for one, window in zip(rows, told, strict=True)}
    if newly := widgets.newly_clicked(windows=[f"{one['column']} {one['row']}" for one in clicked]):
        end, length = places[newly[0]]
        window = search.one_window(end, length)
        assert window is not None
        computing.cook_job(opened, window)
        forms.take_up(window)


def _search_of(opened: Kitchen, recipe: Recipe) -> Run | None:
    """The newest finished search over the windows of the same checkpoints."""
    if not recipe.windows_of:
        return None
    for run in reversed(session.finished_runs(opened)):
        search = parse(run.recipe)
        wanted = (recipe.windows_of, recipe.considered, recipe.batchnorm)
        if (search.windows_of, search.considered, search.batchnorm) != wanted or search.window is not None:
            continue
        if recipe.window is not None or search == recipe:
            return run
    return None


def _shown(recipe: Recipe, told: Sequence[tuple[float, int]]) -> tuple[float, int] | None:
    """Where the one window of a recipe ends, and how long it is."""
    if recipe.window is None:
        return None
    end, length = recipe.window
    ends = [one for one, _ in told if not end or one <= end]
    return (max(ends), length) if ends else None


def _row(metric: Metric, step: Step, end: float, length: int, is_best: bool, is_open: bool) -> dict[str, object]:
    most = factor(metric) * (step.bound or 0.0)
    shown = f"{most:.{places(step.num_units)}f}" if metric.unit == PERCENT else f"{most:.4g}"
    bound = f"{'≤' if metric.higher_is_better else '≥'} {shown}" if step.value is None else ""
    return {
        "column": f"{end:g}", "row": f"{length}", "value": None if step.value is None else factor(metric) * step.value,
        "state": DONE if step.value is not None else step.outcome, "reason": bound, "bound": bound,
        "frame": " ".join([*["best"] * is_best, *["open"] * is_open]),
    }  # fmt: skip


def draw_choices(opened: Kitchen, recipe: Recipe, run: Run) -> None:
    """The n best by each metric, and by the run's log, with what both metrics say of each and of this soup."""
    found = choices.choices(opened, recipe, run)
    if not found:
        return
    number, what = found[0].recipe.n, choices.called(found[0])
    st.header(f"Chosen by {verbatim(' or by '.join(one.by for one in found))}?")
    if any(one.run is None for one in found):

        def cook(job: Job) -> None:
            choices.cook_all(opened, found, job.progress)

        st.write(
            f"Who averages one run's checkpoints mostly chooses them by a loss. What {'does' if number == 1 else 'do'} "
            f"the {what} come to, by each?"
        )
        key = f"choices {digest([one.recipe.model_dump(mode='json') for one in found])[:12]}"
        title = f"Cook the {what} by each"
        if asking.result(opened, key, title, lambda: choices.cost_of(opened, found), cook, ahead=True):
            st.rerun()
        return
    st.dataframe(
        _table(opened, run, found),
        hide_index=True,
        placeholder="–",
        column_config={
            name: st.column_config.NumberColumn(name, format=value_format(metric, of=_num_units(found, split)))
            for name, (metric, split) in _columns(opened).items()
        },
        alt="; ".join(choices.told(opened, found)),
    )
    st.caption("Both were chosen on held_out: believe what test says of them.")


def _num_units(found: Sequence[Choice], split: str) -> int | None:
    return next((one.scores[split].num_units for one in found if split in one.scores), None)


def _columns(opened: Kitchen) -> dict[str, tuple[Metric, str]]:
    """By its title, what a column has: a metric on a split."""
    splits = [split for split in choices.SPLITS if split in opened.splits.reporting]
    return {
        f"{metric.label}, {split}": (metric, split)
        for metric in two_metrics(opened.task.metrics, opened.objective)
        for split in splits
    }


def _table(opened: Kitchen, run: Run, found: Sequence[Choice]) -> pd.DataFrame:
    rows = [(f"{choices.called(one)} by {one.by}", one.scores, ", ".join(one.names)) for one in found]
    if all(one.run is not None and one.run.key != run.key for one in found):
        kept = (run.result or {})["scores"]
        rows.append(("this soup", {split: opened.scores.recalled(kept[split], split) for split in kept}, ""))
    return pd.DataFrame(
        {"what": title}
        | {
            name: in_unit(metric, scores[split].shown(metric.name))
            for name, (metric, split) in _columns(opened).items()
        }
        | {"made of": names}
        for title, scores, names in rows
    )
