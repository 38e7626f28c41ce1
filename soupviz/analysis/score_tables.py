"""Tables of scores without any weights: which columns are scores, in which unit, and what each row is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupviz.analysis.samples import is_logged, read_samples
from soupviz.analysis.score_files import RawTable, Row, Source, number, read_raw, score_files
from soupviz.errors import DataError
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.metric import Metric

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("model_name", "model", "name", "id", "ingredient", "checkpoint", "run")
KINDS = {
    "ingredient": "ingredient", "individual": "ingredient", "single": "ingredient", "model": "ingredient",
    "best": "ingredient", "soup": "soup", "uniform": "soup", "greedy": "soup", "base": "base", "zero-shot": "base",
    "zeroshot": "base", "initialization": "base", "initialisation": "base", "ensemble": "ensemble",
}  # fmt: skip
"""What a kind column may say, and what it is drawn as."""

BY_WORD = (
    ("ensemble", re.compile(r"ensemble")),
    ("soup", re.compile(r"soup|uniform|greedy")),
    ("base", re.compile(r"^base$|zero-?shot|initiali[sz]ation")),
)
"""What the words in a model's name, in its facts or in its file's name make of it; the first that fits."""

BY_LENGTH = "acc_norm"
"""What lm-eval calls the share of questions that are right by the likelihood for each character of an option."""

SELECTS = re.compile(r"held|^val|[_ .-]val|valid|^dev|[_ .-]dev|2p$")
NOT_SCORES = re.compile(
    r"^(lr|learning_?rate|wd|weight_?decay|epochs?|seed|steps?|batch_?size|(label_?)?smoothing|mix(up)?|dropout|alpha"
    r"|temperature|momentum|index|rank|correct|num_?examples|n|count|params|parameters|.*loss.*)$"
)


@dataclass(frozen=True, slots=True)
class Model:
    """A point of the scatter. kind: ingredient, soup, base or ensemble. source: what it was read from, or how it was
    made. selected_on: splits that chose it. facts: what else is known of it."""

    id: str
    name: str
    kind: str
    source: str = ""
    selected_on: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What models have on several splits, under one metric.

    values: one row for each model by its id, one column for each split; missing where not measured.
    x_columns, y_columns: what each axis can show. x, y: what they show first. selecting: the split that selected, if
    it is among them. notes: what was assumed, in sentences. metric: of all the values; a table of files has shares of
    right answers, as fractions. num_units: of splits of which it is known.
    """

    models: tuple[Model, ...]
    values: "pd.DataFrame"
    x_columns: tuple[str, ...]
    y_columns: tuple[str, ...]
    x: str
    y: tuple[str, ...]
    selecting: str | None
    notes: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    num_units: Mapping[str, int] = field(default_factory=dict)

    def points(self, x: str, y: Sequence[str], kinds: Mapping[str, str] | None = None) -> "pd.DataFrame":
        """What is measured on `x` and on all of `y`.

        Args:
            y: one split, or several, whose plain mean counts. kinds: by id, in place of what was found.
        Returns:
            id, name, kind, x and y, in the order of the models. The kind of the ingredient that is best on
            the split that selected, else on x, is `best`.
        """
        import pandas as pd

        told = kinds or {}
        table = pd.DataFrame(
            {
                "id": [model.id for model in self.models],
                "name": [model.name for model in self.models],
                "kind": [told.get(model.id, model.kind) for model in self.models],
                "x": self.values[x].to_numpy(float),
                "y": self.values[list(y)].to_numpy(float).mean(axis=1),
                "best by": self.values[self.selecting or x].to_numpy(float),
            }
        ).dropna(subset=["x", "y"])
        singles = table.loc[table["kind"] == "ingredient", "best by"].dropna()
        if len(singles):
            table.loc[singles.idxmax() if self.metric.higher_is_better else singles.idxmin(), "kind"] = "best"
        return table.drop(columns="best by").reset_index(drop=True)


