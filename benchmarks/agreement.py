"""Whether the textbook and soupviz decided and counted the same."""

from dataclasses import dataclass, field

from benchmarks.textbook import Count
from soupviz.recipes.trajectory import Step
from soupviz.tasks.score import Score


@dataclass(slots=True)
class Agreement:
    """What was compared and what differs; examples too close to call may be counted differently, and are told apart."""

    decisions: int = 0
    counts: int = 0
    close: int = 0
    wrong_decisions: list[str] = field(default_factory=list)
    wrong_counts: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[str]:
        return [*self.wrong_decisions, *self.wrong_counts]

    def as_dict(self) -> dict[str, object]:
        """Flat; None where nothing of the kind was compared."""
        return {
            "decisions_identical": not self.wrong_decisions if self.decisions else None,
            "counts_identical": not self.wrong_counts if self.counts else None,
            "decisions_compared": self.decisions,
            "counts_compared": self.counts,
            "counted_differently_but_close": self.close,
            "differences": self.differences,
        }

    def score(self, what: str, score: Score, count: Count) -> None:
        """Example by example."""
        assert score.outcomes is not None
        self.counts += 1
        differs = score.outcomes["right"] != count.right
        self.close += int((differs & count.close).sum())
        if clear := int((differs & ~count.close).sum()):
            self.wrong_counts.append(f"{what}: {clear} examples that are not close to call are counted differently")

    def correct(self, what: str, correct: int, count: Count) -> None:
        """How many are right, where no more is known."""
        self.counts += 1
        differs = abs(correct - count.correct)
        if differs > count.close.sum():
            self.wrong_counts.append(f"{what}: {correct} are right, not {count.correct}")
        else:
            self.close += differs

    def step(self, what: str, step: Step, accepted: bool, count: Count) -> None:
        """A decision, and the bound or the count that it rests on."""
        self.decisions += 1
        if step.accepted != accepted:
            self.wrong_decisions.append(
                f"{what}: soupviz {'accepts' if step.accepted else 'rejects'}, the textbook does not"
            )
        if step.correct is not None:
            self.correct(what, step.correct, count)
        elif round(step.accuracy_at_most * len(count.right)) < count.correct - count.close.sum():
            self.wrong_counts.append(f"{what}: the bound {step.accuracy_at_most} lies below the count {count.correct}")
