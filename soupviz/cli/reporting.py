"""The command that writes a report."""

import json
from pathlib import Path
from typing import Annotated

import typer

from soupviz.cli import printing
from soupviz.cli.answering import answer
from soupviz.cli.arguments import AsJson, KitchenFile, app
from soupviz.cli.kitchens import Opening, opens_kitchen
from soupviz.cli.progress import progress_bar
from soupviz.spec import HELD_OUT


@app.command()
@opens_kitchen
def report(
    opening: Opening,
    kitchen: KitchenFile,
    out: Annotated[Path, typer.Option(help="FILE.html")],
    soup: Annotated[
        str | None, typer.Option(help="a soup's number, name or the start of its key; default: the best on held_out")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is known of a cooked soup as one HTML file, with its pictures."""
    from soupviz.reports import page  # it loads pandas, which no other command needs
    from soupviz.reports.choosing import chosen
    from soupviz.reports.contents import title_of

    page.check_target(out)
    opened = opening.open(kitchen, quiet=as_json)
    with progress_bar(as_json, opened) as progress:
        opened.splits.load(HELD_OUT, progress)
        about = chosen(opened, soup)
        written = page.report(about, out, progress=progress)
    values = {"file": str(written), "soup": title_of(about), "bytes": written.stat().st_size}
    answer(json.dumps(values) if as_json else f"wrote {written}: {values['soup']}, {values['bytes']:,} bytes")
    printing.show_notes(opened)
