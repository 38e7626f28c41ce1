"""Transcription: what is said in a recording, as text, from a model that says a token for each of its frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from soupviz.data.labels import as_codes, as_text
from soupviz.data.listening import FRAMES, INPUT_LENGTHS
from soupviz.data.split import Split
from soupviz.errors import CompatibilityError, KitchenError, ModelError
from soupviz.files import digest
from soupviz.models.building import tensor_of
from soupviz.models.frames import lengths_of
from soupviz.models.routes import call
from soupviz.models.usercode import guarded
from soupviz.spec import HELD_OUT
from soupviz.tasks import edits, normalizing, vocabulary
from soupviz.tasks.decoding import collapsed, in_proportion
from soupviz.tasks.ensembles import LOGITS
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Column, Outcomes, records
from soupviz.tasks.task import NOTHING, Task

HYPOTHESIS, REFERENCE, WORDS, CHARACTERS = "hypothesis", "reference", "words", "characters"
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
    """Logits of shape (batch, time, vocabulary) against transcripts, decoded greedily as CTC has it.

    Answers are these logits, and behind them, as one more, whether the frame is one of the recording's: 1, or 0 beyond
    its end.
    """

    name = "transcription"
    unit = "utterance"
    labels = "texts"
    has_probabilities = True
    metrics = (WER, CER)

    def __init__(self, tokens: vocabulary.Vocabulary, normalized: normalizing.Named):
        self.vocabulary = tokens
        self.normalized = normalized
        self._speller = vocabulary.Speller(tokens, normalized)

    @classmethod
    def configured(cls, parameters: Mapping[str, Any], folder: Path) -> "Transcription":
        known = ("vocabulary", "blank", "normalizer")
        if unknown := sorted(parameters.keys() - set(known)):
            raise KitchenError(f"task transcription takes no {unknown[0]}; it takes {', '.join(known)}.")
        if "vocabulary" not in parameters:
            raise KitchenError(
                "task transcription needs a vocabulary: `task: {name: transcription, vocabulary: FILE}`, or a list of "
                "tokens in the order of the model's outputs."
            )
        tokens = vocabulary.read(parameters["vocabulary"], parameters.get("blank"), folder)
        return cls(tokens, normalizing.find(parameters.get("normalizer", "none"), folder))

    @property
    def key(self) -> list[Any]:
        return [*self.answers_key, list(self.normalized.key)]

    @property
    def answers_key(self) -> list[Any]:
        return [self.name, self.version, HYPOTHESIS, digest([self.vocabulary.tokens, self.vocabulary.blank])]

    @property
    def without_classes(self) -> str:
        return "transcripts have no classes"

    def check_split(self, split: Split, width: int) -> list[str]:
        """How the vocabulary is read, and which characters of the transcripts are not in it."""
        notes = [f"vocabulary: {self.vocabulary.told}."] if split.name == HELD_OUT else []
        lacking = [self._speller.spelled(as_text(row))[1] for row in split.labels.numpy()]
        if strange := sorted(set().union(*lacking)):
            number = sum(map(bool, lacking))
            shown = ", ".join(map(repr, strange[:8])) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
            notes.append(
                f"{number} of {len(split)} transcripts have what the vocabulary has not ({shown}): the model cannot "
                "say it, and it counts as errors."
            )
        return notes

    # What the model says

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {name: tensor for name, tensor in batch.items() if name not in (INPUT_LENGTHS, FRAMES)}

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """Logits of a batch, shape (batch, time, vocabulary + 1), float32 whatever the precision is.

        Raises:
            RuntimeError: memory ran out.
            ModelError: the model fails, or returns no logits of this vocabulary for each frame.
        """
        inputs = next(self.inputs(batch))
        output = call(model, inputs)
        with guarded(lambda told: ModelError(f"what the model returns cannot be read: {told}")):
            logits, frames = tensor_of(output), lengths_of(output)
        waves = next(iter(inputs.values()))
        if logits.ndim != 3 or logits.shape[0] != len(waves) or logits.shape[2] != len(self.vocabulary):
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)} for a batch of {len(waves)}; expected "
                f"(batch, time, vocabulary), and the vocabulary has {len(self.vocabulary)} tokens. Check the task's "
                "vocabulary and the model's args."
            )
        time = logits.shape[1]
        if frames is None:
            frames = batch[FRAMES] if FRAMES in batch else in_proportion(time, waves, batch)
        beyond = torch.arange(time, device=logits.device) >= frames.to(logits.device)[:, None]
        # What is said there depends on what else is in the batch: it is put away here, once for all.
        clean = logits.float().masked_fill(beyond[:, :, None], 0.0)
        return torch.cat([clean, (~beyond).to(clean)[:, :, None]], dim=2)

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        logits, inside = answers[:, :, :-1], answers[:, :, -1] > 0
        finite = logits.isfinite().flatten(1).all(dim=1)
        numbers = logits.argmax(dim=2).masked_fill(~(inside & finite[:, None]), self.vocabulary.blank)
        found = [self.vocabulary.text(row) for row in collapsed(numbers.cpu().numpy(), self.vocabulary.blank)]
        return self._counted(finite.cpu().numpy(), records([as_codes(text) for text in found]), labels)

    def _counted(self, finite: Column, hypotheses: Column, labels: Tensor) -> Mapping[str, Column]:
        told = [self.normalized(as_text(row)) for row in hypotheses]
        return {FINITE: finite, HYPOTHESIS: hypotheses, **edits.counted(self._references(labels), told)}

    def recounted(self, columns: Mapping[str, Column], labels: Tensor) -> Mapping[str, Column]:
        """What was heard, by another normaliser."""
        return self._counted(columns[FINITE], columns[HYPOTHESIS], labels)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        texts = self._references(labels)
        return {
            WORDS: np.array([len(text.split()) for text in texts], dtype=np.int64),
            CHARACTERS: np.array([len(text) for text in texts], dtype=np.int64),
            REFERENCE: records([as_codes(text) for text in texts]),
        }

    def _references(self, labels: Tensor) -> list[str]:
        return [self.normalized(as_text(row)) for row in labels.numpy()]

    # What is learned by

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The CTC loss, in nats per token of the transcript; of one with more tokens than frames it is 0.

        Source:
            Graves et al. 2006.
        """
        frames = (answers[:, :, -1] > 0).sum(dim=1)
        chances = answers[:, :, :-1].float().log_softmax(dim=2).transpose(0, 1)
        spelled = [torch.from_numpy(self._speller.spelled(as_text(row))[0]) for row in labels.cpu().numpy()]
        lengths = torch.tensor([len(row) for row in spelled])
        return F.ctc_loss(
            chances, torch.cat(spelled).to(chances.device), frames, lengths.to(chances.device), self.vocabulary.blank,
            zero_infinity=True,
        )  # fmt: skip

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """`T^2 * KL(teacher_T || student_T)` of each frame's token, the mean over the frames, in nats."""
        student, wanted = (
            (one[:, :, :-1].float() / temperature).log_softmax(dim=2) for one in (answers, teacher.to(answers.device))
        )
        inside = answers[:, :, -1]
        apart = F.kl_div(student, wanted, reduction="none", log_target=True).sum(dim=2)
        return temperature**2 * (apart * inside).sum() / inside.sum()

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        """Frame by frame.

        Raises:
            CompatibilityError: members have other frames.
        """
        inside = torch.from_numpy(np.array(answers[0][:, :, -1:]))
        total: Tensor | None = None
        for one, weight in zip(answers, weights, strict=True):
            if one.shape != answers[0].shape or not np.array_equal(one[:, :, -1:], inside.numpy()):
                raise CompatibilityError(
                    f"ensemble: members answer in other frames, {one.shape[1:]} and {answers[0].shape[1:]} numbers an "
                    "utterance at most; expected one vocabulary and as many frames of each. Take models alike."
                )
            logits = torch.from_numpy(np.array(one[:, :, :-1]))
            if output == LOGITS:
                part = weight * logits
                total = part if total is None else total + part
            else:
                part = logits.log_softmax(dim=2) + float(np.log(weight))
                total = part if total is None else total.logaddexp(part)
        assert total is not None
        # Beyond the end all is 0, as of one model.
        return torch.cat([total.masked_fill(inside == 0, 0.0), inside], dim=2)

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
        return counts | {"empty_references": int((outcomes[WORDS] == 0).sum())}


def _num_wrong(outcomes: Outcomes) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.sum([outcomes[kind] for kind in OF_WORDS], axis=0)
    return found
