"""Token classification: a tag for each word of a sentence, judged by the entities that they mark."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from soupviz.data.classes import named
from soupviz.data.split import Split
from soupviz.data.text.tagged import CUT, NOWHERE, STARTS
from soupviz.errors import DataError, ModelError
from soupviz.tasks.calibration import Decisions
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS, LOSS_BAND
from soupviz.tasks.ensembles import combined
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.task import NOTHING, Task
from soupviz.tasks.text.entities import Tags

MATCHED, PREDICTED, TRUE = "matched", "predicted", "entities"
"""Columns of how many entities of each kind there are in a sentence, in both, in the answer, and in the labels."""

RIGHT, WORDS, NATS, JUDGED, SAID, CLOSE = "right", "words", "loss", "judged", "said", "close"

PERFECT: Mapping[str, float | str] = {MATCHED: TRUE, PREDICTED: TRUE, RIGHT: WORDS, JUDGED: WORDS, NATS: 0}


def f1(matched: Any, predicted: Any, true: Any, _number: Any) -> Any:
    return 2 * _all(matched) / (_all(predicted) + _all(true))


def precision(matched: Any, predicted: Any, _number: Any) -> Any:
    """Of no entity that is predicted 0, as seqeval has it."""
    hits, told = _all(matched), _all(predicted)
    return hits / (told + (told == 0))


def recall(matched: Any, true: Any, _number: Any) -> Any:
    return _all(matched) / _all(true)


def _all(counts: Any) -> Any:
    return np.asarray(counts).sum(axis=-1)


F1 = SumMetric("f1", "F1 of entities", "%", True, (MATCHED, PREDICTED, TRUE), f1, PERFECT)
PRECISION = SumMetric("precision", "precision", "%", True, (MATCHED, PREDICTED), precision, PERFECT)
RECALL = SumMetric("recall", "recall", "%", True, (MATCHED, TRUE), recall, PERFECT, judges_nonfinite=True)
TOKEN_ACCURACY = SumMetric(
    "token_accuracy", "token accuracy", "%", True, (RIGHT, WORDS), lambda right, words, _number: right / words, PERFECT,
    judges_nonfinite=True,
)  # fmt: skip
LOSS = SumMetric(
    "loss", "loss", "nats", False, (NATS, JUDGED), lambda nats, words, _number: nats / words, PERFECT, LOSS_BAND
)


class TokenClassification(Task):
    """Logits of shape (batch, tokens, tags); a word has the tag of its first token, as in transformers' examples.

    Words of which no token is left, as the sentence is longer than the model is given, are answered wrong.
    """

    name = "token_classification"
    unit = "sentence"
    labels = "tags"
    barrier = "loss"
    has_probabilities = True
    decides = "word that has a token"
    metrics = (F1, PRECISION, RECALL, TOKEN_ACCURACY, LOSS)
    lacks: ClassVar[Mapping[str, str]] = {
        "information": "each word has a tag, and a sentence has none: it would cost a gradient for each word",
    }

    def __init__(self) -> None:
        self.tags = Tags.of(())
        self._known: Any = WeakTensorKeyDictionary()

    @property
    def key(self) -> list[Any]:
        return [*super().key, list(self.tags.names)]

    @property
    def without_classes(self) -> str:
        return f"the task {self.name} has a tag for each word, and none for a {self.unit}"

    def width(self, answers: Tensor) -> int:
        return answers.shape[-1]

    def head(self, width: int) -> tuple[str, str, str]:
        return "Classes", str(width), "of each word"

    def check_split(self, split: Split, width: int) -> Sequence[str]:
        """Take the names of the tags from a split; all splits of a kitchen have the same."""
        if not split.classes:
            raise DataError(
                f"data.{split.name}: its tags are numbers without names, which say where entities begin; name all "
                f"{width} in `classes:`, in the order of the model's head."
            )
        if (high := int(_truth(split.labels).max())) >= width:
            raise DataError(
                f"data.{split.name}: its tags run to {high}, but the model's head has {width} outputs (0 to "
                f"{width - 1}). Check the model's args and the tags."
            )
        self.tags = Tags.of(split.classes)
        if self.targets(split.labels)[TRUE].any():
            return ()
        return [
            f"none of {len(split)} sentences has an entity, so that {F1.label} is 0, or says nothing, of any model."
        ]

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {name: one for name, one in batch.items() if name != STARTS}

    def context(self, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return {STARTS: batch[STARTS]} if STARTS in batch else {}

    def read(self, output: Any, context: Mapping[str, Tensor]) -> Tensor:
        """Logits of each word's first token, shape (batch, most words of the split, tags); 0 where there is none.

        Raises:
            ModelError: it returned no logits of tokens.
        """
        logits = self.answers(output)
        if logits.ndim != 3:
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)}; expected (batch, tokens, tags)."
            )
        if STARTS not in context:  # a data set of the user's own, whose labels are those of tokens
            return logits
        starts = context[STARTS]
        places = torch.where(starts < 0, starts + logits.shape[1], starts).clamp(0, logits.shape[1] - 1)
        found = logits.gather(1, places[:, :, None].expand(-1, -1, logits.shape[2]))
        return found.masked_fill((starts == NOWHERE)[:, :, None], 0.0)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        if labels not in self._known or self._known[labels][0] != self.tags:
            truth = _truth(labels).numpy()
            counts = self._counts([self._entities(row[row >= 0]) for row in truth])
            self._known[labels] = self.tags, {TRUE: counts, WORDS: (truth >= 0).sum(axis=1)}
        found: Mapping[str, Column] = self._known[labels][1]
        return found

    def _entities(self, row: NDArray[np.int64]) -> set[tuple[str, int, int]]:
        return set(self.tags.entities(row.tolist()))

    def _counts(self, sentences: Sequence[set[tuple[str, int, int]]]) -> NDArray[np.int64]:
        """Entities of each kind, shape (sentences, kinds)."""
        places = {kind: place for place, kind in enumerate(self.tags.kinds)}
        found = np.zeros((len(sentences), len(places)), dtype=np.int64)
        for row, entities in zip(found, sentences, strict=True):
            for kind, _, _ in entities:
                row[places[kind]] += 1
        return found

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Counts of entities and words; of a sentence with a logit that is not finite no word is right."""
        logits, number = answers.float().cpu(), min(answers.shape[1], labels.shape[1])
        truth, seen = _truth(labels), labels >= 0
        seen[:, number:] = False
        # What is said of padding depends on the batch, and decides nothing.
        finite = (logits[:, :number].isfinite().all(dim=2) | ~seen[:, :number]).all(dim=1)
        safe = logits[:, :number].nan_to_num(0.0, 0.0, 0.0)
        said = torch.full(labels.shape, -1)
        said[:, :number] = safe.argmax(dim=2)
        said = said.where(seen & finite[:, None], -1)
        best = safe.topk(min(2, safe.shape[2]), dim=2).values
        close = (best[:, :, 0] - best[:, :, -1] < CLOSE_LOGITS) & seen[:, :number]
        nats = F.cross_entropy(safe.transpose(1, 2), truth[:, :number].clamp(min=0), reduction="none")
        nats = nats.double().where(seen[:, :number], 0.0).sum(dim=1)
        rows = [(one[one >= 0], other[one >= 0]) for one, other in zip(truth.numpy(), said.numpy(), strict=True)]
        true, told = ([self._entities(row[side]) for row in rows] for side in (0, 1))
        return {
            FINITE: finite.numpy(),
            MATCHED: self._counts([one & other for one, other in zip(told, true, strict=True)]),
            PREDICTED: self._counts(told),
            RIGHT: ((said == truth) & (truth >= 0)).sum(dim=1).numpy(),
            NATS: nats.where(finite, torch.nan).numpy(),
            JUDGED: (seen.sum(dim=1) * finite).numpy(),
            SAID: said.numpy().astype(np.int16),
            CLOSE: (close.sum(dim=1) * finite).numpy(),
        }

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy of the words that have a token, in nats."""
        number = min(answers.shape[1], labels.shape[1])
        seen = labels[:, :number].to(answers.device)
        seen = seen.where(seen >= 0, -1)
        total = F.cross_entropy(answers[:, :number].transpose(1, 2), seen, ignore_index=-1, reduction="sum")
        return total / (seen >= 0).sum().clamp(min=1)

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """`T^2 * KL(teacher_T || student_T)` of each word, in nats."""
        student_log, teacher_log = (F.log_softmax(one / temperature, dim=2) for one in (answers, teacher))
        every = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(dim=2)
        there = teacher.amax(dim=2) > teacher.amin(dim=2)  # where there is no word, all are alike
        return temperature**2 * every.where(there, 0.0).sum() / there.sum().clamp(min=1)

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        """Word by word."""
        return combined([np.moveaxis(one, 2, 1) for one in answers], weights, output).transpose(1, 2)

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        """Of each word that has a token; of a sentence with a logit that is not finite none says anything."""
        number = min(answers.shape[1], labels.shape[1])
        truth = labels[:, :number].numpy()
        seen = truth >= 0
        logits = np.array(answers[:, :number])
        is_bad = ~np.isfinite(logits).all(axis=2) & seen
        logits[is_bad.any(axis=1)] = np.nan
        return Decisions(logits[seen], truth[seen])

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """Entities that are missed or made up; among those with as many, the share of words that are wrong."""
        wrong = (outcomes[TRUE] + outcomes[PREDICTED] - 2 * outcomes[MATCHED]).sum(axis=1)
        found = wrong + (outcomes[WORDS] - outcomes[RIGHT]) / (1 + outcomes[WORDS])
        return np.where(outcomes[FINITE], found, np.inf)

    def wrong(self, outcomes: Outcomes) -> NDArray[np.bool_] | None:
        """Whether any word has another tag than its own."""
        found: NDArray[np.bool_] = outcomes[RIGHT] < outcomes[WORDS]
        return found

    def choices(self, outcomes: Outcomes) -> NDArray[np.int64] | None:
        found: NDArray[np.int64] = outcomes[SAID].astype(np.int64)
        return found

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        counts = outcomes[TRUE][row].tolist()
        each = [f"{number} {kind}" for kind, number in zip(self.tags.kinds, counts, strict=True) if number]
        return named(each) or "no entity"

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        if not outcomes[FINITE][row]:
            return NOTHING
        right, words = int(outcomes[RIGHT][row]), int(outcomes[WORDS][row])
        true, told, hits = (int(outcomes[name][row].sum()) for name in (TRUE, PREDICTED, MATCHED))
        mark = "✓" if right == words else "✗"
        found = f"{hits} of {true} entities" + (f", {told - hits} made up" if told > hits else "")
        return f"{mark} {found}; {right} of {words} words right"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        hits, told, true = (outcomes[name].sum(axis=0) for name in (MATCHED, PREDICTED, TRUE))
        by_kind = np.divide(2 * hits, told + true, out=np.zeros(len(true)), where=told + true > 0)
        kinds = {"kinds": list(self.tags.kinds), "kind_f1": by_kind.tolist(), "kind_count": true.tolist()}
        return kinds | {"num_close": int((outcomes[CLOSE] > 0).sum())}


def _truth(labels: Tensor) -> Tensor:
    """The tag of each word, whether it was cut off or not; -1 where there is no word."""
    return torch.where(labels <= CUT, CUT - labels, labels)
