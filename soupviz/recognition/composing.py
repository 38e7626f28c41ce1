"""The keys of a kitchen.yaml that a run proposes: each with where it is from, and what has to be asked."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from soupviz.errors import KitchenError
from soupviz.recognition.files import definitions, factories
from soupviz.recognition.layouts import OF_BOXES, counts_from_zero, number_of_classes
from soupviz.recognition.parts import SAID, Part, Setting, joined, of
from soupviz.recognition.places import Place
from soupviz.recognition.runs import FACTORY, Fact, Found, Question, Run
from soupviz.recognition.splits import classes_of, data_of, found_splits, judging
from soupviz.spec import HELD_OUT

GENERIC = ("output", "outputs", "out", "checkpoints", "weights", "runs", "results", "")
"""Names of folders that say nothing of what is in them."""
LIBRARIES = ("torchvision:", "timm:")
"""Whose factories take `num_classes`."""


def compose(setting: Setting) -> Part:
    """The whole proposal."""
    splits = found_splits(setting)
    run = setting.run
    model = _model(setting, splits)
    task = judging(setting, splits, str(model.document["model"].get("factory", "")))
    weights = Found(setting.answers.weights, SAID) if setting.answers.weights else run.found.get("weights")
    return joined(
        [
            Part({"name": _name(run)}, notes=run.notes),
            task,
            model,
            of("ingredients", Found(_files(setting), run.found["ingredients"].source)),
            _base(setting),
            of("sweep", Found(setting.relative(sweep), SAID) if (sweep := setting.answers.sweep) else None),
            of("weights", weights),
            classes_of(run, splits),
            data_of(setting, splits, task),
        ]
    )


def _name(run: Run) -> str:
    folders = (run.folder, *run.folder.parents)
    return next((folder.name for folder in folders if folder.name not in GENERIC), run.folder.name)


def _files(setting: Setting) -> list[str] | dict[str, str]:
    named: Sequence[str] | Mapping[str, Path] = setting.run.found["ingredients"].value
    if isinstance(named, Mapping):
        return {name: setting.relative(path) for name, path in named.items()}
    folder = setting.relative(setting.run.folder)
    # Brackets in the name of a folder are no pattern.
    return [one if folder == "." else f"{glob.escape(folder)}/{one}" for one in named]


def _base(setting: Setting) -> Part:
    base = setting.run.found.get("base")
    if base is None or not setting.may_read(base.value):
        return Part()
    return of("base", Found(setting.relative(base.value), base.source))


# The model


def _model(setting: Setting, splits: Mapping[str, Place]) -> Part:
    given = setting.answers.factory
    found = Found(_given_factory(setting), SAID) if given else setting.run.found.get("factory")
    if found is None:
        return Part({"model": {}}, questions=(_asked_factory(setting),))
    if isinstance(found.value, tuple):  # transformers and a folder
        library, folder = found.value
        found = Found(f"{library}:{setting.relative(folder)}", found.source)
    facts = [Fact("model.factory", found.value, found.source)]
    model = {"factory": found.value}
    if arguments := _arguments(setting, found.value, splits):
        facts.append(Fact("model.args", arguments.value, arguments.source))
        model["args"] = arguments.value
    return Part({"model": model}, tuple(facts))


def _given_factory(setting: Setting) -> str:
    """What the user named, a file relative to the kitchen, to the run, or to where the program was started."""
    place, _, name = setting.answers.factory.rpartition(":")
    if not place.endswith(".py"):
        return setting.answers.factory
    tried = [folder / place for folder in (setting.file.parent, setting.run.folder, Path.cwd())]
    file = next((path for path in tried if setting.may_read(path) and path.is_file()), None)
    if file is None:
        raise KitchenError(f"{tried[0]}: no such file; the model's factory is to be taken from it.")
    return f"{setting.relative(file)}:{name}"


def _asked_factory(setting: Setting) -> Question:
    offered = factories(setting.around())
    choices = tuple(f"{setting.relative(path)}:{name.rpartition(':')[2]}" for name, (path, _) in offered.items())
    return Question(FACTORY, "what builds the model (torchvision:NAME, timm:NAME or file.py:function)", choices)


def _arguments(setting: Setting, factory: str, splits: Mapping[str, Place]) -> Found | None:
    """The given arguments, else the run's, else those of its hyperparameters that the factory takes."""
    run = setting.run
    held_out = splits.get(HELD_OUT)
    if setting.answers.arguments is not None:
        return Found(dict(setting.answers.arguments), SAID)
    if "args" in run.found and (not setting.answers.factory or factory == run.found["factory"].value):
        found = run.found["args"]
        if not run.counted or held_out is None:
            return found
        number = number_of_classes(held_out)
        return Found({**found.value, run.counted: number}, f"{found.source}; {run.counted}: {held_out.path.name}")
    if factory.startswith("torchvision:") and held_out is not None and held_out.format in OF_BOXES:
        # Its detectors have a background, number 0, which data that counts its classes from 1 leaves free.
        number = number_of_classes(held_out) + counts_from_zero(held_out)
        return Found({"num_classes": number}, f"{held_out.path.name}: its categories, with the background")
    if run.num_outputs and factory.startswith(LIBRARIES):
        return Found({"num_classes": run.num_outputs}, "the last layer's outputs")
    place, _, name = factory.rpartition(":")
    file = setting.file.parent / place
    if place.endswith(".py") and setting.may_read(file) and file.is_file():
        parameters = definitions(file, every=True).get(name, ())
        chosen = {key: value for key, value in run.hyperparameters.items() if key in parameters}
        if chosen:
            return Found(chosen, "hparams.yaml, those that the factory takes")
    return None
