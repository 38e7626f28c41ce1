"""Transcripts from a token, or the blank, in each frame: connectionist temporal classification, decoded greedily."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from soupviz.data.audio.listening import FRAMES, INPUT_LENGTHS, for_model
from soupviz.data.labels import as_text
from soupviz.data.sources import LENGTHS, MASK
from soupviz.errors import CompatibilityError, ModelError
from soupviz.files import digest
from soupviz.models.building import tensor_of
from soupviz.models.frames import lengths_of
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS
from soupviz.tasks.ensembles import LOGITS
from soupviz.tasks.speech.vocabulary import Speller, Vocabulary

PADDED = "padded"
"""How long recordings are with what fills them up."""


class CTC:
    """Logits of shape (batch, time, vocabulary).

    Answers are these logits, and behind them, as one more, whether the frame is one of the recording's: 1, or 0 beyond
    its end.

    Source:
        Graves et al. 2006.
    """

    def __init__(self, vocabulary: Vocabulary, normalized: Callable[[str], str]):
        self.vocabulary = vocabulary
        self._speller = Speller(vocabulary, normalized)

    @property
    def key(self) -> list[Any]:
        return [digest([self.vocabulary.tokens, self.vocabulary.blank])]

    @property
    def told(self) -> str:
        return f"vocabulary: {self.vocabulary.told}."

    def lacking(self, text: str) -> set[str]:
        """The characters of a text that the vocabulary has not."""
        return self._speller.spelled(text)[1]

    def context(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """How many frames each recording has; where that is not known, how long it is with padding and without."""
        if FRAMES in batch:
            return {FRAMES: batch[FRAMES]}
        waves = next(iter(for_model(batch).values()))
        whole = torch.full((len(waves),), waves.shape[1])
        if (lengths := batch.get(INPUT_LENGTHS, batch.get(LENGTHS))) is None:  # of another format than audio
            lengths = batch[MASK].sum(dim=1) if MASK in batch else whole
        return {PADDED: whole.to(lengths.device), INPUT_LENGTHS: lengths}

    def read(self, output: Any, context: Mapping[str, Tensor]) -> Tensor:
        """Of a batch, shape (batch, time, vocabulary + 1), float32 whatever the precision is.

        Raises:
            ModelError: these are no logits of this vocabulary for each frame.
        """
        logits, frames = tensor_of(output), lengths_of(output)
        number = len(next(iter(context.values())))
        if logits.ndim != 3 or logits.shape[0] != number or logits.shape[2] != len(self.vocabulary):
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)} for a batch of {number}; expected "
                f"(batch, time, vocabulary), and the vocabulary has {len(self.vocabulary)} tokens. Check the task's "
                "vocabulary and the model's args."
            )
        time = logits.shape[1]
        if frames is None:
            frames = context[FRAMES] if FRAMES in context else in_proportion(time, context)
        beyond = torch.arange(time, device=logits.device) >= frames.to(logits.device)[:, None]
        # What is said there depends on what else is in the batch: it is put away here, once for all.
        clean = logits.float().masked_fill(beyond[:, :, None], 0.0)
        return torch.cat([clean, (~beyond).to(clean)[:, :, None]], dim=2)

    def heard(self, answers: Tensor) -> tuple[NDArray[np.bool_], list[str]]:
        """Whether each answer is finite, and its text."""
        logits, inside = answers[:, :, :-1], answers[:, :, -1] > 0
        finite = logits.isfinite().flatten(1).all(dim=1)
        numbers = logits.argmax(dim=2).masked_fill(~(inside & finite[:, None]), self.vocabulary.blank)
        rows = collapsed(numbers.cpu().numpy(), self.vocabulary.blank)
        return finite.cpu().numpy(), [self.vocabulary.text(row) for row in rows]

    def close(self, answers: Tensor) -> NDArray[np.bool_]:
        """Whether a frame of each recording has two tokens so near each other that another batch may rank them anew."""
        best = answers[:, :, :-1].topk(2, dim=2).values
        near = (best[:, :, 0] - best[:, :, 1] < CLOSE_LOGITS) & (answers[:, :, -1] > 0)
        return near.any(dim=1).cpu().numpy()

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """In nats per token of the transcript; of one with more tokens than frames it is 0."""
        frames = (answers[:, :, -1] > 0).sum(dim=1)
        chances = answers[:, :, :-1].float().log_softmax(dim=2).transpose(0, 1)
        spelled = [torch.from_numpy(self._speller.spelled(as_text(row))[0]) for row in labels.cpu().numpy()]
        lengths = torch.tensor([len(row) for row in spelled], device=chances.device)
        targets = torch.cat(spelled).to(chances.device)
        return F.ctc_loss(chances, targets, frames, lengths, self.vocabulary.blank, zero_infinity=True)

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
                total = weight * logits if total is None else total + weight * logits
            else:
                part = logits.log_softmax(dim=2) + float(np.log(weight))
                total = part if total is None else total.logaddexp(part)
        assert total is not None
        # Beyond the end all is 0, as of one model.
        return torch.cat([total.masked_fill(inside == 0, 0.0), inside], dim=2)


def collapsed(numbers: NDArray[np.int64], blank: int) -> list[list[int]]:
    """Of each row what is left after repeats are one and blanks are gone.

    Args:
        numbers: of the tokens, shape (batch, time), blank where there are none.
    """
    before = np.concatenate([np.full((len(numbers), 1), blank), numbers[:, :-1]], axis=1)
    kept = (numbers != before) & (numbers != blank)
    return [row.tolist() for row in np.split(numbers[kept], np.cumsum(kept.sum(axis=1))[:-1])]


def in_proportion(time: int, context: Mapping[str, Tensor]) -> Tensor:
    """Frames of recordings of which the model does not say: those that begin before the end of the samples.

    Batches of such a model are all padded to one length, so that no other recording has a part in it.
    """
    lengths, whole = context[INPUT_LENGTHS].to(torch.int64), context[PADDED]
    return (lengths * time + whole - 1) // whole
