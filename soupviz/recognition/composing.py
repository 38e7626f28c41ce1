"""The pieces of a kitchen.yaml that a run proposes: each with where it is from, and what has to be asked."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soupviz.data.images.imagefolder import is_junk
from soupviz.errors import KitchenError
from soupviz.recognition import data
from soupviz.recognition.data import Place
from soupviz.recognition.files import definitions, factories
from soupviz.recognition.runs import DATA, FACTORY, Answers, Fact, Found, MayRead, Question, Run
from soupviz.spec import HELD_OUT, TEST

GENERIC = ("output", "outputs", "out", "checkpoints", "weights", "runs", "results", "")
"""Names of folders that say nothing of what is in them."""
SAID = "you said so"
UNPREPARED = (
    "how images were prepared, no file says: they are taken as they are. If the training resized or normalised them, "
    "give each split its `transform:` (resize, crop, mean, std)."
)
LIBRARIES = ("torchvision:", "timm:")
"""Whose factories take `num_classes`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a proposal is made of: a run, the kitchen.yaml to write, the user's answers, and what may be looked at."""

    run: Run
    file: Path
    answers: Answers
    may_read: MayRead

    def relative(self, path: Path) -> str:
        """A path as the kitchen.yaml names it."""
        return Path(os.path.relpath(path, self.file.parent)).as_posix()

    def around(self) -> list[Path]:
        """The run's folder and those above it."""
        run = self.run.folder
        return [place for place in (run, *run.parents[:2]) if self.may_read(place)]


@dataclass(frozen=True, slots=True)
class Part:
    """Keys of the document, with what there is to tell of them."""

    document: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()


def joined(parts: Iterable[Part]) -> Part:
    """Several parts as one."""
    parts = list(parts)
    return Part(
        {key: value for part in parts for key, value in part.document.items()},
        tuple(fact for part in parts for fact in part.facts),
        tuple(question for part in parts for question in part.questions),
        tuple(note for part in parts for note in part.notes),
    )


def compose(setting: Setting) -> Part:
    """The whole proposal."""
    splits = _splits(setting)
    run = setting.run
    weights = Found(setting.answers.weights, SAID) if setting.answers.weights else run.found.get("weights")
    return joined(
        [
            Part({"name": _name(run)}, notes=run.notes),
            _of("task", run.found.get("task")),
            _model(setting, splits),
            _of("ingredients", Found(_files(setting), run.found["ingredients"].source)),
            _base(setting),
            _of("weights", weights),
            _classes(run, splits),
            _data(setting, splits),
        ]
    )


def _of(key: str, found: Found | None) -> Part:
    return Part({key: found.value}, (Fact(key, found.value, found.source),)) if found else Part()


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
    return _of("base", Found(setting.relative(base.value), base.source))


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
    if setting.answers.arguments is not None:
        return Found(dict(setting.answers.arguments), SAID)
    if "args" in run.found and factory == run.found["factory"].value:
        found = run.found["args"]
        if not run.counted or not splits:
            return found
        number = len(_class_folders(splits[HELD_OUT].path))
        return Found({**found.value, run.counted: number}, f"{found.source}; {run.counted}: the class folders")
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


# The data


def _splits(setting: Setting) -> dict[str, Place]:
    prefer = setting.run.held_out
    if setting.answers.data:
        return data.below(setting.answers.data, prefer)
    for hint in setting.run.data:
        if setting.may_read(hint) and hint.is_dir() and (named := data.splits_in(hint, prefer)):
            return named
    return data.beside(setting.around(), setting.may_read, prefer)


def _classes(run: Run, splits: Mapping[str, Place]) -> Part:
    """The order of the labels where the run has one: its own names, or its framework's order of the class folders."""
    named = run.found.get("classes")
    if HELD_OUT not in splits or splits[HELD_OUT].format != "imagefolder":
        return _of("classes", named)
    usual = _class_folders(splits[HELD_OUT].path)
    if named and set(named.value) != set(usual):
        return Part(notes=(f"{named.source} has other names than the class folders, whose sorted order is taken.",))
    order = run.class_order(usual)
    if named is None and order != usual:
        named = Found(order, f"the class folders in {run.framework}'s order, numbers as numbers")
    return _of("classes", named)


def _class_folders(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir() and not is_junk(child.name))


def _data(setting: Setting, splits: Mapping[str, Place]) -> Part:
    if not splits:
        return Part({"data": {}}, questions=(Question(DATA, "where the held-out data is (a folder or a file)"),))
    parts = {name: _split(setting, name, place) for name, place in splits.items()}
    notes: tuple[str, ...] = ()
    if splits[HELD_OUT].format == "imagefolder" and "transform" not in setting.run.found:
        notes = (UNPREPARED,)
    if TEST not in splits:
        is_test = splits[HELD_OUT].path.stem.lower() in data.NAMES[TEST]
        what = "only a test split, which selects" if is_test else "no test split"
        notes += (f"there is {what}: nothing reports yet on what held_out selects.",)
    document = {name: dict(part.document) for name, part in parts.items()}
    told = [replace(part, document={}) for part in parts.values()]
    return joined([*told, Part({"data": document}, notes=notes)])


def _split(setting: Setting, name: str, place: Place) -> Part:
    found = setting.run.found
    values: dict[str, Any] = {"format": place.format, "path": setting.relative(place.path)}
    sources = [SAID if setting.answers.data else "found by its name"]
    questions: list[Question] = []
    if place.format == "imagefolder" and "transform" in found:
        values["transform"] = found["transform"].value
        sources.append(f"transform: {found['transform'].source}")
    if place.format == "text":
        is_alone = found["task"].value == "language_model" if "task" in found else False
        keys, questions = data.text_columns(place, setting.answers.text, setting.answers.label, is_alone=is_alone)
        values |= keys
        if "tokenizer" in found:
            values["tokenizer"] = setting.relative(found["tokenizer"].value)
            sources.append(f"tokenizer: {found['tokenizer'].source}")
    asked = tuple(questions) if name == HELD_OUT else ()
    return Part(values, (Fact(f"data.{name}", values, "; ".join(sources)),), asked)
