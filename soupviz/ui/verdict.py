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
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.store.runs import Run
from soupviz.tasks import paired, significance
from soupviz.tasks.figures import interval_of
from soupviz.tasks.metric import is_share
from soupviz.tasks.significance import chance
from soupviz.tasks.wording import axis_title, places, resampled, shown
from soupviz.ui import asking, charts, session, work
from soupviz.ui.formats import CHANCE, gap_format, in_unit, value_format
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
    st.write(f"**{verbatim(first)}**: {verbatim(rest)}" if rest else verbatim(found.sentence))
    if found.elsewhere:
        st.warning(verbatim(found.elsewhere))
    _metrics(opened, found)
    columns = _columns(opened, found)
    table = yardsticks(opened, found)
    st.dataframe(table, hide_index=True, placeholder="–", column_config=columns, alt="The soup and yardsticks")
    if rows := _differences(opened, found):
        charts.show(
            differences(rows, found.reports_on, opened.objective, of=opened.splits.num_examples(found.reports_on)),
            key=f"differences {run.key}",
            alt=f"Differences of the soup to its yardsticks on {found.reports_on}: {found.sentence}",
        )
    _score_missing(opened, run)
    st.caption(verbatim(found.looks))
    _optimism(opened, run, found)
    with st.expander("The figures behind the verdict"):
        _details(opened, found)


def _metrics(opened: Kitchen, found: Verdict) -> None:
    """The objective on every split with its interval, and the difference that counts."""
    task, metric = opened.task, opened.objective
    items = []
    for split, one in found.values.items():
        role = "selects" if one.selects else "reports"
        note = f"{wording.between(metric, one.low, one.high)} {metric.unit}".rstrip()
        title = f"{split.removeprefix(SHIFTS)} ({role})"
        interval = f"{interval_of(metric, one.grouped)} interval{resampled(one.grouped)}"
        meaning = f"{metric.label} on {split}, its 95 % {interval}"
        value = shown(metric, one.value, places(one.num_units))
        items.append((title, value, f"{note}, n{wording.TIGHT}={wording.TIGHT}{one.num_units:,}", _sentence(meaning)))
    told = found.best.differences.get(found.reports_on) if found.best else None
    if found.best is not None and told is not None:
        note, meaning = chance(told.p_value, told.is_least), f"On {found.reports_on}"
        if told.better is not None and told.worse is not None:
            note = f"+{told.better:,} {wording.MINUS}{told.worse:,}; {note}"
            meaning = f"{meaning}, {task.only('the soup')}, and {task.only(found.best.name)}"
        title = f"{found.reports_on}, against {found.best.name}"
        difference = f"{wording.apart(metric, told.difference)} {wording.measure(metric)}"
        tested = f"{meaning}; {wording.test_of(metric, told.grouped)}"
        items.append((title, difference, note, f"{tested}. {wording.direction(metric)}"))
    with st.container(horizontal=True):
        for title, value, note, meaning in items:
            st.metric(
                verbatim(title), value, verbatim(note), delta_color="off", delta_arrow="off", border=True,
                width=220, help=verbatim(meaning),
            )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(found: Verdict) -> list[tuple[str, str, Yardstick]]:
    """What the soup is held against: what it is called here, its kind, and its figures."""
    rows = [("best ingredient: ", "best", found.best), ("", "ensemble", found.ensemble), ("", "soup", found.uniform)]
    return [(f"{role}{one.name}", kind, one) for role, kind, one in rows if one is not None]


def yardsticks(opened: Kitchen, found: Verdict) -> pd.DataFrame:
    """One row for the soup and for each yardstick: the objective on held_out and on the split that reports."""
    metric = opened.objective
    splits = dict.fromkeys([HELD_OUT, found.reports_on])
    rows: list[dict[str, object]] = []
    for name, passes, values in [
        ("this soup", found.passes, found.values),
        *((name, one.passes, one.values) for name, _, one in _named(found)),
    ]:
        row: dict[str, object] = {"model": name}
        row |= {split: in_unit(metric, values[split].value) if split in values else None for split in splits}
        judged = values.get(found.reports_on)
        row["95 % interval"] = wording.between(metric, judged.low, judged.high) if judged else None
        rows.append(row | {"passes": passes})
    return pd.DataFrame(rows)


def _columns(opened: Kitchen, found: Verdict) -> dict[str, Any]:
    number, metric = st.column_config.NumberColumn, opened.objective
    reports, unit = found.reports_on, {"%": "percent"}.get(metric.unit, axis_title(metric))
    by = opened.splits.grouped(reports)

    def form(split: str) -> str:
        return value_format(metric, of=opened.splits.num_examples(split))

    return {
        "model": st.column_config.TextColumn("model", width=210),
        "held_out": number("held_out", format=form(HELD_OUT), help="the split that selects"),
        reports: number(reports, format=form(reports)),
        "95 % interval": st.column_config.TextColumn(
            f"interval on {reports}", help=f"95 % {interval_of(metric, by)} interval{resampled(by)}; {unit}"
        ),
        "passes": number("passes", help="forward passes for one answer"),
    }


