"""The Diversity page's soup and rival: classes, confusions, and the examples that only one of them gets right."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from soupviz.analysis import examples
from soupviz.analysis.examples import Kind, Order
from soupviz.analysis.verdicts import by_merit
from soupviz.data.splits import Split
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.treatments import OUTPUTS, num_examples
from soupviz.pictures import examples as pictures
from soupviz.soups.planning import cost
from soupviz.soups.soup import mix_in, treatment_in
from soupviz.store.runs import Run
from soupviz.tasks.metrics import paired_counts, verdict
from soupviz.tasks.score import Score
from soupviz.types import Coefficients
from soupviz.ui import asking, charts, clicks, session, tables, widgets
from soupviz.ui.gallery import gallery
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

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


@dataclass(frozen=True, slots=True)
class Model:
    """What can be looked at: an ingredient, the base, a soup, or an ensemble. run: of a soup that was cooked."""

    name: str
    kind: str
    mix: Coefficients
    treatment: str = "average"
    run: Run | None = None

    @property
    def selected_on(self) -> list[str]:
        """The splits that chose it."""
        return list((self.run.result or {}).get("selected_on", ["held_out"])) if self.run else []


@dataclass(frozen=True, slots=True)
class Match:
    """A soup and a rival on the same examples."""

    split: Split
    classes: Sequence[str]
    soup: Model
    rival: Model
    new: Score
    old: Score


def models(opened: Kitchen, runs: Sequence[Run]) -> dict[str, Model]:
    """What can be looked at, by name: finished soups, the newest first, the averages of all, ingredients, the base."""
    found: dict[str, Model] = {}
    for run in reversed(runs):
        mixture = mix_in(run)
        name = run.name if run.name not in found else f"{run.name} #{run.key[:6]}"
        kind = "ensemble" if treatment_in(run) in OUTPUTS else "soup"
        found[name] = Model(name, kind, mixture, treatment_in(run), run)
    number = len(opened.pool)
    if number > 1:
        everything = mean_of(opened.pool)
        found.setdefault(f"average of all {number}", Model(f"average of all {number}", "soup", everything))
        found[f"ensemble of all {number}"] = Model(f"ensemble of all {number}", "ensemble", everything, "probabilities")
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
        st.stop()
    chosen = offered[soup]
    if chosen.run is not None and not chosen.run.key.startswith(session.soup_key() or " "):
        session.choose_soup(chosen.run)
    return chosen, offered[rival]


def compared(opened: Kitchen, split: str, soup: Model, rival: Model) -> Match | None:
    """Both on the split, once that is known."""
    wanted = [(model.mix, split, model.treatment) for model in (soup, rival)]

    def do(job: Job) -> list[Score]:
        return [opened.scores.score(*one, job.progress) for one in wanted]

    contents = [
        [[opened.weights.resolve(name).fingerprint, weight.hex()] for name, weight in model.mix] + [model.treatment]
        for model in (soup, rival)
    ]
    specs = [opened.spec.split_specs()[split].model_dump_json(exclude={"slices"})]
    train = opened.spec.data.train
    specs += [train.model_dump_json()] if train and any(num_examples(m.treatment) for m in (soup, rival)) else []
    key = f"match {digest([contents, opened.model_fingerprint, *opened.evaluator.numerics, split, specs])}"
    job = asking.result(opened, key, f"Score both on {split}", lambda: cost(opened, wanted), do, ahead=True)
    if job is None:
        return None
    data = opened.splits.load(split)
    return Match(data, examples.class_names(opened, data), soup, rival, *job.result)


def draw(match: Match) -> None:
    """The verdict, the classes and confusions, and the examples that these filter."""
    fixed, broken = paired_counts(match.new, match.old)
    st.write(
        f"{verbatim(match.soup.name)} against {verbatim(match.rival.name)}: **{verdict(match.new, match.old)}**. "
        f"Only the soup is right on {fixed:,} examples, only the rival on {broken:,}."
    )
    if match.split.name in match.soup.selected_on:
        st.caption(f"{match.split.name} selected this {match.soup.kind}: what it says here is optimistic.")
    left, right = st.columns(2) if len(match.classes) <= pictures.FEW else (st.container(), st.container())
    with left:
        clicked = draw_classes(match)
    with right:
        cell = draw_confusions(match)
    take_click(match, widgets.newly_clicked(classes=clicked, confusions=cell))
    draw_examples(match)


def take_click(match: Match, clicked: Sequence[str]) -> None:
    """A click on a class or on a cell filters the examples: the page is drawn anew with it."""
    for kind, *values in (one.split("\0") for one in clicked):
        if kind == "class":
            clicks.choose(label=match.classes[int(values[0])], predicted=None)
        clicks.choose(label=values[0], predicted=values[1], kind="any")


def draw_classes(match: Match) -> list[str]:
    """Change of each class as sorted bars; returns the class that is clicked."""
    st.header("Change of each class")
    labels = match.split.labels.numpy()
    found = examples.class_changes(examples.examples_of(match.new), examples.examples_of(match.old), labels)
    shown = examples.most_changed(found, pictures.SHOWN)
    label = st.session_state.get("label")
    clicked = charts.show(
        pictures.changes(shown, match.classes, match.classes.index(label) if label in match.classes else None),
        key=f"classes {match.split.name}",
        alt=f"Accuracy of {len(shown)} classes on {match.split.name}, soup less rival, the largest gain first",
        clicked=pictures.CLASS,
    )
    some = f"the {len(shown)} classes of {len(found)} that changed most; " if len(shown) < len(found) else ""
    st.caption(
        f"On {match.split.name}, {some}in brackets the examples of the class. To the right the soup is better. One "
        "class in twenty seems to change (p < 0.05) by chance alone. A click shows its examples below."
    )
    return [f"class\0{int(one['index'])}" for one in clicked if "index" in one]


def draw_confusions(match: Match) -> list[str]:
    """The confusion matrix; returns the cell that is clicked."""
    st.header("What is taken for what")
    offered = [pictures.COUNTS, pictures.SHARES, pictures.DIFFERENCE]
    what = st.segmented_control(
        "Show", offered, default=pictures.DIFFERENCE, required=True, key="confusion", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    labels = match.split.labels.numpy()
    new, old = (
        examples.confusion(examples.examples_of(score)["prediction"], labels, len(match.classes))
        for score in (match.new, match.old)
    )
    shown = examples.most_confused([new, old], pictures.SHOWN)
    clicked = charts.show(
        pictures.confusions(new, old, match.classes, shown, str(what), _chosen_cell(match.classes)),
        key=f"confusions {what} {match.split.name}",
        alt=f"Confusion matrix on {match.split.name}: {what}",
        clicked=pictures.CELL,
    )
    some = f"The {len(shown)} classes of {len(match.classes)} with most errors. " if len(shown) < len(new) else ""
    how = {
        pictures.COUNTS: "Examples of a label (row) that the soup takes for a class (column)",
        pictures.SHARES: "The same, in percent of the label's examples",
        pictures.DIFFERENCE: "Orange: the soup predicts this more often than the rival; blue: less often",
    }[str(what)]
    silent = sum(score.num_nonfinite for score in (match.new, match.old))
    none = f" {silent} outputs are not finite, and in no cell." if silent else ""
    st.caption(f"{some}{how}.{none} A click shows the soup's examples of a cell below.")
    return [f"cell\0{one['row']}\0{one['column']}" for one in clicked if "row" in one and "column" in one]


def _chosen_cell(classes: Sequence[str]) -> tuple[int, int] | None:
    label, predicted = st.session_state.get("label"), st.session_state.get("predicted")
    return (classes.index(label), classes.index(predicted)) if label in classes and predicted in classes else None


def draw_examples(match: Match) -> None:
    """The examples that are asked for, a page at a time."""
    st.header("Examples")
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    labels = match.split.labels.numpy()
    row = st.container(horizontal=True)
    kind = row.selectbox("Which", list(KINDS), key="kind", bind="query-params", width=200)
    label = row.selectbox("Label", match.classes, index=None, placeholder="every", key="label", width=150)
    predicted = row.selectbox(
        "Soup's prediction", match.classes, index=None, placeholder="every", key="predicted", width=160
    )
    order = row.selectbox("Order", list(ORDERS), key="order", bind="query-params", width=205)
    rows = examples.pick(
        new, old, labels, KINDS[kind],
        label=match.classes.index(label) if label else None,
        prediction=match.classes.index(predicted) if predicted else None,
        order=ORDERS[order],
    )  # fmt: skip
    if not len(rows):
        st.info("No example is of this kind: choose another kind, label or prediction.")
        return
    pages = -(-len(rows) // PER_PAGE)
    number = 1
    if pages > 1:
        which = tables.digest([match.split.name, match.soup.name, match.rival.name, kind, str(label), str(predicted)])
        number = st.number_input(f"Page, of {pages}", 1, pages, key=f"page {which} {order}", width=150)
    shown = rows[PER_PAGE * (number - 1) : PER_PAGE * number]
    st.caption(
        f"{len(rows):,} of {len(labels):,} examples of {match.split.name}. {_how_shown(match.split, int(rows[0]))}"
    )
    st.html(gallery(match.split, match.classes, new, old, shown))


def _how_shown(split: Split, row: int) -> str:
    picture = examples.pixels(split, row)
    if picture is None:
        return (
            ""
            if split.texts
            else "They are no pictures, and their data set has no method text(index) that tells what to show."
        )
    if str(split.arrays[""].dtype) == "torch.uint8":
        return "As the images are before normalisation, after resizing and cropping."
    return "Each is scaled from its own smallest to its own largest value."
