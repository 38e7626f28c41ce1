"""What there is to tell of how the data was read, and how the models would do if its classes had another order."""

from collections.abc import Sequence

import numpy as np

from soupviz.data.classes import named
from soupviz.data.split import Split
from soupviz.kitchen import Kitchen
from soupviz.spec import HELD_OUT
from soupviz.tasks.wording import in_percent, places


def notes_of(kitchen: Kitchen) -> list[str]:
    """Sentences about the splits that were read in this process; nothing is read or computed for them."""
    splits = [kitchen.splits.load(name) for name in kitchen.splits.names if kitchen.splits.is_loaded(name)]
    notes = [note for split in splits for note in split.notes]
    notes += _about_answers(kitchen) if kitchen.splits.is_loaded(HELD_OUT) else []
    return notes + [_about_orders(kitchen, split) for split in splits if split.name == HELD_OUT and split.other_orders]


def _about_answers(kitchen: Kitchen) -> list[str]:
    """What may be wrong with the answers of ingredients, of those that are scored."""
    known = kitchen.scores.summaries([(((name, 1.0),), "average") for name in kitchen.names], HELD_OUT)
    found: dict[str, list[str]] = {}
    for name, score in zip(kitchen.names, known, strict=True):
        for remark in kitchen.task.remarks(score) if score else ():
            found.setdefault(remark, []).append(name)
    return [f"{named(names)}: {remark}." for remark, names in found.items()]


def best_under(kitchen: Kitchen, order: Sequence[str]) -> tuple[str, float] | None:
    """The best ingredient if the classes of held_out had this order, with its accuracy, of those that are scored.

    Args:
        order: the names of the classes.
    Returns:
        Its name and a fraction; None where none is scored yet.
    """
    split = kitchen.splits.load(HELD_OUT)
    assert split.classes is not None
    places = np.array([order.index(name) for name in split.classes])
    labels = places[split.labels.numpy()]
    found = {}
    for name in kitchen.names:
        score = kitchen.scores.known(((name, 1.0),), HELD_OUT)
        if score is not None and score.outcomes is not None:
            found[name] = float((score.outcomes["prediction"] == labels).mean())
    return max(found.items(), key=lambda item: item[1]) if found else None


def _about_orders(kitchen: Kitchen, split: Split) -> str:
    assert split.classes is not None
    orders = (split.classes, *split.other_orders)
    told = []
    for order in orders:
        best = best_under(kitchen, order)
        reached = f" (best ingredient {best[0]}: {in_percent(best[1], places(len(split)))} %)" if best else ""
        told.append(f"{_shown(order, orders)}{reached}")
    return (
        f"data.{split.name}: nothing says the order of the classes, whose names can be sorted in more than one way. "
        f"Here it is {told[0]}; it could be {' or '.join(told[1:])}. Write the right one as `classes:` in "
        f"{kitchen.file.name}."
    )


def _shown(order: Sequence[str], orders: Sequence[Sequence[str]]) -> str:
    """An order around the first place where some of them differ."""
    first = next(place for place, names in enumerate(zip(*orders, strict=True)) if len(set(names)) > 1)
    start = max(0, first - 2)
    return f"{'…, ' if start else ''}{', '.join(order[start : first + 2])}{', …' if first + 2 < len(order) else ''}"
