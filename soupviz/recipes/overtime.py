"""Averages over time, of checkpoints that one training run left: SWA, EMA and the last K."""

from typing import Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.types import Coefficients
from soupviz.weights.metadata import as_number
from soupviz.weights.names import COUNTERS, counters_in


class Swa(Pooled):
    """The mean of the checkpoints from a step on, of every so many. Source: Izmailov et al. 2018 (arXiv 1803.05407)."""

    method: Literal["swa"] = "swa"
    label = "SWA, over time"
    start: float = Field(0, ge=0, description="the first step or epoch that counts")
    period: int = Field(1, ge=1, le=100, description="takes every so many of the checkpoints from there")

    @property
    def own_title(self) -> str:
        return self.titled("SWA", f"from {self.start:g}", f"every {self.period}" if self.period > 1 else "")

    def plan(self, pool: ScoredPool) -> Coefficients:
        times = in_time(pool)
        late = [name for time, name in times if time >= self.start]
        if not late:
            raise RecipeError(f"swa: no checkpoint from step {self.start:g} on; the last is of {times[-1][0]:g}.")
        return mean_of(late[:: self.period])


class Ema(Pooled):
    """An exponential moving average, `soup = decay * soup + (1 - decay) * next`, from the first checkpoint on.

    Source: Polyak and Juditsky 1992; as `torch.optim.swa_utils.get_ema_multi_avg_fn` has it.
    """

    method: Literal["ema"] = "ema"
    label = "EMA, over time"
    decay: float = Field(0.5, ge=0, lt=1, description="what the past keeps at each checkpoint")

    @property
    def own_title(self) -> str:
        return self.titled("EMA", f"decay {self.decay:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        (_, first), *later = in_time(pool)
        weights = {first: 1.0}
        for _, name in later:
            weights = {known: weight * self.decay for known, weight in weights.items()} | {name: 1.0 - self.decay}
        return tuple((name, weight) for name, weight in weights.items() if weight)


class Lawa(Pooled):
    """The mean of the latest checkpoints. Source: Kaddour 2022 (arXiv 2209.14981), LAWA."""

    method: Literal["lawa"] = "lawa"
    label = "LAWA, over time"
    last: int = Field(5, ge=1, le=100, description="how many of the latest checkpoints")

    @property
    def own_title(self) -> str:
        return self.titled("LAWA", f"last {self.last}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return mean_of([name for _, name in in_time(pool)[-self.last :]])


def in_time(pool: ScoredPool) -> list[tuple[float, str]]:
    """(step, name) of each ingredient, earliest first: by its metadata, else by its name (`step_300`, `7epoch`).

    Raises:
        RecipeError: no number, or the same for two.
    """
    times: dict[float, str] = {}
    for name in pool.names:
        time = step_of(pool, name)
        if time in times:
            raise RecipeError(
                f"{times[time]!r} and {name!r} are both of step {time:g}; an average over time needs checkpoints of "
                f"one run, each of another step. Name members, or tell the step in metadata, as {COUNTERS[0]} or epoch."
            )
        times[time] = name
    return sorted(times.items())


def step_of(pool: ScoredPool, name: str) -> float:
    facts = counters_in(name) | {key.lower(): as_number(value) for key, value in pool.facts(name).items()}
    for key in COUNTERS:
        if isinstance(value := facts.get(key), (int, float)):
            return float(value)
    raise RecipeError(
        f"{name!r} does not say of which step it is; expected {', '.join(COUNTERS[:5])} in its metadata, or in its "
        "name as in step_300. Write one into a JSON file beside it, or leave it out with members."
    )
