"""The path between two mixes: which ends there are, its scores as a background job, and its figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS, num_examples
from soupviz.mixing.averaging import combine
from soupviz.pictures import palette
from soupviz.recipes import Interpolation
from soupviz.soups import curves
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.figures import interval
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.tasks.wording import PERCENT, height, of_score, panel_title, places, titled
from soupviz.types import Coefficients
from soupviz.ui import work
from soupviz.ui.formats import note
from soupviz.ui.jobs import Job
from soupviz.weights.selection import BASE

DRAWN_AS = {"ingredient": "circle", "soup": "star", "base": "square"}
"""The component's names of the shapes."""

Scores = Mapping[tuple[str, float], Score]
"""What is known of a path: (split, alpha) to score."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An end that can be chosen: an ingredient, the base or a soup, which was cooked with a BatchNorm aggregation."""

    name: str
    kind: str
    mix: Coefficients
    batchnorm: str | None = None

    @property
    def drawn(self) -> dict[str, str]:
        return {"name": self.name, "color": palette.COLORS[self.kind], "shape": DRAWN_AS[self.kind]}


def choices(kitchen: Kitchen, runs: Iterable[Run]) -> dict[str, Choice]:
    """The possible ends by name: the base, the ingredients, then the soups whose ingredients are all there."""
    ends = {BASE: Choice(BASE, "base", ((BASE, 1.0),))} if kitchen.base else {}
    ends |= {name: Choice(name, "ingredient", ((name, 1.0),)) for name in kitchen.names}
    there = set(ends)
    for run in runs:
        mix = mix_in(run)
        is_soup = bool(mix) and aggregation_in(run) not in OUTPUTS
        if is_soup and set(kitchen.weights.leaves([name for name, _ in mix])) <= there:
            name = run.name if run.name not in ends else f"{run.name} #{run.key[:6]}"
            ends[name] = Choice(name, "soup", mix, aggregation_in(run))
    return ends


def usual_batchnorm(a: Choice, b: Choice) -> str:
    """The aggregation that gives the ends as they were cooked, as far as one aggregation can."""
    return next((end.batchnorm for end in (a, b) if end.batchnorm not in (None, "average")), None) or "average"


def best_alpha(metric: Metric, scores: Scores) -> float | None:
    """The best alpha on held_out; of equals the one nearest to the middle of the path."""
    merit = Objective(metric).merit
    held = {alpha: merit(score) for (split, alpha), score in scores.items() if split == HELD_OUT}
    return max(held, key=lambda alpha: (held[alpha], -abs(alpha - 0.5)), default=None)


