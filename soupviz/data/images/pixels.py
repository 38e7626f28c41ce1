"""Pictures of more than 8 bits, which Pillow would make white or black: scaled by their type, or refused by name."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WIDENED = ("PNG", "PPM")
"""Files whose 16-bit grey Pillow may open as 32-bit integers, with the same values."""


BITS_PER_SAMPLE = 258
"""TIFF's tag: Pillow reads 12 bits as 16."""


def eight_bits(image: "Image.Image") -> "Image.Image":
    """The picture itself, or one of 8 bits for a picture of more.

    16 bits run from 0 to 65535, 12 bits to 4095, floats from 0 to 1.
    Raises:
        ValueError: other integers, or floats outside 0 to 1: nobody can know which of their values is white.
    """
    if image.mode not in (*SIXTEEN_BITS, "I", "F"):
        return image
    if image.mode == "I" and image.format not in WIDENED:
        raise ValueError(
            "its pixels are integers of 32 bits or signed; expected 8 or 16 bits, or floats from 0 to 1: convert it"
        )
    values = np.asarray(image).astype(np.float64)
    white = 1.0 if image.mode == "F" else 2.0 ** _bits(image) - 1
    low, high = float(values.min()), float(values.max())
    if not (0.0 <= low and high <= white):  # nan is no number of either
        raise ValueError(
            f"its pixels run from {low:g} to {high:g}; expected 0 to {white:g}: scale them, or save 8 bits"
        )
    from PIL import Image

    return Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8), "L")


def _bits(image: "Image.Image") -> int:
    tags = getattr(image, "tag_v2", {})
    return int(tags[BITS_PER_SAMPLE][0]) if BITS_PER_SAMPLE in tags else 16
