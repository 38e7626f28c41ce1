"""Two numeric parameters of one recipe against each other: every cell of the grid is a soup of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from soupviz.analysis.parameters import COUNT, Parameter, numeric_parameters
from soupviz.errors import RecipeError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import check_batchnorm
from soupviz.recipes import MENU, Pooled, Recipe, parse
from soupviz.recipes.overtime import step_in
from soupviz.soups.cooking import cook
from soupviz.soups.needs import lacking_for
from soupviz.soups.planning import Cost, cost_of_all, ingredient_summaries
from soupviz.soups.soup import run_key
from soupviz.spec import HELD_OUT
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.types import Progress, Wanted, quiet

MOST_CELLS = 400
USUAL = 5
"""Values of an axis, at first."""

GRID_RUNS = "runs that only a grid asked for"


@dataclass(frozen=True, slots=True)
class Grid:
    """What is varied, and what stays.

    method: the recipe. x, y: the names of two of its numeric parameters, or `number of ingredients`. xs, ys: their
    values, rising. fixed: the recipe's other parameters. pool: names that the number of ingredients is taken from.
    """

    method: str
    x: str
    y: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    fixed: Mapping[str, Any]
    pool: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a grid: a recipe, or why there is none."""

    column: int
    row: int
    x: float
    y: float
    recipe: Recipe | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell. run: the key of its run; values: of the objective, by split. Else the reason for none."""

    column: int
    row: int
    run: str = ""
    values: Mapping[str, float | None] | None = None
    reason: str = ""


def offered(kitchen: Kitchen) -> dict[str, list[Parameter]]:
    """The recipes that this kitchen has what they need for, and that have two axes; each with its axes."""
    found = {}
    for method, kind in MENU.items():
        axes = axes_of(kitchen, kind)
        if len(axes) > 1 and not lacking_for(kitchen, kind.requires):
            found[method] = axes
    return found


def axes_of(kitchen: Kitchen, kind: type[Pooled]) -> list[Parameter]:
    """What of a recipe can be an axis here: its numeric parameters, and how many of the best ingredients it gets."""
    possible = [
        replace(one, usual=_in_run(kitchen, one.of)) if one.of else one
        for one in numeric_parameters(kind)
        if not (one.name == "shift_weight" and lacking_for(kitchen, {"shifts"}))
    ]
    count = Parameter(COUNT, int, 1, len(kitchen.names), None, "the best on held_out are taken")
    return [*possible, count] if len(kitchen.names) > 1 else possible


def _in_run(kitchen: Kitchen, of: str) -> tuple[float, ...]:
    """Some of the steps of a run's checkpoints, from the first to the last; of spans, how far each lies before it."""
    try:
        steps = sorted({step_in(item.name, item.metadata) for item in kitchen.ingredients})
    except RecipeError:  # they are of no run, which cooking says
        return ()
    found = [steps[-1] - step for step in steps[-2::-1]] if of == "spans" else steps
    number = min(len(found), USUAL)
    places = [round(place * (len(found) - 1) / max(1, number - 1)) for place in range(number)]
    return tuple(found[place] for place in places) if number > 1 else ()


def check(grid: Grid) -> None:
    """Refuse a grid that is none.

    Raises:
        RecipeError: twice the same parameter, one that the recipe lacks, or too many cells.
    """
    if grid.x == grid.y:
        raise RecipeError(f"both axes are {grid.x!r}; expected two different parameters of {grid.method}.")
    known = [COUNT, *(one.name for one in numeric_parameters(MENU[grid.method]))]
    if unknown := [name for name in (grid.x, grid.y) if name not in known]:
        raise RecipeError(f"{grid.method} has no numeric {unknown[0]!r}; it has {', '.join(known)}.")
    if (cells := len(grid.xs) * len(grid.ys)) > MOST_CELLS:
        raise RecipeError(f"a grid of {cells} cells; expected at most {MOST_CELLS}. Take fewer values on an axis.")


def order(num_columns: int, num_rows: int) -> list[tuple[int, int]]:
    """Every (column, row) once, coarse to fine: the corners, then what halves the gaps between what is there."""
    columns, rows = _levels(num_columns), _levels(num_rows)
    cells = [(column, row) for row in range(num_rows) for column in range(num_columns)]
    return sorted(cells, key=lambda cell: max(columns[cell[0]], rows[cell[1]]))


def _levels(count: int) -> list[int]:
    """How often gaps were halved until an index is reached; 0 for both ends."""
    levels = [0] * count
    gaps, level = [(0, count - 1)], 0
    while gaps:
        level += 1
        halves = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                levels[middle] = level
                halves += [(low, middle), (middle, high)]
        gaps = halves
    return levels


def ranked(kitchen: Kitchen, pool: Sequence[str]) -> list[str] | None:
    """The pool, the best on held_out first, ties in kitchen order; None while one of them is not scored."""
    scores = ingredient_summaries(kitchen, HELD_OUT, pool)
    objective = Objective(kitchen.objective)
    if len(scores) < len(pool):
        return None
    return objective.best_first({name: scores[name] for name in pool})


def cells(kitchen: Kitchen, grid: Grid) -> list[Cell]:
    """The cells, coarse to fine. Until every ingredient of the pool is scored, the k best are the k first.

    Raises:
        RecipeError: of `check`.
    """
    check(grid)
    best = (ranked(kitchen, grid.pool) if COUNT in (grid.x, grid.y) else None) or list(grid.pool)
    return [_cell(kitchen, grid, best, column, row) for column, row in order(len(grid.xs), len(grid.ys))]


