"""Averages over time, of checkpoints that one training run left: SWA, EMA, the last K, an emulated decay."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled, added_later
from soupviz.types import Coefficients
from soupviz.weights.metadata import as_number
from soupviz.weights.names import COUNTERS, counters_in

LATEST = "the last step or epoch that counts; 0: the latest"
COUNT = "how many of the latest checkpoints"
OF_STEPS: dict[str, Any] = {"of": "steps"}
"""Of a parameter that is the step, or epoch, of one of the checkpoints; `spans`: how far one lies before the last."""


class Swa(Pooled):
    """The mean of the checkpoints from a step on, of every so many. Source: Izmailov et al. 2018 (arXiv 1803.05407)."""

    method: Literal["swa"] = "swa"
    label = "SWA, over time"
    is_of_one_run = True
    start: float = Field(0, ge=0, description="the first step or epoch that counts", json_schema_extra=OF_STEPS)
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
    is_of_one_run = True
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
    """The mean of the latest checkpoints, or of the latest up to a step. Source: Kaddour 2022 (arXiv 2209.14981), LAWA.

    With `end` it is one window of one run, icefall's `--epoch END --avg LAST`; fairseq's `average_checkpoints.py
    --num-epoch-checkpoints LAST` has no end, or `--checkpoint-upper-bound END`.
    """

    method: Literal["lawa"] = "lawa"
    label = "LAWA, over time"
    is_of_one_run = True
    last: int = Field(5, ge=1, le=100, description=COUNT)
    end: float = added_later(0.0, ge=0, description=LATEST, json_schema_extra=OF_STEPS)

    @property
    def windows_of(self) -> str:
        return "checkpoints"

    @property
    def window(self) -> tuple[float, int]:
        return self.end, self.last

    @property
    def own_title(self) -> str:
        return self.titled("LAWA", f"last {self.last}{up_to(self.end)}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return mean_of([name for _, name in until(in_time(pool), self.end)[-self.last :]])


class Wsm(Pooled):
    """A constant learning rate's checkpoints, weighed so that their mean is as if the learning rate had decayed.

    What training added between two checkpoints is in every later one. With coefficients c that sum to 1 it counts
    `w_i = c_i + c_(i+1) + ... + c_n`: as if its learning rate had been w_i of what it was. So a decay from 1 to 0 over
    the last `duration` steps has `c_i = d(x_(i-1)) - d(x_i)`, x_i being where checkpoint i lies in them, from 0 at
    their start to 1 at the last checkpoint: what was trained after a checkpoint counts as the decay is at that
    checkpoint. d(x) is `(1 + cos πx) / 2`, `1 - x` or `1 - √x`. Checkpoints may lie unequally far apart. What lies
    before the first of them counts whole.

    Source: Tian et al. 2025 (WSM, arXiv 2507.17634), section 3; equally spaced checkpoints are weighed as by
    Megatron-LM's `weighted_merge.py`, of which linear is the plain mean. Differs: by steps, not by positions.
    """

    method: Literal["wsm"] = "wsm"
    label = "WSM, emulated decay"
    is_of_one_run = True
    decay: Literal["linear", "cosine", "1-sqrt"] = Field("1-sqrt", description="the shape that is emulated")
    duration: float = Field(
        0.0,
        ge=0,
        description="steps or epochs from its start to the last checkpoint; 0: all checkpoints take part",
        json_schema_extra={"of": "spans"},
    )

    @property
    def own_title(self) -> str:
        return self.titled("WSM", self.decay, f"over {self.duration:g}" if self.duration else "")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return decayed(in_time(pool), self.decay, self.duration)


DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: (1.0 + math.cos(math.pi * x)) / 2.0,
    "1-sqrt": lambda x: 1.0 - math.sqrt(x),
}
"""What is left of the learning rate at x from 0, the start of a decay, to 1, its end."""


def decayed(times: Sequence[tuple[float, str]], decay: str, duration: float = 0.0) -> Coefficients:
    """The coefficients that emulate a decay over the last `duration` steps.

    Args:
        times: (step, name), earliest first. duration: 0: as long before the first checkpoint as they lie apart.
    """
    first, last = times[0][0], times[-1][0]
    if not duration:
        duration = (last - first) * len(times) / (len(times) - 1) if len(times) > 1 else 1.0
    start, left = last - duration, DECAYS[decay]
    inside = [(min(1.0, (time - start) / duration), name) for time, name in times if time > start]
    befores = [0.0, *(x for x, _ in inside)]
    found = [(name, left(before) - left(x)) for before, (x, name) in zip(befores, inside, strict=False)]
    return tuple((name, weight) for name, weight in found if weight)


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


def until(times: Sequence[tuple[float, str]], end: float) -> Sequence[tuple[float, str]]:
    """Those up to a step; 0: all.

    Raises:
        RecipeError: there is none.
    """
    early = [one for one in times if one[0] <= end] if end else times
    if not early:
        raise RecipeError(f"no checkpoint up to step {end:g}; the first is of {times[0][0]:g}.")
    return early


def up_to(end: float) -> str:
    """A part of the title."""
    return f" up to {end:g}" if end else ""


def step_of(pool: ScoredPool, name: str) -> float:
    return step_in(name, pool.facts(name))


def step_in(name: str, metadata: Mapping[str, Any]) -> float:
    """Of which step an ingredient is, by its metadata, else by its name.

    Raises:
        RecipeError: neither says so.
    """
    facts = counters_in(name) | as_numbers(metadata)
    for key in COUNTERS:
        if isinstance(value := facts.get(key), (int, float)):
            return float(value)
    raise RecipeError(
        f"{name!r} does not say of which step it is; expected {', '.join(COUNTERS[:5])} in its metadata, or in its "
        "name as in step_300. Write one into a JSON file beside it, or leave it out with members."
    )


def numbers_of(pool: ScoredPool, name: str) -> dict[str, Any]:
    """An ingredient's metadata by keys in small letters, numbers as such."""
    return as_numbers(pool.facts(name))


def as_numbers(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): as_number(value) for key, value in metadata.items()}
