"""The Compare page without a kitchen: models by what the language model evaluation harness logged of each document."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import wording
from soupviz.analysis.samples import Column, Samples, read_samples, sample_files
from soupviz.analysis.score_tables import kind_by_words
from soupviz.analysis.standings import Standing, standings
from soupviz.errors import DataError, SoupError
from soupviz.pictures import models
from soupviz.pictures.models import MODEL
from soupviz.ui import charts, tables, workspace
from soupviz.ui.formats import CHANCE, gap_format, in_unit, value_format
from soupviz.ui.verbatim import verbatim

KITCHEN, LOGGED = "this kitchen", "samples of lm-eval"
TOLD = (
    "What `lm_eval --log_samples --output_path FOLDER` writes: in FOLDER a folder for each model, and in it "
    "`samples_TASK_DATE.jsonl` for each task. Models are compared document by document."
)


def choose() -> Samples | None:
    """What lies in a folder below those that the dashboard was started with; None before there is one."""
    typed = st.text_input(
        "Folder", key="samples", bind="query-params", placeholder="results",
        help=f"Below {', '.join(map(str, workspace.roots()))}.",
    )  # fmt: skip
    st.caption(TOLD)
    if not typed:
        return None
    try:
        place = workspace.allowed(Path(typed))
        files = tuple(workspace.allowed(path) for path in sample_files(place))
        if not files:
            raise DataError(
                f"{place}: no samples_TASK_DATE.jsonl in this folder or in folders of it; give the folder that "
                "lm_eval was given with --output_path."
            )
        found = _read(files, tuple(path.stat().st_mtime_ns for path in files))
    except (SoupError, OSError) as error:
        st.error(verbatim(str(error)))
        return None
    if found.notes:
        st.caption(verbatim(" ".join(found.notes)))
    return found


@st.cache_resource(max_entries=2, show_spinner="Reading what was logged of each document")
def _read(files: tuple[Path, ...], _times: tuple[int, ...]) -> Samples:
    return read_samples(files)


def draw(samples: Samples) -> None:
    """Every model on every task, then one metric: values with intervals, and each model against a rival."""
    st.dataframe(
        _overview(samples),
        hide_index=True,
        column_config={"model": st.column_config.TextColumn("model", pinned=True)}
        | {
            one.name: st.column_config.NumberColumn(format=value_format(one.metric, of=one.num_documents))
            for one in samples.columns
        },
        placeholder="–",
        alt="Every model with the mean of each metric of each task",
    )
    row = st.container(horizontal=True, vertical_alignment="bottom")
    by_name = {one.name: one for one in samples.columns}
    chosen = by_name[row.selectbox("Metric", list(by_name), key="metric_of_samples", bind="query-params", width=310)]
    rivals = list(chosen.outcomes)
    first = _best(chosen)
    rival = row.selectbox(
        "Against", rivals, rivals.index(first), key=f"rival {tables.digest(rivals)} {first}", width=310
    )
    rows = standings(chosen, rival)
    st.dataframe(
        _table(rows, chosen),
        hide_index=True,
        column_config=_columns(chosen),
        placeholder="–",
        alt=f"Every model with its {chosen.name} and the verdict against {rival}",
    )
    st.caption(_told(chosen, rival, len(rows) - 1))
    shown = [
        {
            "id": one.model,
            "name": one.model,
            "kind": kind_by_words(one.model),
            "value": one.value,
            "low": low,
            "high": high,
        }
        for one in rows
        if one.value is not None and one.between is not None
        for low, high in [one.between]
    ]
    if shown:
        charts.show(
            models.intervals(shown, chosen.task, chosen.metric, {rival}, of=chosen.num_documents),
            key=f"samples {tables.digest([chosen.name, *rivals])}",
            alt=f"{chosen.name} of every model with intervals",
            clicked=MODEL,
        )


def _best(column: Column) -> str:
    """The best of those that are no soups, else of all."""
    singles = [model for model in column.outcomes if kind_by_words(model) == "ingredient"] or list(column.outcomes)
    sign = 1 if column.metric.higher_is_better else -1
    return max(singles, key=lambda model: sign * (column.value(model) or 0.0))


def _overview(samples: Samples) -> pd.DataFrame:
    values = {
        one.name: [
            None if (value := one.value(model)) is None else in_unit(one.metric, value) for model in samples.models
        ]
        for one in samples.columns
    }
    return pd.DataFrame({"model": list(samples.models)} | values)


def _table(rows: list[Standing], column: Column) -> pd.DataFrame:
    lines = []
    for one in rows:
        line: dict[str, Any] = {"model": one.model, "value": one.value and in_unit(column.metric, one.value)}
        line["95 % interval"] = wording.between(column.metric, *one.between) if one.between else None
        found = one.compared
        line["difference"] = found and in_unit(column.metric, found.difference)
        line |= {"better on": found and found.better, "worse on": found and found.worse, "p": found and found.p_value}
        lines.append(line | {"verdict": found.judgement if found else "the yardstick"})
    return pd.DataFrame(lines)


def _columns(column: Column) -> dict[str, Any]:
    number, metric, of = st.column_config.NumberColumn, column.metric, column.num_documents
    return {
        "model": st.column_config.TextColumn("model", pinned=True, width=225),
        "value": number(metric.label, format=value_format(metric, of=of)),
        "difference": number("difference", format=gap_format(metric, of=of), help=wording.measure(metric)),
        "better on": number("better on", help="documents that this model answers better"),
        "worse on": number("worse on", help="documents that this model answers worse"),
        "p": number(
            "p", format=CHANCE, width=95, help=f"{wording.test_of(metric)} on the same documents, Holm-corrected"
        ),
        "verdict": st.column_config.TextColumn("verdict", width=215),
    }


def _told(column: Column, rival: str, number: int) -> str:
    test = wording.test_of(column.metric)
    return verbatim(
        f"{column.num_documents:,} documents of {column.task}. p: {test} against {rival} on the same documents, "
        f"corrected by Holm over {number} model{'s' * (number != 1)}. Nothing here says which documents chose a model: "
        f"whoever takes the best by these has chosen by what reports. {wording.direction(column.metric)}".rstrip()
    )
