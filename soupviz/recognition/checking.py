"""Does a proposal hold? The first checkpoint that can be read is fed an example, scored, and held against the log."""

from dataclasses import dataclass
from pathlib import Path

from soupviz.kitchen import Kitchen
from soupviz.recognition.files import first_readable
from soupviz.recognition.proposal import Proposal
from soupviz.spec import HELD_OUT
from soupviz.tasks.wording import of_score
from soupviz.types import Progress, quiet
from soupviz.weights.elsewhere import files_meant
from soupviz.weights.logged import Logged, compared, differs, doubt, logged_accuracy, logged_loss
from soupviz.weights.selection import BASE


@dataclass(frozen=True, slots=True)
class Checked:
    """The first checkpoint's score on held_out, and what its run logged of it, if it did.

    value: of the kitchen's metric, in words, and a loss that was logged. correct: how many are right, of a classifier;
    None where a task does not count right answers.
    """

    ingredient: str
    value: str
    correct: int | None
    num_examples: int
    logged: Logged | None

    @property
    def is_doubtful(self) -> bool:
        """Whether the logged accuracy differs by more than chance."""
        if self.logged is None or self.correct is None:
            return False
        return differs(self.correct, self.num_examples, self.logged.accuracy)

    @property
    def sentence(self) -> str:
        """What was seen, for people."""
        if self.correct is None:
            return f"{self.ingredient}: {self.value}."
        if self.logged is None:
            share = self.correct / self.num_examples
            right = f"{self.correct} of {self.num_examples} right ({share:.3f})"
            return f"{self.ingredient}: {right}; no accuracy was logged of it."
        of = " (the moving average's weights)" if self.logged.is_ema else ""
        told = f"{self.ingredient}{of}: {compared(self.logged, self.correct, self.num_examples)}"
        return f"{told}: {doubt(self.logged)}" if self.logged and self.is_doubtful else f"{told}: they agree."


def check(proposal: Proposal, progress: Progress = quiet) -> Checked:
    """Open the proposal's first checkpoint as the kitchen would and score it.

    Raises:
        SoupError: the model cannot be built, the checkpoint does not fit, or the model does not take an example.
    """
    spec = proposal.spec()
    folder = proposal.file.parent
    meant, _ = files_meant(spec, folder, progress)
    files = {name: path for name, path in meant.items() if name != BASE}
    readable = (name for name, path in files.items() if first_readable([path]))
    name = next(readable, next(iter(files)))  # the others are told, and refused when the kitchen is opened
    path = files[name]
    changes: dict[str, object] = {"ingredients": {name: str(Path(path))}, "base": None}
    if proposal.run.ema_scores:  # what was logged is of these
        changes["weights"] = "ema"
    kitchen = Kitchen.open(spec.model_copy(update=changes), proposal.file, progress=progress)
    split = kitchen.splits.load(HELD_OUT, progress)
    kitchen.scores.width(split)
    score = kitchen.scores.score(((name, 1.0),), progress=progress)
    correct = score.facts.get("correct")
    logged = logged_accuracy(kitchen.weights.resolve(name).metadata) if correct is not None else None
    if logged and logged.is_ema != proposal.run.ema_scores:
        logged = None
    metric = kitchen.objective
    value = f"{metric.label} {of_score(metric, score)} on {score.num_units} {kitchen.task.unit}s"
    if loss := logged_loss(kitchen.weights.resolve(name).metadata):
        value += f"; logged {loss[1]:.4g} ({loss[0]})"
    return Checked(name, value, correct, score.num_units, logged)
