"""Models of other architectures: they cannot be mixed with a kitchen's own, but they may join its ensembles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from soupviz.data.loading import Splits
from soupviz.data.split import Split
from soupviz.errors import KitchenError, RecipeError
from soupviz.spec import HELD_OUT, KitchenSpec
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress
from soupviz.weights.ingredients import Ingredient


class Scored(Protocol):
    """What is asked of another model's own scores."""

    def score(self, mix: Coefficients, split: str = ..., aggregation: str = ..., progress: Progress = ...) -> Score: ...

    def known(self, mix: Coefficients, split: str, aggregation: str = ...) -> Score | None: ...

    def summaries(self, mixes: Sequence[tuple[Coefficients, str]], split: str) -> list[Score | None]: ...

    def logits(
        self, mix: Coefficients, split: str = ..., aggregation: str = ..., progress: Progress = ...
    ) -> NDArray[np.float32]: ...


class Host(Protocol):
    """What is asked of another model's own kitchen."""

    @property
    def ingredients(self) -> tuple[Ingredient, ...]: ...
    @property
    def model_fingerprint(self) -> str: ...
    @property
    def spec(self) -> KitchenSpec: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def splits(self) -> Splits: ...
    @property
    def scores(self) -> Scored: ...


@dataclass(frozen=True, slots=True)
class OtherModel:
    """One model of another kitchen, scored there, by its own model on its own decoding of the same examples."""

    kitchen: Host
    mix: Coefficients

    def score(self, split: Split, progress: Progress) -> Score:
        self._check(split, progress)
        return _by_groups_of(split, self.kitchen.scores.score(self.mix, split.name, progress=progress))

    def known(self, split: Split) -> Score | None:
        found = self.kitchen.scores.known(self.mix, split.name) if self.kitchen.splits.is_loaded(split.name) else None
        return found and _by_groups_of(split, found)

    def summary(self, split: Split) -> Score | None:
        """The score without its examples."""
        has_split = self.kitchen.splits.is_loaded(split.name)
        found = self.kitchen.scores.summaries([(self.mix, "average")], split.name)[0] if has_split else None
        return found and _by_groups_of(split, found)

    def context(self, split_name: str) -> list[str]:
        """What else its answers depend on: its model, precision and device, and its data's content.

        The data was read with the kitchen's own; a model without such a split is refused when it is to be scored.
        """
        kitchen = self.kitchen
        content = kitchen.splits.load(split_name).fingerprint if kitchen.splits.is_loaded(split_name) else ""
        return [kitchen.model_fingerprint, kitchen.spec.precision, kitchen.device.type, content]

    def logits(self, split: Split, progress: Progress) -> NDArray[np.float32]:
        self._check(split, progress)
        return self.kitchen.scores.logits(self.mix, split.name, progress=progress)

    def _check(self, split: Split, progress: Progress) -> None:
        """Whether its kitchen has the same examples in the same order, as far as labels tell."""
        theirs = self.kitchen.splits.load(split.name, progress)
        if len(theirs) != len(split) or not torch.equal(theirs.labels, split.labels) or theirs.classes != split.classes:
            raise KitchenError(
                f"{split.name}: {self.mix[0][0]} comes from a kitchen whose {split.name} has {len(theirs):,} examples "
                f"of {theirs.classes}; expected the same {len(split):,} examples, labels and order as here. Point both "
                "kitchens at the same data."
            )


def _by_groups_of(split: Split, score: Score) -> Score:
    """A score of another kitchen, whose examples belong together as the split says, which this kitchen has."""
    outcomes = score.outcomes and replace(score.outcomes, groups=split.group_of)
    return replace(score, grouped=split.grouped, outcomes=outcomes)


class OtherModels:
    """A kitchen's models of other architectures by name: `KITCHEN/INGREDIENT`."""

    def __init__(self, kitchens: Mapping[str, Host], own: Sequence[str]):
        """Name the models of other kitchens.

        Args:
            own: the names of the kitchen's own ingredients.
        Raises:
            KitchenError: one has the name of an own ingredient, or of another.
        """
        self.items: dict[str, Ingredient] = {}
        self._found: dict[str, OtherModel] = {}
        self._kitchens = kitchens
        for kitchen, opened in kitchens.items():
            for item in opened.ingredients:
                name = f"{kitchen}/{item.name}"
                if name in own or name in self.items:
                    whose = "an ingredient of this kitchen" if name in own else "another one of these"
                    raise KitchenError(
                        f"other_models: {item.name!r} of {kitchen!r} would be called {name!r}, which is {whose}; call "
                        f"{kitchen!r} by another name under `other_models:`."
                    )
                self.items[name] = replace(item, name=name)
                self._found[name] = OtherModel(opened, ((item.name, 1.0),))

    def find(self, name: str) -> OtherModel | None:
        return self._found.get(name)

    def read(self, split_name: str, progress: Progress) -> None:
        """Read a split of every kitchen that has it, so that what its models say can be told from its content."""
        for kitchen in self._kitchens.values():
            if split_name in kitchen.spec.split_specs():
                kitchen.splits.load(split_name, progress)

    def context(self, name: str) -> list[str]:
        """What a run that another model has a part in depends on, beside its weights.

        Of train it is what kitchen.yaml says, as it is of a kitchen's own: who lists runs must not have to read it.
        """
        other = self._found[name]
        train = other.kitchen.spec.data.train
        return [*other.context(HELD_OUT), train.model_dump_json(exclude={"slices"}) if train else ""]

    def refuse(self, names: list[str]) -> None:
        """Refuse other models in a mix of weights.

        Raises:
            RecipeError: naming the first of them.
        """
        if found := next((name for name in names if name in self._found), None):
            raise RecipeError(
                f"{found!r} is a model of another architecture: its weights cannot be mixed. Take the recipe ensemble, "
                "which averages outputs, or leave it out."
            )
