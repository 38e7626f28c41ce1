"""Kitchens that several tests share: scores gather in their stores, and nothing else in their folders is changed."""

from pathlib import Path

import pytest
from surface import NORMED, tiny


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four ingredients a, b, c, d near one base, with held_out, test and one shift."""
    return tiny(tmp_path_factory.mktemp("tiny"), name="tiny", splits=("held_out", "test", "shifts.far"))


@pytest.fixture(scope="session")
def normed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ingredients with BatchNorm, and train."""
    splits = ("held_out", "test", "train")
    return tiny(tmp_path_factory.mktemp("normed"), source=NORMED, shape=(1, 4, 4), names=("a", "b", "c"), splits=splits)
