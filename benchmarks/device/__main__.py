"""python -m benchmarks.device FOLDER [--model vit_base_patch16_224]: what large models take there."""

import json
from pathlib import Path
from typing import Annotated

import typer

from soupviz.spec import Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


def main(
    folder: Annotated[Path, typer.Argument(help="of a kitchen; where there is none, one of a timm model is made")],
    model: Annotated[str, typer.Option(help="of timm")] = "vit_base_patch16_224",
    images: Annotated[int, typer.Option(min=10, help="of held_out; test has as many")] = 4096,
    size: Annotated[int, typer.Option(help="of an image, in pixels")] = 224,
    ingredients: Annotated[int, typer.Option(min=2)] = 12,
    precision: Annotated[Precision | None, typer.Option(help="default: float32, tf32 and bfloat16")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="also all numbers, in one line")] = False,
) -> None:
    """Opening, passes against the bare model's, mixing, a search and memory, at each precision."""
    from rich.console import Console

    from benchmarks.device import making, measuring
    from benchmarks.measuring import machine
    from soupviz.scoring.evaluator import choose_device

    tell = Console(width=160, highlight=False).print
    made_on = str(choose_device("auto"))
    file = making.make(folder, model=model, images=images, size=size, ingredients=ingredients, device=made_on)
    kitchen, opening = measuring.opened(file)
    tell(f"{kitchen.name}: {machine(kitchen)}")
    of_all = f"{opening.num_ingredients} checkpoints of {opening.checkpoint_bytes / 1e6:.0f} MB"
    tell(f"{of_all}: opened in {opening.cold:.2f} s, again in {opening.again:.2f} s; data in {opening.data:.2f} s")
    number = len(kitchen.splits.load("held_out"))
    rows = []
    for one in (precision,) if precision else PRECISIONS:
        row = measuring.measured(kitchen, one)
        rows.append(row.as_plain())
        tell(
            f"{one}: bare {row.bare:.3f} s ({number / row.bare:,.0f} a second), a pass {row.inside:.3f} s "
            f"({row.inside / row.bare:.2f}); mixing {row.mixed:.3f} s, and placing {row.placed:.3f} s; all scored in "
            f"{row.scored:.2f} s, greedy {row.searched:.2f} s for {row.passes:.1f} passes; at most "
            f"{row.peak_bytes / 1e9:.2f} GB"
        )
    if as_json:
        typer.echo(json.dumps({"opening": opening.as_plain(), "rows": rows}))


if __name__ == "__main__":
    typer.run(main)
