"""Cooking: a recipe and a kitchen make a soup; every score and every run goes through the kitchen's store."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from soupviz import search
from soupviz.errors import Cancelled, SoupError
from soupviz.files import digest
from soupviz.ingredients import pick
from soupviz.kitchen import Kitchen
from soupviz.mixing import BatchNorm, combine, count_clamped, mean_of, mix
from soupviz.recipes import Alpha, Greedy, Interpolation, Order, Recipe, Uniform, parse
from soupviz.records import Coefficients, Progress, Score, Step, quiet
from soupviz.store import Run

OnStep = Callable[[Step], None]
SWEEP_ALPHAS: tuple[Alpha, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Soup:
    """What cooking a recipe gives.

    mix: ingredients with their coefficients, in the order in which they are accumulated.
    coefficients: one number for each of the pool, 0 for the rejected. trajectory: the decisions of a search.
    scores: by split. clamped: running variances of the mix that were clamped at 0.
    """

    key: str
    recipe: Recipe
    mix: Coefficients
    coefficients: Mapping[str, float]
    trajectory: tuple[Step, ...]
    scores: Mapping[str, Score]
    clamped: int
    kitchen: Kitchen = field(repr=False)

    @property
    def title(self) -> str:
        return self.recipe.title

    def state_dict(self) -> dict[str, Tensor]:
        """The soup's weights, mixed anew, in the ingredients' dtype."""
        return mix(self.kitchen.resolved(self.mix), self.recipe.batchnorm)

    def as_dict(self) -> dict[str, Any]:
        """The soup as plain data: what `soup --json` prints and the store keeps."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "mix": [list(item) for item in self.mix],
            "coefficients": dict(self.coefficients),
            "scores": {split: score.summary() for split, score in self.scores.items()},
            "trajectory": [step.as_dict() for step in self.trajectory],
            "clamped_variances": self.clamped,
        }


def run_key(kitchen: Kitchen, recipe: Recipe, pool: Sequence[str] | None = None) -> str:
    """What a run is kept under: the recipe, its pool's fingerprints, the data that selects, model and precision.

    Args:
        pool: of a soup cooked elsewhere or before; default: what the recipe chooses among in this kitchen, as it is.
    """
    return _key(kitchen, recipe.model_dump(mode="json"), pool_of(kitchen, recipe) if pool is None else pool)


def _key(kitchen: Kitchen, recipe: dict[str, Any], pool: Sequence[str]) -> str:
    fingerprints = {item.name: item.fingerprint for item, _ in kitchen.resolved(mean_of(pool))}
    context = [kitchen.split("held_out").fingerprint, kitchen.model_fingerprint, kitchen.spec.precision]
    return digest([recipe, fingerprints, context])


def is_current(kitchen: Kitchen, run: Run) -> bool:
    """Whether a finished run is of this kitchen as it is: ingredients that are still here, selected by this held_out.

    A soup selected on other data (held_out before it was split in two, say) may have been selected on today's test.
    """
    assert run.result is not None
    try:
        return _key(kitchen, run.recipe, list(run.result["coefficients"])) == run.key
    except SoupError:
        return False


def pool_of(kitchen: Kitchen, recipe: Recipe) -> list[str]:
    """The names a recipe chooses among, in kitchen order.

    Raises:
        KitchenError: a member that the kitchen lacks.
    """
    if isinstance(recipe, Interpolation):
        return list(dict.fromkeys(name for name, _ in (*recipe.mix_a, *recipe.mix_b)))
    return [item.name for item in pick(kitchen.ingredients, recipe.members)]


def cook(kitchen: Kitchen, recipe: Recipe, *, progress: Progress = quiet, on_step: OnStep = lambda _step: None) -> Soup:
    """Cook a recipe: find its coefficients, score the soup on held_out, test and the shifts, and keep the run.

    The run is kept from its first second: what is killed or cancelled goes on from its last score when cooked again.

    Raises:
        SoupError: the recipe names what the kitchen lacks, or the data does not fit.
        Cancelled: from the progress callback.
    """
    kitchen.split("held_out", progress)
    key = run_key(kitchen, recipe)
    steps: list[Step] = []

    def stepped(step: Step) -> None:
        steps.append(step)
        kitchen.store.touch_run(key, {"trajectory": [kept.as_dict() for kept in steps]})
        on_step(step)

    with _recorded(kitchen, key, recipe, progress) as watched:
        coefficients = PLANNERS[type(recipe)](kitchen, recipe, watched, stepped)
        scores = {
            split: kitchen.score_mix(coefficients, split, recipe.batchnorm, watched)
            for split in kitchen.report_splits()
        }
        weights = dict(coefficients)
        soup = Soup(
            key=key,
            recipe=recipe,
            mix=coefficients,
            coefficients={name: weights.get(name, 0.0) for name in pool_of(kitchen, recipe)},
            trajectory=tuple(steps),
            scores=scores,
            clamped=count_clamped(kitchen.resolved(coefficients), recipe.batchnorm),
            kitchen=kitchen,
        )
        kitchen.store.end_run(key, "finished", soup.as_dict())
    return soup


