"""What commands share: the one application, their common arguments, and opening a kitchen."""

from pathlib import Path
from typing import Annotated

import typer

import soupviz as sv
from soupviz.cli.progress import progress_bar

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="The command line: `python -m soupviz COMMAND`. Results on stdout, progress on stderr, a mistake exits 2.",
)

KitchenFile = Annotated[Path, typer.Argument(help="a kitchen.yaml, or the folder that holds one", metavar="KITCHEN")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
Members = Annotated[str | None, typer.Option(help="names separated by commas: the pool; default: all")]
Split = Annotated[str, typer.Option(help="held_out, test, train or shifts.NAME")]
SkipIncompatible = Annotated[bool, typer.Option("--skip-incompatible", help="go on without refused files")]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="leave out images that cannot be decoded")]
BatchNorm = Annotated[str, typer.Option(help="running statistics: average, first, recalibrate, or recalibrate:NUMBER")]
Order = Annotated[str, typer.Option(help="accuracy, listed or random")]
Seed = Annotated[int, typer.Option(help="of the random order")]


def open_kitchen(path: Path, skip_incompatible: bool, skip_corrupt: bool, quiet: bool) -> sv.Kitchen:
    """A kitchen, with progress on stderr; what is left out is told there too."""
    with progress_bar(quiet) as progress:
        kitchen = sv.Kitchen.load(
            path, skip_incompatible=skip_incompatible, skip_corrupt=skip_corrupt, progress=progress
        )
    for refusal in kitchen.refused:
        typer.echo(f"left out: {refusal.reason}", err=True)
    return kitchen


def split_names(members: str | None) -> list[str] | None:
    """Names separated by commas."""
    return None if members is None else [name.strip() for name in members.split(",") if name.strip()]
