"""Comparisons and intervals of what a kitchen has scored: each is made once, and kept beside the scores."""

from collections.abc import Iterable
from dataclasses import asdict

from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.soups.planning import is_readable, known, summaries
from soupviz.tasks.figures import interval
from soupviz.tasks.metric import is_share
from soupviz.tasks.paired import LIST_DRAWS, Comparison, Pair, compare, pair
from soupviz.tasks.score import Score
from soupviz.types import Progress, Wanted, quiet

VERSION = 3
"""Of what is kept here; another version makes old ones unfindable."""

Interval = tuple[float, float]


def paired(
    kitchen: Kitchen, wanted: Iterable[Wanted], rival: Wanted, *, most: int | None = None, progress: Progress = quiet
) -> dict[Wanted, Pair]:
    """Each of the scores that are known against a known one on the same split, under the objective.

    The units of two are looked at once: of many pairs the counts and the p-value are kept, and no unit is read again.

    Args:
        most: of so many pairs at most the units are looked at; others that are not kept yet are left out.
    """
    keys = {one: _key(kitchen, "pair", one, rival) for one in dict.fromkeys(wanted) if _is_there(kitchen, one)}
    kept = {key: Pair(*values) for key, values in kitchen.store.findings(keys.values()).items()}
    new: dict[str, Pair] = {}
    missing = [one for one, key in keys.items() if key not in kept][:most]
    old = known(kitchen, *rival) if missing else None
    for index, one in enumerate(missing):
        progress(index, len(missing), "comparing on the same units")
        score = known(kitchen, *one)
        if score is not None and old is not None:
            new[keys[one]] = pair(kitchen.task, kitchen.objective, score, old, draws=LIST_DRAWS)
            kitchen.store.keep_findings({keys[one]: new[keys[one]]})  # what is cancelled goes on from here
    found = kept | new
    return {one: found[key] for one, key in keys.items() if key in found}


def compared(kitchen: Kitchen, new: Wanted, old: Wanted) -> Comparison | None:
    """One score with another on the same split, under the objective; None where one of them is not known."""
    if not _is_there(kitchen, new) or len(summaries(kitchen, [new, old])) < len({new, old}):
        return None
    key = _key(kitchen, "comparison", new, old)
    if kept := kitchen.store.finding(key):
        return Comparison.from_plain(kept)
    score, rival = known(kitchen, *new), known(kitchen, *old)
    assert score is not None and rival is not None  # their summaries are
    found = compare(kitchen.task, kitchen.objective, score, rival)
    kitchen.store.keep_finding(key, asdict(found))
    return found


def intervals(kitchen: Kitchen, scores: dict[Wanted, Score]) -> dict[Wanted, Interval]:
    """The 95 % interval of each known score under the objective, where it has one."""
    metric = kitchen.objective
    alone = {one: score for one, score in scores.items() if is_share(metric) and not score.grouped}  # no unit is needed
    counted = {one: found for one, score in alone.items() if (found := interval(metric, score))}
    keys = {one: _key(kitchen, "normal interval", one) for one in scores if one not in alone}
    kept: dict[str, Interval | None] = kitchen.store.findings(keys.values())
    new: dict[str, Interval | None] = {}
    for one, key in keys.items():
        if key not in kept and (score := known(kitchen, *one)) is not None:
            new[key] = interval(metric, score)
    kitchen.store.keep_findings(new)
    every = kept | new
    return counted | {one: (around[0], around[1]) for one, key in keys.items() if (around := every.get(key))}


def _is_there(kitchen: Kitchen, one: Wanted) -> bool:
    return one[1] in kitchen.splits.names and is_readable(kitchen, *one[1:])


def _key(kitchen: Kitchen, what: str, *scores: Wanted) -> str:
    splits = dict.fromkeys(split for _, split, _ in scores)
    groups = [key for split in splits if (key := kitchen.splits.load(split).group_key)]
    return digest([what, VERSION, kitchen.objective.name, *(kitchen.scores.key(*one) for one in scores), *groups])