@contextmanager
def _recorded(kitchen: Kitchen, key: str, recipe: Recipe, progress: Progress) -> Iterator[Progress]:
    """Keep the run's status in the store, and a heartbeat in it while progress is made."""
    kitchen.store.begin_run(key, recipe.title, recipe.model_dump(mode="json"))
    touched = time.monotonic()

    def watched(done: int, total: int, what: str) -> None:
        nonlocal touched
        if time.monotonic() - touched > 1.0:
            kitchen.store.touch_run(key)
            touched = time.monotonic()
        progress(done, total, what)

    try:
        yield watched
    except (Cancelled, KeyboardInterrupt):
        kitchen.store.end_run(key, "cancelled")
        raise
    except Exception as error:
        kitchen.store.end_run(key, "failed", error=str(error))
        raise


def _plan_uniform(kitchen: Kitchen, recipe: Uniform, _progress: Progress, _on_step: OnStep) -> Coefficients:
    return mean_of(pool_of(kitchen, recipe))


def _plan_greedy(kitchen: Kitchen, recipe: Greedy, progress: Progress, on_step: OnStep) -> Coefficients:
    pool = pool_of(kitchen, recipe)
    total = 2 * len(pool) - 1
    scored = 0

    def score(mixture: Coefficients) -> Score:
        nonlocal scored

        def within(done: int, of: int, what: str) -> None:
            progress(scored * of + done, total * of, what)

        result = kitchen.score_mix(mixture, "held_out", recipe.batchnorm, within)
        scored += 1
        return result

    scores = {name: score(((name, 1.0),)) for name in pool}
    mixture, _ = search.greedy(
        pool, scores, score=score, alpha=recipe.alpha, order=recipe.order, seed=recipe.seed, on_step=on_step
    )
    return mixture


def _plan_interpolation(_kitchen: Kitchen, recipe: Interpolation, _progress: Progress, _step: OnStep) -> Coefficients:
    return combine(recipe.mix_a, recipe.mix_b, recipe.alpha)


Planner = Callable[[Kitchen, Any, Progress, OnStep], Coefficients]
PLANNERS: dict[type, Planner] = {Uniform: _plan_uniform, Greedy: _plan_greedy, Interpolation: _plan_interpolation}


def uniform(
    kitchen: Kitchen,
    members: Sequence[str] | None = None,
    *,
    batchnorm: BatchNorm = "average",
    progress: Progress = quiet,
) -> Soup:
    """The plain mean of the members (default: all ingredients).

    Raises:
        SoupError: an unknown member, or data that does not fit.
    Source:
        Wortsman et al. 2022, table 1.
    """
    recipe = parse({"method": "uniform", "members": members, "batchnorm": batchnorm})
    return cook(kitchen, recipe, progress=progress)


def greedy(
    kitchen: Kitchen,
    *,
    alpha: Alpha = "mean",
    order: Order = "accuracy",
    seed: int = 0,
    members: Sequence[str] | None = None,
    batchnorm: BatchNorm = "average",
    progress: Progress = quiet,
    on_step: OnStep = lambda _step: None,
) -> Soup:
    """Greedy soup: start from the best on held_out, keep each candidate that makes more examples correct.

    Args:
        alpha: "mean" averages the accepted; a number in (0, 1] is the newcomer's weight.
        order: "accuracy" (best first), "listed" (kitchen order) or "random" (shuffled with `seed`).
        members: the pool; default: all ingredients.
    Raises:
        SoupError: an unknown member, an alpha out of range, or data that does not fit.
    Source:
        Wortsman et al. 2022, algorithm 1. Differs: strictly more, as in the authors' code.
    """
    values = {"method": "greedy", "alpha": alpha, "order": order, "seed": seed}
    recipe = parse(values | {"members": members, "batchnorm": batchnorm})
    return cook(kitchen, recipe, progress=progress, on_step=on_step)


def sweep(
    kitchen: Kitchen,
    alphas: Sequence[Alpha] = SWEEP_ALPHAS,
    *,
    progress: Progress = quiet,
    on_soup: Callable[[Soup], None] = lambda _soup: None,
    **parameters: Any,
) -> list[Soup]:
    """Greedy for each alpha of a grid; scores they have in common are computed once.

    Args:
        parameters: of `greedy`, but alpha. on_soup: given each soup when it is ready.
    """
    soups = []
    for index, alpha in enumerate(alphas):

        def within(done: int, total: int, what: str, index: int = index, alpha: Alpha = alpha) -> None:
            progress(index * total + done, len(alphas) * total, f"alpha {alpha}: {what}")

        soups.append(greedy(kitchen, alpha=alpha, progress=within, **parameters))
        on_soup(soups[-1])
    return soups


def recall(kitchen: Kitchen, run: Run) -> Soup:
    """A finished run as a soup again; its scores, with their per-example results, come from the store.

    Raises:
        SoupError: an ingredient of it is no longer in the kitchen.
    """
    assert run.status == "finished" and run.result is not None
    recipe = parse(run.result["recipe"])
    coefficients = tuple((str(name), float(weight)) for name, weight in run.result["mix"])
    return Soup(
        key=run.key,
        recipe=recipe,
        mix=coefficients,
        coefficients=run.result["coefficients"],
        trajectory=tuple(Step(**step) for step in run.result["trajectory"]),
        scores={split: kitchen.score_mix(coefficients, split, recipe.batchnorm) for split in run.result["scores"]},
        clamped=run.result["clamped_variances"],
        kitchen=kitchen,
    )
