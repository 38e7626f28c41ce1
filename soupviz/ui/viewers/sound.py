"""Recordings, to be listened to."""

import base64
import html
import io
import wave

import numpy as np
import torch
from numpy.typing import NDArray

from soupviz.data.audio.waves import Wave, resampled
from soupviz.data.ragged import Ragged
from soupviz.data.split import Split
from soupviz.ui.viewers.viewer import Viewer

LONGEST = 10.0
"""Seconds that a player has; a page holds a dozen of them."""

HIGHEST = 16_000
"""Samples a second that it has at most."""


def player(split: Split, row: int, name: str) -> str:
    """A recording as an HTML player, with its samples inside; what is long is cut."""
    data = base64.b64encode(_wav(_samples(split, row), split.rate)).decode()
    label = html.escape(name, quote=True)
    return f"<audio controls preload='metadata' aria-label='{label}' src='data:audio/wav;base64,{data}'></audio>"


def _samples(split: Split, row: int) -> NDArray[np.float32]:
    """A recording without what it is padded with."""
    kept = next(one for one in split.arrays.values() if isinstance(one, Ragged) and one.dtype.is_floating_point)
    place = row if split.rows is None else int(split.rows[row])
    found: NDArray[np.float32] = kept.take(torch.tensor([place]))[0].numpy()
    return found


def _wav(samples: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of 16 bits; what is beyond full scale is cut off."""
    kept = min(rate, HIGHEST)
    short = resampled(Wave(samples[: int(LONGEST * rate)], rate, 1), kept)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(kept)
        file.writeframes(np.rint(32767 * np.clip(short, -1, 1)).astype("<i2").tobytes())
    return buffer.getvalue()


def note(split: Split) -> str:
    """What is to be said of all players of a split."""
    longest = max(shape[0] for shape in split.shapes.values() if shape)
    return f"A player has the first {LONGEST:g} s of a recording." if longest > LONGEST * split.rate else ""


SOUND = Viewer(
    "sound",
    lambda _task, split, _row: split.rate > 0,
    lambda unit: f"<p>#{unit.row}</p>{player(unit.split, unit.row, unit.name)}",
    "18rem",
    note,
)
