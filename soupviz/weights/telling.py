"""What is told of how files were read: nothing is chosen, left over or passed over in silence."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from soupviz.weights.fitting import Weights
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.lora import lora_keys
from soupviz.weights.pairs import copies, twins
from soupviz.weights.selection import Passed

MOST = 4
"""Names in a sentence."""


def sentences(
    ingredients: Sequence[Ingredient],
    base: Ingredient | None,
    passed: Sequence[Passed],
    weights: Weights,
) -> tuple[str, ...]:
    """What was understood of a kitchen's files, one sentence for each thing, whatever the number of files.

    Args:
        weights: which the kitchen asks for.
    """
    others = twins(ingredients, weights)
    counted = [item for item in ingredients if item.name not in others]
    told = [
        _of_passed([one for one in passed if one.stand_in is None]),
        *_of_stand_ins([one for one in passed if one.stand_in], weights),
        _of_twins(others, weights),
        *_of_averages(counted, weights),
        *_of_left_over([*ingredients, *([base] if base else [])]),
        *_of_copies(counted),
        _of_files_that_are_averages(counted),
        _of_types(base),
        _of_head(base),
        _of_lora(ingredients),
        *_of_adapters(ingredients),
        *_of_unread(ingredients),
    ]
    return tuple(filter(None, told))


def _of_passed(passed: Sequence[Passed]) -> str:
    if not passed:
        return ""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in passed:
        by_reason[one.reason].append(one.path.name)
    parts = [f"{_listed(names)} ({reason})" for reason, names in by_reason.items()]
    return f"Passed over, as no checkpoints: {'; '.join(parts)}."


def _of_stand_ins(replaced: Sequence[Passed], wanted: Weights) -> list[str]:
    pairs = [f"{one.stand_in.name} for {one.path.name}" for one in replaced if one.stand_in]
    told = [f"Read in place of the pickles that soupviz convert made them from: {_listed(pairs)}."] if pairs else []
    if others := [one.other.name for one in replaced if one.other]:
        held, other = ("averages", "ema") if wanted == "raw" else ("raw weights", "raw")
        told.append(
            f"Their {held} lie beside them ({_listed(others)}): weights: {other} (--weights {other}) reads these."
        )
    return told


def _of_twins(others: Mapping[str, str], wanted: Weights) -> str:
    """Of pairs of files, one with raw weights and one with their average."""
    if not others:
        return ""
    pairs = _listed([f"{name} (of {counted})" for name, counted in others.items()])
    if wanted == "raw":
        said = f"Averages of raw weights in other files: {pairs}. The raw weights count"
    else:
        said = f"Raw weights of averages in other files: {pairs}. The averages count"
    other = "ema" if wanted == "raw" else "raw"
    return f"{said}, unless others are chosen by name; weights: {other} (--weights {other}) takes the others."


def _of_averages(ingredients: Sequence[Ingredient], wanted: Weights) -> list[str]:
    """Of files that hold raw weights and an average, and of kitchens in which only some do."""
    fitted = {item.name: item.fitted for item in ingredients if item.fitted}
    both = [name for name, one in fitted.items() if one.has_twin]
    averages = [name for name, one in fitted.items() if one.weights == "ema"]
    told_below = {name for name, one in fitted.items() if one.by_name or (one.averaged or 0) > 1}
    only = [name for name in averages if not fitted[name].has_twin and name not in told_below]
    raw = [name for name, one in fitted.items() if one.weights == "raw"]
    told = []
    if both:
        read, other = ("raw", "ema") if wanted == "raw" else ("EMA", "raw")
        told.append(f"{_listed(both)}: the file holds raw and EMA weights. The {read} ones are read; weights: {other} "
                    f"(--weights {other}) reads the others.")  # fmt: skip
    if wanted == "raw" and only:
        told.append(f"{_listed(only)}: the file holds EMA weights only, and these are read.")
    if wanted == "ema" and raw:
        told.append(f"{_listed(raw)}: the file holds no EMA weights, and its raw ones are read.")
    if averages and raw:
        told.append(f"Averages and raw weights stand side by side: {len(averages)} and {len(raw)} ingredients.")
    for place, names in _grouped({name: ", ".join(one.others) for name, one in fitted.items()}).items():
        told.append(f"{_listed(names)}: further weights in the file would fit, too ({place}); the first are "
                    "read.")  # fmt: skip
    for place, names in _grouped({name: ", ".join(one.unread) for name, one in fitted.items()}).items():
        told.append(f"{_listed(names)}: the file holds an average, too ({place}), which does not fit the model and is "
                    "not read.")  # fmt: skip
    return told


def _of_left_over(items: Sequence[Ingredient]) -> list[str]:
    left = {item.name: ", ".join(_shortened(item.fitted.left_over)) for item in items if item.fitted}
    return [f"{_listed(names)}: left over, as no part of the model: {keys}." for keys, names in _grouped(left).items()]


def _shortened(keys: Sequence[str]) -> list[str]:
    return [*keys[:MOST], *([f"{len(keys) - MOST} more keys"] if len(keys) > MOST else [])]


def _of_copies(ingredients: Sequence[Ingredient]) -> list[str]:
    return [
        f"{name} is a copy of {kept}: the same weights, which count once unless both are chosen by name."
        for name, kept in copies(ingredients).items()
    ]


def _of_files_that_are_averages(ingredients: Sequence[Ingredient]) -> str:
    """Of files that say so themselves: an average of averages weighs some checkpoints twice."""
    counted = {item.name: item.fitted.averaged or 0 for item in ingredients if item.fitted}
    parts = [f"{name} (of {number} models)" for name, number in counted.items() if number > 1]
    by_name = [item.name for item in ingredients if item.fitted and item.fitted.by_name]
    named = [name for name in by_name if counted[name] < 2]
    parts += [f"{name} (by its name)" for name in named]
    return f"Averages themselves: {_listed(parts)}." if parts else ""


def _of_head(base: Ingredient | None) -> str:
    if base is None or not base.lacking:
        return ""
    return (
        f"The base ({base.path.name}) has another head: {_listed(base.lacking)} are not its own. Recipes with a base "
        "work over the keys that are shared, and average the others; it cannot be scored itself."
    )


def _of_types(base: Ingredient | None) -> str:
    held = base.fitted.tensors if base and base.fitted else {}
    changed = (
        {key: tensor for key, tensor in base.tensors.items() if tensor.dtype != held[key].dtype}
        if base and held
        else {}
    )
    for key, tensor in changed.items():
        own, others = (str(each.dtype).removeprefix("torch.") for each in (held[key], tensor))
        return f"The base holds {own}; it is read as {others}, which the ingredients hold."
    return ""


def _of_lora(ingredients: Sequence[Ingredient]) -> str:
    keys = lora_keys(ingredients[0].tensors) if ingredients else []
    if not keys:
        return ""
    return (
        f"The checkpoints hold LoRA factors ({_listed(keys)}): the mean of products is not the product of means, so "
        "they are not averaged apart. Merge them into their layers first (peft: merge_and_unload), and save that."
    )


def _of_adapters(ingredients: Sequence[Ingredient]) -> list[str]:
    """What adapters are here, and where one changes more than its file says."""
    adapters = {item.name: item.adapter for item in ingredients if item.adapter}
    if not adapters:
        return []
    ranks = sorted({rank for one in adapters.values() for rank in one.ranks})
    base = next(iter(adapters.values())).base
    kind = f"LoRA of rank {', '.join(map(str, ranks))}" if ranks else "adapters without a product"
    told = [f"{_listed(list(adapters))}: {kind} over {base.path.name}; each is that base with its update added."]
    tied = {name: ", ".join(one.tied) for name, one in adapters.items()}
    return told + [
        f"{_listed(names)}: changes {keys}, which the model ties to another weight: both are changed, as peft's "
        "merge_and_unload does it."
        for keys, names in _grouped(tied).items()
    ]


def _of_unread(ingredients: Sequence[Ingredient]) -> list[str]:
    """Logs that cannot be read: their values are not known, and no reason to refuse weights."""
    told = dict.fromkeys(sentence for item in ingredients for sentence in item.unread_logs)
    return [f"Not read, and left out of what is known: {sentence}" for sentence in told]


def _grouped(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by what is said of them, where anything is."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, text in texts.items():
        if text:
            found[text].append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