def read_scores(sources: str | Source | Iterable[str | Source]) -> Scores:
    """A table of scores, from one or several files, without any weights.

    Columns are found by what is in them. A column of names: one with a usual header, else the first of texts that all
    differ. Scores: numbers from 0 to 1, or percent where one is above 1; hyperparameters and losses are known by
    their headers. A kind column, if there is one, says what is a soup; else rows and files named soup, uniform or
    greedy are soups. A .json file of facts by model name may come along.

    Args:
        sources: files, a folder of them, or names with content.
    Raises:
        DataError: naming the file, the line and the column; what was expected, and what came.
    """
    given = [sources] if isinstance(sources, (str, Path, tuple)) else list(sources)
    expanded = [
        one for source in given for one in ([source] if isinstance(source, tuple) else score_files(Path(source)))
    ]
    if logged := [one for one in expanded if is_logged(one.name if isinstance(one, Path) else one[0])]:
        return _of_samples(logged, expanded)
    table = read_raw(expanded)
    names_from = _name_column(table)
    kinds_from = _kind_column(table, names_from)
    columns, left_out = _score_columns(table, {names_from, kinds_from})
    per_unit, unit_note = _unit(table, columns)
    models = _models(table, names_from, kinds_from, columns)
    selecting = next((name for name in columns if SELECTS.search(name.lower())), None) if len(columns) > 2 else None
    first, *others = [name for name in columns if name != selecting]
    notes = [unit_note]
    if selecting:
        notes.append(f"{selecting} is taken for the held-out split that selected, so x is {first}.")
    if left_out:
        notes.append(f"Not taken for scores: {', '.join(left_out)}.")
    notes += [
        f"{model.name} is drawn as base: {table.facts_file} says “{told}”."
        for model in models
        if model.kind == "base" and (told := _words(table.facts.get(model.name)))
    ]
    return Scores(
        models, _frame(table, models, columns, per_unit), tuple(columns), tuple(columns), first, tuple(others),
        selecting, tuple(notes),
    )  # fmt: skip


def _of_samples(logged: Sequence[Source], sources: Sequence[Source]) -> Scores:
    import pandas as pd

    if any(isinstance(one, tuple) for one in logged):
        raise DataError(
            f"{logged[0][0] if isinstance(logged[0], tuple) else logged[0]}: which model it is of, its folder says; "
            "give the folder that holds those of all models instead of the files."
        )
    samples = read_samples(one for one in sources if isinstance(one, Path))
    columns = [one for one in samples.columns if one.metric.unit == "%" and one.metric.higher_is_better]
    if len(columns) < 2:
        raise DataError(
            f"{logged[0]}: expected at least two scores, one in distribution and one under shift; found "
            f"{', '.join(one.name for one in columns) or 'no share of which more is better'}. Evaluate further tasks."
        )
    models = tuple(Model(name, name, kind_by_words(name), str(folder)) for name, folder in samples.models.items())
    values = {one.name: [one.value(name) for name in samples.models] for one in columns}
    frame = pd.DataFrame(values, index=list(samples.models), dtype=float)
    # Of each task one metric: what is right by length where it is logged, as papers tell it.
    shown = {one.task: one.name for one in reversed(columns)} | {
        one.task: one.name for one in columns if one.metric.name == BY_LENGTH
    }
    first, *others = dict.fromkeys(shown[one.task] for one in columns)
    names = tuple(values)
    return Scores(models, frame, names, names, first, tuple(others or names[1:]), None, samples.notes)


def _frame(table: RawTable, models: Sequence[Model], columns: Sequence[str], per_unit: float) -> "pd.DataFrame":
    import pandas as pd

    values = {name: [number(row.values.get(name)) for row in table.rows] for name in columns}
    return pd.DataFrame(values, index=[model.id for model in models], dtype=float) / per_unit


def _name_column(table: RawTable) -> str:
    usual = {column.lower(): column for column in reversed(table.columns)}
    distinct = [
        column
        for column in table.columns
        if len({str(value) for _, value in table.values(column)}) == len(table.rows)
        and all(number(value) is None for _, value in table.values(column))
    ]
    found = next((usual[name] for name in NAMES if name in usual), None) or next(iter(distinct), None)
    if found is None:
        raise DataError(
            f"{table.rows[0].file}: no column names the models; expected one such as 'model', got "
            f"{', '.join(table.columns)}."
        )
    return found


