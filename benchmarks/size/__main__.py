"""python -m benchmarks.size FOLDER: makes the kitchen there, if need be, and measures pages, or many people at once."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def main(
    folder: Annotated[Path, typer.Argument(help="where the kitchen is, or is made")],
    ingredients: Annotated[int, typer.Option(min=2)] = 100,
    units: Annotated[int, typer.Option(min=10)] = 50_000,
    classes: Annotated[int, typer.Option(min=2)] = 1_000,
    runs: Annotated[int, typer.Option(min=0, help="in the store")] = 2_000,
    pages: Annotated[str, typer.Option(help="only these, separated by commas")] = "",
    minutes: Annotated[float, typer.Option(help="of many people at once, instead of one page after the other")] = 0,
    sessions: Annotated[int, typer.Option(min=1, help="people at once")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="searches at once: one in the server, the others beside it")] = 4,
    pause: Annotated[int, typer.Option(min=0, help="milliseconds that the model waits before a batch")] = 0,
    pairs: Annotated[bool, typer.Option("--pairs", help="score the average of each two ingredients first")] = False,
) -> None:
    """Each page on the server, or many people at once: seconds, and megabytes of memory; exit 1 beyond the bounds."""
    sys.argv[1:] = [str(folder)]  # as the dashboard is started
    from rich.console import Console

    from benchmarks.size import crowd, making
    from benchmarks.size import pages as measuring
    from soupviz.analysis import gains
    from soupviz.kitchen import Kitchen
    from soupviz.spec import HELD_OUT
    from soupviz.ui import workspace
    from soupviz.yaml_file import read_kitchen_file

    tell = Console(width=220).print
    file = folder.resolve() / "kitchen.yaml"
    if not file.is_file():
        tell("making the kitchen")
        made = making.make(folder, ingredients=ingredients, units=units, classes=classes)
        making.fill(Kitchen.load(made), runs)
    os.environ[making.PAUSE] = str(pause)
    for how in ("opened", "opened again"):
        started = time.perf_counter()
        Kitchen.load(file).splits.load("held_out")
        tell(f"{how} in {time.perf_counter() - started:.2f} s")
    workspace.trust(workspace.request(file, read_kitchen_file(file)))
    if pairs:
        made = Kitchen.load(file)
        gains.score_midpoints(made, gains.midpoints(made, made.names), HELD_OUT)
    if minutes:
        came = crowd.crowd(file, minutes=minutes, sessions=sessions, jobs=jobs)
        tell(crowd.as_json(came))
        too_much = came.beyond()
    else:
        too_much = []
        with measuring.through_the_router():
            for one in measuring.measured(file, tuple(name for name in pages.split(",") if name) or measuring.PAGES):
                seconds = f"first {one.first:6.2f} s  slowest {one.slowest:6.2f} s  again {one.again:6.2f} s"
                memory = f"memory +{one.grown / 1e6:6.1f} MB, at most +{one.peak / 1e6:6.1f} MB"
                tell(f"{one.page:12} {seconds}  CPU {one.worked:5.2f} s  {memory}")
                too_much += one.beyond()
    for sentence in too_much:
        tell(sentence)
    if too_much:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
