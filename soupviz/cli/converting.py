"""The command that converts pickles which need code."""

import json
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from soupviz.cli.answering import answer
from soupviz.cli.arguments import AsJson, app
from soupviz.cli.progress import progress_bar
from soupviz.errors import CheckpointError
from soupviz.weights.converting import convert as converted
from soupviz.weights.elsewhere import place_of


@app.command()
def convert(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="checkpoints that need code to be read, here or at an address"),
    ],
    trust: Annotated[bool, typer.Option("--trust", help="yes, run the code that is in them")] = False,
    as_json: AsJson = False,
) -> None:
    """Load pickles that need code, on your word, and write their weights as safetensors beside them."""
    if not trust:
        names = ", ".join(PurePosixPath(file).name for file in files)
        raise CheckpointError(
            f"reading {names} runs the code in it, whoever wrote it. If you trust its author, say so with --trust."
        )
    with progress_bar(as_json) as progress:
        made = {file: converted(place_of(file, Path(), progress)) for file in files}
    written = {file: [str(path) for path in one.files] for file, one in made.items()}
    for file, one in made.items():
        if one.left_out:
            typer.echo(f"note: {file}: not written, of further weights in it: {', '.join(one.left_out)}.", err=True)
    if as_json:
        answer(json.dumps({"files": written}))
        return
    for file, paths in written.items():
        answer(f"{file}: wrote {', '.join(paths)}")
