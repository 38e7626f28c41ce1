"""The verdict on a soup: one panel, the same wherever a soup is shown."""

from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import crossfit, verdicts, wording
from soupviz.analysis.verdicts import Verdict, Yardstick
from soupviz.errors import SoupError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.pictures.verdict import differences
from soupviz.soups.planning import cost, lacking
from soupviz.soups.soup import mix_in, treatment_in
from soupviz.store.runs import Run
from soupviz.tasks.metrics import chance
from soupviz.types import part_of
from soupviz.ui import asking, charts, session, work
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim


def draw(opened: Kitchen, run: Run) -> None:
    """Whether a finished soup is really better: a sentence, then its figures, then what more could be asked.

    Args:
        opened: whose held_out was read. run: finished, and of this kitchen as it is.
    """
    reading = work.find_read_job(opened)
    if reading is not None and session.watch(reading):  # a split that is not read yet would seem not to be scored
        return
    found = verdicts.verdict_of(opened, run)
    st.header("Verdict")
    first, _, rest = found.sentence.partition(": ")
    st.write(f"**{first}**: {rest}" if rest else found.sentence)
    if found.elsewhere:
        st.warning(verbatim(found.elsewhere))
    _metrics(found)
    rows = yardsticks(found)
    st.dataframe(rows, hide_index=True, placeholder="–", column_config=_columns(found), alt="The soup and yardsticks")
    if shown := _differences(found):
        charts.show(
            differences(shown, found.reports_on),
            key=f"differences {run.key}",
            alt=f"Differences of the soup to its yardsticks on {found.reports_on}: {found.sentence}",
        )
    _score_missing(opened, run)
    st.caption(found.looks)
    _optimism(opened, run, found)
    with st.expander("The figures behind the verdict"):
        _details(found)


def _metrics(found: Verdict) -> None:
    """Accuracy on every split with its interval, and the difference that counts."""
    items = []
    for split, one in found.accuracies.items():
        role = "selects" if one.selects else "reports"
        note = f"{100 * one.low:.1f} to {100 * one.high:.1f} %, n = {one.num_examples:,}"
        title = f"{split.removeprefix('shifts.')} ({role})"
        items.append((title, f"{100 * one.accuracy:.2f} %", note, f"Accuracy on {split}, its 95 % Wilson interval"))
    told = found.best.differences.get(found.reports_on) if found.best else None
    if found.best is not None and told is not None:
        note = f"+{told.fixed:,} {wording.MINUS}{told.broken:,}; {chance(told.p_value)}"
        meaning = f"Examples of {found.reports_on} that only the soup, and that only {found.best.name} has right"
        title = f"{found.reports_on}, against {found.best.name}"
        items.append((title, f"{wording.points(told.difference)} points", note, f"{meaning}; exact McNemar test"))
    with st.container(horizontal=True):
        for title, value, note, meaning in items:
            st.metric(title, value, note, delta_color="off", delta_arrow="off", border=True, width=220, help=meaning)


def _named(found: Verdict) -> list[tuple[str, str, Yardstick]]:
    """What the soup is held against: what it is called here, its kind, and its figures."""
    rows = [("best ingredient", "best", found.best)]
    rows += [("ceiling", "ensemble", found.ceiling), ("floor", "soup", found.floor)]
    return [(f"{role}: {one.name}", kind, one) for role, kind, one in rows if one is not None]


def yardsticks(found: Verdict) -> pd.DataFrame:
    """One row for the soup and for each yardstick: accuracies in percent on held_out and on the split that reports."""
    splits = dict.fromkeys(["held_out", found.reports_on])
    rows: list[dict[str, object]] = []
    for name, passes, accuracies in [
        ("this soup", found.passes, found.accuracies),
        *((name, one.passes, one.accuracies) for name, _, one in _named(found)),
    ]:
        row: dict[str, object] = {"model": name}
        row |= {split: 100 * accuracies[split].accuracy if split in accuracies else None for split in splits}
        judged = accuracies.get(found.reports_on)
        row["95 % interval"] = f"{100 * judged.low:.1f} to {100 * judged.high:.1f}" if judged else None
        rows.append(row | {"passes": passes})
    return pd.DataFrame(rows)


def _columns(found: Verdict) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    reports = found.reports_on
    return {
        "model": st.column_config.TextColumn("model", width=210),
        "held_out": number("held_out", format="%.2f %%", help="the split that selects"),
        reports: number(reports, format="%.2f %%"),
        "95 % interval": st.column_config.TextColumn(f"interval on {reports}", help="95 % Wilson interval, percent"),
        "passes": number("passes", help="forward passes for one answer"),
    }