def _cell(kitchen: Kitchen, grid: Grid, best: Sequence[str], column: int, row: int) -> Cell:
    x, y = grid.xs[column], grid.ys[row]
    values: dict[str, Any] = {"method": grid.method} | dict(grid.fixed)
    members = list(grid.pool)
    for name, value in ((grid.x, x), (grid.y, y)):
        if name != COUNT:
            values[name] = value
        elif not 1 <= value <= len(best):
            return Cell(column, row, x, y, None, f"{value:g} ingredients: the pool has {len(best)}")
        else:
            members = [member for member in grid.pool if member in best[: int(value)]]
    # All of them is what the Soup page calls no choice at all, and so the same run.
    values["members"] = None if set(members) == set(kitchen.names) else tuple(members)
    try:
        recipe = parse(values)
        check_batchnorm(recipe.batchnorm)
        reason = lacking_for(kitchen, recipe.needs)
    except SoupError as error:
        return Cell(column, row, x, y, None, str(error))
    return Cell(column, row, x, y, None if reason else recipe, reason)


def known(kitchen: Kitchen, cell: Cell) -> Outcome | None:
    """What a cell's kept run has; None where it has to be cooked. Nothing is computed."""
    if cell.recipe is None:
        return Outcome(cell.column, cell.row, reason=cell.reason)
    run = kitchen.store.run(run_key(kitchen, cell.recipe))
    if run is not None and run.status == "failed" and run.error:
        return Outcome(cell.column, cell.row, reason=run.error)
    if run is None or run.status != "finished" or run.result is None:
        return None
    scores = run.result["scores"]
    if not set(kitchen.splits.reporting) <= set(scores):
        return None
    found = {split: kitchen.scores.recalled(one, split) for split, one in scores.items()}
    return Outcome(cell.column, cell.row, run.key, _values(kitchen, found))


def _values(kitchen: Kitchen, scores: Mapping[str, Score]) -> dict[str, float | None]:
    return {split: score.whole(kitchen.objective) for split, score in scores.items()}


def best_of(kitchen: Kitchen, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The cell that is best on held_out; of equals the first that was cooked."""
    sign = 1 if kitchen.objective.higher_is_better else -1
    cooked = [(value, one) for one in outcomes if (value := (one.values or {}).get(HELD_OUT)) is not None]
    return max(cooked, key=lambda pair: sign * pair[0], default=(0.0, None))[1]


def cost_of(kitchen: Kitchen, grid: Grid, waiting: Sequence[Cell]) -> Cost:
    """What cooking these cells takes at most: single scores that they share count once; further sharing makes it less.

    Args:
        waiting: of the grid's cells, those that have no outcome yet.
    """
    names = grid.pool if COUNT in (grid.x, grid.y) else ()
    counted: list[Wanted] = [(((name, 1.0),), HELD_OUT, "average") for name in names]
    return cost_of_all(kitchen, (cell.recipe for cell in waiting if cell.recipe is not None), counted)


def cook_grid(
    kitchen: Kitchen,
    grid: Grid,
    *,
    progress: Progress = quiet,
    on_cell: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Cook every cell, coarse to fine. Each is a run of its own: what is there already costs nothing, now or later.

    Args:
        on_cell: told of each cell when it is known, those that were kept before first.
    Raises:
        RecipeError: of `check`. Cancelled: from the progress callback; what is finished stays.
    """
    if COUNT in (grid.x, grid.y):
        kitchen.scores.of_ingredients(HELD_OUT, list(grid.pool), progress)
    planned = cells(kitchen, grid)
    outcomes = {(cell.column, cell.row): known(kitchen, cell) for cell in planned}
    for outcome in filter(None, outcomes.values()):
        on_cell(outcome)
    for index, cell in enumerate(planned):
        if outcomes[cell.column, cell.row] is None:
            outcome = _cook(kitchen, cell, _within(progress, index, len(planned)))
            outcomes[cell.column, cell.row] = outcome
            on_cell(outcome)
    return [outcome for outcome in outcomes.values() if outcome is not None]


def _within(progress: Progress, index: int, count: int) -> Progress:
    def told(done: int, total: int, what: str) -> None:
        progress(index * total + done, count * total, f"cell {index + 1} of {count}, {what}")

    return told


def _cook(kitchen: Kitchen, cell: Cell, progress: Progress) -> Outcome:
    assert cell.recipe is not None
    key = run_key(kitchen, cell.recipe)
    is_new = kitchen.store.run(key) is None
    try:
        soup = cook(kitchen, cell.recipe, progress=progress)
    except SoupError as error:  # of this cell: too many ingredients for a search over subsets, one where two are needed
        return Outcome(cell.column, cell.row, reason=str(error))
    finally:
        if is_new:
            mark(kitchen, key)
    return Outcome(cell.column, cell.row, soup.key, _values(kitchen, soup.scores))


def mark(kitchen: Kitchen, *keys: str) -> None:
    """Note that only a grid, a comparison or a sweep ahead asked for runs: lists of soups can leave them out."""
    marked = kitchen.store.finding(GRID_RUNS) or []
    kitchen.store.keep_finding(GRID_RUNS, [*dict.fromkeys([*marked, *keys])])


def unmark(kitchen: Kitchen, *keys: str) -> None:
    """Note that the user took soups up that others had asked for: they are soups like any other."""
    marked = kitchen.store.finding(GRID_RUNS) or []
    if not {*keys}.isdisjoint(marked):
        kitchen.store.keep_finding(GRID_RUNS, [other for other in marked if other not in keys])


def only_in_grids(kitchen: Kitchen) -> frozenset[str]:
    """The keys of the runs that only a grid asked for."""
    return frozenset(kitchen.store.finding(GRID_RUNS) or [])
