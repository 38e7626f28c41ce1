"""python -m benchmarks.workers FOLDER [--executor processes] [--counts 1,2,4,8]: against one process, as a table."""

from pathlib import Path
from typing import Annotated

import typer

from soupviz.spec import ExecutorName


def main(
    folder: Annotated[Path, typer.Argument(help="of a kitchen; where there is none, one that pauses is made")],
    executor: ExecutorName = "processes",
    counts: Annotated[str, typer.Option(help="of workers, separated by commas")] = "1,2,4,8",
    rounds: Annotated[int, typer.Option(min=1, help="medians are shown")] = 3,
    only: Annotated[str, typer.Option(help="of score, one mix, greedy, sweep, separated by commas")] = "",
    pause: Annotated[float, typer.Option(help="seconds that a batch takes")] = 0.02,
) -> None:
    """Speed-ups over one process, and how much of the time workers compute; exit 1 if they decide otherwise."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.workers import making, measuring

    file = making.make(folder, seconds=pause)
    tasks = [name for name in measuring.TASKS if not only or name in only.split(",")]
    table = Table("workers", *tasks, "computing")
    is_same = True
    for count in counts.split(","):
        alone, row = measuring.measure(file, [("inline", 1), (executor, int(count))], rounds, tasks)
        table.add_row("inline", *(f"{alone.seconds[name]:.2f} s" for name in tasks), "")
        cells = [f"{row.seconds[name]:.2f} s, x{alone.seconds[name] / row.seconds[name]:.2f}" for name in tasks]
        table.add_row(f"{row.executor} {row.workers}", *cells, f"{row.utilisation:.0%}" if row.utilisation else "")
        is_same &= row.decided == alone.decided
    Console(width=140).print(table)
    if not is_same:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
