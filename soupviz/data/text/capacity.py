"""How many tokens a model knows, and how many it takes in a row: what does not fit is refused at the door."""

from typing import Any

from torch import nn

from soupviz.errors import DataError

SPARE = 1024
"""Rows that an embedding may have beyond its tokenizer's tokens: it is often rounded up."""


def vocabularies(model: nn.Module) -> dict[str, int]:
    """How many tokens a model knows, by what says so: its embedding and its head, where it names them as those of
    transformers do."""
    named = {"the embedding of the model": "get_input_embeddings", "the head of the model": "get_output_embeddings"}
    parts = {what: getattr(model, name, None) for what, name in named.items()}
    found = {what: getattr(find(), "weight", None) for what, find in parts.items() if callable(find)}
    return {what: len(weight) for what, weight in found.items() if weight is not None}


def positions(model: nn.Module) -> int | None:
    """How many tokens a model has positions for; None where it does not say."""
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    # RoBERTa's positions begin behind that of the padding.
    first = next((t.padding_idx + 1 for t in _tables(model) if getattr(t, "padding_idx", None) is not None), 0)
    return most - first


def limit(model: nn.Module) -> int | None:
    """How many tokens a row may have; None where positions are not learned, but turned or added, and have no end."""
    return positions(model) if _tables(model) else None


def _tables(model: nn.Module) -> list[Any]:
    """The embeddings of positions, of a model that has learned them."""
    ends = ("positions", "position_embeddings", "embed_positions", "wpe")
    return [module for name, module in model.named_modules() if name.endswith(ends) and hasattr(module, "weight")]


def of_model(model: nn.Module) -> list[Any]:
    """What tokens were seen to fit, for the identity of what is kept of them."""
    return [vocabularies(model), positions(model), limit(model)]


def check(where: str, largest: int, longest: int, num_tokens: int, model: nn.Module) -> list[str]:
    """Refuse tokens that the model does not know, and rows that are longer than it takes; gives what there is to tell.

    Args:
        largest: of the tokens that occur. longest: tokens of the longest row. num_tokens: that the tokenizer has; 0:
            unknown.
    Raises:
        DataError: with both numbers.
    """
    most = limit(model)
    if most is not None and longest > most:
        raise DataError(
            f"{where}: its longest row has {longest} tokens, but the model has positions for {most}; set max_length to "
            f"{most} at most."
        )
    known = vocabularies(model)
    for what, rows in known.items():
        if largest >= rows:
            raise DataError(
                f"{where}: its texts have tokens up to {largest}, but {what} has {rows} rows (0 to "
                f"{rows - 1}); give the tokenizer that the model was trained with."
            )
    if not num_tokens or not known or any(num_tokens <= rows <= num_tokens + SPARE for rows in known.values()):
        return []
    told = " and ".join(f"{rows:,}" for rows in known.values())
    return [
        f"{where}: the tokenizer has {num_tokens:,} tokens, the model's embedding {told} rows: see that it is the "
        "model's own."
    ]
