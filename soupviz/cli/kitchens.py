"""Opening a kitchen, as commands do that make scores: what they say of its files, and of who evaluates."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import soupviz as sv
from soupviz.cli.progress import progress_bar
from soupviz.spec import ExecutorName, RayWeights
from soupviz.types import refusals_in_words
from soupviz.weights.names import names_in

Weights = Annotated[
    Literal["raw", "ema"] | None, typer.Option(help="raw or ema, where files hold both; default: as kitchen.yaml says")
]


@dataclass(frozen=True, slots=True)
class Opening:
    """The options of commands that open a kitchen to score something."""

    weights: Weights = None
    executor: Annotated[
        ExecutorName | None,
        typer.Option(help="who evaluates: inline, processes or ray; default: as kitchen.yaml says, else inline"),
    ] = None
    workers: Annotated[
        int | None, typer.Option(min=1, help="how many of them; default: one for each GPU, or two CPU cores each")
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(help="of a Ray cluster, such as ray://host:10001; default: $RAY_ADDRESS, else one is started"),
    ] = None
    ray_weights: Annotated[
        RayWeights | None,
        typer.Option(
            help="files, which its workers read, or object_store, where the checkpoints are put once; default: as "
            "kitchen.yaml says, else files"
        ),
    ] = None
    skip_incompatible: Annotated[
        bool, typer.Option("--skip-incompatible", help="go on without the checkpoints that are refused")
    ] = False
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="leave out images and recordings that cannot be decoded")
    ] = False

    def open(self, path: Path, *, quiet: bool) -> sv.Kitchen:
        """A kitchen, with progress on stderr; how its files were understood and what is left out is told there too."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        with progress_bar(quiet) as progress:
            kitchen = sv.Kitchen.load(path, progress=progress, **given)
        for note in kitchen.notes:
            typer.echo(f"note: {note}", err=True)
        for reason in refusals_in_words(kitchen.refused):
            typer.echo(f"left out: {reason}", err=True)
        return kitchen


def opens_kitchen(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `opening` by the options of an Opening; it is handed one."""
    signature = inspect.signature(command)
    names = [one.name for one in fields(Opening)]
    added = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(Opening)
    ]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        command(opening=Opening(**{name: values.pop(name) for name in names}), **values)

    others = [one for one in signature.parameters.values() if one.name != "opening"]
    called.__signature__ = signature.replace(parameters=[*others, *added])  # type: ignore[attr-defined]
    return called


def chosen(members: list[str] | None, kitchen: sv.Kitchen) -> list[str] | None:
    """The names that `--members` gives: each value is a name of the kitchen's, or several separated by commas."""
    if members is None:
        return None
    return names_in(members, {*kitchen.names, *kitchen.other_models.items})
