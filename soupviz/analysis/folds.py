"""A kitchen whose held_out is one half of another's, and whose test is the other half, for cross-fitting."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.loading import Splits
from soupviz.data.split import Split
from soupviz.files import digest
from soupviz.kitchen import Kitchen, changed
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.formulas import KEPT
from soupviz.recipes import Recipe
from soupviz.recipes.pool import outcomes_of
from soupviz.scoring.checking import checked_by
from soupviz.soups.soup import pool_of, run_key
from soupviz.soups.standing import is_current
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.store.database import Store
from soupviz.tasks.score import Score
from soupviz.types import Wanted, mix_from


def singles(kitchen: Kitchen, recipe: Recipe) -> list[Wanted]:
    """Every ingredient as it is, and those that the recipe chooses among with its own aggregation, on held_out."""
    rows: list[Wanted] = [(((name, 1.0),), HELD_OUT, "average") for name in kitchen.names]
    if recipe.is_search and recipe.aggregation not in OUTPUTS:
        rows += [(((name, 1.0),), HELD_OUT, recipe.aggregation) for name in pool_of(kitchen, recipe)]
    return list(dict.fromkeys(rows))


def halved(kitchen: Kitchen, recipe: Recipe, rows: Mapping[str, Tensor], seed: int, folder: Path) -> Kitchen:
    """The kitchen with one half of held_out as held_out and the other as test, and a store of its own.

    What is known of the whole is known of the halves: it is cut out of it.

    Args:
        rows: of held_out, those of the two splits, `held_out` and `test`. seed: of the halves, for their fingerprints.
        folder: where the store lies.
    """
    whole = kitchen.splits.load(HELD_OUT)
    data = kitchen.spec.data
    spec = kitchen.spec.model_copy(update={"data": data.model_copy(update={"test": data.held_out, "shifts": {}})})
    parts = {name: _part(whole, chosen, seed) for name, chosen in rows.items()}
    parts |= {TRAIN: kitchen.splits.load(TRAIN)} if kitchen.splits.is_loaded(TRAIN) else {}
    model = kitchen.evaluator.model
    splits = Splits(spec, kitchen.file, model, checked_by(kitchen.evaluator), kitchen.task.labels, known=parts)
    own = changed(kitchen, spec=spec, store=Store(folder / "store.sqlite"), splits=splits)
    _prime(kitchen, own, recipe, rows)
    return own


def _part(whole: Split, rows: Tensor, seed: int) -> Split:
    """A half of held_out, a view of it."""
    half = whole.part(rows, digest([whole.fingerprint, seed, rows.tolist()]))
    return replace(half, name=f"a half of {whole.name}", whole="")


def _prime(kitchen: Kitchen, own: Kitchen, recipe: Recipe, rows: Mapping[str, Tensor]) -> None:
    """Cut what is known of the whole into its halves: single ingredients, and what the recipe's own run has tried."""
    run = kitchen.store.run(run_key(kitchen, recipe))
    result = (run and run.status == "finished" and is_current(kitchen, run) and run.result) or {}
    tried = [step["mix"] for step in result.get("trajectory", []) if step.get("mix")]
    mixes = [mix_from(mix) for mix in [*tried, result.get("mix") or []]]
    for name, formula in kitchen.weights.formulas([name for mix in mixes for name, _ in mix]).items():
        if formula.kind != KEPT:
            own.store.keep_formula(name, formula.model_dump_json())
    here = {*kitchen.names, "base"} | {name for mix in mixes for name, _ in mix if own.store.formula(name)}
    asked = [(mix, HELD_OUT, recipe.aggregation) for mix in mixes if mix and here.issuperset(dict(mix))]
    asked += [(mean_of(kitchen.pool), HELD_OUT, recipe.aggregation)]
    cut: dict[str, dict[str, Score]] = {split: {} for split in rows}
    for mix, _, aggregation in dict.fromkeys([*singles(kitchen, recipe), *asked]):
        if (score := kitchen.scores.known(mix, HELD_OUT, aggregation)) is not None:
            for split, chosen in rows.items():
                cut[split][own.scores.key(mix, split, aggregation)] = _cut(own, score, split, chosen.numpy())
    for split, scores in cut.items():
        own.scores.scorer.keep(scores, own.splits.load(split))
    if recipe.averages_outputs:
        _prime_logits(kitchen, own, rows)


def _cut(own: Kitchen, score: Score, split: str, rows: NDArray[np.int64]) -> Score:
    """A half of a whole score."""
    part = own.splits.load(split)
    return own.scores.scorer.summarized(part, outcomes_of(score).take(rows), own.scores.width(part))


def _prime_logits(kitchen: Kitchen, own: Kitchen, rows: Mapping[str, Tensor]) -> None:
    for name in kitchen.names:
        alone = ((name, 1.0),)
        whole = kitchen.store.logits(kitchen.scores.key(alone, HELD_OUT, "average"))
        for split, chosen in rows.items():
            if whole is not None:
                own.store.keep_logits(own.scores.key(alone, split, "average"), whole[chosen.numpy()])
        if kitchen.splits.is_loaded(TRAIN):  # not halved: what a student learns from
            key = kitchen.scores.key(alone, TRAIN, "average")
            if (kept := kitchen.store.logits(key)) is not None:
                own.store.keep_logits(key, kept)
