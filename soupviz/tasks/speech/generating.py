"""Transcripts from encoder-decoders, token by token, by the `generate` that transformers' models have."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from soupviz.data.audio.listening import for_model
from soupviz.data.text import tokens
from soupviz.errors import KitchenError, ModelError
from soupviz.extras import needed
from soupviz.files import digest
from soupviz.models.usercode import guarded
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS
from soupviz.tasks.speech import vocabulary

MOST_TOKENS = 128
"""Of a transcript, unless the kitchen says otherwise: transformers' own default of 20 cuts sentences off."""

VERSION = 2
"""Of what is kept of each transcript; another one makes old scores unfindable."""

SETTINGS = "generation_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Generate:
    """The likeliest token after the other, without search or chance: no other recording has a part in it.

    Answers are, first, whether another token was so nearly as likely as one that was taken that rounding may decide (1
    or 0, -1 where nobody saw), and then the tokens' numbers plus one, 0 where there are none; a row that is not finite
    has no number in it.

    text: what numbers of tokens stand for. arguments: of `generate`. folder: where the checkpoint's own settings of it
    lie; None: the model's.
    """

    text: Callable[[Sequence[int]], str]
    arguments: Mapping[str, Any]
    folder: Path | None
    key: list[Any] = field(default_factory=list)

    @property
    def told(self) -> str:
        limit = self.arguments.get("max_new_tokens", self.arguments.get("max_length", MOST_TOKENS))
        return f"transcripts are generated greedily, of at most {limit} tokens."

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """Of a batch, shape (batch, 1 + tokens).

        Raises:
            RuntimeError: memory ran out.
            ModelError: the model has no `generate`, or that fails.
        """
        if not hasattr(model, "generate"):
            raise ModelError(
                "decode: generate is for models that have a function `generate`, as encoder-decoders of transformers "
                "do; this one has none. Take decode: ctc, or another factory."
            )
        inputs = {name or model.main_input_name: tensor for name, tensor in for_model(batch).items()}  # type: ignore[attr-defined]
        number = len(next(iter(inputs.values())))
        watch = _Watch(number)
        try:
            with guarded(lambda told: ModelError(f"the model's generate fails with {told}"), torch.OutOfMemoryError):
                return self._generated(model, inputs, watch)
        except ModelError:
            if not watch.is_broken.any():
                raise
        # It stumbled over what is not finite: of each recording alone.
        if number == 1:
            return torch.full((1, 2), torch.nan)
        rows = [self.answer_batch(model, {name: one[k : k + 1] for name, one in inputs.items()}) for k in range(number)]
        longest = max(row.shape[1] for row in rows)
        return torch.cat([pad(row, (0, longest - row.shape[1])) for row in rows])

    def _generated(self, model: Any, inputs: Mapping[str, Tensor], watch: "_Watch") -> Tensor:
        settings = self._settings(model)
        watch.ends = _ends(settings)
        with _quiet():
            found: Tensor = model.generate(**inputs, generation_config=settings, logits_processor=[watch])
        ended = torch.isin(found, watch.ends.to(found.device))
        if settings.decoder_start_token_id in watch.ends.tolist():
            ended[:, 0] = False
        after = ended.int().cumsum(dim=1) - ended.int() > 0
        numbers = pad((found + 1).masked_fill(after, 0).float(), (0, 1))  # of a batch that says nothing one column
        answers = torch.cat([watch.close.to(numbers)[:, None], numbers], dim=1)
        return answers.masked_fill(watch.is_broken.to(answers.device)[:, None], torch.nan)

    def _settings(self, model: Any) -> Any:
        from transformers import GenerationConfig

        if self.folder is not None and (self.folder / SETTINGS).is_file():
            settings = GenerationConfig.from_pretrained(str(self.folder), local_files_only=True)
        else:
            settings = GenerationConfig.from_dict(model.generation_config.to_dict())
        most = getattr(model.config, "max_target_positions", None) or MOST_TOKENS
        limit = (
            {} if {"max_length", "max_new_tokens"} & self.arguments.keys() else {"max_length": min(MOST_TOKENS, most)}
        )
        settings.update(**{"num_beams": 1, "do_sample": False, **limit, **self.arguments})
        return settings

    def heard(self, answers: Tensor) -> tuple[NDArray[np.bool_], list[str]]:
        """Whether each answer is finite, and its text."""
        finite = answers.isfinite().all(dim=1).cpu().numpy()
        rows = answers[:, 1:].nan_to_num(0.0).long().cpu().numpy() - 1
        with guarded(lambda told: ModelError(f"the tokens that the model says are not the vocabulary's: {told}")):
            return finite, [self.text(row[row >= 0].tolist()) for row in rows]

    def close(self, answers: Tensor) -> NDArray[np.int8]:
        """Whether another token was all but as likely as one of the transcript; -1 where that is not known."""
        return answers[:, 0].nan_to_num(0.0).cpu().numpy().astype(np.int8)


