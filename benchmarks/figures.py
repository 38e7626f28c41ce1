"""The figures of the benchmark: what is compared with what, and what the rounds come to."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio of two measured quantities, theirs over ours: the larger, the better for soupviz."""

    ratio: str
    theirs: str
    ours: str
    title: str
    unit: str = "s"


def _search(name: str, title: str) -> Comparison:
    return Comparison(f"{name}_ratio", f"{name}_textbook_seconds", f"{name}_soupviz_seconds", title)


FIGURES: dict[str, tuple[Comparison, ...]] = {
    "score": (_search("score", "all ingredients, cold: opened and decoded too"),),
    "uniform": (_search("uniform", "uniform soup"),),
    "greedy_fixed": (_search("greedy_fixed", "greedy, alpha 0.1, nothing scored before"),),
    "greedy_mean": (_search("greedy_mean", "greedy, mean, nothing scored before"),),
    "sweep": (_search("sweep", "sweep of ten alphas"),),
    "curve": (_search("curve", "curve of 21 points"),),
    "warm": (_search("warm", "the same greedy again"),),
    "frozen": (_search("frozen", "greedy, alpha 0.1 and mean, backbone frozen"),),
    "forward": (
        Comparison(
            "forward_fraction", "forward_bare_seconds", "forward_soupviz_seconds", "a pass, against the bare model"
        ),
    ),
    "mix": (
        Comparison("mix_read_fraction", "mix_read_seconds", "mix_soupviz_seconds", "mixing, against a plain read"),
        Comparison("mix_ratio", "mix_textbook_seconds", "mix_soupviz_seconds", "mixing, against sum(state_dicts) / n"),
        Comparison("mix_peak_ratio", "mix_textbook_peak_bytes", "mix_peak_bytes", "its peak memory", "bytes"),
    ),
    "mergekit": (
        Comparison(
            "mergekit_ratio", "mergekit_seconds", "mergekit_soupviz_seconds", "mixing and writing, whole process"
        ),
    ),
}
"""By the name that `--only` takes. `textbook` is the loop as the field writes it."""

ESTIMATED = ("sweep", "warm")
"""Their textbook's time is told from its first candidates, or from its passes so far."""


@dataclass(slots=True)
class Measures:
    """What was measured in each round, by key; seconds or bytes, and facts that do not change."""

    rounds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    facts: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def take(self, **values: float) -> None:
        for key, value in values.items():
            self.rounds[key].append(value)

    def median(self, key: str) -> float:
        return statistics.median(self.rounds[key])

    def comparisons(self) -> Iterator[tuple[Comparison, float]]:
        """What was measured on both sides, with its ratio."""
        for comparison in (comparison for several in FIGURES.values() for comparison in several):
            if comparison.theirs in self.rounds and comparison.ours in self.rounds:
                yield comparison, self.median(comparison.theirs) / max(self.median(comparison.ours), 1e-9)

    def flat(self) -> dict[str, float]:
        """Every ratio, every median, and the medians of the loops added up."""
        ratios = {comparison.ratio: ratio for comparison, ratio in self.comparisons()}
        medians = {key: self.median(key) for key in self.rounds}
        sums = {
            f"{side}_seconds": sum(value for key, value in medians.items() if key.endswith(f"_{side}_seconds"))
            for side in ("textbook", "soupviz")
        }
        return ratios | sums | medians | self.facts

    def is_estimated(self, comparison: Comparison) -> bool:
        return any(comparison in FIGURES[name] for name in ESTIMATED)
