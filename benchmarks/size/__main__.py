"""python -m benchmarks.size FOLDER [--runs 2000] [--pages a,b]: makes the kitchen there, if need be, and measures."""

import sys
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
) -> None:
    """Each page on the server: seconds, and megabytes of memory."""
    sys.argv[1:] = [str(folder)]  # as the dashboard is started
    from rich.console import Console

    from benchmarks.size import pages as measuring
    from benchmarks.size.making import fill, make
    from soupviz.kitchen import Kitchen
    from soupviz.ui import workspace
    from soupviz.yaml_file import read_kitchen_file

    tell = Console(width=220).print
    file = folder / "kitchen.yaml"
    if not file.is_file():
        tell("making the kitchen")
        fill(Kitchen.load(make(folder, ingredients=ingredients, units=units, classes=classes)), runs)
    opened = workspace.request(file, read_kitchen_file(file))
    workspace.trust(opened)
    chosen = tuple(name for name in pages.split(",") if name) or measuring.PAGES
    with measuring.through_the_router():
        for one in measuring.measured(file, chosen):
            seconds = f"first {one.first:6.2f} s  slowest {one.slowest:6.2f} s  again {one.again:6.2f} s"
            memory = f"memory +{one.grown / 1e6:6.1f} MB, at most +{one.peak / 1e6:6.1f} MB"
            tell(f"{one.page:12} {seconds}  CPU {one.worked:5.2f} s  {memory}  {' '.join(one.errors)}")


if __name__ == "__main__":
    typer.run(main)
