"""A configuration of mergekit as a recipe, its models named as they are there; what soupviz has not is refused by name.

Source:
    https://github.com/arcee-ai/mergekit, its documentation of configurations and methods.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from soupviz.errors import RecipeError
from soupviz.plain_data import yaml_in
from soupviz.recipes import Merge, parse
from soupviz.recipes.merges import LINEAR, ON_BASE
from soupviz.types import Coefficients

SUFFIXES = (".yaml", ".yml")

METHODS = {
    "linear": LINEAR, "task_arithmetic": "task_arithmetic", "ties": "ties", "dare_linear": "dare",
    "breadcrumbs": "breadcrumbs", "model_stock": "model_stock", "slerp": "slerp", "karcher": "karcher",
}  # fmt: skip
"""mergekit's names of methods, and the formulas that are the same here."""

KEYS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype", "name", "tokenizer_source")
NORMALIZED = frozenset({"linear", "ties"})
"""Methods that divide weights by their sum unless they are told not to."""

TAKEN: Mapping[str, tuple[str, ...]] = {
    "linear": ("weight", "normalize"),
    "task_arithmetic": ("weight", "normalize", "lambda", "density", "int8_mask"),
    "ties": ("weight", "normalize", "lambda", "density", "int8_mask", "rescale"),
    "dare_linear": ("weight", "normalize", "lambda", "density", "int8_mask", "rescale"),
    "breadcrumbs": ("weight", "normalize", "lambda", "density", "gamma", "int8_mask", "rescale"),
    "model_stock": ("filter_wise",),
    "slerp": ("t",),
    "karcher": ("max_iter", "tol"),
}
"""The parameters of each method."""

ONLY: Mapping[tuple[str, str], bool] = {
    ("ties", "normalize"): True, ("ties", "rescale"): False, ("breadcrumbs", "rescale"): False,
    ("dare_linear", "rescale"): True, ("model_stock", "filter_wise"): False,
}  # fmt: skip
"""Switches that have one position here, which is mergekit's default."""


def read_merge(file: str | Path) -> Merge:
    """A configuration of mergekit as a recipe, with its models named as they are there.

    Raises:
        RecipeError: no such file, no YAML, or a method, key, parameter or value that soupviz has not, by its name.
    """
    place = Path(file)
    try:
        values = yaml_in(place)
    except OSError as error:
        raise RecipeError(
            f"{place}: cannot be read ({error.strerror}); expected a configuration of mergekit."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{place}: not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict) or "merge_method" not in values:
        raise RecipeError(f"{place}: names no merge_method; expected a configuration of mergekit.")
    try:
        return _recipe(values)
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from None


def _recipe(values: Mapping[str, Any]) -> Merge:
    method = str(values["merge_method"])
    if method not in METHODS:
        raise RecipeError(f"the method {method!r} is none that soupviz has; it has {', '.join(METHODS)}.")
    if unknown := [key for key in values if key not in KEYS]:
        raise RecipeError(f"the key {str(unknown[0])!r} is none that soupviz reads; it reads {', '.join(KEYS)}.")
    if values.get("tokenizer_source") not in (None, "base"):
        raise RecipeError(
            f"tokenizer_source is {values['tokenizer_source']!r}; expected base: no embedding moves here."
        )
    shared = dict(_parameters(values.get("parameters"), method, "parameters"))
    models = _models(values, method)
    base = str(values.get("base_model") or "")
    own = {name: shared | dict(_parameters(told, method, name)) for name, told in models.items() if name != base}
    formula = METHODS[method]
    if formula == "slerp":
        others = list(own)
        if not base or len(others) != 1:
            raise RecipeError(f"slerp is between the base_model and one other; got {base or 'none'!r} and {others}.")
        return _made(formula="slerp", parts=((base, 1.0), (others[0], 1.0)), alpha=_number(own[others[0]], "t", None))
    if formula not in ON_BASE:  # a base is one of them all
        models |= {base: None} if base and base not in models else {}
        own = {name: shared | dict(_parameters(told, method, name)) for name, told in models.items()}
    return _merge(method, own, shared, base if formula in ON_BASE else "")


def _merge(method: str, own: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any], base: str) -> Merge:
    for told in (shared, *own.values()):
        for name, value in told.items():
            if (method, name) in ONLY and value is not ONLY[method, name]:
                raise RecipeError(f"{name} is {value!r}; of {method} soupviz has {ONLY[method, name]!r} alone.")
    if "weight" not in TAKEN[method]:
        parts: Coefficients = tuple((name, 1.0) for name in own)
    else:
        parts = tuple((name, _number(told, "weight", None)) for name, told in own.items())
    if shared.get("normalize", method in NORMALIZED):
        total = sum(weight for _, weight in parts)
        if not total:
            raise RecipeError("the weights sum to 0, by which they cannot be divided.")
        parts = tuple((name, weight / total) for name, weight in parts)
    more: dict[str, Any] = {}
    if "density" in TAKEN[method] and method != "task_arithmetic":
        more["density"] = _same(own, "density", 1.0)
    if "gamma" in TAKEN[method]:
        more["gamma"] = _same(own, "gamma", 0.01)
    if "lambda" in TAKEN[method]:
        more["scale"] = _number(shared, "lambda", 1.0)
    if method == "karcher":
        more |= {"iterations": int(_number(shared, "max_iter", 10)), "tolerance": _number(shared, "tol", 1e-5)}
    return _made(formula=METHODS[method], parts=parts, base=base, **more)


def _made(**values: Any) -> Merge:
    made = parse({"method": "merge", **values})
    assert isinstance(made, Merge)
    return made


def _models(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    given = values.get("models")
    if not isinstance(given, list) or not given:
        raise RecipeError("names no models; expected a list of them: soupviz reads no slices and modules.")
    found: dict[str, Any] = {}
    for one in given:
        if not isinstance(one, dict) or not isinstance(one.get("model"), str) or set(one) - {"model", "parameters"}:
            raise RecipeError(f"models has {str(one)[:80]!r}; expected a mapping of model, a text, and parameters.")
        if one["model"] in found:
            raise RecipeError(f"models names {one['model']!r} twice; name each once.")
        found[one["model"]] = one.get("parameters")
    return found


def _parameters(told: Any, method: str, where: str) -> Iterator[tuple[str, Any]]:
    """One value for each; what differs by layer or by name of a tensor is refused."""
    if told is not None and not isinstance(told, dict):
        raise RecipeError(f"the parameters of {where} are {str(told)[:80]!r}; expected a mapping.")
    for name, value in (told or {}).items():
        if name not in TAKEN[method]:
            raise RecipeError(f"{method} has no parameter {name!r} here; it has {', '.join(TAKEN[method])}.")
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(one, dict) and set(one) == {"value"}:
            one = one["value"]
        if isinstance(one, (list, dict)):
            raise RecipeError(f"{name} of {where} differs by layer ({str(value)[:60]}); soupviz has one value for all.")
        yield name, one


def _number(told: Mapping[str, Any], name: str, default: float | None) -> float:
    value = told.get(name, default)
    try:
        if value is None or isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise RecipeError(f"{name} is {value!r}; expected a number.") from None


def _same(own: Mapping[str, Mapping[str, Any]], name: str, default: float) -> float:
    values = {_number(told, name, default) for told in own.values()}
    if len(values) > 1:
        raise RecipeError(f"{name} is {', '.join(map(str, sorted(values)))}; soupviz has one for all models.")
    return values.pop() if values else default
