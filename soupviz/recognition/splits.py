"""What judges a run's models: the task and the splits of its kitchen.yaml."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soupviz.data.text import conll
from soupviz.recognition import data
from soupviz.recognition.columns import audio_columns, choice_columns, has_transcripts, text_columns
from soupviz.recognition.layouts import OF_BOXES, counts_from_zero
from soupviz.recognition.parts import SAID, Part, Setting, joined, of
from soupviz.recognition.places import NAMES, Place, class_folders
from soupviz.recognition.runs import DATA, TASK, VOCABULARY, Fact, Found, Question, Run
from soupviz.spec import HELD_OUT, TEST

UNPREPARED = (
    "how images were prepared, no file says: they are taken as they are. If the training resized or normalised them, "
    "give each split its `transform:` (resize, crop, mean, std)."
)
UNHEARD = (
    "at which rate recordings were heard in training, no file says: they are taken as they are. If it was another one, "
    "give each split its `sample_rate:`."
)
OF_ONE_SIZE = ("imagefolder", "masks")
"""Formats whose images a transform makes of one size."""
TRANSCRIPTION, DETECTION, CHOICES = "transcription", "detection", "multiple_choice"
VOCABULARIES = ("vocab.json", "tokens.txt", "vocab.txt", "units.txt", "labels.json")
"""What lists of a model's outputs are called."""


def judging(setting: Setting, splits: Mapping[str, Place], factory: str) -> Part:
    """The task: as the user or the run says it, or as labels show it, with what it cannot do without."""
    place, run = splits.get(HELD_OUT), setting.run
    found = run.found.get("task")
    if setting.answers.task and (found is None or _values(found)["name"] != setting.answers.task):
        found = Found(setting.answers.task, SAID)
    if found is None and place is not None:
        if place.format == "audio" and place.columns and has_transcripts(place) is None:
            told = f"whether {place.path.name} is of {TRANSCRIPTION} or of classification (--text and --label: columns)"
            return Part(questions=(Question(TASK, told, (TRANSCRIPTION, "classification")),))
        found = _by_labels(place)
    if found is None:
        return Part()
    values, source = _values(found), found.source
    if values["name"] == TRANSCRIPTION:
        if setting.answers.vocabulary is not None:
            values["vocabulary"] = setting.answers.vocabulary
        elif "vocabulary" not in values:
            return replace(of(TASK, found), questions=(_asked_vocabulary(setting),))
    is_of_torchvision = values["name"] == DETECTION and factory.startswith("torchvision:")
    if is_of_torchvision and place and place.format in OF_BOXES and counts_from_zero(place):
        values["label_offset"] = 1
        source += "; torchvision's first class is 1, the data's is 0"
    plain = {key: setting.relative(one) if isinstance(one, Path) else one for key, one in values.items()}
    return of(TASK, Found(plain if len(plain) > 1 else plain["name"], source))


def _values(task: Found) -> dict[str, Any]:
    """A task with its parameters."""
    return dict(task.value) if isinstance(task.value, Mapping) else {"name": task.value}


def _by_labels(place: Place) -> Found | None:
    """The task of a split's labels; None: classification, which needs not be named."""
    if place.format in OF_BOXES:
        return Found(DETECTION, f"{place.path.name}: boxes")
    if place.format == "masks":
        return Found("segmentation", f"{place.path.name}: images with masks")
    if place.format == "audio" and place.columns and has_transcripts(place):
        return Found(TRANSCRIPTION, f"{place.path.name}: its columns")
    if place.format == "text" and place.path.suffix.lower() in conll.TAGGED:
        return Found("token_classification", f"{place.path.name}: a word and its tag in each line")
    return None


def _asked_vocabulary(setting: Setting) -> Question:
    near = [folder / name for folder in setting.around() for name in VOCABULARIES]
    choices = tuple(str(path) for path in near if setting.may_read(path) and path.is_file())
    return Question(VOCABULARY, "which file lists the model's outputs, a token in each line or a vocab.json", choices)


