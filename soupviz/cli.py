"""The command line: `python -m soupviz COMMAND`. Results on stdout, progress on stderr, a user's mistake exits 2."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

import soupviz as sv
from soupviz import planning, printing, scaling
from soupviz.bench.figures import FIGURES
from soupviz.bench.run import Bench
from soupviz.cooking import SWEEP_ALPHAS, cook
from soupviz.demo import demo_kitchen
from soupviz.errors import Cancelled, RecipeError, SoupError
from soupviz.exports import check_target
from soupviz.files import cache_folder
from soupviz.menu import BUDGET, cook_menu
from soupviz.options import given, with_recipe_options
from soupviz.progress import progress_bar
from soupviz.provenance import read_record
from soupviz.recipes import MENU, parse, parse_alpha
from soupviz.treatments import OUTPUTS, check_batchnorm

app = typer.Typer(add_completion=False, rich_markup_mode=None, help=__doc__)

# typer brings its own copy of click, or the installed one: its errors are found through the class it exports.
CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

INTERRUPTED = 130
"""The exit code of Ctrl-C by custom, and what typer makes of it."""

KitchenFile = Annotated[Path, typer.Argument(help="a kitchen.yaml, or the folder that holds one", metavar="KITCHEN")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
Members = Annotated[str | None, typer.Option(help="names separated by commas: the pool; default: all")]
Split = Annotated[str, typer.Option(help="held_out, test, train or shifts.NAME")]
SkipIncompatible = Annotated[bool, typer.Option("--skip-incompatible", help="go on without refused files")]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="leave out images that cannot be decoded")]
BatchNorm = Annotated[str, typer.Option(help="running statistics: average, first, recalibrate, or recalibrate:NUMBER")]
Order = Annotated[str, typer.Option(help="accuracy, listed or random")]
Seed = Annotated[int, typer.Option(help="of the random order")]


def _open(path: Path, skip_incompatible: bool, skip_corrupt: bool, quiet: bool) -> sv.Kitchen:
    with progress_bar(quiet) as progress:
        kitchen = sv.Kitchen.load(
            path, skip_incompatible=skip_incompatible, skip_corrupt=skip_corrupt, progress=progress
        )
    for refusal in kitchen.refused:
        typer.echo(f"left out: {refusal.reason}", err=True)
    return kitchen


def _names(members: str | None) -> list[str] | None:
    return None if members is None else [name.strip() for name in members.split(",") if name.strip()]


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="default: the cache folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Build the demo kitchen: scikit-learn's handwritten digits."""
    with progress_bar(as_json) as progress:
        file = demo_kitchen(directory, progress)
    typer.echo(json.dumps({"kitchen": str(file)}) if as_json else str(file))


