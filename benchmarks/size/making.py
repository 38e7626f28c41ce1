"""A made kitchen: a linear model of 1,000 classes, 100 checkpoints near one base, and runs by the thousand."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import Greedy, Recipe, Uniform
from soupviz.recipes.trajectory import Step
from soupviz.soups.selecting import examples_in
from soupviz.soups.soup import Soup, pool_of, run_key
from soupviz.spec import HELD_OUT
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, quiet

FEATURES = 16
NOISE = 0.05
"""Of a checkpoint's weights around the base's; each next one has a bit more."""

VARIANTS = 40
"""Different outcomes that the scores of soups have: those of so many ingredients."""

SEARCHES = 5
"""Of so many runs one is a search, with its decisions; the others are averages."""

BATCH = 200
"""Scores that are kept in one transaction."""

PAUSE = "PAUSE"
"""The variable of the environment that says how many milliseconds the model waits before a batch: what is known of it
stays known whatever it says."""

MODEL = '''"""A linear model, which may wait before it answers as a device would that is busy."""

import os
import time

from torch import nn


class Paused(nn.Linear):
    def forward(self, inputs):
        if len(inputs):  # so that no graph is traced, which would leave the pause out
            time.sleep(int(os.environ.get("PAUSE", "0")) / 1000)
        return super().forward(inputs)


def build(features=16, classes=1000):
    return Paused(features, classes)
'''


def make(folder: Path, *, ingredients: int = 100, units: int = 50_000, classes: int = 1_000) -> Path:
    """Model, checkpoints and data: held_out, and a test and a shift of a fifth of its units; gives kitchen.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    random = torch.Generator().manual_seed(0)
    base = {
        "weight": torch.randn(classes, FEATURES, generator=random),
        "bias": torch.randn(classes, generator=random) / 10,
    }
    save_file(base, folder / "base.safetensors")
    for number in range(ingredients):
        noise = NOISE * (1 + number / ingredients)
        near = {key: one + noise * torch.randn(one.shape, generator=random) for key, one in base.items()}
        facts = {"lr": f"{1e-5 * (1 + number % 10):g}", "epochs": str(5 + number // 10), "seed": str(number)}
        save_file(near, folder / f"run_{number:03}.safetensors", facts)
    places = {HELD_OUT: units, "test": units // 5, "noise": units // 5}
    for name, number in places.items():
        inputs = torch.randn(number, FEATURES, generator=random)
        logits = inputs @ base["weight"].T + base["bias"]
        labels = (logits + torch.randn(logits.shape, generator=random)).argmax(1)
        if name == "noise":
            inputs += 0.2 * torch.randn(inputs.shape, generator=random)
        save_file({"inputs": inputs, "labels": labels}, folder / f"{name}.safetensors")
    held_out, test, noise = ({"format": "arrays", "path": f"{name}.safetensors"} for name in places)
    document = {
        "name": f"{ingredients} checkpoints, {units:,} units, {classes:,} classes",
        "model": {"factory": "model.py:build", "args": {"classes": classes}},
        "ingredients": ["run_*.safetensors"],
        "base": "base.safetensors",
        "device": "cpu",
        "data": {"held_out": held_out, "test": test, "shifts": {"noise": noise}},
    }
    file = folder / "kitchen.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def fill(kitchen: Kitchen, runs: int, progress: Progress = quiet) -> None:
    """Score every ingredient, and keep as many runs: what a search says of its candidates, and scores with units.

    The ingredients are really scored. The soups' units are those of ingredients, as no page can tell.
    """
    splits = kitchen.splits.reporting
    for split in splits:
        kitchen.scores.of_ingredients(split, progress=progress)
        kitchen.scores.score(mean_of(kitchen.pool), split, progress=progress)
    variants = {
        split: [kitchen.scores.score(((name, 1.0),), split) for name in kitchen.names[:VARIANTS]] for split in splits
    }
    waiting: dict[str, dict[str, Score]] = {split: {} for split in splits}
    for number, recipe in enumerate(recipes(kitchen, runs)):
        mix = mix_of(kitchen, recipe, number)
        scores = {split: of_split[number % len(of_split)] for split, of_split in variants.items()}
        for split, score in scores.items():
            waiting[split][kitchen.scores.key(mix, split, recipe.aggregation)] = score
        keep_run(kitchen, recipe, mix, scores, number)
        if number % BATCH == BATCH - 1 or number == runs - 1:
            for split, found in waiting.items():
                kitchen.scores.scorer.keep(found, kitchen.splits.load(split))
                found.clear()
        progress(number, runs, "keeping runs")


def recipes(kitchen: Kitchen, runs: int) -> Iterator[Recipe]:
    """Averages of some of the ingredients, and searches among some."""
    random = np.random.default_rng(0)
    for number in range(runs):
        size = int(random.integers(2, len(kitchen.names)))
        chosen = sorted(random.choice(len(kitchen.names), size, replace=False))
        members = tuple(kitchen.names[place] for place in chosen)
        if number % SEARCHES:
            yield Uniform(method="uniform", members=members)
        else:
            yield Greedy(method="greedy", members=members, alpha=(number % 9 + 1) / 10)


def mix_of(kitchen: Kitchen, recipe: Recipe, number: int) -> Coefficients:
    """What a run is made of: a search accepts every third."""
    pool = pool_of(kitchen, recipe)
    return mean_of(pool[:: 1 if isinstance(recipe, Uniform) else 3])


def keep_run(kitchen: Kitchen, recipe: Recipe, mix: Coefficients, scores: Mapping[str, Score], number: int) -> None:
    """Keep a run as cooking would."""
    pool = pool_of(kitchen, recipe)
    key = run_key(kitchen, recipe)
    kitchen.store.begin_run(key, recipe.title, recipe.model_dump(mode="json"))
    soup = Soup(
        key=key,
        recipe=recipe,
        mix=mix,
        coefficients=dict.fromkeys(pool, 0.0) | dict(mix),
        pool=tuple(pool),
        trajectory=tuple(steps(kitchen, pool, scores[HELD_OUT])) if isinstance(recipe, Greedy) else (),
        scores=scores,
        clamped=0,
        kitchen=kitchen,
        evaluations=len(pool) + len(scores),
        seconds=1.0 + number % 60,
        selecting_data={HELD_OUT: examples_in(kitchen, HELD_OUT)},
    )
    kitchen.store.end_run(key, "finished", soup.as_dict())


def steps(kitchen: Kitchen, pool: Sequence[str], score: Score) -> Iterator[Step]:
    """Decisions as a search keeps them: each with what was tried, of which every third is accepted."""
    values = {name: score.shown(name) for name in score.values}
    number_of_units = score.num_units
    for number, name in enumerate(pool):
        accepted = pool[: number + 1 : 3]
        tried = accepted if name in accepted else [*accepted, name]
        yield Step(
            step=number,
            ingredient=name,
            value=score.shown(score.metric) if name in accepted else None,
            best_value=score.shown(score.metric),
            accepted=name in accepted,
            num_scored=number_of_units if name in accepted else number_of_units // 2,
            num_units=number_of_units,
            bound=score.shown(score.metric),
            metrics=values,
            best_metrics=values,
            mix=mean_of(tried),
        )