def _differences(found: Verdict) -> list[dict[str, object]]:
    """The soup less each yardstick on the split that reports, in points."""
    shown: list[dict[str, object]] = []
    for name, kind, one in _named(found):
        if (told := one.differences.get(found.reports_on)) is not None:
            values = {"difference": told.difference, "low": told.low, "high": told.high}
            shown.append({"name": name, "kind": kind} | {key: 100 * value for key, value in values.items()})
    return shown


def _score_missing(opened: Kitchen, run: Run) -> None:
    """A button for the scores that the verdict lacks; from logits that are kept it starts by itself."""
    mix, treatment = mix_in(run), treatment_in(run)
    missing = lacking(opened, verdicts.wanted(opened, mix, treatment))
    if not missing:
        return

    def score(job: Job) -> None:
        for index, (wanted, split, how) in enumerate(missing):
            opened.scores.score(wanted, split, how, part_of(job.progress, index, len(missing)))

    splits = " and ".join(dict.fromkeys(split for _, split, _ in missing))
    title = f"Score what is missing on {splits}"
    key = f"verdict {digest([list(one) for one in missing])}"
    asking.result(opened, key, title, lambda: cost(opened, missing), score, ahead=True)


def _optimism(opened: Kitchen, run: Run, found: Verdict) -> None:
    """The cross-fitted estimate, or the button that makes it."""
    st.write(found.optimism)
    if found.crossfit is not None:
        return
    recipe = crossfit.recipe_in(opened, run)
    try:
        crossfit.check(opened, recipe)
    except SoupError as error:
        st.caption(verbatim(str(error)))
        return

    def estimate(job: Job) -> None:
        crossfit.crossfit(opened, recipe, progress=job.progress)

    beside = ", beside what the recipe learns" if recipe.trains else ""
    st.caption(
        "Cross-fitting searches on one half of held_out and scores the soup on the other, both ways. What it takes at "
        f"most{beside}:"
    )
    key = f"crossfit {crossfit.finding_key(opened, recipe)}"
    asking.result(opened, key, "Cross-fit", lambda: crossfit.cost(opened, recipe), estimate)


def _details(found: Verdict) -> None:
    """Paired counts on every split, whether splits are large enough, the two halves, and what the words mean."""
    if found.best is not None and found.best.differences:
        st.dataframe(
            pd.DataFrame(
                {
                    "split": f"{split} ({'selects' if split in found.selected_on else 'reports'})",
                    "examples": one.num_examples,
                    "fixed": one.fixed,
                    "broken": one.broken,
                    "difference": 100 * one.difference,
                    "between": f"{wording.points(one.low)} and {wording.points(one.high)}",
                    "p": one.p_value,
                    "shows from": None if one.smallest is None else 100 * one.smallest,
                }
                for split, one in found.best.differences.items()
            ),
            hide_index=True,
            placeholder="–",
            column_config={
                "fixed": st.column_config.NumberColumn("fixed", help="examples that only the soup has right"),
                "broken": st.column_config.NumberColumn("broken", help=f"that only {found.best.name} has right"),
                "difference": st.column_config.NumberColumn("difference", format="%+.2f", help="points"),
                "p": st.column_config.NumberColumn("p", format="%.3f", help="exact McNemar test"),
                "shows from": st.column_config.NumberColumn("shows from", format="%.2f", help="points"),
            },
            alt=f"Paired counts against {found.best.name} by split",
        )
    for sentence in found.sizes:
        st.write(f"- {sentence}")
    if found.crossfit is not None:
        _halves(found.crossfit)
    st.caption(
        "Accuracies have 95 % Wilson intervals; differences are paired, with a 95 % bootstrap interval over the "
        "examples (10,000 draws, seeded) and McNemar's exact test. A difference shows when the test finds it at the "
        "5 % level four times in five, for models that disagree as often as these two (Connor 1987). The ensemble of "
        "all ingredients is the ceiling: what they know together, at the cost of all their passes."
    )


def _halves(found: crossfit.CrossFit) -> None:
    """What was found on either half of held_out, and against the best ingredient there."""
    st.write(
        f"- Cross-fitted on held_out, each soup against the ingredient that was best on the same half: fixes "
        f"{found.fixed:,}, breaks {found.broken:,} of {found.num_examples:,} examples, "
        f"{wording.points(found.difference)} points, between {wording.points(found.low)} and "
        f"{wording.points(found.high)}; {chance(found.p_value)}."
    )
    st.dataframe(
        pd.DataFrame(
            {
                "selected on": f"half {number} of held_out ({half.num_selecting:,})",
                "the half that selected": 100 * half.selecting / half.num_selecting,
                "the other half": 100 * half.judging / half.num_judging,
                "best ingredient there": half.best,
                "its other half": 100 * half.best_judging / half.num_judging,
                "soup": half.made_of,
            }
            for number, half in enumerate(found.halves, start=1)
        ),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(name, format="%.2f %%")
            for name in ("the half that selected", "the other half", "its other half")
        },
        alt="The two searches of the cross-fit",
    )
