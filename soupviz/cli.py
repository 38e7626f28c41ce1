"""The command line: `python -m soupviz COMMAND`. Results on stdout, progress on stderr, a user's mistake exits 2."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.main import get_command

import soupviz as sv
from soupviz import planning
from soupviz.bench import FIGURES, Bench
from soupviz.cooking import SWEEP_ALPHAS, cook
from soupviz.demo import demo_kitchen
from soupviz.errors import Cancelled, RecipeError, SoupError
from soupviz.export import check_target, read_record
from soupviz.files import cache_folder
from soupviz.measuring import machine
from soupviz.progress import progress_bar
from soupviz.recipes import Recipe, parse, parse_alpha
from soupviz.soups import Soup

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
BatchNorm = Annotated[str, typer.Option(help="running statistics: average, or first")]
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


def _show(
    as_json: bool, values: dict[str, Any], title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if as_json:
        typer.echo(json.dumps(values))
        return
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _figures(score: dict[str, Any]) -> list[str]:
    return [f"{score['accuracy']:.2%}", f"{score['correct']}/{score['num_examples']}", _loss(score["loss"])]


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


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
    values = {name: found.summary() for name, found in scores.items()}
    rows = [[name, *_figures(figures)] for name, figures in values.items()]
    _show(
        as_json, {"ingredients": values}, f"{opened.name}: {split}", ("ingredient", "accuracy", "correct", "loss"), rows
    )


@app.command()
def soup(
    kitchen: KitchenFile,
    recipe: Annotated[str, typer.Option(help="uniform or greedy")],
    alpha: Annotated[str, typer.Option(help="greedy: mean, or the newcomer's weight in (0, 1]")] = "mean",
    order: Order = "accuracy",
    seed: Seed = 0,
    members: Members = None,
    batchnorm: BatchNorm = "average",
    out: Annotated[Path | None, typer.Option(help="also write the soup: FILE.safetensors or FILE.pt")] = None,
    dtype: Annotated[str, typer.Option(help="of the written file: ingredients or float32")] = "ingredients",
    complete: Annotated[bool, typer.Option("--complete", help="greedy: score rejected candidates whole too")] = False,
    lookahead: Annotated[int, typer.Option(help="greedy: candidates scored at once", min=1)] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="only tell what it would cost")] = False,
    as_json: AsJson = False,
    skip_incompatible: SkipIncompatible = False,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Cook a soup, score it on held_out, test and shifts, and optionally export it."""
    values: dict[str, Any] = {"method": recipe, "members": _names(members), "batchnorm": batchnorm}
    if recipe == "greedy":
        values |= {"alpha": parse_alpha(alpha), "order": order, "seed": seed}
    elif recipe != "uniform":
        raise RecipeError(f"no recipe {recipe!r}; known are uniform and greedy.")
    checked = parse(values)
    if out:
        check_target(out, dtype)
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    if plan:
        _show_plan(opened, checked, out is not None, as_json)
        return
    with progress_bar(as_json) as progress:
        cooked = cook(opened, checked, progress=progress, complete=complete, lookahead=lookahead)
    written = sv.export(cooked, out, dtype=dtype) if out else []  # type: ignore[arg-type]
    shown = cooked.as_dict() | ({"files": [str(path) for path in written]} if written else {})
    _show_soup(as_json, shown, cooked)
    for path in written:
        typer.echo(f"wrote {path}", err=True)


def _amount(name: str, value: float | None) -> str:
    if "bytes" in name:
        return f"{(value or 0) / 1e6:,.1f} MB"
    return "–" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _show_plan(opened: sv.Kitchen, recipe: Recipe, writes: bool, as_json: bool) -> None:
    with progress_bar(as_json) as progress:
        planning.measure_rate(opened, progress)
    values = planning.plan(opened, recipe, writes=writes).as_dict()
    rows = [[name.replace("_", " "), _amount(name, value)] for name, value in values.items()]
    _show(as_json, {"recipe": recipe.model_dump(mode="json"), "plan": values}, recipe.title, ("at most", ""), rows)


def _show_soup(as_json: bool, shown: dict[str, Any], cooked: Soup) -> None:
    rows = [[split, *_figures(score)] for split, score in shown["scores"].items()]
    _show(as_json, shown, cooked.title, ("split", "accuracy", "correct", "loss"), rows)
    if not as_json:
        used = ", ".join(f"{name} {weight:.4g}" for name, weight in cooked.mix)
        typer.echo(f"{len(cooked.mix)} of {len(cooked.coefficients)} ingredients: {used}")


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
    shown = [{"alpha": alpha, **item.as_dict()} for alpha, item in zip(values, cooked, strict=True)]
    rows = [
        [str(alpha), str(len(item.mix)), *(f"{score.accuracy:.2%}" for score in item.scores.values())]
        for alpha, item in zip(values, cooked, strict=True)
    ]
    _show(as_json, {"soups": shown}, "alpha sweep", ("alpha", "used", *cooked[0].scores), rows)


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
    if batchnorm not in ("average", "first"):
        raise RecipeError(f"batchnorm is {batchnorm!r}; expected average or first.")
    opened = _open(kitchen, skip_incompatible, skip_corrupt, as_json)
    with progress_bar(as_json) as progress:
        curve = sv.interpolate(
            opened, a, b, points=points, start=start, stop=stop, split=split,
            batchnorm=batchnorm, progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    columns = ("alpha", "accuracy", "loss")
    points_of = zip(*(curve[column].tolist() for column in columns), strict=True)
    # A point where no logit is finite has no loss; pandas makes that NaN, which JSON lacks.
    rows = [
        {"alpha": alpha, "accuracy": accuracy, "loss": loss if loss == loss else None}
        for alpha, accuracy, loss in points_of
    ]
    shown = [[f"{row['alpha']:g}", f"{row['accuracy']:.2%}", _loss(row["loss"])] for row in rows]
    _show(as_json, {"a": a, "b": b, "points": rows}, f"{a} → {b}: {split}", columns, shown)


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
    as_json: AsJson = False,
) -> None:
    """Time soupviz against the textbook's loops; exit 1 if they decide or count differently."""
    with progress_bar(as_json) as progress:
        measured = Bench(kitchen, progress)
        figures = measured.run(rounds, _names(only) or [], progress)
    agreement = measured.agreement
    values = {
        "machine": machine(measured.kitchen),
        "figures": {figure.name: figure.as_dict() for figure in figures},
        "agreement": {
            "compared": agreement.compared, "close": agreement.close, "differences": agreement.differences,
        },
    }  # fmt: skip
    rows = [_bench_row(figure.name, figure.as_dict()) for figure in figures]
    _show(
        as_json, values, f"{measured.kitchen.name}, {rounds} rounds", ("figure", "textbook", "soupviz", "ratio"), rows
    )
    for difference in agreement.differences:
        typer.echo(f"differs: {difference}", err=True)
    typer.echo(
        f"{agreement.compared} decisions and counts compared, {len(agreement.differences)} differ; "
        f"{agreement.close} examples were too close to call and counted differently", err=True,
    )  # fmt: skip
    if agreement.differences:
        raise typer.Exit(1)


def _bench_row(name: str, values: dict[str, Any]) -> list[str]:
    shown = [f"{values[side]:.4g} {values['unit']}" for side in ("textbook", "soupviz")]
    told = " (estimated)" if values["estimated"] else ""
    return [name, shown[0] + told, shown[1], f"{values['ratio']:.3g}x"]


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
    _show(as_json, values, str(cache_folder()), ("kept", "size"), rows)


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
