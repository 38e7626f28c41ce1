"""Transcription: what is said in a recording, as text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.audio.listening import for_model
from soupviz.data.labels import as_codes, as_text
from soupviz.data.split import Split
from soupviz.errors import KitchenError
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Column, Outcomes, records
from soupviz.tasks.speech import edits, generating, normalizing, vocabulary
from soupviz.tasks.speech.ctc import CTC
from soupviz.tasks.speech.generating import Generate
from soupviz.tasks.task import NOTHING, Task

HYPOTHESIS, REFERENCE, WORDS, CHARACTERS, CLOSE = "hypothesis", "reference", "words", "characters", "close"
OF_WORDS = edits.KINDS
OF_CHARACTERS = tuple(edits.OF_CHARACTERS + kind for kind in edits.KINDS)


def rate(substitutions: Any, deletions: Any, insertions: Any, units: Any, _number: Any) -> Any:
    """All edits over all words, or characters, of the references: of the corpus, not the mean of utterances' rates."""
    return (substitutions + deletions + insertions) / units


WER = SumMetric("wer", "word error rate", "%", False, (*OF_WORDS, WORDS), rate, dict.fromkeys(OF_WORDS, 0))
CER = SumMetric(
    "cer", "character error rate", "%", False, (*OF_CHARACTERS, CHARACTERS), rate, dict.fromkeys(OF_CHARACTERS, 0)
)


