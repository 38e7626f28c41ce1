"""The model card that goes beside an exported soup."""

import json
import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from soupviz.mixing.aggregation import num_examples
from soupviz.soups.hub import alone_in, front_matter, in_words, interval_on, licences_in, num_units_in, value_in
from soupviz.soups.provenance import Record
from soupviz.soups.selecting import named
from soupviz.soups.soup import summed
from soupviz.tasks.wording import PERCENT
from soupviz.weights.containers import INDEX_SUFFIX

LOADERS = {
    "": 'from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(model, "{name}")',
    ".safetensors": "from safetensors.torch import load_file\n\n"
    'model.load_state_dict(load_file("{name}"), strict=True)',
    INDEX_SUFFIX: "import json\n\nfrom safetensors.torch import load_file\n\n"
    'with open("{name}") as file:\n    shards = set(json.load(file)["weight_map"].values())\n'
    "state_dict = {{key: tensor for shard in shards for key, tensor in load_file(shard).items()}}\n"
    "model.load_state_dict(state_dict, strict=True)",
    ".pt": 'import torch\n\nmodel.load_state_dict(torch.load("{name}", weights_only=True), strict=True)',
}
LINEAGE = {"on the hub": "model", "licence": "license"}
"""Columns of the table of ingredients that are there where something is known, and what they hold."""

TEMPLATE = """{metadata}
# {called}

{what} of *{kitchen}*, cooked by soupviz {version}.

## Scores

{scores}

The soup was chosen on {selected_on}: its {label} there is optimistic.{direction} Judge it by the other splits.{data}

## Load it

`model` is {factory} with the arguments {args}.

```python
{loader}
```

## Ingredients

| ingredient | {column}fingerprint |
|---|{rule}---|
{ingredients}
{licence}
BatchNorm running statistics: {batchnorm}. Numbers are stored as {dtype}.{form}{weights}
{temperature}
## Rebuild it

`{recipe}`, and the metadata of the file itself, name every ingredient by its fingerprint. {rebuilds}, and fails if
a checkpoint has changed:

```
python -m soupviz bake {argument} --out rebuilt{suffix}{kitchen_option}
```
"""


def card(called: str, name: str, of: Record, loader: str = "", recipe: str = "recipe.yaml") -> str:
    """The text of README.md for a soup.

    Args:
        called: as it is to be written. name: of what is loaded, which in parts is their index. loader: the lines that
            load it; default: by its suffix. recipe: the file beside it.
    """
    record = of.model_dump(mode="json")
    suffix = INDEX_SUFFIX if name.endswith(INDEX_SUFFIX) else "" if of.adapter else "." + name.rpartition(".")[2]
    suffix = suffix if suffix in LOADERS else ".safetensors"  # a folder's name has none
    bases = {origin.over for origin in of.ingredients.values()} - {*of.pool}
    pool = {member: origin for member, origin in record["ingredients"].items() if member not in bases}
    is_linear = record["coefficients"] is not None
    mix = dict(summed(of.mix, of.coefficients or {}))
    dtype = "float32" if record["dtype"] == "float32" else "the ingredients have them"
    beside = {heading: key for heading, key in LINEAGE.items() if any(origin.get(key) for origin in pool.values())}
    return TEMPLATE.format(
        metadata=front_matter(called, of),
        called=_text(called),
        recipe=recipe.replace("`", ""),
        argument=shlex.quote(name),
        what=_what(of, len(mix) if is_linear else 0, len(pool)),
        kitchen=_text(record["kitchen"]),
        version=record["soupviz"],
        scores=_scores(of),
        label=of.judged.label,
        direction="" if of.judged.higher_is_better else f" Of {of.judged.label}, lower is better.",
        selected_on=_text(", ".join(record["selected_on"])),
        data=f" What chose it: {_text(named(of.selecting_data))}." if of.selecting_data else "",
        weights=_weights(record),
        factory=_code(record["model"]["factory"]),
        args=_code(str(record["model"]["args"])),
        loader=loader or LOADERS[suffix].format(name=json.dumps(name, ensure_ascii=False)[1:-1]),
        column=("coefficient | " if is_linear else "") + "".join(f"{heading} | " for heading in beside),
        rule="---|" * (is_linear + len(beside)),
        ingredients="\n".join(
            f"| {_text(member)} | "
            + (f"{mix.get(member, 0.0):.6g} | " if is_linear else "")
            + "".join(f"{_text(origin.get(key) or '–')} | " for key in beside.values())
            + f"`{origin['fingerprint'][:16]}` |"
            for member, origin in pool.items()
        ),
        rebuilds="With its kitchen, which has the data, this makes them again up to rounding"
        if of.needs_data
        else "With its kitchen, whose model reads the checkpoints, this rebuilds the weights bit for bit"
        if of.computed
        else "This rebuilds the weights bit for bit",
        kitchen_option=" --kitchen KITCHEN" if of.needs_data or of.computed else "",
        licence=_licence(of),
        batchnorm=record["batchnorm"],
        temperature=_temperature(record, of.judged.divides),
        dtype=dtype,
        form=f"\nAn adapter over the base of its members, {of.adapter.in_words()}." if of.adapter else "",
        suffix=".safetensors" if suffix == INDEX_SUFFIX else suffix,
    )


