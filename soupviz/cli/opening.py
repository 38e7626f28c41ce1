"""The command that makes a kitchen.yaml of a run's folder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soupviz.addresses import is_remote, shown
from soupviz.cli import printing
from soupviz.cli.answering import answer
from soupviz.cli.arguments import AsJson, app
from soupviz.cli.kitchens import Weights
from soupviz.cli.progress import progress_bar
from soupviz.errors import KitchenError
from soupviz.files import is_writable
from soupviz.weights.pickles import command_of

if TYPE_CHECKING:
    from soupviz.recognition import Proposal


@app.command()
def new(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="of a run, or of checkpoints, here or at an address")],
    data: Annotated[
        str | None,
        typer.Option(
            help="a file, or the folder of val, test and train, here or at an address; default: what the run says, or "
            "lies beside it"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="the kitchen.yaml to write; default: in the run's folder, of one at an address where you are"
        ),
    ] = None,
    factory: Annotated[
        str,
        typer.Option(
            help="what builds the model, where the run does not say; a file is looked for in the run's folder "
            "and where you are; default: asked for"
        ),
    ] = "",
    arguments: Annotated[
        str, typer.Option("--args", help="the factory's keyword arguments, as JSON; default: asked for")
    ] = "",
    text: Annotated[
        str,
        typer.Option(help="of a table: the column of the sentences, or of what is said; default: found by its name"),
    ] = "",
    label: Annotated[str, typer.Option(help="of a table: the column of the labels; default: found by its name")] = "",
    task: Annotated[
        str, typer.Option(help="what outputs mean; default: as the run or the labels show it, else classification")
    ] = "",
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            help="of transcription: the file of the model's tokens; default: the checkpoint's, else asked for"
        ),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            help="a table of runs, as W&B and MLflow export it: hyperparameters and metrics of the checkpoints that "
            "its rows name; default: none"
        ),
    ] = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Recognise a run, check its first checkpoint against what was logged, and write its kitchen.yaml."""
    from soupviz.recognition import check, recognise
    from soupviz.recognition.elsewhere import data_at, run_at
    from soupviz.recognition.runs import parse_arguments
    from soupviz.recognition.writing import flow, write

    with progress_bar(as_json) as progress:
        place = out or (Path("kitchen.yaml") if is_remote(folder) else None)
        run, named = run_at(folder, progress), data and data_at(data, progress)
    given: dict[str, Any] = {"data": named, "factory": factory, "text": text, "label": label, "task": task}
    given |= {"vocabulary": vocabulary, "sweep": sweep}
    given["weights"] = weights or ""
    given["arguments"] = parse_arguments(arguments) if arguments else None
    place = place / "kitchen.yaml" if place and place.is_dir() else place
    proposal = recognise(run, out=place, **given)
    if proposal.run.convert:
        raise KitchenError(
            f"{proposal.run.folder}: reading its checkpoints ({len(proposal.run.convert)} of them) runs code that is "
            f"in them. If you trust them, run this, then new again: {command_of(proposal.run.convert)}"
        )
    if not is_writable(proposal.file.parent):
        raise KitchenError(f"{proposal.file.parent}: cannot be written to; name another place with --out FILE.")
    while proposal.questions:
        question = proposal.questions[0]
        if not sys.stdin.isatty():
            raise KitchenError(_unanswered(proposal))
        hint = f" [{', '.join(question.choices)}]" if question.choices else ""
        given[question.key] = typer.prompt(f"{question.text}{hint}", err=True)
        proposal = recognise(run, out=place, **given)
    with progress_bar(as_json) as progress:
        checked = check(proposal, progress)
    kept = write(proposal)
    values = {
        "kitchen": str(proposal.file), "framework": proposal.framework, "kept": str(kept) if kept else None,
        "facts": [{"key": fact.key, "value": fact.value, "source": fact.source} for fact in proposal.facts],
        "notes": list(proposal.notes),
        "check": {
            "ingredient": checked.ingredient, "value": checked.value,
            "correct": checked.correct, "num_examples": checked.num_examples,
            "logged": checked.logged.accuracy if checked.logged else None, "is_doubtful": checked.is_doubtful,
        },
    }  # fmt: skip
    rows = [[fact.key, flow(fact.value), fact.source] for fact in proposal.facts]
    printing.show(
        as_json,
        values,
        f"{shown(proposal.run.folder)}: {proposal.what}",
        ("key", "value", "from"),
        rows,
        are_words=True,
    )
    for note in [*proposal.notes, checked.sentence]:
        typer.echo(note, err=True)
    if not as_json:
        answer(f"wrote {proposal.file}" + (f" (the one that was there is kept as {kept.name})" if kept else ""))


def _unanswered(proposal: "Proposal") -> str:
    asked = [
        f"{question.text}: give --{question.key}" + (f" (such as {question.choices[0]})" if question.choices else "")
        for question in proposal.questions
    ]
    return f"{proposal.run.folder}: {proposal.what}, of which is not known {'; and '.join(asked)}."
