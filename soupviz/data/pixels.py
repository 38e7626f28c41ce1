"""Pictures of more than 8 bits, which Pillow would make white or black: scaled by their type, or refused by name."""

import numpy as np
from PIL import Image

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WIDENED = ("PNG", "PPM")
"""Files whose 16-bit grey Pillow may open as 32-bit integers, with the same values."""


def eight_bits(image: Image.Image) -> Image.Image:
    """The picture itself, or one of 8 bits for a picture of more.

    16 bits run from 0 to 65535, floats from 0 to 1.
    Raises:
        ValueError: integers of 32 bits, or floats outside 0 to 1: nobody can know which of their values is white.
    """
    if image.mode not in (*SIXTEEN_BITS, "I", "F"):
        return image
    values = np.asarray(image)
    if image.mode == "I" and image.format not in WIDENED:
        raise ValueError("its pixels are integers of 32 bits; expected 8 or 16 bits, or floats from 0 to 1: convert it")
    low, high = float(values.min()), float(values.max())
    white = 1.0 if image.mode == "F" else 65535.0
    if not (0.0 <= low and high <= white):  # nan is no number of either
        raise ValueError(
            f"its pixels run from {low:g} to {high:g}; expected 0 to {white:g}: scale them, or save 8 bits"
        )
    return Image.fromarray(np.rint(values.astype(np.float64) * (255.0 / white)).astype(np.uint8), "L")