def _what(of: Record, num_mixed: int, num_all: int) -> str:
    """What the weights are. num_mixed: how many checkpoints are averaged; 0 where it is no average."""
    title = _text(of.title)
    if alone := alone_in(of):
        changed = ["its running statistics re-estimated"] if num_examples(of.batchnorm) else []
        changed += ["a layer divided by a temperature"] if of.scaled_layer is not None else []
        state = f", with {' and '.join(changed)}" if changed else " itself"
        return f"No merge, but {_text(alone)}{state}: {title} kept it alone of {num_all} fine-tuned checkpoints"
    how = f"the weighted average of {num_mixed} of {num_all} fine-tuned" if num_mixed else f"made from {num_all}"
    return f"A model soup: {title}, {how} checkpoints"


def _scores(of: Record) -> str:
    """The table of scores: of each split the objective with its interval, and what is told beside it."""
    judged = of.judged
    title = judged.label if judged.metric_unit in ("", PERCENT) else f"{judged.label} ({judged.metric_unit})"
    heads = ["split", "role", title, "95% interval", *(["right"] if judged.is_share else []), f"{judged.unit}s"]
    heads += [judged.beside[1]] if judged.beside else []
    rows = [heads, ["---"] * len(heads), *(_score_row(of, split) for split in of.scores)]
    by: dict[str, list[str]] = {}
    for split, one in _grouped(of).items():
        by.setdefault(one["grouped"]["column"], []).append(split)
    told = [_text(f"On {', '.join(splits)} intervals are resampled by {column}.") for column, splits in by.items()]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), *(["", *told] if told else [])])


def _grouped(of: Record) -> dict[str, dict[str, Any]]:
    """The scores on splits whose units belong to groups."""
    return {split: score for split, score in of.scores.items() if score.get("grouped")}


def _score_row(of: Record, split: str) -> list[str]:
    judged, score = of.judged, of.scores[split]
    value, number = value_in(score, judged.metric), num_units_in(score)
    right = round((value or 0.0) * number)
    interval = interval_on(of, split)
    shown = "–" if interval is None else " to ".join(_told(of, split, end) for end in interval)
    row = [_text(split), "selected on" if split in of.selected_on else "reports", _told(of, split, value), shown]
    row += [str(right)] if judged.is_share else []
    beside = value_in(score, judged.beside[0]) if judged.beside else None
    return [*row, str(number), *(["–" if beside is None else f"{beside:.4f}"] if judged.beside else [])]


def _told(of: Record, split: str, value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else in_words(of, split, value)


def _licence(of: Record) -> str:
    """What licences the soup's ingredients have, in a sentence; empty where none says anything."""
    licences = licences_in(of)
    known = sorted({licence for licence in licences.values() if licence})
    if not known:
        return ""
    silent = [name for name, licence in licences.items() if not licence]
    rest = f" Nothing is said of that of {_text(', '.join(silent))}." if silent else ""
    told = _text(", ".join(known))
    if len(known) > 1:
        return f"\nIts ingredients have several licences, all of which hold: {told}.{rest}\n"
    return f"\nThe licence of its ingredients: {told}.{rest}\n"


def _weights(record: Mapping[str, Any]) -> str:
    """What these weights are known by, and which ingredients are averages over their training."""
    averages = [name for name, origin in record["ingredients"].items() if origin["weights"] == "ema"]
    told = f"\n{_text(', '.join(averages))}: the EMA weights of the file." if averages else ""
    return told + (f"\nThe fingerprint of these weights is `{record['fingerprint']}`." if record["fingerprint"] else "")


def _temperature(record: Mapping[str, Any], divides: tuple[str, str] | None) -> str:
    if record["temperature"] is None or divides is None:
        return ""
    divided, squashed = divides
    told = f"\nTemperature fitted on held_out: {record['temperature']:.4f}. "
    if record["scaled_layer"] is not None:
        layer = record["scaled_layer"] or "the layer"
        return f"{told}{layer} is divided by it: {squashed} of {divided} is calibrated as it is.\n"
    return f"{told}Divide {divided} by it before {squashed}; the weights are not changed by it.\n"


def _text(name: str) -> str:
    """A name as Markdown that reads as it is, in one line."""
    line = " ".join(name.split())
    return re.sub(r"[\\`*\[\]<|$&~#]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", line)


def _code(text: str) -> str:
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in (line[:1], line[-1:]) else ""
    return f"{fence}{pad}{line}{pad}{fence}"
