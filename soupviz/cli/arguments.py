"""What commands share: the one application, and their common arguments."""

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Mix fine-tuned checkpoints into a soup, and measure whether it is really better. Results go to stdout, "
    "progress to stderr; a mistake exits 2.",
)


@app.callback()
def _commands() -> None:
    """There are several, also while only one is loaded."""


KitchenFile = Annotated[Path, typer.Argument(help="a kitchen.yaml, or the folder that holds one", metavar="KITCHEN")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
Members = Annotated[
    list[str] | None,
    typer.Option(
        help="only these are considered: a name, or several separated by commas; may be repeated; default: all"
    ),
]
Weights = Annotated[
    Literal["raw", "ema"] | None, typer.Option(help="raw or ema, where files hold both; default: as kitchen.yaml says")
]
Split = Annotated[str, typer.Option(help="held_out, test, train or shifts.NAME")]
BatchNorm = Annotated[str, typer.Option(help="running statistics: average, first, recalibrate, or recalibrate:NUMBER")]
Order = Annotated[str, typer.Option(help="in which candidates are tried: best first, listed or random")]
Seed = Annotated[int, typer.Option(help="of the random order")]

ShardSize = Annotated[
    str | None,
    typer.Option(
        help="write a larger FILE.safetensors as several of at most this size, such as 5GB, and their index; default: "
        "one file"
    ),
]
