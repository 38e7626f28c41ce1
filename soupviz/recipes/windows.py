"""Windows of one run: the difference of two running means, and the search for the window that is best."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.formulas import PRECISE_SUM, Formula
from soupviz.recipes.greedy import GOAL, SHIFT_WEIGHT, of_goal
from soupviz.recipes.overtime import COUNT, LATEST, OF_STEPS, Lawa, in_time, numbers_of, until, up_to
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients

WINDOWS = "windows"
"""The note of a search: of each decision, in their order, at which step its window ends, and how long it is."""

COUNTED: tuple[tuple[str, str], ...] = (("averaged", ""), ("n_averaged", ""), ("batch_idx_train", "average_period"))
"""Where a file says of how many models its running mean is, and of which of them every so many; else its step counts.

SWARecorder writes the first, torch's AveragedModel the second, icefall the third.
"""


class RunningMeans(Pooled):
    """The mean of one run between two checkpoints that hold running means, which is their difference.

    `(e * mean_e - s * mean_s) / (e - s)`, e and s being how many models each is the mean of: coefficients above 1 and
    below 0, found and summed in float64. The window is the stretch from the checkpoint `last` before the end to the
    end; where that is before the first, from the beginning of training on: the mean at the end as it is. How many are
    averaged is told by `averaged`, `n_averaged` or `batch_idx_train` in the metadata, else the step is taken.

    Source: icefall, `average_checkpoints_with_averaged_model`, which its decoding calls with `--epoch END --avg LAST
    --use-averaged-model 1`; PR #353 there. Open its files with `weights: ema`.
    """

    method: Literal["running_means"] = "running_means"
    label = "difference of running means"
    is_of_one_run = True
    last: int = Field(5, ge=1, le=100, description=COUNT)
    end: float = Field(0.0, ge=0, description=LATEST, json_schema_extra=OF_STEPS)

    @property
    def windows_of(self) -> str:
        return "running_means"

    @property
    def window(self) -> tuple[float, int]:
        return self.end, self.last

    @property
    def own_title(self) -> str:
        return self.titled("running means", f"last {self.last}{up_to(self.end)}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        names = [name for _, name in until(in_time(pool), self.end)]
        return _summed(pool, self, between(counts_of(pool), names, self.last))


class Windows(Pooled):
    """The best of all windows of one run: each that ends at one of the latest checkpoints, of each length.

    Each is the plain mean of its checkpoints, or the difference of running means. The latest end is tried first, and at
    each the shortest: of equally good ones the first stays.

    Source: icefall, whose results are told for the best `--epoch` and `--avg` of such a grid.
    """

    method: Literal["windows"] = "windows"
    label = "best window, over time"
    is_search = True
    is_of_one_run = True
    files: Literal["checkpoints", "running_means"] = Field(
        "checkpoints", description="what the files hold: checkpoints, or running_means from the beginning on"
    )
    endings: int = Field(20, ge=1, le=100, description="at how many of the latest checkpoints a window may end")
    longest: int = Field(20, ge=1, le=100, description="checkpoints that a window spans at most")
    objective: str = GOAL
    shift_weight: float = SHIFT_WEIGHT

    @property
    def windows_of(self) -> str:
        return self.files

    @property
    def goal(self) -> str:
        return self.objective

    @property
    def own_title(self) -> str:
        means = "of running means" if self.files == "running_means" else ""
        sizes = (f"{self.endings} endings", f"longest {self.longest}")
        return self.titled("best window", means, *sizes, *of_goal(self.objective, self.shift_weight))

    def candidates(self, num_members: int) -> int:
        return sum(1 for at, length in self.places(num_members) if not self._is_single(at, length))

    def places(self, number: int) -> list[tuple[int, int]]:
        """Of so many checkpoints the windows in the order in which they are tried: position of the end, and length."""
        ends = range(number - 1, max(-1, number - 1 - self.endings), -1)
        return [(end, length) for end in ends for length in range(1, min(self.longest, end + 1) + 1)]

    def _is_single(self, end: int, length: int) -> bool:
        """Whether one ingredient is the window: a checkpoint alone, or a running mean from the beginning on."""
        return length == (end + 1 if self.files == "running_means" else 1)

    def plan(self, pool: ScoredPool) -> Coefficients:
        times = in_time(pool)
        names = [name for _, name in times]
        counts = counts_of(pool) if self.files == "running_means" else {}
        goal = pool.goal(self.objective, self.shift_weight)
        reached = names[max(0, len(names) + 1 - self.endings - self.longest) :]
        singles = {name: pool.look_further(((name, 1.0),), pool.single(name), goal) for name in reached}
        best: tuple[Coefficients, Score] | None = None
        told = []
        result: Score | Bound
        for number, (end, length) in enumerate(self.places(len(names))):
            window = self._window(pool, counts, names[: end + 1], length)
            if self._is_single(end, length):
                result = singles[names[end]]
            elif best is None:
                result = pool.look_further(window.mix, pool.score(window.mix), goal)
            else:
                parts = [(singles[name], weight) for name, weight in window.parts]
                result = pool.challenge(window.mix, best[1], parts, goal=goal)
            accepted = best is None or goal.is_better(result, best[1])
            if isinstance(result, Score) and accepted:
                best = window.mix, result
            assert best is not None  # the first was scored whole
            called = f"last {length} up to {names[end]}"
            pool.decided(number, called, result, best[1], accepted=accepted, mix=window.mix, goal=goal)
            told.append([times[end][0], length])
        assert best is not None
        pool.notes[WINDOWS] = told
        return best[0]

    def _window(self, pool: ScoredPool, counts: dict[str, float], names: Sequence[str], length: int) -> "_Window":
        if self.files == "checkpoints":
            return _Window(mean_of(names[-length:]), mean_of(names[-length:]))
        parts = between(counts, names, length)
        # What is hard at the end of a window is hard on it: a difference of hardnesses says nothing.
        return _Window(_summed(pool, self, parts), ((names[-1], 1.0),))

    def one_window(self, end: float, length: int) -> Pooled:
        kind = RunningMeans if self.files == "running_means" else Lawa
        return kind(last=length, end=end, members=self.members, batchnorm=self.batchnorm)


@dataclass(frozen=True, slots=True)
class _Window:
    """parts: single ingredients with weights, by which one guesses what the window answers badly."""

    mix: Coefficients
    parts: Coefficients


def between(counts: dict[str, float], names: Sequence[str], length: int) -> Coefficients:
    """The coefficients of a window of running means, the end's first.

    Args:
        counts: of how many models each is the mean. names: in time, the last being the end. length: how far before it
        the other lies; from the beginning on where none lies there.
    """
    end = names[-1]
    if length >= len(names):
        return ((end, 1.0),)
    start = names[-1 - length]
    apart = counts[end] - counts[start]
    return (end, counts[end] / apart), (start, -counts[start] / apart)


def counts_of(pool: ScoredPool) -> dict[str, float]:
    """Of how many models each running mean is the mean, earliest first: told alike by all, else the step.

    Raises:
        RecipeError: no step, or counts that do not rise with it.
    """
    times = in_time(pool)
    facts = {name: numbers_of(pool, name) for _, name in times}
    counts = {name: time for time, name in times}
    for key, period in COUNTED:
        if all(isinstance(one.get(key), (int, float)) for one in facts.values()):
            every = {name: one.get(period) or 1 for name, one in facts.items()}
            counts = {name: float(one[key] // every[name] * every[name]) for name, one in facts.items()}
            break
    for (_, before), (_, after) in pairwise(times):
        if not counts[before] < counts[after]:
            raise RecipeError(
                f"running means: {after!r} is the mean of {counts[after]:g} models and {before!r}, before it, of "
                f"{counts[before]:g}; expected more. Tell how many in the metadata, as averaged, or leave one out."
            )
    return counts


def _summed(pool: ScoredPool, recipe: Pooled, parts: Coefficients) -> Coefficients:
    """A mix of these parts that is summed in float64; of one part it is that part."""
    if len(parts) == 1:
        return parts
    return pool.adopt(Formula(kind=PRECISE_SUM, parts=parts, batchnorm=recipe.of_statistics))
