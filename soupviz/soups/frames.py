"""A curve as a DataFrame that a notebook shows with its picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.plotting import PlotAccessor

from soupviz.kitchen import Kitchen
from soupviz.types import Coefficients, above


@dataclass(frozen=True, slots=True)
class Traced:
    """What a curve was measured of. a, b: what its ends are called. mix_a, mix_b: these themselves."""

    kitchen: Kitchen
    a: str
    b: str
    mix_a: Coefficients
    mix_b: Coefficients
    split: str
    batchnorm: str


class Plot(PlotAccessor):
    """pandas' own `plot`, but for `plot()` with nothing said: that is the curve with its intervals, by Altair."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if arguments or keywords:
            return super().__call__(*arguments, **keywords)
        return above("plot")(self._parent)  # type: ignore[attr-defined]


class Curve(pd.DataFrame):
    """The curve itself; a part of it, a copy, and what is computed of it, is a plain DataFrame, and so is its pickle.

    A subclass, as `attrs` would leave `plot()` to pandas, and pickles the kitchen with every frame.
    """

    _metadata = ["traced"]  # noqa: RUF012 - as pandas has it
    traced: Traced

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], traced: Traced) -> "Curve":
        made = cls(rows)
        made.traced = traced
        return made

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @property
    def plot(self) -> Plot:
        return Plot(self)

    def _repr_html_(self) -> str:
        plain: Any = pd.DataFrame(self)  # its stubs take what they do not know for a column
        table: str | None = plain._repr_html_()
        return str(above("html")(self)) + (table or "")

    def __reduce__(self) -> Any:
        return pd.DataFrame, (pd.DataFrame(self).to_dict(orient="list"),)
