"""The Diversity page's soup and rival: which two, how they compare, and the units that tell them apart."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from soupviz.analysis import examples
from soupviz.analysis.examples import Kind, Order, Ranking
from soupviz.analysis.telling import verdict
from soupviz.analysis.verdicts import by_merit
from soupviz.analysis.wording import alone_tells_nothing, units
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS, num_examples
from soupviz.mixing.averaging import mean_of
from soupviz.soups.planning import cost
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.store.runs import Run
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.ui import asking, session, tables
from soupviz.ui.diversity import class_charts, part_charts
from soupviz.ui.diversity.gallery import gallery
from soupviz.ui.diversity.match import Match, Model
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim
from soupviz.ui.viewers.finding import viewer_of

PER_PAGE = 24
KINDS: dict[str, Kind] = {
    "only the soup is right": "only soup",
    "only the rival is right": "only rival",
    "both are wrong": "both wrong",
    "any": "any",
}
ORDERS: dict[str, Order] = {
    "the surest error first": "surest error",
    "the least sure error first": "least sure error",
    "as in the split": "as listed",
}
RIGHT_OR_WRONG: dict[str, Ranking] = {
    "only the soup is right": "only soup",
    "only the rival is right": "only rival",
    "both are wrong": "both wrong",
}
RANKINGS: dict[str, Ranking] = {
    "the soup's largest gain first": "largest gain",
    "the soup's largest loss first": "largest loss",
    "the soup's largest error first": "largest error",
}


def models(opened: Kitchen, runs: Sequence[Run]) -> dict[str, Model]:
    """What can be looked at, by name: finished soups, the newest first, the averages of all, ingredients, the base."""
    found: dict[str, Model] = {}
    for run in reversed(runs):
        mixture = mix_in(run)
        name = run.name if run.name not in found else f"{run.name} #{run.key[:6]}"
        kind = "ensemble" if aggregation_in(run) in OUTPUTS else "soup"
        found[name] = Model(name, kind, mixture, aggregation_in(run), run)
    number = len(opened.pool)
    if number > 1:
        everything = mean_of(opened.pool)
        found.setdefault(f"average of all {number}", Model(f"average of all {number}", "soup", everything))
    if together := ensemble_of_all(opened):
        found[together.name] = Model(together.name, "ensemble", together.mix, together.aggregation)
    found |= {name: Model(name, "ingredient", ((name, 1.0),)) for name in opened.names}
    if opened.base:
        found["base"] = Model("base", "base", (("base", 1.0),))
    return found


def choose(opened: Kitchen) -> tuple[Model, Model]:
    """The soup, by default the one that is open, and its rival, by default the best ingredient on held_out."""
    offered = models(opened, session.finished_runs(opened))
    names = list(offered)
    best, current = by_merit(opened)[0], session.chosen_run(opened)
    at = next((name for name, one in offered.items() if one.run and current and one.run.key == current.key), names[0])
    left, right = st.columns(2)
    soup = left.selectbox("Soup", names, index=names.index(at), key="examined", bind="query-params")
    rival = right.selectbox(
        "Rival", names, index=names.index(best), key="rival", bind="query-params",
        help="By default the best ingredient on held_out.",
    )  # fmt: skip
    if soup == rival:
        st.warning("Both are the same model; choose two different ones.")
        end_page()
    chosen = offered[soup]
    if chosen.run is not None and not chosen.run.key.startswith(session.soup_key() or " "):
        session.choose_soup(chosen.run)
    return chosen, offered[rival]


def compared(opened: Kitchen, split: str, soup: Model, rival: Model) -> Match | None:
    """Both on the split, once that is known."""
    wanted = [(model.mix, split, model.aggregation) for model in (soup, rival)]

    def do(job: Job) -> list[Score]:
        return list(opened.scores.each(wanted, job.progress))

    contents = [
        [[opened.weights.resolve(name).fingerprint, weight.hex()] for name, weight in model.mix] + [model.aggregation]
        for model in (soup, rival)
    ]
    specs = [opened.spec.split_specs()[split].model_dump_json(exclude={"slices"})]
    train = opened.spec.data.train
    specs += [train.model_dump_json()] if train and any(num_examples(m.aggregation) for m in (soup, rival)) else []
    key = f"match {digest([contents, opened.model_fingerprint, *opened.evaluator.numerics, split, specs])}"
    job = asking.result(opened, key, f"Score both on {split}", lambda: cost(opened, wanted), do, ahead=True)
    if job is None:
        return None
    data = opened.splits.load(split)
    return Match(data, examples.class_names(opened, data), soup, rival, *job.result)


def draw(opened: Kitchen, match: Match) -> None:
    """The verdict, what the task has to show of classes, and the units that are listed."""
    task = opened.task
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    soup, rival = verbatim(match.soup.name), verbatim(match.rival.name)
    told = f"{soup} against {rival}: **{verdict(opened, match.new, match.old)}**."
    wrong, was_wrong = task.wrong(new), task.wrong(old)
    if wrong is None or was_wrong is None:
        better, worse = task.better(new, old)
        counted = alone_tells_nothing(task, opened.objective)
        if better is not None and worse is not None:
            counted = f"The soup answers {units(task, better)} better than the rival, and {worse:,} worse."
    else:
        better, worse = int((~wrong & was_wrong).sum()), int((wrong & ~was_wrong).sum())
        counted = f"Only the soup is right on {units(task, better)}, only the rival on {worse:,}."
    st.write(f"{told} {counted}")
    if match.split.name in match.soup.selected_on:
        st.caption(f"{verbatim(match.split.name)} selected this {match.soup.kind}: what it says here is optimistic.")
    if task.has_classes:
        class_charts.draw(match)
        draw_classified(task, match)
    else:
        if not part_charts.draw(opened, match):
            reason = task.without_classes
            st.caption(f"{reason[0].upper()}{reason[1:]}, so that none is charted: the {task.unit}s are listed below.")
        draw_ranked(task, match)


def draw_classified(task: Task, match: Match) -> None:
    """The examples of a kind, a label and a prediction."""
    st.header("Examples")
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    row = st.container(horizontal=True)
    kind = row.selectbox("Which", list(KINDS), key="kind", bind="query-params", width=200)
    label = row.selectbox("Label", match.classes, index=None, placeholder="every", key="label", width=150)
    predicted = row.selectbox(
        "Soup's prediction", match.classes, index=None, placeholder="every", key="predicted", width=160
    )
    order = row.selectbox("Order", list(ORDERS), key="order", bind="query-params", width=205)
    rows = examples.pick(
        new, old, match.split.labels.numpy(), KINDS[kind],
        label=match.classes.index(label) if label else None,
        prediction=match.classes.index(predicted) if predicted else None,
        order=ORDERS[order],
    )  # fmt: skip
    if not len(rows):
        st.info(f"No {task.unit} is of this kind: choose another kind, label or prediction.")
        return
    draw_cards(task, match, rows, [kind, str(label), str(predicted)], order)


def draw_ranked(task: Task, match: Match) -> None:
    """The units by how badly they are answered."""
    st.header(f"{task.unit[0].upper()}{task.unit[1:]}s")
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    if not task.judges_units:
        draw_cards(task, match, np.arange(len(match.split)), [], "")
        return
    rankings = RANKINGS if task.wrong(new) is None else RIGHT_OR_WRONG | RANKINGS
    kind = st.selectbox("Which", list(rankings), key="ranking", bind="query-params", width=240)
    rows = examples.ranked(task, new, old, rankings[kind])
    if not len(rows):
        st.info(f"No {task.unit} is of this kind: choose another one.")
        return
    draw_cards(task, match, rows, [kind], "")


def draw_cards(task: Task, match: Match, rows: examples.Rows, chosen: Sequence[str], order: str) -> None:
    """Units as cards, a page at a time.

    Args:
        chosen: which units these are, in what order.
    """
    pages = -(-len(rows) // PER_PAGE)
    number = 1
    if pages > 1:
        which = tables.digest([match.split.name, match.soup.name, match.rival.name, *chosen])
        number = st.number_input(f"Page, of {pages}", 1, pages, key=f"page {which} {order}", width=150)
    shown = rows[PER_PAGE * (number - 1) : PER_PAGE * number]
    note = viewer_of(task, match.split, int(rows[0])).note(match.split)
    st.caption(f"{len(rows):,} of {len(match.split):,} {task.unit}s of {verbatim(match.split.name)}. {note}")
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    st.html(gallery(task, match.split, match.classes, new, old, shown))
