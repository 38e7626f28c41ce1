"""From a run's folder to a kitchen.yaml: what is proposed, where each value is from, and what has to be asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soupviz.errors import KitchenError
from soupviz.recognition.composing import compose
from soupviz.recognition.finding import find_run
from soupviz.recognition.parts import Setting
from soupviz.recognition.runs import Answers, Fact, MayRead, Question, Run
from soupviz.spec import KitchenSpec
from soupviz.yaml_file import validate


@dataclass(frozen=True, slots=True)
class Proposal:
    """A kitchen.yaml that nobody has written yet. With questions it is not whole."""

    run: Run
    file: Path
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)

    @property
    def framework(self) -> str:
        """timm, Trainer, Lightning, torchvision, Ultralytics, peft, or plain."""
        return self.run.framework

    @property
    def what(self) -> str:
        """What the folder is, in words."""
        return "a folder of checkpoints" if self.framework == "plain" else f"a run of {self.framework}"

    def spec(self) -> KitchenSpec:
        """The proposal as a checked specification.

        Raises:
            KitchenError: something has to be asked first.
        """
        if self.questions:
            asked = "; ".join(question.text for question in self.questions)
            raise KitchenError(f"{self.run.folder}: not known: {asked}.")
        return validate(dict(self.document), self.file)


def recognise(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    factory: str = "",
    arguments: Mapping[str, Any] | None = None,
    text: str = "",
    label: str = "",
    weights: str = "",
    task: str = "",
    vocabulary: str | Path | None = None,
    sweep: str | Path | None = None,
    may_read: MayRead = lambda _path: True,
) -> Proposal:
    """Recognise a run's folder, and propose its kitchen.yaml. Nothing that the run's files name is run.

    Args:
        folder: of a run of timm, Trainer, Lightning, torchvision's references or Ultralytics, one above it, or any
            folder of checkpoints.
        data: a file, or a folder with the splits; default: what the run's files say, or what lies beside it.
        out: where the kitchen.yaml is to be; default: in the run's folder. Paths in it are relative to it.
        factory: what builds the model, where the run does not say. arguments: its keyword arguments.
        text, label: columns of a table. weights: raw or ema, where the files hold both. task: where neither the run nor
            the data says it. vocabulary: the file of a transcription's tokens. sweep: a table of runs, as a tracker
            exports it.
        may_read: whether a path may be looked at that nobody named.
    Raises:
        SoupError: no such folder, no checkpoints in it, several runs, or no data where it was said to be.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise KitchenError(f"{root}: no such folder; expected the one that a training run wrote its checkpoints to.")
    run = find_run(root.resolve(), may_read)
    file = Path(out).expanduser().resolve() if out else run.folder / "kitchen.yaml"
    if not file.parent.is_dir():
        raise KitchenError(f"{file.parent}: no such folder, so {file.name} cannot be written there; make it first.")
    named = (Path(one).expanduser().resolve() if one else None for one in (data, vocabulary, sweep))
    answers = Answers(next(named), factory, arguments, text, label, weights, task, next(named), next(named))
    part = compose(Setting(run, file, answers, may_read))
    return Proposal(run, file, part.facts, part.questions, part.notes, part.document)
