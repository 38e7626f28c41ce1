"""What the Hugging Face Hub is told of a soup: the metadata at the head of its model card.

Source:
    https://huggingface.co/docs/hub/model-cards, and its specification of `model-index`.
"""

import re
from collections.abc import Mapping
from typing import Any

from soupviz.soups.about import PEFT
from soupviz.soups.provenance import Record
from soupviz.soups.soup import summed
from soupviz.tasks.significance import wilson
from soupviz.tasks.wording import PERCENT, in_percent, places
from soupviz.weights.lineage import OURS
from soupviz.yaml_file import as_yaml

TAGS = ("merge", "model-soup", OURS)
OF_ONE = (OURS,)
"""Where nothing was merged."""

SEVERAL, OTHER = "several", "other"
"""The name of what several licences are together, and what the hub calls a licence that it does not know."""


def front_matter(called: str, of: Record) -> str:
    """The metadata as it stands at the head of README.md. Its first line tells whose card it is."""
    return f"---\n# {' '.join(called.split())}\n{as_yaml(metadata(called, of))}---\n"


def metadata(called: str, of: Record) -> dict[str, Any]:
    """The hub's keys with what is known of a soup; what the kitchen's `card` says of a key is taken as it is.

    Only splits that had no part in the choice are results: the others flatter it.
    """
    licensed = licence_of(of)
    found: dict[str, Any] = {
        "tags": [],
        "model_name": called,
        **licensed,
        **of.card,
        **({"library_name": PEFT} if of.adapter else {}),
    }
    found["tags"] = list(dict.fromkeys([*(OF_ONE if alone_in(of) else TAGS), *_list(of.card.get("tags"))]))
    if results := _results(of, _list(found.get("datasets"))):
        found["metrics"] = list(dict.fromkeys(one["type"] for result in results for one in result["metrics"]))
        found["model-index"] = [{"name": called, "results": results}]
    return found


def alone_in(of: Record) -> str:
    """The one ingredient that a soup is, where nothing is mixed with it; empty where something is."""
    mix = summed(of.mix, of.coefficients) if of.coefficients is not None else ()
    return mix[0][0] if [weight for _, weight in mix] == [1.0] else ""


def licence_of(of: Record) -> dict[str, str]:
    """The licence of what a soup is made of, where all of it has the same; of several that these are several."""
    licences = licences_in(of)
    known = {licence for licence in licences.values() if licence}
    if len(known) > 1:
        return {"license": OTHER, "license_name": SEVERAL}
    if known and all(licences.values()):
        (only,) = known
        return {"license": only}
    return {}


def licences_in(of: Record) -> dict[str, str]:
    """What each ingredient that is in the soup says of its licence; empty where it says nothing."""
    needed = of.needed
    return {name: origin.license for name, origin in of.ingredients.items() if name in needed}


def interval_on(of: Record, split: str) -> tuple[float, float] | None:
    """The 95 % interval of the objective on a split, where it has one."""
    judged, score = of.judged, of.scores[split]
    value, number = value_in(score, judged.metric), num_units_in(score)
    if interval := judged.intervals.get(split):
        return interval
    is_counted = judged.is_share and not score.get("grouped")
    return wilson(round((value or 0.0) * number), number) if is_counted else None


def value_in(score: Mapping[str, Any], metric: str) -> float | None:
    """In a score as a record tells it; earlier versions had each metric beside the others."""
    found: float | None = score["metrics"].get(metric) if "metrics" in score else score.get(metric)
    return found


def num_units_in(score: Mapping[str, Any]) -> int:
    return int(score.get("num_units", score.get("num_examples", 0)))


def in_words(of: Record, split: str, value: float) -> str:
    """A value of the objective on a split, in words."""
    if of.judged.metric_unit == PERCENT:
        return f"{in_percent(value, places(num_units_in(of.scores[split])))}%"
    return f"{value:.4g}"


def _results(of: Record, datasets: list[str]) -> list[dict[str, Any]]:
    """What was measured on each split that reports, as `model-index` has it."""
    task = {"type": of.card.get("pipeline_tag") or of.judged.task.replace("_", "-"), "name": of.judged.task}
    # A name on the hub is told only where there is one to tell; else the kitchen's own, spelled as such names are.
    data = datasets[0] if len(datasets) == 1 else re.sub(r"[^\w.-]+", "-", of.kitchen.lower()).strip("-") or OURS
    return [
        {
            "task": dict(task),  # one of its own: YAML would refer to the first
            "dataset": {"type": data, "name": f"{of.kitchen} ({split})", "split": split},
            "metrics": _metrics(of, split),
        }
        for split in of.scores
        if split not in of.selected_on and _metrics(of, split)
    ]


def _metrics(of: Record, split: str) -> list[dict[str, Any]]:
    score, judged = of.scores[split], of.judged
    names = dict.fromkeys((judged.metric, *score.get("metrics", ())))
    found = []
    for name in names:
        value = value_in(score, name)
        if value is None or value != value or value in (float("inf"), float("-inf")):
            continue
        one: dict[str, Any] = {"type": name, "value": value, "name": f"{name} on {split}"}
        if name == judged.metric:
            one["name"] = f"{judged.label} on {split}"
            if interval := interval_on(of, split):
                low, high = interval
                one["name"] += f", 95 % interval {in_words(of, split, low)} to {in_words(of, split, high)}"
                one["args"] = {"confidence_level": 0.95, "low": low, "high": high}
        found.append(one)
    return found


def _list(value: Any) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if isinstance(one, str)]