class _Watch:
    """Sees what is said of each next token: whether it is a number, and how near the two best are.

    It is asked last, so that what `generate` forbids is ruled out by then. Of beams, and of recordings that are taken
    anew without the others, nobody knows whose the scores are.
    """

    def __init__(self, number: int):
        self.is_broken = torch.zeros(number, dtype=torch.bool)
        self.close = torch.zeros(number, dtype=torch.int8)
        self.ends = torch.zeros(0, dtype=torch.long)
        self._is_over = torch.zeros(number, dtype=torch.bool)
        self._length = -1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if len(scores) != len(self.is_broken):
            self.close.fill_(-1)
            return scores
        goes_on, self._length = input_ids.shape[1] == self._length + 1, input_ids.shape[1]
        ended = torch.isin(input_ids[:, -1].cpu(), self.ends)
        self._is_over = (self._is_over | ended) & goes_on  # what generation begins with may be what ends it
        self.is_broken |= scores.isnan().any(dim=1).cpu()
        best = scores.topk(min(2, scores.shape[1]), dim=1).values
        near = (best[:, 0] - best[:, -1] < CLOSE_LOGITS).cpu() & ~self._is_over
        self.close[near & (self.close == 0)] = 1
        return scores


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers tells anew at each call what its own models make of its own settings."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _ends(settings: Any) -> Tensor:
    """The tokens that end a transcript."""
    found = [] if settings.eos_token_id is None else settings.eos_token_id
    return torch.tensor(found, dtype=torch.long).reshape(-1)


def read(given: Any, arguments: Any, folder: Path) -> Generate:
    """A decoder from kitchen.yaml.

    Args:
        given: a folder with a tokenizer, or a vocabulary as of `vocabulary.read`.
    Raises:
        KitchenError: neither, or arguments that are no mapping, or that make decisions random.
    """
    if not isinstance(arguments, Mapping):
        raise KitchenError(f"task.arguments is {arguments!r}; expected a mapping of arguments of `generate`.")
    if arguments.get("do_sample"):
        raise KitchenError("task.arguments has do_sample: a soup would be judged by chance; leave it out.")
    place = folder / given if isinstance(given, str) else None
    if place is not None and any((place / name).is_file() for name in TOKENIZERS):
        with needed(f"task.vocabulary: {place}", KitchenError):
            from transformers import AutoTokenizer
        with guarded(lambda told: KitchenError(f"task.vocabulary: {place} holds no tokenizer: {told}")):
            tokenizer = AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)

        def text(numbers: Sequence[int]) -> str:
            return str(tokenizer.decode(list(numbers), skip_special_tokens=True)).strip()

        return Generate(text, dict(arguments), place, ["generate", VERSION, tokens.identity(place), dict(arguments)])
    known = vocabulary.read(given, None, folder)
    return Generate(known.text, dict(arguments), None, ["generate", VERSION, digest(known.tokens), dict(arguments)])
