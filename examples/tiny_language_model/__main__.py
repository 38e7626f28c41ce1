"""Nats per token: WSM's averages of checkpoints at a constant learning rate, against a run whose rate decayed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soupviz as sv
from examples import common
from examples.tiny_language_model import training
from soupviz.spec import TEST
from soupviz.tasks.paired import compare
from soupviz.tasks.significance import chance

DECAYED = "decayed"
JUDGED = {
    "kitchen.yaml": ("Reviews, a tiny GPT-2", "language_model", "text", "{}.jsonl"),
    "orders.yaml": ("Orders of words, the same GPT-2", "multiple_choice", "choices", "{}_orders.jsonl"),
}
"""The kitchens of the same checkpoints: name, task, format and files of the splits."""


def recipes(checkpoints: Sequence[str], schedule: training.Schedule) -> dict[str, dict[str, Any]]:
    """All of the constant run's checkpoints: where the decayed branch leaves it, its decay would begin."""

    def wsm(shape: str) -> dict[str, Any]:
        return {"method": "wsm", "decay": shape, "duration": schedule.decay, "members": list(checkpoints)}

    return {
        "decayed run": {"method": "uniform", "members": [DECAYED]},
        "last checkpoint, not decayed": {"method": "lawa", "last": 1, "members": list(checkpoints)},
        "WSM, linear": wsm("linear"),
        "WSM, 1-sqrt": wsm("1-sqrt"),
        "WSM, cosine": wsm("cosine"),
        **common.COMPARED,
        "uniform soup": {"method": "uniform", "members": list(checkpoints)},
    }


def kitchen_of(runs: Path, data: Path, file: str) -> sv.Kitchen:
    """The checkpoints with what judges them."""
    name, task, form, path = JUDGED[file]

    def split(which: str) -> dict[str, Any]:
        return {"format": form, "path": str(data / path.format(which)), "tokenizer": DECAYED}

    document = {
        "name": name,
        "task": task,
        "model": {"factory": f"transformers:{DECAYED}"},
        "ingredients": ["checkpoint-*", DECAYED],
        "data": {which: split(which) for which in ("held_out", "test")},
    }
    return sv.Kitchen.load(common.write_kitchen(runs, document, file))


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("tiny_language_model", __doc__, arguments)
    data, reviews = training.write_data(order)
    runs = training.train(order, reviews)
    kitchen, of_orders = (kitchen_of(runs, data, file) for file in JUDGED)
    checkpoints = [name for name in kitchen.names if name != DECAYED]
    tried = recipes(checkpoints, training.schedule_of(order))
    rows = common.compare(kitchen, tried)
    others = common.compare(of_orders, {name: tried[name] for name in common.COMPARED})
    told = (
        common.table(kitchen, rows),
        against_decayed(kitchen, tried["WSM, linear"]),
        common.table(of_orders, others),
    )
    found = {"runs": common.found_in(kitchen, rows), "orders": common.found_in(of_orders, others)}
    common.tell(order, "tiny_language_model", "\n\n".join(told), found)


def against_decayed(kitchen: sv.Kitchen, recipe: dict[str, Any]) -> str:
    """The emulated decay and the real one, which saw the same data."""
    soup, decayed = sv.cook(kitchen, recipe), kitchen.scores.score(((DECAYED, 1.0),), TEST)
    found = compare(kitchen.task, kitchen.objective, soup.scores[TEST], decayed)
    around = f"{found.difference:+.4f} nats, {found.low:+.4f} to {found.high:+.4f}"
    return f"{soup.title} against the decayed run on test: {around} ({chance(found.p_value)})."


if __name__ == "__main__":
    main()