@app.command()
def score(
    kitchen: KitchenFile,
    split: Split = "held_out",
    members: Members = None,
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Score every ingredient on a split."""
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    with progress_bar(as_json) as progress:
        scores = opened.score_ingredients(split, _names(members), progress)
    printing.show_scores(as_json, f"{opened.name}: {split}", scores)


@app.command()
@with_recipe_options
def soup(
    kitchen: KitchenFile,
    recipe: Annotated[str, typer.Option(help=", ".join(MENU))],
    members: Members = None,
    batchnorm: BatchNorm = "average",
    out: Annotated[Path | None, typer.Option(help="also write the soup: FILE.safetensors or FILE.pt")] = None,
    dtype: Annotated[str, typer.Option(help="of the written file: ingredients or float32")] = "ingredients",
    complete: Annotated[bool, typer.Option("--complete", help="greedy: score rejected candidates whole too")] = False,
    lookahead: Annotated[int, typer.Option(help="greedy: candidates scored at once", min=1)] = 1,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="fit a temperature on held_out, for the card")] = False,
    bake_temperature: Annotated[
        bool, typer.Option("--bake-temperature", help="also divide the written file's last layer by it")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="only tell what it would cost")] = False,
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
    **parameters: Any,
) -> None:
    """Cook a soup, score it on held_out, test and shifts, and optionally export it."""
    checked = parse({"method": recipe, "members": _names(members), "batchnorm": batchnorm} | given(parameters))
    if out:
        check_target(out, dtype)
        if checked.treatment in OUTPUTS:
            raise RecipeError("an ensemble has no weights of its own to write; leave --out out, or take a soup.")
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    if plan:
        with progress_bar(as_json) as progress:
            planning.measure_rate(opened, progress)
        printing.show_plan(as_json, checked, planning.plan(opened, checked, writes=out is not None))
        return
    with progress_bar(as_json) as progress:
        cooked = cook(opened, checked, progress=progress, complete=complete, lookahead=lookahead)
        scaled = scaling.calibrate(cooked, progress) if calibrate or bake_temperature else None
    written = (
        sv.export(
            cooked, out, dtype=dtype,  # type: ignore[arg-type]
            temperature=scaled.temperature if scaled else None, bake_temperature=bake_temperature,
        )
        if out
        else []
    )  # fmt: skip
    printing.show_soup(as_json, cooked, written, scaled)


@app.command()
def menu(
    kitchen: KitchenFile,
    budget: Annotated[int, typer.Option(help="menu: scores that one recipe may take at most", min=1)] = BUDGET,
    members: Members = None,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Cook every recipe that fits the kitchen, and compare them; ordered by held_out."""
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    with progress_bar(as_json) as progress:
        cooked = cook_menu(
            opened, members=_names(members), batchnorm=batchnorm, budget=budget, progress=progress
        )  # fmt: skip
    printing.show_menu(as_json, opened.name, cooked)


@app.command()
def sweep(
    kitchen: KitchenFile,
    alphas: Annotated[str, typer.Option(help="separated by commas; numbers or mean")] = ",".join(
        map(str, SWEEP_ALPHAS)
    ),
    order: Order = "accuracy",
    seed: Seed = 0,
    members: Members = None,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Greedy soups for a grid of alphas, sharing every score."""
    values = [parse_alpha(text.strip()) for text in alphas.split(",")]
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    with progress_bar(as_json) as progress:
        cooked = sv.sweep(
            opened, values, order=order, seed=seed, members=_names(members), batchnorm=batchnorm, progress=progress
        )
    printing.show_sweep(as_json, values, cooked)


@app.command()
def interpolate(
    kitchen: KitchenFile,
    a: Annotated[str, typer.Argument(metavar="A", help="the end at alpha 0: an ingredient, base, or a soup's file")],
    b: Annotated[str, typer.Argument(metavar="B", help="the end at alpha 1")],
    points: Annotated[int, typer.Option(help="how many, both ends included")] = 21,
    start: Annotated[float, typer.Option("--from", help="the first alpha")] = 0.0,
    stop: Annotated[float, typer.Option("--to", help="the last alpha")] = 1.0,
    split: Split = "held_out",
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """The accuracy and loss curve from A to B."""
    check_batchnorm(batchnorm)
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    with progress_bar(as_json) as progress:
        curve = sv.interpolate(
            opened, a, b, points=points, start=start, stop=stop, split=split,
            batchnorm=batchnorm, progress=progress,
        )  # fmt: skip
    printing.show_curve(as_json, a, b, split, curve)


@app.command()
def bake(
    source: Annotated[Path, typer.Argument(metavar="RECIPE_OR_SOUP", help="a recipe.yaml, or an exported soup")],
    out: Annotated[Path, typer.Option(help="FILE.safetensors or FILE.pt")],
    kitchen: Annotated[Path | None, typer.Option(help="where to look the ingredients up by name")] = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild a soup from its recipe, bit for bit."""
    read_record(source)
    opened = _open(kitchen, True, False, as_json) if kitchen else None
    written = sv.bake(source, out, kitchen=opened)
    typer.echo(json.dumps({"files": [str(path) for path in written]}) if as_json else f"wrote {written[0]}")


@app.command()
def bench(
    kitchen: KitchenFile,
    rounds: Annotated[int, typer.Option(help="how often each figure is measured; medians are shown", min=1)] = 3,
    only: Annotated[str, typer.Option(help=f"figures separated by commas: {', '.join(FIGURES)}")] = "",
    picture: Annotated[Path | None, typer.Option(help="also draw the ratios: FILE.svg")] = None,
    mix_mb: Annotated[int, typer.Option(help="MB of each of the 12 checkpoints made to be mixed", min=1)] = 1000,
    as_json: AsJson = False,
) -> None:
    """Time soupviz against the textbook's loops; exit 1 if they decide or count differently."""
    with progress_bar(as_json) as progress:
        measured = Bench(kitchen, mix_mb * 10**6, progress)
        measured.run(rounds, _names(only) or [], progress)
    printing.show_bench(as_json, measured, rounds)
    if picture:
        printing.write_picture(picture, measured)
    if measured.agreement.differences:
        raise typer.Exit(1)


@app.command()
def cache(
    kitchen: Annotated[Path | None, typer.Argument(help="also this kitchen's store of scores and runs")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="empty them; checkpoints and soups are left alone")] = False,
    as_json: AsJson = False,
) -> None:
    """Show, or clear, what soupviz keeps: decoded splits, converted checkpoints, downloads, scores and runs."""
    from soupviz.cache import clear_caches, clear_store, sizes, store_size

    store = store_size(kitchen) if kitchen else None
    if clear:
        clear_caches()
        if kitchen:
            clear_store(kitchen)
    found = sizes()
    values: dict[str, Any] = {"folder": str(cache_folder()), "cleared": clear, "bytes": found, "store": store}
    rows = [[name, f"{size / 1e6:.1f} MB"] for name, size in found.items()]
    if store:
        rows.append([f"store: {store['scores']} scores, {store['runs']} runs", f"{store['bytes'] / 1e6:.1f} MB"])
    printing.show(as_json, values, str(cache_folder()), ("kept", "size"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = get_command(app).main(given or ["--help"], prog_name="soupviz", standalone_mode=False)
    except SoupError as error:
        _fail(str(error), 2)
    except OSError as error:  # a full disk, a folder that cannot be written, a name that is too long
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}. Choose another file or folder, or free some space.", 2)
    except CLICK_ERROR as error:
        _fail(error.format_message(), 2)
    except (Cancelled, KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:
        _fail("stopped; what was measured is kept, and the same command goes on from there.", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    typer.echo(f"soupviz: {' '.join(message.split())}", err=True)
    sys.exit(status)
