"""The command line's options for recipes, made from the recipes' own records."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from soupviz.recipes import MENU, own_parameters


def with_recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `**parameters` by one option for every parameter of a recipe.

    What is given arrives as text and is checked by the recipe's record; what is not given is None.
    """
    signature = inspect.signature(command)
    kept = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(help=text)],
        )
        for name, text in _texts().items()
    ]
    command.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    return command


def _texts() -> dict[str, str]:
    """Each parameter with what it means, and to which recipes."""
    found: dict[str, dict[str, list[str]]] = {}
    for method, kind in MENU.items():
        for name in own_parameters(kind):
            found.setdefault(name, {}).setdefault(kind.model_fields[name].description or "", []).append(method)
    return {
        name: "; ".join(f"{', '.join(methods)}: {text}" for text, methods in texts.items())
        for name, texts in found.items()
    }


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were given."""
    return {name: value for name, value in parameters.items() if value is not None}
