"""From a run's folder to a kitchen.yaml: what is proposed, where each value is from, and what has to be asked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soupviz.config import KitchenSpec, validate
from soupviz.data.images import is_junk
from soupviz.errors import KitchenError
from soupviz.recognition import data, timm
from soupviz.recognition.data import Place
from soupviz.recognition.files import definitions, factories
from soupviz.recognition.finding import find_run
from soupviz.recognition.runs import DATA, FACTORY, Answers, Found, MayRead, Question, Run

GENERIC = ("output", "outputs", "out", "checkpoints", "weights", "runs", "results", "")
"""Names of folders that say nothing of what is in them."""
SAID = "you said so"


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of the proposed kitchen.yaml, by its place there, and where it is from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A kitchen.yaml that nobody has written yet. With questions it is not whole."""

    run: Run
    file: Path
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)

    @property
    def framework(self) -> str:
        """timm, Trainer, Lightning, torchvision, Ultralytics, or plain."""
        return self.run.framework

    def spec(self) -> KitchenSpec:
        """The proposal as a checked specification.

        Raises:
            KitchenError: something has to be asked first.
        """
        if self.questions:
            asked = "; ".join(question.text for question in self.questions)
            raise KitchenError(f"{self.run.folder}: not known: {asked}.")
        return validate(dict(self.document), self.file)


