"""Recordings as samples: one channel, float32, at one rate."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import DataError, told
from soupviz.extras import needed

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff")


@dataclass(frozen=True, slots=True)
class Wave:
    """A recording. samples: float32, shape (length,), the mean of its channels. rate: samples a second."""

    samples: NDArray[np.float32]
    rate: int
    channels: int


def read(path: Path) -> Wave | str:
    """A recording as it is in its file, or why it cannot be read."""
    try:
        with needed(f"{path}: reading recordings", DataError):
            import soundfile
    except OSError as error:  # without libsndfile, of which the wheels have their own
        raise DataError(f"{path}: soundfile cannot be loaded: {told(error)}; pip install soundfile.") from None
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # soundfile's own are RuntimeErrors
        return told(error)
    if not len(samples):
        return "it holds no samples"
    if not np.isfinite(samples).all():
        return "it holds samples that are no numbers"
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return Wave(np.ascontiguousarray(mono), int(rate), samples.shape[1])


def resampled(wave: Wave, rate: int) -> NDArray[np.float32]:
    """The samples at another rate, by a polyphase filter."""
    if wave.rate == rate:
        return wave.samples
    from scipy.signal import resample_poly  # loading it takes a third of a second

    common = math.gcd(wave.rate, rate)
    found: NDArray[np.float32] = resample_poly(wave.samples, rate // common, wave.rate // common).astype(np.float32)
    return found


def fitted(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Cut to the length, or filled up with silence."""
    cut = samples[:length]
    return np.pad(cut, (0, length - len(cut)))
