"""The soups of the first paper as functions: the uniform one, and the greedy one, also for a grid of alphas."""

from collections.abc import Callable, Sequence
from typing import Any

from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.soups.cooking import OnStep, cook
from soupviz.soups.soup import Soup
from soupviz.types import Alpha, Order, Progress, quiet

SWEEP_ALPHAS: tuple[Alpha, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def uniform(
    kitchen: Kitchen,
    members: Sequence[str] | None = None,
    *,
    batchnorm: str = "average",
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
    objective: str = "",
    shift_weight: float = 0.5,
    order: Order = "best",
    seed: int = 0,
    members: Sequence[str] | None = None,
    batchnorm: str = "average",
    progress: Progress = quiet,
    on_step: OnStep = lambda _step: None,
    complete: bool = False,
) -> Soup:
    """Greedy soup: start from the best on held_out, keep each candidate that is strictly better.

    Args:
        alpha: "mean" averages the accepted; a number in (0, 1] is the newcomer's weight.
        objective: what a candidate has to raise, or lower: a metric of the task ("accuracy", "loss"; default: the
            kitchen's), the kitchen's metric as its "mean_class", "worst_class", "mean_slice" or "worst_slice" value, or
            "with_shifts", the weighted sum of that on held_out and of the mean on the shifts. shift_weight: what the
            shifts count in that.
        order: "best" (first), "listed" (kitchen order) or "random" (shuffled with `seed`).
        members: the pool; default: all ingredients.
        complete: score rejected candidates whole too; otherwise each is given up once it provably cannot win, and
            its step has a bound instead of an accuracy. The decisions are the same.
    Raises:
        SoupError: an unknown member, an alpha out of range, or data that does not fit.
    Source:
        Wortsman et al. 2022, algorithm 1. Differs: strictly more, as in the authors' code.
    """
    values = {"method": "greedy", "alpha": alpha, "objective": objective, "order": order, "seed": seed}
    recipe = parse(values | {"shift_weight": shift_weight, "members": members, "batchnorm": batchnorm})
    return cook(kitchen, recipe, progress=progress, on_step=on_step, complete=complete)


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
