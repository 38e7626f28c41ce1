"""python -m benchmarks.soak FOLDER: makes the kitchen there, if need be, and walks through the dashboard at random."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def main(
    folder: Annotated[Path, typer.Argument(help="where the kitchen is, or is made")],
    minutes: Annotated[float, typer.Option(min=0.5)] = 120,
    kills: Annotated[int, typer.Option(min=0, help="of the server, in the first three quarters")] = 20,
    sessions: Annotated[int, typer.Option(min=1, help="browsers")] = 3,
    seed: Annotated[int, typer.Option()] = 0,
    chromium: Annotated[Path, typer.Option(help="the browser")] = Path("/usr/bin/chromium"),
) -> None:
    """Click at random, kill at random; exit 1 with what went wrong."""
    sys.argv[1:] = [str(folder)]  # as the dashboard is started
    from rich.console import Console

    from benchmarks.size import making
    from benchmarks.soak import walking
    from benchmarks.soak.recounting import recounted
    from soupviz.ui import workspace
    from soupviz.yaml_file import read_kitchen_file

    tell = Console(width=220).print
    file = folder.resolve() / "kitchen.yaml"
    if not file.is_file():
        tell("making the kitchen")
        making.make(folder, ingredients=8, units=2_000, classes=10)
    workspace.trust(workspace.request(file, read_kitchen_file(file)))
    told = walking.walk(file, minutes=minutes, kills=kills, sessions=sessions, seed=seed, chromium=chromium, tell=tell)
    told.problems += recounted(file, tell)
    tell(told.as_json())
    for sentence in (wrong := told.beyond()):
        tell(sentence, markup=False)
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
