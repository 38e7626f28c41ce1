"""mergekit's YAML: read as a recipe of this kitchen, and written of a soup that mergekit can make as well."""

from pathlib import Path
from typing import Any

from soupviz.errors import ExportError, KitchenError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.formulas import Formula
from soupviz.recipes import Merge
from soupviz.recipes.merge_files import METHODS, NORMALIZED, SUFFIXES, read_merge
from soupviz.soups.soup import Soup
from soupviz.types import Coefficients
from soupviz.weights.containers import checkpoints_in
from soupviz.weights.ingredients import Ingredient, unknown_name
from soupviz.weights.lineage import hub_name
from soupviz.weights.selection import BASE
from soupviz.yaml_file import as_yaml

RANDOM = "dare drops numbers at random, and mergekit draws others: only what the weights are on average is the same"


def from_mergekit(kitchen: Kitchen, file: str | Path) -> Merge:
    """A configuration of mergekit as a recipe of this kitchen, which `cook` takes.

    A model is an ingredient by its name, its file or folder, or its name on the hub; `base` is the kitchen's base.

    Raises:
        RecipeError: as of `read_merge`.
        KitchenError: a model that is no ingredient of this kitchen, or that several could be.
    """
    recipe, folder = read_merge(file), Path(file).parent
    named = [name for name, _ in recipe.parts] + ([recipe.base] if recipe.base else [])
    return recipe.renamed({name: _meant(kitchen, folder, name) for name in named})


def mergekit_yaml(soup: Soup) -> str:
    """The configuration by which mergekit makes the same weights, up to rounding.

    Raises:
        ExportError: the soup is made by what mergekit has not.
    """
    kitchen, how = soup.kitchen, soup.recipe.aggregation
    if how in OUTPUTS or how != "average":
        raise ExportError(f"mergekit averages weights alone; the soup was cooked with {how!r}. Write its weights.")
    values: dict[str, Any]
    if (parts := kitchen.weights.as_sum(soup.mix)) is not None:
        values = {"merge_method": "linear", "models": _weighted(kitchen, parts), "parameters": {"normalize": False}}
    else:
        formula = kitchen.weights.formula(soup.mix[0][0]) if len(soup.mix) == 1 else None
        method = next((name for name, kind in METHODS.items() if formula and kind == formula.kind), None)
        if formula is None or method is None or soup.mix[0][1] != 1.0:
            raise ExportError(f"{soup.title}: mergekit has no method that makes these weights; write them.")
        values = {"merge_method": method} | _of_formula(kitchen, method, formula)
    stored = str(next(iter(kitchen.ingredients[0].shapes.values())).dtype).removeprefix("torch.")
    values |= {"dtype": "float32"} | ({"out_dtype": stored} if stored != "float32" else {})
    note = f"# {RANDOM}.\n" if values["merge_method"] == "dare_linear" else ""
    title = f"# {soup.title}, of {kitchen.name}; `soupviz soup KITCHEN --recipe THIS_FILE` makes it again.\n"
    return title + note + as_yaml(values)


def check_configuration(target: Path | str) -> None:
    """Whether a configuration can be written there.

    Raises:
        ExportError: an address, another suffix, or a file that is no configuration of mergekit.
    """
    if not isinstance(target, Path) or target.suffix not in SUFFIXES:
        raise ExportError(f"{target}: a configuration of mergekit is a file here; name it .yaml.")
    if target.is_file() and "merge_method" not in target.read_text(encoding="utf-8", errors="replace"):
        raise ExportError(f"{target}: holds something else than a configuration of mergekit; choose another name.")


def _weighted(kitchen: Kitchen, parts: Coefficients, **more: float) -> list[dict[str, Any]]:
    return [
        {"model": _reference(kitchen.weights.resolve(name)), "parameters": {"weight": float(weight)} | more}
        for name, weight in parts
    ]


def _of_formula(kitchen: Kitchen, method: str, formula: Formula) -> dict[str, Any]:
    own = formula.parameters
    base = {"base_model": _reference(kitchen.weights.resolve(formula.base))} if formula.base else {}
    models = [{"model": _reference(kitchen.weights.resolve(name))} for name, _ in formula.parts]
    if method == "slerp":
        return {"models": models, "base_model": models[0]["model"], "parameters": {"t": float(own["alpha"])}}
    if method == "karcher":
        told = {"max_iter": own.get("iterations", 50), "tol": own.get("tolerance", 1e-6)}
        return {"models": models, "parameters": told}
    if method == "model_stock":
        return {"models": models} | base
    shared = {name: float(own[name]) for name in ("density", "gamma") if name in own}
    told = {"normalize": method in NORMALIZED, "lambda": float(own["scale"])}
    return {"models": _weighted(kitchen, formula.parts, **shared), **base, "parameters": told}


def _reference(item: Ingredient) -> str:
    """What mergekit is told of a checkpoint: a folder that it opens, else its file; an adapter behind its base."""
    if item.adapter:
        return f"{_reference(item.adapter.base)}+{item.path.parent.absolute()}"
    path = item.path.absolute()
    is_model = (path.parent / "config.json").is_file() and checkpoints_in(path.parent) == [path]
    return str(path.parent if is_model else path)


def _meant(kitchen: Kitchen, folder: Path, text: str) -> str:
    """The kitchen's name of what a configuration calls a model."""
    if text in kitchen.names or (text == BASE and kitchen.weights.base):
        return text
    named = text.rpartition("+")[2] if "+" in text else text  # an adapter is what makes the difference
    items = {item.name: item for item in kitchen.ingredients}
    items |= {BASE: kitchen.weights.base} if kitchen.weights.base else {}
    places = {(folder / named).resolve(), Path(named).resolve()}
    found = [
        name for name, item in items.items() if hub_name(item.path) == named.partition("@")[0] or _lies_at(item, places)
    ]
    if len(found) > 1:
        raise KitchenError(f"{text!r} is {' and '.join(found)} of {kitchen.file}; name one of them.")
    if not found:
        raise KitchenError(f"{kitchen.file}: {unknown_name(text, items)}")
    return found[0]


def _lies_at(item: Ingredient, places: set[Path]) -> bool:
    path = item.path.resolve()
    return path in places or path.parent in places
