"""Writes docs/reference from the code: the keys of kitchen.yaml, the recipes, the commands, the public names.

    python -m docs.generate

A test holds what is committed against what this would write; so what a page says is changed where the code says it:
in a field's description, an option's help, a docstring.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from typer.main import get_command

import soupviz as sv
from docs.fields import fields_table, name_of, shown, specs_inside, split_default, table
from soupviz.cli.run import application
from soupviz.data.images.transforms import SEVERITIES
from soupviz.models.building import FACTORIES
from soupviz.recipes import MENU, PATHS, Pooled, Recipe, own_parameters
from soupviz.soups.scaling import no_division
from soupviz.spec import FORMATS, KitchenSpec, ModelSpec, Spec, SplitSpec, TransformSpec
from soupviz.tasks.finding import TASKS
from soupviz.tasks.task import Task
from soupviz.weights.vocabulary import AVERAGES, PARALLEL, WRAPPED, WRAPPERS

FOLDER = Path(__file__).resolve().parent / "reference"
PARAMETERS: dict[str, dict[str, Any]] = {"transcription": {"vocabulary": ["-", "a"]}}
"""Of tasks that cannot do without, some that will do."""

NUM_INGREDIENTS = 12
"""For which the recipes' table says how many mixes are scored."""

RECIPES_OWN = {name for kind in MENU.values() for name in own_parameters(kind)}
MADE_BY_CALLERS = ("SWARecorder",)
"""Classes whose constructor is called by hand; the others come from functions."""

METHODS = ("Kitchen.load", "Kitchen.score", "Soup.plot", "Soup.state_dict")
"""Of the public classes, what is shown of their methods."""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of every page, by its file's name."""
    made = {
        "kitchen.md": kitchen_page, "recipes.md": recipes_page, "commands.md": commands_page,
        "python.md": python_page, "checkpoints.md": checkpoints_page, "tasks.md": tasks_page,
    }  # fmt: skip
    note = "<!-- Written by `python -m docs.generate` from the code; change it there. -->"
    return {name: "\n\n".join([note, *page()]) + "\n" for name, page in made.items()}


def kitchen_page() -> Iterator[str]:
    yield "# kitchen.yaml"
    yield (
        "How to write one is told in [Write a kitchen](../how-to/write-a-kitchen.md). An unknown key is refused, "
        "and the nearest known one named."
    )
    beside: dict[type[Spec], list[str]] = {
        ModelSpec: [table(("factory", "builds"), ([f"`{name}`", text] for name, text in FACTORIES.items()))],
        SplitSpec: [table(("format", "path"), ([f"`{name}`", text] for name, text in FORMATS.items()))],
        TransformSpec: [table(("corruption", "number", *(f"severity {one}" for one in range(1, 6))), _severities())],
    }
    for kind in _specs(KitchenSpec):
        yield f"## {'The file' if kind is KitchenSpec else name_of(kind)}"
        yield inspect.cleandoc(kind.__doc__ or "")
        yield fields_table("key", kind.model_fields)
        yield from beside.get(kind, [])


def _severities() -> Iterator[list[str]]:
    for name, (meaning, amounts) in SEVERITIES.items():
        yield [f"`{name}`", meaning, *(f"{amount:g}" for amount in amounts)]


def _specs(kind: type[Spec]) -> list[type[Spec]]:
    """A record and those that it is made of, each once, in reading order."""
    found = [kind]
    for field in kind.model_fields.values():
        for inner in specs_inside(field.annotation):
            found += [one for one in _specs(inner) if one not in found]
    return found


def recipes_page() -> Iterator[str]:
    yield "# Recipes"
    yield "Which to take is told in [Choose a recipe](../how-to/choose-a-recipe.md)."
    counted = f"mixes scored of {NUM_INGREDIENTS}"
    yield table(("recipe", "is", "needs", counted), (_recipe_row(name, kind) for name, kind in MENU.items()))
    yield (
        f"*{counted.capitalize()}* is how many a recipe scores at most, at its defaults and of {NUM_INGREDIENTS} "
        "ingredients, beside the ingredients themselves."
    )
    yield "## Parameters of every recipe"
    yield fields_table("parameter", {name: Pooled.model_fields[name] for name in ("members", "batchnorm")})
    for name, kind in MENU.items():
        yield from _recipe(name, kind, own_parameters(kind))
    yield "## Recipes kept from pages and files"
    yield (
        "These are made by a click, or read from a file of mergekit, not asked for by name; they are cooked, exported "
        "and rebuilt like all others."
    )
    for name, path in PATHS.items():
        yield from _recipe(name, path, [key for key in path.model_fields if key not in ("method", "batchnorm")])


def tasks_page() -> Iterator[str]:
    yield "# Tasks"
    yield (
        "What `task` in kitchen.yaml may be; one of your own is told in "
        "[Bring your own task](../how-to/bring-your-own-task.md). A search raises or lowers the first metric, unless "
        "`metric` names another one."
    )
    for name, kind in TASKS.items():
        yield from _task(kind.configured(PARAMETERS.get(name, {}), FOLDER))


