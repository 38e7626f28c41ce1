"""What float32 means while a model runs: exact, or TF32 where a device has it. Never whatever was set before."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch

from soupviz.spec import Precision

AUTOCAST: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions in which whole layers compute; the others are ways to compute in float32."""


@contextmanager
def arithmetic_of(precision: Precision) -> Iterator[None]:
    """Multiply float32 numbers exactly, or as TF32 where that is the precision; PyTorch's flags are put back after.

    Left alone, convolutions on GPUs from Ampere on round their inputs to 10 bits: PyTorch's default for cuDNN. It has
    two interfaces for the same flags, and refuses to read the older where they disagree: both are set.
    """
    operations = _operations()
    before = [operation.fp32_precision for operation in operations]
    legacy = _legacy()
    is_tf32 = precision == "tf32"
    _set_legacy("high" if is_tf32 else "highest", convolutions=is_tf32)
    for operation in operations:
        operation.fp32_precision = "tf32" if is_tf32 else "ieee"
    try:
        yield
    finally:
        if legacy is not None:
            _set_legacy(legacy[0], convolutions=legacy[1])
        for operation, value in zip(operations, before, strict=True):
            operation.fp32_precision = value


def _operations() -> list[Any]:
    """What PyTorch has a flag of its own for: on the GPU, and with oneDNN on the CPU."""
    cudnn: Any = torch.backends.cudnn
    onednn: Any = torch.backends.mkldnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv, onednn.rnn]


def _legacy() -> tuple[Literal["highest", "high", "medium"], bool] | None:
    """The flags of the older interface; None where whoever set the newer alone made them unreadable."""
    with suppress(RuntimeError):
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32  # type: ignore[return-value]
    return None


def _set_legacy(products: Literal["highest", "high", "medium"], *, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
