"""Which finished runs are soups of a kitchen as it is: found out once for each run, while the kitchen is open."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.soups.selecting import from_plain
from soupviz.soups.soup import ELSEWHERE, elsewhere_key, key_of, mix_in, pool_in
from soupviz.spec import HELD_OUT
from soupviz.store.parts import SCORES
from soupviz.store.runs import Run
from soupviz.tasks.score import Score

Identity = tuple[int, str, float]
"""Of a run as it was when it was looked at: its number, its key, and when it was last written."""

_found: "WeakKeyDictionary[Kitchen, dict[Identity, frozenset[str] | None]]" = WeakKeyDictionary()
"""What was found out of an open kitchen's runs: what its soup is mixed of, or that it is none; it goes with the
kitchen."""

_scores: "WeakKeyDictionary[Kitchen, dict[Identity, Score]]" = WeakKeyDictionary()
"""The same of their scores on held_out."""


def current(kitchen: Kitchen, runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that are finished, and of this kitchen as it is; no file is looked at twice.

    See `is_current`.
    """
    finished = [(run, names) for run in runs if run.status == "finished" and (names := _names_if_of(kitchen, run))]
    changed = _changed(kitchen, frozenset().union(*(names for _, names in finished)))
    return [run for run, names in finished if changed.isdisjoint(names)]


def is_current(kitchen: Kitchen, run: Run) -> bool:
    """Whether a finished run is of this kitchen as it is: ingredients that are still here, selected by this held_out.

    A soup selected on other data (held_out before it was split in two, say) may have been selected on today's test.
    """
    return bool(current(kitchen, [run]))


def _names_if_of(kitchen: Kitchen, run: Run) -> frozenset[str] | None:
    """What a run's soup is mixed of; None: it is none of this kitchen."""
    known = _found.setdefault(kitchen, {})
    identity = (run.id, run.key, run.updated)
    if identity not in known:
        known[identity] = frozenset(_names(run)) if _would_be_kept_under_its_key(kitchen, run) else None
    return known[identity]


def _would_be_kept_under_its_key(kitchen: Kitchen, run: Run) -> bool:
    assert run.result is not None
    try:
        for name in _names(run):
            kitchen.weights.resolve(name)
        key = key_of(kitchen, parse(run.recipe), run.recipe, pool_in(run))
        if ELSEWHERE in run.result.get("notes", {}):
            key = elsewhere_key(kitchen, key, mix_in(run), from_plain(run.result["selecting_data"]))
    except SoupError:
        return False
    return key == run.key


def _names(run: Run) -> list[str]:
    return [name for name, _ in mix_in(run)]


def on_held_out(kitchen: Kitchen, run: Run) -> Score:
    """The score of a finished run on the data that selected it, as it was kept with it."""
    known = _scores.setdefault(kitchen, {})
    identity = (run.id, run.key, run.updated)
    if identity not in known:
        assert run.result is not None
        known[identity] = kitchen.scores.recalled(run.result[SCORES][HELD_OUT], HELD_OUT)
    return known[identity]


def _changed(kitchen: Kitchen, names: Iterable[str]) -> set[str]:
    """Those whose files were written to since the kitchen was opened."""
    found = set()
    for name in names:
        try:
            kitchen.weights.resolve(name).check_unchanged()
        except SoupError:
            found.add(name)
    return found
