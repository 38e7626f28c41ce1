"""Questions for models that score options themselves: each option beside its context, as transformers' own heads for
multiple choice take them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from soupviz.data import ragged
from soupviz.data.arguments import arguments_of
from soupviz.data.text import capacity, tokens
from soupviz.data.text.windows import TOKENS

HEADS = "ForMultipleChoice"
"""How transformers' classes end that have a number for each option."""


def scores_options(model: nn.Module) -> bool:
    """Whether a model takes tokens of shape (questions, options, tokens), and gives a number for each option."""
    return any(kind.__name__.endswith(HEADS) for kind in type(model).__mro__)


def save(
    where: str,
    folder: Path,
    tokenizer: tokens.Tokenizer,
    questions: Sequence[tuple[str, Sequence[str]]],
    longest: int | None,
    model: nn.Module,
) -> tuple[list[str], list[str]]:
    """Keep the tokens of contexts with their options, as long as the longest; gives the arguments, and what there is
    to tell.

    Args:
        questions: of each its context and its options. longest: tokens at most.
    Raises:
        DataError: the model does not take them.
    """
    pairs = [(context, option) for context, options in questions for option in options]
    rows = tokens.encoded(where, tokenizer, [[one for one, _ in pairs], [other for _, other in pairs]], longest)
    ids = rows[TOKENS]
    known, _ = arguments_of(model)
    ends = np.cumsum([len(options) for _, options in questions])[:-1]
    arguments = [name for name in rows if name in known]
    for name, array in tokens.padded({name: rows[name] for name in arguments}, tokenizer).items():
        ragged.save(folder, name, np.split(array, ends))
    told = [f"{where}: the model scores options whole, so that to count by their lengths changes nothing."]
    cut = sum(len(row) == longest for row in ids)
    if cut:
        told.append(f"{where}: {cut} options fill the {longest} tokens that fit, and are probably cut.")
    return arguments, told + capacity.check(where, max(map(max, ids)), max(map(len, ids)), tokenizer.size, model)
