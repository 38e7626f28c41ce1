"""A soup and its rival on parts of units, where a task tells of such: a detector's classes, objects of a size."""

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.pictures import parts as pictures
from soupviz.tasks.wording import hint, titled
from soupviz.ui import charts
from soupviz.ui.diversity.match import Match
from soupviz.ui.verbatim import verbatim


def draw(opened: Kitchen, match: Match) -> bool:
    """A picture for each kind of part, side by side; whether there is any."""
    new, old = (opened.task.parts(score, match.classes) for score in (match.new, match.old))
    there = {(one.kind, one.name) for one in new} & {(one.kind, one.name) for one in old}
    kinds = list(dict.fromkeys(one.kind for one in new))
    if not there:
        return False
    metric = opened.task.metrics[0]
    for kind, place in zip(kinds, st.columns(len(kinds)), strict=True):
        soup, rival = ([one for one in told if one.kind == kind and (kind, one.name) in there] for told in (new, old))
        place.header(f"{titled(metric)} by {verbatim(kind)}")
        known = [one for one, other in zip(soup, rival, strict=True) if None not in (one.value, other.value)]
        some = f", the {pictures.SHOWN} of {len(known)} that differ most" if len(known) > pictures.SHOWN else ""
        charts.show(
            pictures.parts(soup, rival, metric),
            key=f"{kind} {match.split.name}",
            alt=f"{titled(metric)} by {kind} on {match.split.name} of soup and rival{some}",
            place=place,
        )
        place.caption(f"On {verbatim(match.split.name)}{some}; in brackets how many objects there are{hint(metric)}.")
    return True