@dataclass(frozen=True, slots=True)
class Path:
    """The straight line from a (alpha 0) to b (alpha 1), and the alphas at which it is scored."""

    a: Choice
    b: Choice
    alphas: list[float]
    batchnorm: str

    @property
    def title(self) -> str:
        return f"{self.a.name} → {self.b.name}"

    @property
    def id(self) -> str:
        """The same for the same ends and range, however many points."""
        ends = [self.a.name, self.a.mix, self.b.name, self.b.mix]
        return digest([ends, self.alphas[0], self.alphas[-1], self.batchnorm])[:16]

    def altered_ends(self) -> list[Choice]:
        """The ends that are soups of another BatchNorm aggregation than the path's."""
        return [end for end in (self.a, self.b) if end.batchnorm not in (None, self.batchnorm)]

    def key(self, kitchen: Kitchen) -> str:
        """The key of its job: by content, so that a file that changed is scored anew."""
        # Train is not read for a key: what kitchen.yaml says of it stands for it.
        train = kitchen.spec.data.train if num_examples(self.batchnorm) else None
        ends = [kitchen.scores.key(end.mix, HELD_OUT, "average") for end in (self.a, self.b)]
        ends += [self.batchnorm, train.model_dump_json() if train else ""]
        return f"curve {self.id} {digest([ends, self.alphas])} {kitchen.file}"

    def mix(self, alpha: float) -> Coefficients:
        return combine(self.a.mix, self.b.mix, alpha)

    def inside(self, text: str | None) -> float | None:
        """An alpha from the URL, if it is one and lies on the path."""
        try:
            alpha = float(text or "")
        except ValueError:
            return None
        return alpha if self.alphas[0] <= alpha <= self.alphas[-1] else None

    def recipe(self, alpha: float) -> Interpolation:
        return Interpolation(
            a=self.a.name, b=self.b.name, mix_a=self.a.mix, mix_b=self.b.mix, alpha=alpha, batchnorm=self.batchnorm
        )

    def picture(self, metrics: Sequence[Metric], scores: Scores, alpha: float | None) -> dict[str, Any]:
        """The component's data: the path as far as it is known; alpha is where the slider was left."""

        def values(split: str, alpha: float) -> list[float | None] | None:
            score = scores.get((split, alpha))
            return [score.whole(metric) for metric in metrics] if score else None

        digits = places(max((score.num_units for score in scores.values()), default=None))
        return {
            "id": self.id,
            "alpha": alpha,
            "ends": [self.a.drawn, self.b.drawn],
            "range": [self.alphas[0], self.alphas[-1]],
            "step": 0.005 if round(1000 * (self.alphas[1] - self.alphas[0])) % 10 else 0.01,
            "points": [[at, values(HELD_OUT, at), values(TEST, at)] for at in self.alphas],
            "best": best_alpha(metrics[0], scores),
            "metrics": [
                {
                    "label": metric.label,
                    "title": panel_title(metric),
                    "isShare": metric.unit == PERCENT,
                    "places": digits,
                    "isHigherBetter": metric.higher_is_better,
                }
                for metric in metrics
            ],
            "colors": {"curve": palette.SOUP, "best": palette.BEST},
        }


def compute(opened: Kitchen, path: Path) -> Job:
    """Score the path on held_out and test in the background, both ends first, then ever finer."""
    splits = [split for split in (HELD_OUT, TEST) if split in opened.splits.names]
    wanted = [(split, alpha) for alpha in curves.coarse_to_fine(path.alphas) for split in splits]

    def score(job: Job) -> None:
        job.events.clear()
        mixes = [(path.mix(alpha), split, path.batchnorm) for split, alpha in wanted]
        for place, scored in zip(wanted, opened.scores.each(mixes, job.progress), strict=True):
            job.events.append((place, scored))

    return work.jobs().submit(path.key(opened), path.title, score, kitchen=str(opened.file))


def figures(metrics: Sequence[Metric], scores: Scores) -> None:
    """The best alpha with what test has there, and the barrier."""
    objective = metrics[0]
    best = best_alpha(objective, scores)
    if best is None:
        return
    row = st.container(horizontal=True)
    shape: dict[str, Any] = {"border": True, "height": "stretch", "delta_color": "off", "delta_arrow": "off"}
    row.metric("Best alpha", f"{best:g}".replace("-", "−"), "selected on held_out", **shape)
    for split in (HELD_OUT, TEST):
        if (score := scores.get((split, best))) is not None:
            told = of_score(objective, score)
            row.metric(f"{split} there", told, note(objective, interval(objective, score)), **shape)
    of_error = next((metric for metric in metrics if not metric.higher_is_better), objective)
    held = {
        alpha: score.whole(of_error)
        for (split, alpha), score in scores.items()
        if split == HELD_OUT and 0 <= alpha <= 1
    }
    alphas = sorted(held)
    values = [value for alpha in alphas if (value := held[alpha]) is not None]
    if len(values) == len(alphas) > 2 and (alphas[0], alphas[-1]) == (0.0, 1.0):
        told = height(of_error, curves.barrier_of(alphas, values, of_error).height)
        row.metric(
            f"{titled(of_error)} barrier",
            told,
            "held_out, above the chord" if not of_error.higher_is_better else "held_out, below the chord",
            **shape,
        )