def _kind_column(table: RawTable, names_from: str) -> str | None:
    for column in table.columns:
        cells = [(row, str(value).strip().lower()) for row, value in table.values(column)]
        unknown = [(row, value) for row, value in cells if value not in KINDS]
        if column == names_from or not cells:
            continue
        if column.lower() == "kind" and unknown:
            row, value = unknown[0]
            raise DataError(f"{row.at(column)}: expected one of {', '.join(KINDS)}, got {value!r}.")
        if not unknown:
            return column
    return None


def _score_columns(table: RawTable, others: Iterable[str | None]) -> tuple[list[str], list[str]]:
    """The columns of scores, and further ones of numbers that are none."""
    found, left_out = [], []
    for column in table.columns:
        cells = table.values(column)
        numbers = [value for _, text in cells if (value := number(text)) is not None]
        if column in others or 2 * len(numbers) <= len(cells):  # a column of texts
            continue
        if NOT_SCORES.match(column.lower()) or not all(0 <= value <= 100 for value in numbers):
            left_out.append(column)
            continue
        if wrong := [(row, text) for row, text in cells if number(text) is None]:
            row, text = wrong[0]
            raise DataError(
                f"{row.at(column)}: expected a number as in the other rows, got {text!r}. Leave a cell empty where "
                "nothing was measured."
            )
        found.append(column)
    if len(found) < 2:
        raise DataError(
            f"{table.rows[0].file}: expected at least two columns of scores, one in distribution and one under "
            f"shift; found {', '.join(found) or 'none'} among {', '.join(table.columns)}."
        )
    return found, left_out


def _unit(table: RawTable, columns: Sequence[str]) -> tuple[float, str]:
    """What a score of one is written as, 1 or 100, and how that was told."""
    cells = [(row, column, number(text) or 0.0) for column in columns for row, text in table.values(column)]
    over = [cell for cell in cells if cell[2] > 1]
    under = [cell for cell in cells if 0 < cell[2] <= 1]
    if over and under:
        (row, column, value), (other, other_column, less) = over[0], under[0]
        raise DataError(
            f"{row.at(column)} has {value:g}, which is percent, and {other.at(other_column)} has {less:g}, which looks "
            "like a fraction. Write all scores in one unit, or leave out the column that is none."
        )
    if over:
        return 100.0, "Scores are read as percent, as some are above 1."
    return 1.0, "Scores are read as fractions, as none is above 1."


def _models(table: RawTable, names_from: str, kinds_from: str | None, columns: Sequence[str]) -> tuple[Model, ...]:
    seen: dict[str, Row] = {}
    models = []
    for row in table.rows:
        name = str(row.values.get(names_from) or "").strip()
        if not name:
            raise DataError(f"{row.at(names_from)}: expected the model's name, got nothing.")
        if name in seen:
            raise DataError(f"{row.at(names_from)}: {name!r} stands in {seen[name].at()} too; name each model once.")
        seen[name] = row
        told = str(row.values.get(kinds_from) or "").strip().lower() if kinds_from else ""
        facts = table.facts.get(name)
        kind = KINDS[told] if told else kind_by_words(name, _words(facts), Path(row.file).stem)
        beside = {key: row.values[key] for key in row.values if key not in (names_from, kinds_from, *columns)}
        models.append(Model(name, name, kind, row.file, facts={**beside, **(facts or {})}))
    return tuple(models)


def kind_by_words(*texts: str) -> str:
    """What the words in texts make of a model."""
    for text in texts:
        for kind, pattern in BY_WORD:
            if pattern.search(text.lower()):
                return kind
    return "ingredient"


def _words(facts: Mapping[str, Any] | None) -> str:
    """What the facts of a model say in words, where they call it the initialisation."""
    texts = [str(value) for value in (facts or {}).values() if isinstance(value, str)]
    return next((text for text in texts if re.search(r"initiali[sz]ation", text.lower())), "")
