"""The model card that goes beside an exported soup."""

from collections.abc import Mapping
from typing import Any

from soupviz.metrics import wilson

LOADERS = {
    ".safetensors": "from safetensors.torch import load_file\n\n"
    'model.load_state_dict(load_file("{name}"), strict=True)',
    ".pt": 'import torch\n\nmodel.load_state_dict(torch.load("{name}", weights_only=True), strict=True)',
}
TEMPLATE = """# {name}

A model soup: {title}, the weighted average of {used} of {pool} fine-tuned checkpoints of *{kitchen}*, cooked by
soupviz {version}.

## Scores

| split | role | accuracy | 95% interval | correct | examples | loss (nats) |
|---|---|---|---|---|---|---|
{scores}

The soup was chosen on held_out: its accuracy there is optimistic. Judge it by the other splits.

## Load it

`model` is `{factory}` with the arguments `{args}`.

```python
{loader}
```

## Coefficients

| ingredient | coefficient | fingerprint |
|---|---|---|
{coefficients}

BatchNorm running statistics: {batchnorm}. Numbers are stored as {dtype}.

## Rebuild it

`recipe.yaml`, and the metadata of the file itself, name every ingredient by its fingerprint. This rebuilds the
weights bit for bit, and fails if a checkpoint has changed:

```
python -m soupviz bake {name} --out rebuilt{suffix}
```
"""


def card(name: str, record: Mapping[str, Any]) -> str:
    """The text of README.md for the soup in file `name`, from its record as plain data."""
    suffix = "." + name.rpartition(".")[2]
    mix = dict(record["mix"])
    dtype = "float32" if record["dtype"] == "float32" else "the ingredients have them"
    return TEMPLATE.format(
        name=name,
        title=record["title"],
        used=len(mix),
        pool=len(record["coefficients"]),
        kitchen=record["kitchen"],
        version=record["soupviz"],
        scores="\n".join(_score_row(split, score) for split, score in record["scores"].items()),
        factory=record["model"]["factory"],
        args=record["model"]["args"],
        loader=LOADERS[suffix].format(name=name),
        coefficients="\n".join(
            f"| {member} | {mix.get(member, 0.0):.6g} | `{origin['fingerprint'][:16]}` |"
            for member, origin in record["ingredients"].items()
        ),
        batchnorm=record["batchnorm"],
        dtype=dtype,
        suffix=suffix,
    )


def _score_row(split: str, score: Mapping[str, Any]) -> str:
    low, high = wilson(score["correct"], score["num_examples"])
    role = "selected on" if split == "held_out" else "reports"
    loss = "–" if score["loss"] is None else f"{score['loss']:.4f}"
    return (
        f"| {split} | {role} | {score['accuracy']:.2%} | {low:.2%} to {high:.2%} "
        f"| {score['correct']} | {score['num_examples']} | {loss} |"
    )
