"""A soup and its rival class by class: what changed, and what is taken for what."""

from collections.abc import Sequence

import streamlit as st

from soupviz.analysis import examples
from soupviz.pictures import examples as pictures
from soupviz.ui import charts, clicks, widgets
from soupviz.ui.diversity.match import Match


def draw(match: Match) -> None:
    """Both pictures; a click in one filters the examples."""
    left, right = st.columns(2) if len(match.classes) <= pictures.FEW else (st.container(), st.container())
    with left:
        clicked = draw_classes(match)
    with right:
        cell = draw_confusions(match)
    take_click(match, widgets.newly_clicked(classes=clicked, confusions=cell))


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
    new, old = examples.examples_of(match.new), examples.examples_of(match.old)
    found = examples.class_changes(new, old, labels)
    shown = examples.tested(examples.most_changed(found, pictures.SHOWN), new, old, labels)
    label = st.session_state.get("label")
    clicked = charts.show(
        pictures.changes(shown, match.classes, match.classes.index(label) if label in match.classes else None),
        key=f"classes {match.split.name}",
        alt=f"Share right of {len(shown)} classes on {match.split.name}, soup less rival, the largest gain first",
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
