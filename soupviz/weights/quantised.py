"""Quantised checkpoints: how they are known, and why no soup is mixed of them."""

import re
from collections.abc import Iterable
from pathlib import Path

from soupviz.errors import CheckpointError
from soupviz.weights.inert import read_json

SCHEMES = (
    (r"\.quant_state\.bitsandbytes__|\.weight\.(?:absmax|quant_map)$", "4 bits, by bitsandbytes"),
    (r"\.(?:SCB|weight_format)$", "8 bits, by bitsandbytes"),
    (r"\.(?:qweight|qzeros)$", "by GPTQ or AWQ"),
    (r"\.(?:weight_packed|weight_zero_point)$", "by compressed-tensors"),
    (r"(?:^|[.:_])(?:_?qdata|tensor_impl|int_data)$", "by torchao"),
    (r"\.W_q$", "by HQQ"),
    (r"\.(?:weight_scale(?:_inv|_2)?|scale_weight|input_scale)$", "with scales beside its numbers"),
)
"""What the keys of quantised layers are called, the most telling first, and by which library or how."""

LIBRARIES = ("torchao", "bitsandbytes", "hqq", "quanto", "optimum.quanto", "auto_gptq", "gptqmodel", "awq")
"""Whose tensors of their own classes are quantised ones."""

REMEDY = "save the weights as they were before, or dequantised (transformers: model.dequantize())"


def told_of(keys: Iterable[str], path: Path) -> str:
    """How a checkpoint is quantised, by keys that its model lacks and by the config.json beside it; empty if it is not.

    The sentence begins with the verb.
    """
    named = list(keys)
    for pattern, how in SCHEMES:
        if found := next((key for key in named if re.search(pattern, key)), ""):
            method = method_of(path.parent)
            by = f"{how}; config.json beside it says {method}" if method else how
            return (
                f"is quantised ({by}: {found}): it holds codes and scales, whose mean is not that of the weights. "
                f"Soups are of float32, float16, bfloat16, or float8 without scales: {REMEDY}"
            )
    return ""


def method_of(folder: Path) -> str:
    """The `quant_method` that the config.json of a folder tells of; empty where it tells of none."""
    try:
        values = read_json(folder / "config.json")
    except CheckpointError:
        return ""
    told = values.get("quantization_config") if isinstance(values, dict) else None
    return str(told.get("quant_method", "a quantization_config")) if isinstance(told, dict) else ""


def needed_by(classes: Iterable[str]) -> str:
    """The first of classes that is of a library that quantises."""
    return next((name for name in classes if name.startswith(tuple(f"{one}." for one in LIBRARIES))), "")
