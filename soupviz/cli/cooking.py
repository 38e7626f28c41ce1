"""The commands that make soups."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import soupviz as sv
from soupviz.analysis import choices
from soupviz.analysis.grids import unmark
from soupviz.analysis.requirements import check_requirements, checked, parse_requirement
from soupviz.analysis.verdicts import of_the_best, verdict_of
from soupviz.cli import printing
from soupviz.cli.answering import answer
from soupviz.cli.arguments import (
    AsJson,
    BatchNorm,
    KitchenFile,
    Members,
    Order,
    Seed,
    ShardSize,
    app,
)
from soupviz.cli.kitchens import Opening, chosen, opens_kitchen
from soupviz.cli.listing import show_menu
from soupviz.cli.options import given, with_recipe_options
from soupviz.cli.progress import progress_bar
from soupviz.errors import RecipeError
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import MENU, Recipe, parse, parse_alpha
from soupviz.recipes.merge_files import SUFFIXES, read_merge
from soupviz.soups import planning, scaling
from soupviz.soups.as_folder import check_opened
from soupviz.soups.cooking import cook
from soupviz.soups.exports import check_target, target_of
from soupviz.soups.menu import BUDGET, cook_menu
from soupviz.soups.mergekit import RANDOM, from_mergekit
from soupviz.soups.placing import check_free
from soupviz.soups.provenance import read_record
from soupviz.soups.selecting import named
from soupviz.soups.soup import Soup
from soupviz.soups.textbook import SWEEP_ALPHAS
from soupviz.spec import HELD_OUT
from soupviz.types import Progress

NOT_MET = 1
"""The exit code of a soup that is not what is required of it; a mistake has another."""


@app.command()
@opens_kitchen
@with_recipe_options
def soup(
    opening: Opening,
    kitchen: KitchenFile,
    recipe: Annotated[
        str, typer.Option(help="by its name: " + ", ".join(MENU) + "; or FILE.yaml, a configuration of mergekit")
    ],
    members: Members = None,
    batchnorm: BatchNorm = "average",
    out: Annotated[
        str | None,
        typer.Option(
            help="also write the soup: FILE.safetensors or FILE.pt, here or at an address (s3://...), or, with --as, a "
            "FOLDER; default: not written"
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="dense: whole weights in a file; folder: the same with config.json, tokenizer and preprocessor, which "
            "transformers or timm opens (--out FOLDER); adapter: of LoRA adapters one, in a folder that peft loads; "
            "mergekit: no weights, but the FILE.yaml by which mergekit makes them",
        ),
    ] = "dense",
    rank: Annotated[
        int | None,
        typer.Option(help="of that adapter, which is the nearest one then; default: exact, at the summed rank", min=1),
    ] = None,
    dtype: Annotated[str, typer.Option(help="of the written file: ingredients or float32")] = "ingredients",
    shard_size: ShardSize = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="greedy: score rejected candidates whole too, instead of giving them up once they cannot win",
        ),
    ] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="fit a temperature on held_out, for the card")] = False,
    bake_temperature: Annotated[
        bool, typer.Option("--bake-temperature", help="also divide the written file's last layer by it")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="better: than the best single ingredient, on test; or a metric's number there, such as "
            "'accuracy>=0.9'; else nothing is written, and the exit code is 1; may be repeated; default: nothing"
        ),
    ] = None,
    log_to: Annotated[
        list[str] | None,
        typer.Option(
            help="also log it: mlflow, wandb, tensorboard or trackio, or NAME=PLACE: a server, or a folder; may be "
            "repeated; default: nowhere"
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="only tell what it would cost: evaluations, bytes, memory, seconds")
    ] = False,
    as_json: AsJson = False,
    **parameters: Any,
) -> None:
    """Cook a soup, score it on held_out, test and shifts, and optionally export it."""
    values = {"method": recipe, "batchnorm": batchnorm} | given(parameters)
    is_file = Path(recipe).suffix in SUFFIXES
    parsed = _read(recipe, values, members) if is_file else parse(values)  # a mistake shows before a kitchen is opened
    required = [parse_requirement(text) for text in require or ()]
    if log_to:
        from soupviz.tracking.logging import parse_tracker  # it loads pandas, which nothing else here needs

        for text in log_to:
            parse_tracker(text)
    if out:
        check_target(target_of(out), dtype, shard_size, form)  # type: ignore[arg-type]
        if parsed.aggregation in OUTPUTS:
            raise RecipeError("an ensemble has no weights of its own to write; cook it without --out, or take a soup.")
    opened = opening.open(kitchen, quiet=as_json)
    if out:
        check_free(target_of(out), form, opened)  # type: ignore[arg-type]
    if is_file:
        parsed = from_mergekit(opened, recipe).model_copy(update={"batchnorm": parsed.batchnorm})
    else:
        parsed = parse(values | {"members": chosen(members, opened)})
    parsed = parsed.suited(opened.task)
    check_requirements(opened, required)
    if (calibrate or bake_temperature) and not opened.task.has_temperature:
        raise RecipeError(scaling.no_temperature(opened.task))
    if out and form == "folder":
        check_opened(opened, shard_size)
    if bake_temperature and (reason := scaling.no_division(opened.task)):
        raise RecipeError(reason)
    if plan:
        with progress_bar(as_json, opened) as progress:
            planning.measure_rate(opened, progress)
        printing.show_plan(as_json, opened, parsed, planning.cooking_cost(opened, parsed, writes=out is not None))
        return
    with progress_bar(as_json, opened) as progress:
        cooked = cook(opened, parsed, progress=progress, complete=complete)
        scaled = scaling.calibrate(cooked, progress) if calibrate or bake_temperature else None
        found = choices.choices(opened, cooked.recipe, opened.store.run(cooked.key))
        if cooked.recipe.num_best is not None:  # of others what is known is told
            found = choices.cook_all(opened, found, progress)
        held = checked(cooked, required, progress) if required else None
        sentence = held.verdict.sentence if held else "" if as_json else _judged(cooked, progress)
        unmark(opened, cooked.key)
        written = (
            sv.export(
                cooked, out, form=form, rank=rank, dtype=dtype,  # type: ignore[arg-type]
                temperature=scaled.temperature if scaled else None, bake_temperature=bake_temperature,
                shard_size=shard_size, progress=progress,
            )
            if out and not (held and held.missed)
            else []
        )  # fmt: skip
        logged = sv.log(cooked, log_to, progress=progress) if log_to else []
    one = read_record(written[0]).adapter if form == "adapter" and written else None
    printing.show_soup(as_json, cooked, sentence, written, scaled, found, one, held, logged)
    printing.show_notes(opened)
    if held and held.missed:
        typer.echo(f"soupviz: not met: {held.missed}", err=True)
        raise typer.Exit(NOT_MET)


def _judged(cooked: Soup, progress: Progress) -> str:
    """Whether it is better than the best ingredient; which that is nobody knows before all of them are scored."""
    kitchen = cooked.kitchen
    if missing := len(kitchen.names) - len(planning.ingredient_summaries(kitchen, HELD_OUT, kitchen.names)):
        which = f"{missing} of {len(kitchen.names)} ingredients are not scored on held_out"
        return f"Not judged: {which}, so which is the best is not known; `--require better` scores them, too."
    kitchen.scores.score_all(of_the_best(kitchen), progress)
    return verdict_of(kitchen, cooked).sentence


def _read(file: str, values: Mapping[str, Any], members: list[str] | None) -> Recipe:
    """A recipe in a file, which says all that there is to say but what becomes of running statistics."""
    told = [name for name in values if name not in ("method", "batchnorm")] + (["members"] if members else [])
    if told:
        raise RecipeError(f"{file} says which models are merged, and how; leave out --{told[0].replace('_', '-')}.")
    read = read_merge(file)
    if read.formula == "dare":
        typer.echo(f"note: {RANDOM}.", err=True)
    return parse(read.model_dump() | {"batchnorm": values["batchnorm"]})


@app.command()
@opens_kitchen
def menu(
    opening: Opening,
    kitchen: KitchenFile,
    budget: Annotated[int, typer.Option(help="scores that one recipe may take at most", min=1)] = BUDGET,
    members: Members = None,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
) -> None:
    """Cook every recipe that fits the kitchen, with sensible defaults, and compare them, best on held_out first."""
    opened = opening.open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        cooked = cook_menu(
            opened, members=chosen(members, opened), batchnorm=batchnorm, budget=budget, progress=progress
        )  # fmt: skip
        unmark(opened, *(soup.key for soup in cooked.soups))
    show_menu(as_json, opened, cooked)
    printing.show_notes(opened)


@app.command()
@opens_kitchen
def sweep(
    opening: Opening,
    kitchen: KitchenFile,
    alphas: Annotated[str, typer.Option(help="the grid, separated by commas; mean may be among them")] = ",".join(
        map(str, SWEEP_ALPHAS)
    ),
    objective: Annotated[str, typer.Option(help="what a candidate has to raise, as of `soup`")] = "",
    shift_weight: Annotated[float, typer.Option(help="of with_shifts, as of `soup`")] = 0.5,
    order: Order = "best",
    seed: Seed = 0,
    members: Members = None,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
) -> None:
    """Greedy soups for a grid of alphas, sharing every score."""
    values = [parse_alpha(text.strip()) for text in alphas.split(",")]
    opened = opening.open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        cooked = sv.sweep(
            opened, values, objective=objective, shift_weight=shift_weight, order=order, seed=seed,
            members=chosen(members, opened), batchnorm=batchnorm, progress=progress,
        )  # fmt: skip
        unmark(opened, *(soup.key for soup in cooked))
    printing.show_sweep(as_json, values, cooked)
    printing.show_notes(opened)


@app.command()
def bake(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE_OR_SOUP", help="a recipe.yaml, or an exported soup, here or at an address")
    ],
    out: Annotated[
        str, typer.Option(help="FILE.safetensors or FILE.pt, here or at an address (s3://...); of an adapter a FOLDER")
    ],
    kitchen: Annotated[
        Path | None, typer.Option(help="where to look the ingredients up by name; default: their paths in the recipe")
    ] = None,
    shard_size: ShardSize = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild a soup's weights, bit for bit, from its recipe.yaml or from the exported file itself."""
    read_record(source)
    opened = Opening(skip_incompatible=True).open(kitchen, quiet=as_json) if kitchen else None
    told: list[str] = []
    with progress_bar(as_json) as progress:
        written = sv.bake(source, out, kitchen=opened, shard_size=shard_size, tell=told.append, progress=progress)
    for sentence in told:
        typer.echo(sentence, err=True)
    exported, baked = read_record(source), read_record(written[0])
    is_same = exported.fingerprint == baked.fingerprint
    found = {
        "files": [str(path) for path in written], "fingerprint": baked.fingerprint, "is_checked": is_same,
        "selecting_data": {split: one.fingerprint for split, one in baked.selecting_data.items()},
    }  # fmt: skip
    same = ", the same weights as were exported" if is_same else ""
    chosen_by = f"; selected on {named(baked.selecting_data)}" if baked.selecting_data else ""
    looked = "" if opened or not chosen_by else ", which is held against a kitchen's data where --kitchen names one"
    text = f"wrote {written[0]}: fingerprint {str(baked.fingerprint)[:12]}…{same}{chosen_by}{looked}"
    answer(json.dumps(found) if as_json else text)
