"""All that can be mixed, by name: ingredients, base, other kitchens' models, files, and what formulas make of these."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from soupviz import trust
from soupviz.addresses import is_remote
from soupviz.errors import KitchenError
from soupviz.files import replacing
from soupviz.mixing.averaging import combined
from soupviz.mixing.formulas import KEPT, PRECISE_SUM, Formula, made
from soupviz.models.architecture import Architecture
from soupviz.remote.leases import lease
from soupviz.store.database import Store
from soupviz.types import Coefficients
from soupviz.weights.discovery import read_other
from soupviz.weights.elsewhere import fetched
from soupviz.weights.ingredients import Ingredient, fingerprint, unknown_name
from soupviz.weights.selection import BASE, file_in
from soupviz.weights.writing import write


class NamedWeights:
    """Looks names up. Formulas, and weights that were trained, are kept beside the store."""

    def __init__(
        self,
        file: Path,
        ingredients: Sequence[Ingredient],
        base: Ingredient | None,
        architecture: Architecture,
        store: Store,
        other_models: Mapping[str, Ingredient] | None = None,
    ):
        self.file = file
        self.ingredients = {item.name: item for item in ingredients}
        self.base = base
        self.other_models = other_models or {}
        self.store = store
        self._architecture = architecture
        self._others: dict[str, Ingredient] = {}
        self._kept: dict[str, Path] = {}  # where weights that were trained lie, unless beside the store
        lease(self, [Path(place) for item in (*ingredients, *([base] if base else [])) for place, *_ in item.stamp])

    def resolve(self, name: str) -> Ingredient:
        """An ingredient by name, `base`, a model of another kitchen, weights made by a formula, or a checkpoint's file.

        Raises:
            KitchenError: none of these, or a formula over an ingredient that has changed.
            CheckpointError, CompatibilityError: a file that is damaged, or does not fit the model.
        """
        if name == BASE:
            if self.base is None:
                raise KitchenError(f"{self.file}: this kitchen has no base; add `base: FILE`, or name an ingredient.")
            return self.base
        if name in self.ingredients:
            return self.ingredients[name]
        if name in self.other_models:
            return self.other_models[name]
        if name not in self._others:
            formula = self.formula(name)
            self._others[name] = self._made(name, formula) if formula else self._read(name)
        return self._others[name]

    def formula(self, name: str) -> Formula | None:
        """The formula that a name stands for."""
        text = self.store.formula(name)
        return Formula.model_validate(json.loads(text)) if text else None

    def leaves(self, names: Sequence[str]) -> list[str]:
        """The checkpoints that weights are made of in the end, each once."""
        found: dict[str, None] = {}
        for name in names:
            formula = None if name in self.ingredients or name == BASE else self.formula(name)
            found |= dict.fromkeys(self.leaves(formula.names) if formula else [name])
        return list(found)

    def formulas(self, names: Sequence[str]) -> dict[str, Formula]:
        """Every formula that these names need, by name; what a formula is made of stands behind it."""
        found: dict[str, Formula] = {}

        def visit(name: str) -> None:
            if name in found or name in self.ingredients or name == BASE:
                return
            if formula := self.formula(name):
                for part in formula.names:
                    visit(part)
                found[name] = formula

        for name in names:
            visit(name)
        return dict(reversed(found.items()))

    def as_sum(self, mix: Coefficients) -> Coefficients | None:
        """The one weighted sum that a mix is, by what it is summed of; None where a formula in it is none."""
        parts: list[tuple[Coefficients, float]] = []
        for name, weight in mix:
            formula = next(iter(self.formulas([name]).values()), None)
            if formula is not None and formula.kind != PRECISE_SUM:
                return None
            parts.append((formula.parts if formula else ((name, 1.0),), weight))
        return combined(parts)

    def adopt(self, formula: Formula) -> Coefficients:
        """Keep a formula; the mix that consists of it alone."""
        name = f"{formula.kind}-{formula.fingerprint(self.resolve)[:12]}"
        self.store.keep_formula(name, formula.model_dump_json())
        return ((name, 1.0),)

    def keep(self, how: str, tensors: Mapping[str, Tensor], parts: Coefficients) -> Coefficients:
        """Keep weights that were trained, or cannot be made again bit for bit; the mix that consists of them alone.

        Args:
            how: what made them; the start of their name. parts: the ingredients that they were made from.
        """
        pinned = fingerprint(tensors)
        name = f"{how}-{pinned[:12]}"
        path = self._kept_file(name)
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            with replacing(path) as temporary:
                write(tensors.items(), tensors, temporary, "{}", path.suffix)
        self.store.keep_formula(name, Formula(kind=KEPT, parts=parts).model_dump_json())
        return ((name, 1.0),)

    def has_kept(self, name: str) -> bool:
        """Whether weights that were trained are here."""
        return self.formula(name) is not None and self._kept_file(name).is_file()

    def receive(self, formulas: Mapping[str, str], files: Mapping[str, Path]) -> None:
        """Take over formulas that another process has kept, as JSON by name, and where the weights lie that it has."""
        for name, formula in formulas.items():
            self.store.keep_formula(name, formula)
        for name, file in files.items():
            if self._kept.get(name) != file:
                self._kept[name] = file
                self._others.pop(name, None)

    def hold(self, items: Sequence[Ingredient]) -> None:
        """Take over weights themselves, as another process has them, and let go of those that are not among them."""
        self._others = {item.name: item for item in items}

    def handed_on(self, names: Sequence[str]) -> tuple[dict[str, str], dict[str, Path]]:
        """What `receive` takes, of these names."""
        formulas = self.formulas(names)
        kept = {name: self._kept_file(name) for name, formula in formulas.items() if formula.kind == KEPT}
        return {name: formula.model_dump_json() for name, formula in formulas.items()}, kept

    def _kept_file(self, name: str) -> Path:
        return self._kept.get(name, self.store.folder / "made" / f"{name}.safetensors")

    def _made(self, name: str, formula: Formula) -> Ingredient:
        if formula.kind == KEPT:
            return self._from_file(name, self._kept_file(name))
        item = made(name, formula, self.resolve, self._architecture.ties)
        if not name.endswith(item.fingerprint[:12]):
            raise KitchenError(
                f"{name} was made of {', '.join(formula.names)}, and one of these has changed since; cook it again."
            )
        return item

    def read(self, file: Path) -> Ingredient:
        """A checkpoint's file as it is now: one of the same name that was read before may have been another."""
        return self._from_file(str(file), file)

    def _read(self, name: str) -> Ingredient:
        if is_remote(name):
            trust.check_fetch(name, self.file.parent)
            item = self._from_file(name, fetched(name))
            lease(self, [Path(place) for place, *_ in item.stamp])
            return item
        file = next((path for path in (Path(name), self.file.parent / name) if path.exists()), None)
        if file is None:
            raise KitchenError(unknown_name(name, self.ingredients))
        return self._from_file(name, trust.check_read(file_in(file), self.file.parent))

    def _from_file(self, name: str, file: Path) -> Ingredient:
        first = next(iter(self.ingredients.values()))
        return read_other(name, file, self._architecture, self.store, first, self.base)
