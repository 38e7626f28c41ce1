"""Forms made from the recipes' own records: type, bounds, default and help of each parameter."""

from collections.abc import Container, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from soupviz.analysis.parameters import bounds_of
from soupviz.recipes import Pooled, Recipe, own_parameters
from soupviz.tasks.task import Task
from soupviz.ui import clicks
from soupviz.ui.charts import Place

UNIONS = (Union, UnionType)
TENTHS = [number / 10 for number in range(11)]
MOST = {int: 1000, float: 3}
"""How far the bounds of a slider may lie apart; beyond it a number is typed."""

TICK = 0.01
"""The step of a slider over fractions, and how far it stays from a bound that is excluded."""


def take_up(recipe: Recipe) -> None:
    """Let the form show a recipe, and draw the page anew; the ingredients that are chosen stay."""
    own = {name: getattr(recipe, name) for name in own_parameters(type(recipe))}
    for name, value in own.items():
        if (
            name not in st.session_state
        ):  # a widget that is not there yet takes its value from the URL, and keeps it there
            st.query_params[name] = str(value)
    clicks.choose(recipe=recipe.label, **own)


def parameters(
    kind: type[Pooled], place: Place, task: Task, goals: Sequence[str], decided: Container[str] = ()
) -> dict[str, Any]:
    """A widget in `place` for each parameter of a recipe's own, but those decided; a seed only where it matters, and
    none where a task leaves no choice.

    Args:
        goals: what may be raised, the kitchen's own metric first.
    """
    values: dict[str, Any] = {}
    for name in own_parameters(kind):
        extra = kind.model_fields[name].json_schema_extra
        only_with = extra.get("only_with") if isinstance(extra, dict) else None
        if name in decided or (only_with and only_with not in values.values()):
            continue
        if isinstance(extra, dict) and extra.get("choices") == "goals":
            values[name] = _goal(place, name, kind.model_fields[name], goals, task)
        elif get_origin(kind.model_fields[name].annotation) is Literal:
            choices = kind.choices(name, task)
            if len(choices) > 1:
                values[name] = _choice(place, name, kind.model_fields[name], choices)
        else:
            values[name] = _widget(place, name, kind.model_fields[name])
    return values


def _goal(place: Place, name: str, field: FieldInfo, goals: Sequence[str], task: Task) -> str:
    """What is raised; the kitchen's own metric is the recipe's default, whatever it is called."""
    own = {metric.name: metric.label for metric in task.metrics}
    labels = {goal: own.get(goal, goal.replace("_", " ")) for goal in goals}
    if (named := st.query_params.get(name)) in labels and name not in st.session_state:
        del st.query_params[name]  # the address has labels; a link may name it as commands do
        st.session_state[name] = named
    chosen = place.selectbox(
        name.replace("_", " ").capitalize(), goals, key=name, bind="query-params", help=field.description, width=190,
        format_func=labels.__getitem__,
    )  # fmt: skip
    return "" if chosen == goals[0] else str(chosen)


def _choice(place: Place, name: str, field: FieldInfo, choices: tuple[Any, ...]) -> Any:
    label, at = name.replace("_", " ").capitalize(), choices.index(field.default)
    return place.selectbox(label, choices, at, key=name, bind="query-params", help=field.description, width=150)


def _widget(place: Place, name: str, field: FieldInfo) -> Any:
    options: dict[str, Any] = {"key": name, "bind": "query-params", "help": field.description}
    label = name.replace("_", " ").capitalize()
    if field.annotation is str:
        return place.text_input(label, field.default, width=150, **options)
    if get_origin(field.annotation) in UNIONS:  # a word, or a number from 0 to 1
        words = [word for part in get_args(field.annotation) for word in get_args(part)]
        return place.selectbox(label, [*words, *TENTHS], words.index(field.default), width=150, **options)
    number = float if field.annotation is float else int
    low, high = _range(field, number)
    if low is not None and high is not None and high - low <= MOST[number] and (number is int or field.default >= TICK):
        return place.slider(label, low, high, number(field.default), number(TICK) or 1, width=240, **options)
    step = float(field.default) / 2 or 1.0
    shown: dict[str, Any] = {"step": step, "format": "%g"} if number is float else {"step": 1}
    return place.number_input(label, low, high, number(field.default), width=150, **shown, **options)


def _range(field: FieldInfo, number: type) -> tuple[Any, Any]:
    """The least and the largest value that a widget offers; None where there is no bound."""
    low, high, is_open_low, is_open_high = bounds_of(field)
    step = 1 if number is int else TICK
    least = None if low is None else number(low) + is_open_low * (step if number is int else TICK / 100)
    most = None if high is None else number(high) - is_open_high * step
    return least, most