def _task(task: Task) -> Iterator[str]:
    yield f"## {task.name}"
    yield inspect.cleandoc(type(task).__doc__ or "")
    yield f"Judged one by one and resampled: each {task.unit}."
    yield table(
        ("metric", "is", "in", "better"),
        (
            [f"`{one.name}`", one.label, one.unit or "–", "high" if one.higher_is_better else "low"]
            for one in task.metrics
        ),
    )
    unfit = {name: kind().unfit(task) for name, kind in MENU.items()}  # type: ignore[call-arg]
    told = [f"`{name}`{reason.removeprefix(name)}" for name, reason in unfit.items() if reason]
    told += [one] if (one := no_division(task)) else []
    if told:
        yield "Does not apply:"
        yield "\n".join(f"- {one}" for one in told)


def _recipe_row(name: str, kind: type[Pooled]) -> list[str]:
    text, _ = _told(kind)
    asked = kind().candidates(NUM_INGREDIENTS)  # type: ignore[call-arg] # each has a default for `method`
    return [f"[`{name}`](#{name})", text.split("\n\n")[0].replace("\n", " "), _needs(kind), f"{asked:,}"]


def _recipe(name: str, kind: type[Recipe], own: Sequence[str]) -> Iterator[str]:
    text, source = _told(kind)
    yield f"### {name}"
    yield text
    if source:
        yield f"Source: {source}"
    if kind.requires:
        yield f"Needs: {_needs(kind)}."
    if own:
        yield fields_table("parameter", {key: kind.model_fields[key] for key in own})


def _told(kind: type[Recipe]) -> tuple[str, str]:
    """What a recipe's docstring says of it, and its source."""
    text, _, source = inspect.cleandoc(kind.__doc__ or "").partition("Source: ")
    return text.strip(), source.strip()


def _needs(kind: type[Recipe]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(kind.requires))


def commands_page() -> Iterator[str]:
    yield "# Commands"
    yield (
        "`python -m soupviz COMMAND`, or `soupviz COMMAND` once it is installed. Results go to stdout, progress to "
        "stderr. `--json` prints one JSON object. A mistake in what was asked is one line on stderr and exit code 2. "
        "`KITCHEN` is a `kitchen.yaml` or its folder. Naming a kitchen is consent to the code that it names."
    )
    commands: dict[str, Any] = dict(sorted(get_command(application()).commands.items()))  # type: ignore[attr-defined]
    yield table(("command", "does"), ([f"[`{name}`](#{name})", one.help] for name, one in commands.items()))
    for name, command in commands.items():
        yield f"## {name}"
        yield command.help
        yield f"```text\n{_usage(name, command.params)}\n```"
        yield table(("argument or option", "means", "default"), (_option_row(name, one) for one in command.params))


def _usage(name: str, parameters: Sequence[Any]) -> str:
    words = []
    for one in parameters:
        if one.param_type_name == "argument":
            word = one.metavar or one.name.upper()
            words.append(word if one.required else f"[{word}]")
        elif one.required:
            words.append(f"{one.opts[0]} {one.name.upper()}")
    return " ".join(["soupviz", name, *words, "[OPTIONS]"])


def _option_row(command: str, one: Any) -> list[str]:
    meaning, default = split_default(one.help or "")
    if one.required:
        default = "required"
    elif not default:
        is_recipes = command == "soup" and one.name in RECIPES_OWN
        default = "the recipe's own" if is_recipes else "off" if one.default is False else shown(one.default)
    spelled = one.opts[0] if one.param_type_name == "option" else one.metavar or one.name.upper()
    return [f"`{spelled}`", meaning, default]


def python_page() -> Iterator[str]:
    yield "# Python"
    yield "How they go together is shown in [Use it from Python](../how-to/use-python.md)."
    for name in sorted([*sv.__all__, *METHODS]):
        one = attrgetter(name)(sv)
        if callable(one):
            yield f"## {name}"
            yield f"```text\nsv.{name}{_signature(name, one)}\n\n{inspect.getdoc(one)}\n```"


def _signature(name: str, one: Callable[..., Any]) -> str:
    """The names and defaults of what is called; none of a class that callers get from functions."""
    if isinstance(one, type) and name not in MADE_BY_CALLERS:
        return ""
    signature = inspect.signature(one)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in kept]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"=<.*?>(?=[,)])", "=...", text)  # a function as a default is shown with its address


def checkpoints_page() -> Iterator[str]:
    yield "# Names in checkpoints"
    yield "How files are read is told in [Bring your checkpoints](../how-to/bring-checkpoints.md)."
    yield "A state dict is looked for at the top and under these names first, in this order:"
    yield ", ".join(f"`{name}`" for name in WRAPPERS) + "."
    yield "One of these words in a name says that it holds an average over training:"
    yield ", ".join(f"`{word}`" for word in sorted(AVERAGES)) + "."
    yield "These are taken out of keys, as wrappers put them there:"
    yield ", ".join(f"`{name}`" for name in (*WRAPPED, PARALLEL)) + "."


if __name__ == "__main__":
    main()
