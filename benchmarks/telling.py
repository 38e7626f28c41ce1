"""What the benchmark has measured, for people: a table on the terminal, and the same as a picture."""

from pathlib import Path

import typer

from benchmarks.figures import ESTIMATED, Comparison, Measures
from benchmarks.measuring import machine
from benchmarks.picture import picture
from benchmarks.run import Bench
from soupviz.cli.printing import show
from soupviz.files import replacing


def show_bench(as_json: bool, measured: Bench, rounds: int) -> None:
    agreement, measures = measured.agreement, measured.measures
    values = agreement.as_dict() | measures.flat()
    values |= {
        "estimated": [name for name in ESTIMATED if f"{name}_ratio" in values], "skipped": measures.skipped,
        "machine": machine(measured.kitchen), "rounds": measures.rounds,
    }  # fmt: skip
    rows = [
        [
            comparison.title,
            told + (" (estimated)" if measures.is_estimated(comparison) else ""),
            ours,
            f"{ratio:.3g}" if ratio < 100 else f"{ratio:,.0f}",
        ]
        for comparison, ratio, told, ours in compared(measures)
    ]
    columns = ("figure", "against", "soupviz", "ratio")
    show(as_json, values, f"{measured.kitchen.name}, medians of {rounds} rounds", columns, rows)
    for remark in [f"differs: {difference}" for difference in agreement.differences] + [
        f"left out: {name}: {why}" for name, why in measures.skipped.items()
    ]:
        typer.echo(remark, err=True)
    typer.echo(
        f"{agreement.decisions} decisions and {agreement.counts} counts compared, {len(agreement.differences)} differ; "
        f"{agreement.close} examples were too close to call and counted differently", err=True,
    )  # fmt: skip


def write_picture(file: Path, measured: Bench) -> None:
    """The table as a picture; written last, so that a wrong place costs no measurement."""
    rows = [(comparison.title, ratio, told, ours) for comparison, ratio, told, ours in compared(measured.measures)]
    with replacing(file) as temporary:
        temporary.write_text(picture(f"soupviz on {measured.kitchen.name}: times as fast", rows), encoding="utf-8")


def compared(measures: Measures) -> list[tuple[Comparison, float, str, str]]:
    """Each comparison with its ratio and both sides in words."""
    found = []
    for comparison, ratio in measures.comparisons():
        theirs, ours = (
            _quantity(measures.median(key), comparison.unit) for key in (comparison.theirs, comparison.ours)
        )
        found.append((comparison, ratio, theirs, ours))
    return found


def _quantity(value: float, unit: str) -> str:
    return f"{value / 1e6:,.0f} MB" if unit == "bytes" else f"{value:,.3g} {unit}"
