"""What travels inside an exported soup: what it was made of, pinned by fingerprints, and what was measured of it."""

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from soupviz.addresses import is_remote
from soupviz.errors import ExportError
from soupviz.mixing.aggregation import check_batchnorm, num_examples
from soupviz.mixing.formulas import KEPT, Formula
from soupviz.plain_data import json_of, yaml_in
from soupviz.soups.about import about
from soupviz.soups.comparing import intervals
from soupviz.soups.forms import AdapterForm, Form
from soupviz.soups.origins import Origin, origins_of
from soupviz.soups.selecting import Examples
from soupviz.soups.soup import ELSEWHERE, Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.metric import is_share, others_of
from soupviz.tasks.wording import axis_title
from soupviz.types import Coefficients
from soupviz.version import __version__
from soupviz.weights import checkpoints
from soupviz.weights.elsewhere import looked_at
from soupviz.weights.key_maps import KeyMap

Dtype = Literal["ingredients", "float32"]
RECIPES = (".yaml", ".yml")
"""Suffixes of files that hold a record alone."""


class Judged(BaseModel):
    """What the scores of a record are of: the task, its unit and the objective. Earlier versions had one only.

    beside: name and title of the metric that is told with the objective. intervals: by split, of the objective.
    divides: what a temperature divides, and what makes probabilities of it; None where the task has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str = Classification.name
    unit: str = Classification.unit
    metric: str = ACCURACY.name
    label: str = ACCURACY.label
    metric_unit: str = ACCURACY.unit
    higher_is_better: bool = True
    is_share: bool = True
    beside: tuple[str, str] | None = (LOSS.name, axis_title(LOSS))
    intervals: dict[str, tuple[float, float]] = {}
    divides: tuple[str, str] | None = Classification.divides


class Record(BaseModel):
    """What travels inside an exported soup, and stands in recipe.yaml beside it.

    fingerprint, tensors: of the file's own weights, and the first digits of each tensor's; earlier versions kept none.
    selecting_data: what selected it, by the split's name at that time; of earlier versions empty. key_maps: how the
    ingredients' files were read, by what the ingredients call it; many are read alike. adapter: how it is written
    as one, where it is. notes: what its recipe tells of it beside, such as losses and windows, from which pages draw;
    of earlier versions none. card: keys of its model card's metadata that the rest does not tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    soupviz: str
    title: str
    fingerprint: str | None = None
    tensors: str = ""
    kitchen: str
    model: dict[str, Any]
    recipe: dict[str, Any]
    batchnorm: str
    dtype: Dtype
    adapter: AdapterForm | None = Field(default=None, exclude_if=lambda value: value is None)
    mix: Coefficients
    coefficients: dict[str, float] | None
    pool: tuple[str, ...] = ()
    formulas: dict[str, Formula] = {}
    temperature: float | None = None
    scaled_layer: str | None = None
    ingredients: dict[str, Origin]
    key_maps: dict[str, KeyMap] = {}
    ties: dict[str, str]
    selected_on: tuple[str, ...] = (HELD_OUT,)
    selecting_data: dict[str, Examples] = {}
    judged: Judged = Judged()
    scores: dict[str, dict[str, Any]]
    trajectory: list[dict[str, Any]]
    notes: dict[str, Any] = {}
    card: dict[str, Any] = Field(default={}, exclude_if=lambda value: not value)

    @field_validator("batchnorm")
    @classmethod
    def _is_of_weights(cls, value: str) -> str:
        return check_batchnorm(value)

    @field_validator("formulas")
    @classmethod
    def _are_plain_names(cls, value: dict[str, Formula]) -> dict[str, Formula]:
        for name in value:  # the name of weights that are kept is the name of their file
            if not re.fullmatch(r"[a-z_]+-[0-9a-f]{12}", name):
                raise ValueError(f"{name!r} is not the name of a formula")
        return value

    @model_validator(mode="after")
    def _pinned(self) -> "Record":
        known = {*self.ingredients, *self.formulas}
        named = [name for name, _ in self.mix] + [name for formula in self.formulas.values() for name in formula.names]
        for name in named:
            if name not in known:
                raise ValueError(f"the mix names {name!r}, which is not among the ingredients")
        for name, origin in self.ingredients.items():
            if origin.key_map is not None and origin.key_map not in self.key_maps:
                raise ValueError(f"{name!r} names the key map {origin.key_map!r}, which is not among them")
            is_adapter = origin.key_map is not None and self.key_maps[origin.key_map].adapter is not None
            if is_adapter != (origin.over in self.ingredients):
                raise ValueError(f"{name!r} is an adapter over {origin.over!r}, which is not among the ingredients")
        return self

    @property
    def form(self) -> Form:
        return "adapter" if self.adapter else "dense"

    @property
    def needed(self) -> set[str]:
        """The ingredients and formulas that its weights are made of; a pool has others too."""
        found: set[str] = set()
        waiting = [name for name, _ in self.mix]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.formulas[name].names if name in self.formulas else []
                over = self.ingredients[name].over if name in self.ingredients else None
                waiting += [over] if over else []
        return found

    @property
    def kept(self) -> str | None:
        """Weights that it is made of and that cannot be made again from its ingredients alone."""
        needed = self.needed
        return next((name for name, one in self.formulas.items() if one.kind == KEPT and name in needed), None)

    @property
    def computed(self) -> str | None:
        """An ingredient that it is made of and whose file only the model's own code can read."""
        maps = {name: o.key_map for name, o in self.ingredients.items() if name in self.needed and o.key_map}
        return next((name for name, key_map in maps.items() if self.key_maps[key_map].computed), None)

    @property
    def needs_data(self) -> bool:
        """Whether it takes the kitchen's data, or what was trained on it, to make it again, up to rounding."""
        return bool(self.kept or num_examples(self.batchnorm))


