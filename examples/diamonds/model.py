"""Two hidden layers; one number."""

from torch import nn

NUM_MEASURED = 26
"""Six measurements, and three grades as one column for each of their values."""


def build() -> nn.Module:
    return nn.Sequential(
        nn.Linear(NUM_MEASURED, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 1)
    )  # fmt: skip
