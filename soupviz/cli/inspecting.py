"""The command that inspects: which ingredients belong together."""

from dataclasses import replace

from soupviz.analysis.preflight import Report
from soupviz.analysis.preflight import inspect as inspected
from soupviz.cli import printing
from soupviz.cli.answering import answer
from soupviz.cli.arguments import AsJson, BatchNorm, KitchenFile, app
from soupviz.cli.kitchens import Opening, opens_kitchen
from soupviz.cli.progress import progress_bar
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import check_batchnorm
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor, gap_unit


@app.command()
@opens_kitchen
def inspect(
    opening: Opening,
    kitchen: KitchenFile,
    batchnorm: BatchNorm = "average",
    as_json: AsJson = False,
) -> None:
    """Say which ingredients can be averaged, and why the others cannot; scores every midpoint on held_out."""
    check_batchnorm(batchnorm)
    opened = replace(opening, skip_incompatible=True).open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        report = inspected(opened, batchnorm, progress=progress)
    _show(as_json, opened, report)
    printing.show_notes(opened)


def _show(as_json: bool, opened: Kitchen, report: Report) -> None:
    metric = report.barriers.metric
    rows = [
        [one.name, one.verdict.replace("_", " "), _figure(one.distance_to_base), _figure(one.barrier_max, metric)]
        for one in report.verdicts
    ]
    columns = (
        "ingredient",
        "verdict",
        "distance to base",
        f"highest barrier ({gap_unit(metric) or metric.label}, held_out)",
    )
    values = report.as_dict() | opened.scores.made_by
    printing.show(as_json, values, f"{opened.name}: what can be mixed", columns, rows)
    if not as_json:
        for one in report.verdicts:
            answer(f"{one.name}: {one.sentence}")
        if report.regime:
            answer(report.regime.sentence)


def _figure(value: float | None, metric: Metric | None = None) -> str:
    return "–" if value is None else f"{value * (factor(metric) if metric else 1.0):.3f}"