def record_of(
    soup: Soup,
    folder: Path | None,
    dtype: Dtype = "ingredients",
    temperature: float | None = None,
    layer: str | None = None,
) -> Record:
    """A soup's record, its ingredients' files given relative to the folder it is written to.

    Args:
        folder: None where it is written elsewhere: files are then given by their whole paths.
        temperature: that was fitted. layer: which its weights are divided by.
    """
    kitchen = soup.kitchen
    named = [*soup.pool, *(name for name, _ in soup.mix)]  # an end of a path may be a formula
    leaves = [kitchen.weights.resolve(name) for name in kitchen.weights.leaves(named)]
    origins, key_maps = origins_of(leaves, folder)
    return Record(
        soupviz=__version__,
        title=soup.title,
        kitchen=kitchen.name,
        model=kitchen.spec.model.model_dump(mode="json"),
        recipe=soup.recipe.model_dump(mode="json"),
        batchnorm=soup.recipe.aggregation,
        dtype=dtype,
        mix=soup.mix,
        coefficients=None if soup.coefficients is None else dict(soup.coefficients),
        pool=soup.pool,
        formulas=kitchen.weights.formulas(named),
        temperature=temperature,
        scaled_layer=layer,
        ingredients=origins,
        key_maps=key_maps,
        ties=dict(kitchen.architecture.ties),
        selected_on=tuple(soup.selected_on),
        selecting_data=dict(soup.selecting_data),
        judged=_judged(soup),
        scores={split: score.summary() for split, score in soup.scores.items()},
        trajectory=[step.as_dict() for step in soup.trajectory],
        notes={name: told for name, told in soup.notes.items() if name != ELSEWHERE},
        card=about(
            kitchen, [kitchen.weights.resolve(name) for name in kitchen.weights.leaves([n for n, _ in soup.mix])]
        ),
    )


def _judged(soup: Soup) -> Judged:
    """What the soup's scores are of, with their intervals."""
    kitchen, metric = soup.kitchen, soup.kitchen.objective
    other = next(iter(others_of(kitchen.task.metrics, metric)), None)
    around = intervals(kitchen, {(soup.mix, split, soup.recipe.aggregation): one for split, one in soup.scores.items()})
    return Judged(
        task=kitchen.task.name,
        unit=kitchen.task.unit,
        metric=metric.name,
        label=metric.label,
        metric_unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        is_share=is_share(metric),
        beside=None if other is None else (other.name, axis_title(other)),
        divides=kitchen.task.divides if kitchen.task.has_temperature else None,
        intervals={split: interval for (_, split, _), interval in around.items()},
    )


def read_record(path: str | Path) -> Record:
    """The record in an exported soup, or in a recipe.yaml, here or at an address.

    Raises:
        ExportError: the file carries no soupviz record, or a damaged one.
        CheckpointError: it is a damaged checkpoint.
    """
    if not is_remote(str(path)):
        return _record_in(Path(path))
    with looked_at(str(path)) as file:
        return _record_in(file)


def _record_in(file: Path) -> Record:
    if file.suffix in RECIPES:
        try:
            values = yaml_in(file)
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ExportError(f"{file}: cannot be read as a recipe: {' '.join(str(error).split())}.") from None
    else:
        text = checkpoints.read(file).soup
        if text is None:
            raise ExportError(f"{file}: carries no soupviz recipe; expected a soup that soupviz exported.")
        try:
            values = json_of(text)
        except ValueError:
            raise ExportError(f"{file}: its soupviz recipe is not JSON; expected what soupviz writes.") from None
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the recipe"
        raise ExportError(f"{file}: not a whole soupviz recipe: {place}: {first['msg']}.") from None
