"""The commands that measure: ingredients, paths, speed, and what is kept on disk."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import soupviz as sv
from soupviz.cli import printing
from soupviz.cli.answering import answer
from soupviz.cli.arguments import (
    AsJson,
    BatchNorm,
    KitchenFile,
    Members,
    Split,
    app,
)
from soupviz.cli.kitchens import Opening, chosen, opens_kitchen
from soupviz.cli.progress import progress_bar
from soupviz.demo import SIBLINGS
from soupviz.errors import KitchenError, SoupError
from soupviz.files import cache_folder
from soupviz.mixing.aggregation import check_batchnorm
from soupviz.spec import HELD_OUT


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="where to; default: the cache folder")] = None,
    task: Annotated[str, typer.Option(metavar="|".join(SIBLINGS), help="which one, by its task")] = "classification",
    as_json: AsJson = False,
) -> None:
    """Build a demo kitchen, of data that ship with scikit-learn (digits, diabetes) or that are made up."""
    if task not in SIBLINGS:
        raise SoupError(f"demo: --task is {task!r}; expected one of {', '.join(SIBLINGS)}.")
    with progress_bar(as_json) as progress:
        file = SIBLINGS[task](directory, progress)
    answer(json.dumps({"kitchen": str(file)}) if as_json else str(file))


@app.command()
@opens_kitchen
def score(
    opening: Opening,
    kitchen: KitchenFile,
    split: Split = HELD_OUT,
    members: Members = None,
    as_json: AsJson = False,
) -> None:
    """Score every ingredient on a split."""
    opened = opening.open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        scores = opened.scores.of_ingredients(split, chosen(members, opened), progress)
    if split == HELD_OUT:
        printing.tell_disagreements(opened, scores)
    printing.show_scores(as_json, opened, f"{opened.name}: {split}", scores)
    printing.show_notes(opened)


@app.command()
@opens_kitchen
def interpolate(
    opening: Opening,
    kitchen: KitchenFile,
    a: Annotated[str, typer.Argument(metavar="A", help="the end at alpha 0: an ingredient, base, or a soup's file")],
    b: Annotated[str, typer.Argument(metavar="B", help="the end at alpha 1")],
    points: Annotated[int, typer.Option(help="how many, both ends included")] = 21,
    start: Annotated[float, typer.Option("--from", help="the first alpha; below 0 is allowed")] = 0.0,
    stop: Annotated[float, typer.Option("--to", help="the last alpha; above 1 is allowed")] = 1.0,
    split: Split = HELD_OUT,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
) -> None:
    """What the task's metrics say on the line from A to B."""
    check_batchnorm(batchnorm)
    opened = opening.open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        curve = sv.interpolate(
            opened, a, b, points=points, start=start, stop=stop, split=split,
            batchnorm=batchnorm, progress=progress,
        )  # fmt: skip
    printing.show_curve(as_json, opened, a, b, split, curve)
    printing.show_notes(opened)


@app.command()
def bench(
    kitchen: KitchenFile,
    rounds: Annotated[int, typer.Option(help="how often each figure is measured; medians are shown", min=1)] = 3,
    only: Annotated[str, typer.Option(help="figures separated by commas; default: all")] = "",
    picture: Annotated[Path | None, typer.Option(help="also draw the ratios: FILE.svg; default: no picture")] = None,
    mix_mb: Annotated[int, typer.Option(help="MB of each of the 12 checkpoints made to be mixed", min=1)] = 1000,
    as_json: AsJson = False,
) -> None:
    """Time soupviz against the loops that a textbook would write; exit 1 if they decide or count differently."""
    try:
        from benchmarks import telling
        from benchmarks.run import Bench
    except ImportError:
        raise SoupError(
            "bench: the benchmark lies in the folder `benchmarks` of soupviz's repository, which is not installed with "
            "the package; run the command from a clone of it."
        ) from None
    with progress_bar(as_json) as progress:
        measured = Bench(kitchen, mix_mb * 10**6, progress)
        measured.run(rounds, [name.strip() for name in only.split(",") if name.strip()], progress)
    telling.show_bench(as_json, measured, rounds)
    if picture:
        telling.write_picture(picture, measured)
    if measured.agreement.differences:
        raise typer.Exit(1)


@app.command()
def cache(
    kitchen: Annotated[Path | None, typer.Argument(help="also this kitchen's store of scores and runs")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="empty them; checkpoints and soups are left alone")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="also runs that others started, or that are pinned")] = False,
    as_json: AsJson = False,
) -> None:
    """Show, or clear, what soupviz keeps: decoded splits, converted checkpoints, fetched files, scores and runs."""
    from soupviz.store.cache import clear_caches, clear_store, runs_at_stake, sizes, store_size
    from soupviz.store.logits import BUDGET

    store = store_size(kitchen) if kitchen else None
    if clear:
        if kitchen and not yes:
            _ask_about(runs_at_stake(kitchen))
        clear_caches()
        if kitchen:
            clear_store(kitchen)
    found = sizes()
    values: dict[str, Any] = {"folder": str(cache_folder()), "cleared": clear, "bytes": found, "store": store}
    rows = [[name, f"{size / 1e6:.1f} MB"] for name, size in found.items()]
    if store:
        rows.append([f"store: {store['scores']} scores, {store['runs']} runs", f"{store['bytes'] / 1e6:.1f} MB"])
        most = f"kept unasked up to {BUDGET / 1e6:.0f} MB"
        rows.append([f"  of it answers of single models, {most}", f"{store['logits'] / 1e6:.1f} MB"])
    printing.show(as_json, values, str(cache_folder()), ("kept", "size"), rows)


def _ask_about(runs: str) -> None:
    """Before runs go that others want: asked on a terminal, refused elsewhere."""
    if not runs:
        return
    if not sys.stdin.isatty():
        raise KitchenError(f"{runs} There is no way back; say --yes if they may go.")
    typer.confirm(f"{runs} There is no way back. Go on?", abort=True, err=True)