class Transcription(Task):
    """Transcripts against what is heard, which a decoder finds in what the model says."""

    name = "transcription"
    unit = "utterance"
    takes = ("vocabulary", "blank", "normalizer", "decode", "arguments")
    labels = "texts"
    has_probabilities = True
    metrics = (WER, CER)
    lacks: ClassVar[Mapping[str, str]] = {
        "loss": "`generate` takes the likeliest token after the other, and gives no chances of a whole transcript",
        "soft_loss": "`generate` takes the likeliest token after the other, and gives no chances of a whole transcript",
        "ensembles": "transcripts that are generated have no frames in common, of which one would average the chances",
        "information": "a transcript is no class: it would cost a gradient for each frame and token",
        "close": "beams are ranked by whole transcripts, and how near the second one came is not seen",
        "temperature": "transcripts are the likeliest token of each step, which a temperature leaves as it is",
    }

    def __init__(self, decoder: CTC | Generate, normalized: normalizing.Named):
        self.decoder = decoder
        self.normalized = normalized

    @classmethod
    def configured(cls, parameters: Mapping[str, Any], folder: Path) -> "Transcription":
        if "vocabulary" not in parameters:
            raise KitchenError(
                "task transcription needs a vocabulary: `task: {name: transcription, vocabulary: FILE}`, or a list of "
                "tokens in the order of the model's outputs."
            )
        normalized = normalizing.find(parameters.get("normalizer", "none"), folder)
        given, way = parameters["vocabulary"], parameters.get("decode", "ctc")
        if way not in ("ctc", "generate"):
            raise KitchenError(f"task.decode is {way!r}; known are ctc and generate.")
        if lost := sorted({"arguments" if way == "ctc" else "blank"} & parameters.keys()):
            raise KitchenError(f"task.{lost[0]} has no part in decode: {way}; remove it.")
        if way == "generate":
            return cls(generating.read(given, parameters.get("arguments", {}), folder), normalized)
        return cls(CTC(vocabulary.read(given, parameters.get("blank"), folder), normalized), normalized)

    @property
    def key(self) -> list[Any]:
        return [*self.answers_key, list(self.normalized.key)]

    @property
    def answers_key(self) -> list[Any]:
        return [self.name, self.version, HYPOTHESIS, *self.decoder.key]

    @property
    def without_classes(self) -> str:
        return "transcripts have no classes"

    def head(self, width: int) -> tuple[str, str, str]:
        return "Outputs", "any number", f"for each {self.unit}"

    def check_split(self, split: Split, width: int) -> list[str]:
        """How transcripts are made, how many references are empty, and which of their characters are not in the
        vocabulary."""
        notes = [self.decoder.told] if split.name == HELD_OUT else []
        if empty := sum(not text for text in self._references(split.labels)):
            notes.append(
                f"{empty} of {len(split)} transcripts are empty: they add no words to count by, but what is heard "
                "there counts as inserted."
            )
        if isinstance(self.decoder, Generate):  # its tokenizer may have pieces of any character
            return notes
        lacking = [self.decoder.lacking(as_text(row)) for row in split.labels.numpy()]
        if strange := sorted(set().union(*lacking)):
            number = sum(map(bool, lacking))
            shown = ", ".join(map(repr, strange[:8])) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
            notes.append(
                f"{number} of {len(split)} transcripts have what the vocabulary has not ({shown}): the model cannot "
                "say it, and it counts as errors."
            )
        return notes

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield for_model(batch)

    @property
    def calls_once(self) -> bool:
        return isinstance(self.decoder, CTC)

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """Generated, or read from one call."""
        if isinstance(self.decoder, Generate):
            return self.decoder.answer_batch(model, batch)
        return super().answer_batch(model, batch)

    def context(self, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        assert isinstance(self.decoder, CTC)
        return self.decoder.context(batch)

    def read(self, output: Any, context: Mapping[str, Tensor]) -> Tensor:
        assert isinstance(self.decoder, CTC)
        return self.decoder.read(output, context)

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        finite, texts = self.decoder.heard(answers)
        heard = {FINITE: finite, HYPOTHESIS: records([as_codes(text) for text in texts])}
        return self.recounted(heard | {CLOSE: self.decoder.close(answers)}, labels)

    def recounted(self, columns: Mapping[str, Column], labels: Tensor) -> Mapping[str, Column]:
        """What was heard, by another normaliser."""
        told = [self.normalized(as_text(row)) for row in columns[HYPOTHESIS]]
        heard = {name: columns[name] for name in (FINITE, HYPOTHESIS)}
        # Answers that were kept before there was such a count have none.
        close = columns.get(CLOSE, np.full(len(told), -1, dtype=np.int8))
        return heard | {CLOSE: close} | edits.counted(self._references(labels), told)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        texts = self._references(labels)
        return {
            WORDS: np.array([len(text.split()) for text in texts], dtype=np.int64),
            CHARACTERS: np.array([len(text) for text in texts], dtype=np.int64),
            REFERENCE: records([as_codes(text) for text in texts]),
        }

    def _references(self, labels: Tensor) -> list[str]:
        return [self.normalized(as_text(row)) for row in labels.numpy()]

    # What the decoder has, and the recipes that learn or average outputs

    @property
    def has_loss(self) -> bool:
        return isinstance(self.decoder, CTC)

    @property
    def has_soft_loss(self) -> bool:
        return isinstance(self.decoder, CTC)

    @property
    def has_ensembles(self) -> bool:
        return isinstance(self.decoder, CTC)

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(self.decoder, CTC)
        return self.decoder.loss(answers, labels)

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        assert isinstance(self.decoder, CTC)
        return self.decoder.soft_loss(answers, teacher, temperature)

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        assert isinstance(self.decoder, CTC)
        return self.decoder.averaged(answers, weights, output)

    # What people are told

    def wrong(self, outcomes: Outcomes) -> NDArray[np.bool_] | None:
        """Whether anything is heard otherwise."""
        return np.asarray((_num_wrong(outcomes) > 0) | ~outcomes[FINITE])

    def errors(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """How many words are wrong."""
        return _num_wrong(outcomes).astype(np.float64)[:, None]

    def only(self, model: str) -> str:
        return f"utterances that {model} transcribes better"

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str | None:
        return as_text(outcomes[REFERENCE][row]) or "(nothing is said)"

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        if not outcomes[FINITE][row]:
            return NOTHING
        number, words = int(_num_wrong(outcomes)[row]), int(outcomes[WORDS][row])
        heard = as_text(outcomes[HYPOTHESIS][row]) or "(nothing)"
        return f"✓ {heard}" if not number else f"✗ {heard} ({number} of {words} words)"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        """How many edits of which kind there are, and words and characters."""
        counts = {name: int(outcomes[name].sum()) for name in (*OF_WORDS, WORDS, *OF_CHARACTERS, CHARACTERS)}
        close = outcomes[CLOSE]
        num_close = None if (close < 0).any() else int(close.sum())
        return counts | {"empty_references": int((outcomes[WORDS] == 0).sum()), "num_close": num_close}


def _num_wrong(outcomes: Outcomes) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.sum([outcomes[kind] for kind in OF_WORDS], axis=0)
    return found