def recognise(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    factory: str = "",
    arguments: Mapping[str, Any] | None = None,
    text: str = "",
    label: str = "",
    weights: str = "",
    may_read: MayRead = lambda _path: True,
) -> Proposal:
    """Recognise a run's folder, and propose its kitchen.yaml. Nothing that the run's files name is run.

    Args:
        folder: of a run of timm, Trainer, Lightning, torchvision's references or Ultralytics, one above it, or any
            folder of checkpoints.
        data: a file, or a folder with the splits; default: what the run's files say, or what lies beside it.
        out: where the kitchen.yaml is to be; default: in the run's folder. Paths in it are relative to it.
        factory: what builds the model, where the run does not say. arguments: its keyword arguments.
        text, label: columns of a table. weights: raw or ema, where the files hold both.
        may_read: whether a path may be looked at that nobody named.
    Raises:
        SoupError: no such folder, no checkpoints in it, several runs, or no data where it was said to be.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise KitchenError(f"{root}: no such folder; expected the one that a training run wrote its checkpoints to.")
    run = find_run(root.resolve(), may_read)
    file = Path(out).expanduser().resolve() if out else run.folder / "kitchen.yaml"
    if not file.parent.is_dir():
        raise KitchenError(f"{file.parent}: no such folder, so {file.name} cannot be written there; make it first.")
    answers = Answers(Path(data).expanduser().resolve() if data else None, factory, arguments, text, label, weights)
    return _Composer(run, file, answers, may_read).proposal()


class _Composer:
    """Puts a proposal together; made once, asked once."""

    def __init__(self, run: Run, file: Path, answers: Answers, may_read: MayRead):
        self.run, self.file, self.answers, self.may_read = run, file, answers, may_read
        self.facts: list[Fact] = []
        self.questions: list[Question] = []
        self.notes = list(run.notes)

    def proposal(self) -> Proposal:
        run = self.run
        document: dict[str, Any] = {"name": self._name(), "model": self._model()}
        patterns = run.found["ingredients"]
        document["ingredients"] = self._take("ingredients", Found(self._files(patterns.value), patterns.source))
        if "base" in run.found and self.may_read(run.found["base"].value):
            base = run.found["base"]
            document["base"] = self._take("base", Found(self._relative(base.value), base.source))
        weights = Found(self.answers.weights, SAID) if self.answers.weights else run.found.get("weights")
        if weights:
            document["weights"] = self._take("weights", weights)
        splits = self._splits()
        if order := self._classes(splits):
            document["classes"] = self._take("classes", order)
        document["data"] = {name: self._split(name, place) for name, place in splits.items()}
        if splits and "test" not in splits:
            is_test = splits["held_out"].path.stem.lower() in data.NAMES["test"]
            what = "only a test split, which selects" if is_test else "no test split"
            self.notes.append(f"there is {what}: nothing reports yet on what held_out selects.")
        if self.run.framework == "Ultralytics" and "args" in document["model"] and splits:
            document["model"]["args"] |= {"num_classes": len(_class_folders(splits["held_out"].path))}
        return Proposal(run, self.file, tuple(self.facts), tuple(self.questions), tuple(self.notes), document)

    def _name(self) -> str:
        folders = (self.run.folder, *self.run.folder.parents)
        return next((folder.name for folder in folders if folder.name not in GENERIC), self.run.folder.name)

    def _files(self, named: Sequence[str] | Mapping[str, Path]) -> list[str] | dict[str, str]:
        if isinstance(named, Mapping):
            return {name: self._relative(path) for name, path in named.items()}
        return [self._relative(self.run.folder / one) for one in named]

    def _take(self, key: str, found: Found) -> Any:
        self.facts.append(Fact(key, found.value, found.source))
        return found.value

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.file.parent)).as_posix()

    def _model(self) -> dict[str, Any]:
        found = Found(self._given_factory(), SAID) if self.answers.factory else self.run.found.get("factory")
        if found is None:
            self._ask_for_factory()
            return {}
        if isinstance(found.value, tuple):  # transformers and a folder
            library, folder = found.value
            found = Found(f"{library}:{self._relative(folder)}", found.source)
        model = {"factory": self._take("model.factory", found)}
        arguments = self._arguments(found.value)
        return model | ({"args": self._take("model.args", arguments)} if arguments else {})

    def _given_factory(self) -> str:
        """What the user named, a file relative to the kitchen, to the run, or to where the program was started."""
        place, _, name = self.answers.factory.rpartition(":")
        if not place.endswith(".py"):
            return self.answers.factory
        tried = [folder / place for folder in (self.file.parent, self.run.folder, Path.cwd())]
        file = next((path for path in tried if self.may_read(path) and path.is_file()), None)
        if file is None:
            raise KitchenError(f"{tried[0]}: no such file; the model's factory is to be taken from it.")
        return f"{self._relative(file)}:{name}"

    def _ask_for_factory(self) -> None:
        offered = factories(self._around())
        here = {name: Path(os.path.relpath(path, self.file.parent)).as_posix() for name, (path, _) in offered.items()}
        choices = tuple(f"{place}:{name.rpartition(':')[2]}" for name, place in here.items())
        self.questions.append(
            Question(FACTORY, "what builds the model (torchvision:NAME, timm:NAME or file.py:function)", choices)
        )

    def _arguments(self, factory: str) -> Found | None:
        """The given arguments, else the run's, else those of its hyperparameters that the factory takes."""
        if self.answers.arguments is not None:
            return Found(dict(self.answers.arguments), SAID)
        if "args" in self.run.found and factory == self.run.found["factory"].value:
            return self.run.found["args"]
        place, _, name = factory.rpartition(":")
        file = self.file.parent / place
        if place.endswith(".py") and self.may_read(file) and file.is_file():
            parameters = definitions(file, every=True).get(name, ())
            chosen = {key: value for key, value in self.run.hyperparameters.items() if key in parameters}
            if chosen:
                return Found(chosen, "hparams.yaml, those that the factory takes")
        return None

    def _around(self) -> list[Path]:
        run = self.run.folder
        return [place for place in (run, *run.parents[:2]) if self.may_read(place)]

    def _splits(self) -> dict[str, Place]:
        prefer = self.run.held_out
        if self.answers.data:
            return data.below(self.answers.data, prefer)
        for hint in self.run.data:
            if self.may_read(hint) and hint.is_dir() and (named := data.splits_in(hint, prefer)):
                return named
        found = data.beside(self._around(), self.may_read, prefer)
        if not found:
            self.questions.append(Question(DATA, "where the held-out data is (a folder or a file)"))
        return found

    def _classes(self, splits: Mapping[str, Place]) -> Found | None:
        """The order of the labels where the run has one: its own names, or timm's order of the class folders."""
        named = self.run.found.get("classes")
        if "held_out" not in splits or splits["held_out"].format != "imagefolder":
            return named
        usual = _class_folders(splits["held_out"].path)
        if named and set(named.value) != set(usual):
            self.notes.append(f"{named.source} has other names than the class folders, whose sorted order is taken.")
            return None
        order = timm.class_order(usual) if self.run.framework == "timm" else usual
        return named or (
            Found(order, "the class folders in timm's order, numbers as numbers") if order != usual else None
        )

    def _split(self, name: str, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {"format": place.format, "path": self._relative(place.path)}
        sources = [SAID if self.answers.data else "found by its name"]
        if place.format == "imagefolder" and "transform" in self.run.found:
            values["transform"] = self.run.found["transform"].value
            sources.append(f"transform: {self.run.found['transform'].source}")
        if place.format == "text":
            values |= self._text(name, place)
            if "tokenizer" in self.run.found:
                values["tokenizer"] = self._relative(self.run.found["tokenizer"].value)
                sources.append(f"tokenizer: {self.run.found['tokenizer'].source}")
        self.facts.append(Fact(f"data.{name}", values, "; ".join(sources)))
        return values

    def _text(self, name: str, place: Place) -> dict[str, str]:
        keys, questions = data.text_columns(place, self.answers.text, self.answers.label)
        self.questions += [question for question in questions if name == "held_out"]
        return keys


def _class_folders(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir() and not is_junk(child.name))