def _differences(opened: Kitchen, found: Verdict) -> list[dict[str, object]]:
    """The soup less each yardstick on the split that reports, in the objective's unit."""
    rows: list[dict[str, object]] = []
    for name, kind, one in _named(found):
        if (told := one.differences.get(found.reports_on)) is not None:
            values = {"difference": told.difference, "low": told.low, "high": told.high}
            rows.append({"name": name, "kind": kind} | {k: in_unit(opened.objective, v) for k, v in values.items()})
    return rows


def _score_missing(opened: Kitchen, run: Run) -> None:
    """A button for the scores that the verdict lacks; from logits that are kept it starts by itself."""
    wanted = verdicts.wanted(opened, mix_in(run), aggregation_in(run))
    missing = lacking(opened, wanted)
    if not missing:
        return

    def score(job: Job) -> None:
        opened.scores.score_all(missing, job.progress)

    splits = " and ".join(dict.fromkeys(split for _, split, _ in missing))
    title = f"Score what is missing on {splits}"
    key = f"verdict {digest([list(one) for one in wanted])}"  # not of what is missing, which grows less as it runs
    asking.result(opened, key, title, lambda: cost(opened, missing), score, ahead=True)


def _optimism(opened: Kitchen, run: Run, found: Verdict) -> None:
    """The cross-fitted estimate, or the button that makes it."""
    st.write(verbatim(found.optimism))
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


def _details(opened: Kitchen, found: Verdict) -> None:
    """Paired counts on every split, whether splits are large enough, the two halves, and what the words mean."""
    task, metric, by = opened.task, opened.objective, opened.splits.grouped_over(opened.splits.reporting)
    gained, lost = task.gains
    if found.best is not None and found.best.differences:
        of = max(one.num_units for one in found.best.differences.values())
        number = st.column_config.NumberColumn
        st.dataframe(
            pd.DataFrame(
                {
                    "split": f"{split} ({'selects' if split in found.selected_on else 'reports'})",
                    f"{task.unit}s": one.num_units,
                    gained: one.better,
                    lost: one.worse,
                    "difference": in_unit(metric, one.difference),
                    "between": f"{wording.apart(metric, one.low)} and {wording.apart(metric, one.high)}",
                    "p": one.p_value,
                    "shows from": in_unit(metric, one.smallest),
                }
                for split, one in found.best.differences.items()
            ).drop(columns=[] if task.judges_units else list(task.gains)),
            hide_index=True,
            placeholder="–",
            column_config={
                gained: number(gained, help=task.only("the soup")),
                lost: number(lost, help=task.only(found.best.name)),
                "difference": number("difference", format=gap_format(metric, of=of), help=wording.measure(metric)),
                "p": number("p", format=CHANCE, width=95, help=wording.test_of(metric, by)),
                "shows from": number(
                    "shows from", format=gap_format(metric, of=of).replace("+", ""), help=wording.measure(metric)
                ),
            },
            alt=f"Paired counts against {found.best.name} by split",
        )
    for sentence in found.sizes:
        st.write(f"- {verbatim(sentence)}")
    if found.crossfit is not None:
        _halves(opened, found.crossfit)
    if is_share(metric) and by is None:
        how, draws = "McNemar's exact test", significance.DRAWS
        power = ", for models that disagree as often as these two (Connor 1987)"
    else:
        each = by.column if by else task.unit
        how = f"a permutation test, which swaps the two models' answers {each} by {each}"
        draws = paired.DRAWS
        power = ", for models that differ as these two do"
    together = "The ensemble of all ingredients shows what they know together, at the cost of all their passes."
    told = " ".join(filter(None, [wording.direction(metric), together if found.ensemble else ""]))
    st.caption(
        f"Values have 95 % {interval_of(metric, by)} intervals; differences are paired, with a 95 % bootstrap "
        f"interval over the {task.unit}s{resampled(by)} ({draws:,} draws, seeded) and {how}. A difference "
        f"shows when the test finds it at the 5 % level four times in five{power}. {told}"
    )


def _halves(opened: Kitchen, found: crossfit.CrossFit) -> None:
    """What was found on either half of held_out, and against the best ingredient there."""
    task, metric = opened.task, opened.objective
    fixes, breaks = task.verbs
    number = wording.units(task, found.num_units)
    counted = f"on {number}, "
    if found.better is not None and found.worse is not None:
        counted = f"{fixes} {found.better:,}, {breaks} {found.worse:,} of {number}, "
    st.write(
        f"- Cross-fitted on held_out, each soup against the ingredient that was best on the same half: {counted}"
        f"{wording.apart(metric, found.difference)} {wording.measure(metric)}, between "
        f"{wording.apart(metric, found.low)} and {wording.apart(metric, found.high)}"
        f"{resampled(opened.splits.grouped(HELD_OUT))}; {chance(found.p_value, found.is_least)}."
    )
    st.dataframe(
        pd.DataFrame(
            {
                "selected on": f"half {number} of held_out ({half.num_selecting:,})",
                "the half that selected": in_unit(metric, half.selecting),
                "the other half": in_unit(metric, half.judging),
                "best ingredient there": half.best,
                "its other half": in_unit(metric, half.best_judging),
                "soup": half.made_of,
            }
            for number, half in enumerate(found.halves, start=1)
        ),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(name, format=value_format(metric, of=found.num_units // 2))
            for name in ("the half that selected", "the other half", "its other half")
        },
        alt="The two searches of the cross-fit",
    )
