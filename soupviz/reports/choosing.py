"""Which soup a report is about, by what its user says."""

from soupviz.analysis.history import best_of
from soupviz.errors import KitchenError
from soupviz.kitchen import Kitchen
from soupviz.soups.soup import Soup, recall
from soupviz.soups.standing import current
from soupviz.store.runs import Run


def chosen(kitchen: Kitchen, name: str | None = None) -> Soup:
    """A finished soup of this kitchen as it is, by its number, its name, or the start of its key.

    Args:
        name: default: the best on held_out, of equals the one that was cooked first.
    Raises:
        KitchenError: there is no soup, none that is called so, or several that are.
    """
    runs = current(kitchen, kitchen.store.runs())
    if not runs:
        raise KitchenError(
            f"{kitchen.file}: no soup was cooked here, of the ingredients and data as they are; cook one first, with "
            "`python -m soupviz soup` or on the Soup page."
        )
    if name is None:
        best = best_of(kitchen, runs)
        assert best is not None  # there are runs
        return recall(kitchen, best)
    found = _called(runs, name)
    if not found:
        known = ", ".join(f"{run.id}: {run.name}" for run in runs)
        raise KitchenError(
            f"{kitchen.file}: no soup {name!r}; expected a number, a name or the start of a key: {known}."
        )
    if len(found) > 1:
        several = ", ".join(f"{run.id} ({run.key[:8]})" for run in found)
        raise KitchenError(
            f"{kitchen.file}: {len(found)} soups are called {name!r}: {several}; give the number of one."
        )
    return recall(kitchen, found[0])


def _called(runs: list[Run], name: str) -> list[Run]:
    """By number, else by name, else by the start of a key: a name may look like a key."""
    for fits in (
        lambda run: str(run.id) == name,
        lambda run: name in (run.name, run.title),
        lambda run: len(name) >= 4 and run.key.startswith(name),
    ):
        if found := [run for run in runs if fits(run)]:
            return found
    return []