def name_of(task: Part) -> str:
    """Of a task's part its name; that of classification where it names none."""
    told = task.document.get(TASK, "classification")
    return str(told["name"] if isinstance(told, Mapping) else told)


def found_splits(setting: Setting) -> dict[str, Place]:
    """The splits that are said, that the run names, or that lie beside it."""
    prefer = setting.run.held_out
    if setting.answers.data:
        return data.below(setting.answers.data, prefer)
    for hint in setting.run.data:
        if setting.may_read(hint) and (named := data.splits_in(hint, prefer)):
            return named
    return data.beside(setting.around(), setting.may_read, prefer)


def classes_of(run: Run, splits: Mapping[str, Place]) -> Part:
    """The order of the labels where the run has one: its own names, or its framework's order of the class folders."""
    named = run.found.get("classes")
    if HELD_OUT not in splits or splits[HELD_OUT].format != "imagefolder":
        return of("classes", named)
    usual = class_folders(splits[HELD_OUT].path)
    if named and set(named.value) != set(usual):
        return Part(notes=(f"{named.source} has other names than the class folders, whose sorted order is taken.",))
    order = run.class_order(usual)
    if named is None and order != usual:
        named = Found(order, f"the class folders in {run.framework}'s order, numbers as numbers")
    return of("classes", named)


def data_of(setting: Setting, splits: Mapping[str, Place], task: Part) -> Part:
    """The splits of the document."""
    if not splits:
        return Part({"data": {}}, questions=(Question(DATA, "where the held-out data is (a folder or a file)"),))
    parts = {name: _split(setting, name, place, task) for name, place in splits.items()}
    notes: tuple[str, ...] = ()
    if splits[HELD_OUT].format in OF_ONE_SIZE and "transform" not in setting.run.found:
        notes = (UNPREPARED,)
    if splits[HELD_OUT].format == "audio" and "processor" not in setting.run.found:
        notes = (UNHEARD,)
    if TEST not in splits:
        is_test = splits[HELD_OUT].path.stem.lower() in NAMES[TEST]
        what = "only a test split, which selects" if is_test else "no test split"
        notes += (f"there is {what}: nothing reports yet on what held_out selects.",)
    document = {name: dict(part.document) for name, part in parts.items()}
    told = [replace(part, document={}) for part in parts.values()]
    return joined([*told, Part({"data": document}, notes=notes)])


def _split(setting: Setting, name: str, place: Place, task: Part) -> Part:
    found = setting.run.found
    values: dict[str, Any] = {"format": place.format, "path": setting.relative(place.path)}
    sources = [SAID if setting.answers.data else "found by its name"]
    questions: list[Question] = []
    values |= {key: setting.relative(path) for key, path in place.beside.items()}
    if place.format in OF_ONE_SIZE and "transform" in found:
        values["transform"] = found["transform"].value
        sources.append(f"transform: {found['transform'].source}")
    if place.format == "text" and name_of(task) == CHOICES:
        parts, questions = choice_columns(place, setting.answers.text, setting.answers.label)
        values |= {"format": "choices", **parts}
    elif place.format == "text":
        is_alone = name_of(task) == "language_model"
        keys, questions = text_columns(place, setting.answers.text, setting.answers.label, is_alone=is_alone)
        values |= keys
    if place.format == "text" and "tokenizer" in found:
        values["tokenizer"] = setting.relative(found["tokenizer"].value)
        sources.append(f"tokenizer: {found['tokenizer'].source}")
    if place.format == "audio":
        if place.columns:
            is_transcript = name_of(task) == TRANSCRIPTION
            answers = setting.answers
            keys, questions = audio_columns(place, answers.text, answers.label, is_transcript=is_transcript)
            values |= keys
        if "processor" in found:
            values["processor"] = setting.relative(found["processor"].value)
            sources.append(f"processor: {found['processor'].source}")
    asked = tuple(questions) if name == HELD_OUT else ()
    return Part(values, (Fact(f"data.{name}", values, "; ".join(sources)),), asked)
