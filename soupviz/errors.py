"""The errors a user can cause. Each message says where, what was expected, what came, and the remedy."""

import difflib
import traceback
from collections.abc import Collection

from soupviz.addresses import spelled


def told(error: BaseException) -> str:
    """What code that is not soupviz's own raised, in one line; where it says nothing, the line that raised it."""
    try:
        message = shortened(spelled(str(error)))  # cut before, a secret would not look like one
    except Exception:  # its own way to tell it fails too
        message = ""
    if message:
        return f"{type(error).__name__}: {message}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}{where}"


LONGEST = 300
"""Letters that are handed on of what others wrote: a library's message, or a name in a file."""


def shortened(text: str) -> str:
    """In one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def did_you_mean(name: str, known: Collection[str], otherwise: str = "known are") -> str:
    """The remedy for a name that nobody knows: the nearest one that is known; where none is near, all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known) or 'none'}."


class SoupError(ValueError):
    """A mistake the user can mend; its message is shown verbatim on a page and on the command line.

    Files that were fetched from elsewhere are told by their addresses, and no message tells a secret that is in one.
    """

    def __str__(self) -> str:
        return spelled(super().__str__())


class KitchenError(SoupError):
    """kitchen.yaml, or a name looked up in it, is wrong."""


class CheckpointError(SoupError):
    """A checkpoint file cannot be read as weights.

    remedy: a sentence that ends with a command, which ends the message, so that it can be copied.
    """

    def __init__(self, reason: str, remedy: str = ""):
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason} {remedy}".rstrip())


class CompatibilityError(SoupError):
    """Checkpoints that can be read do not belong in one soup."""


class ModelError(SoupError):
    """The model cannot be built, or what it returns is not logits."""


class DataError(SoupError):
    """A data split cannot be read, or does not fit the model."""


class TooLargeError(DataError):
    """There is not enough memory for the model, or for a single unit."""


class CorruptImagesError(DataError):
    """Images or recordings of a split cannot be decoded, and nobody said to leave them out."""


class RecipeError(SoupError):
    """A recipe's parameters are out of range, or it names what the kitchen lacks."""


class CurveError(SoupError):
    """A curve has too few points, or does not reach both ends."""


class RemoteError(SoupError):
    """A file elsewhere cannot be listed, fetched or written."""


class ExportError(SoupError):
    """A soup cannot be written, or cannot be rebuilt from its recipe."""


class TrackingError(SoupError):
    """An experiment tracker is not installed, or cannot be written to."""


class ExecutorError(SoupError):
    """Workers cannot be started, or end again and again; what was scored is kept."""


class Cancelled(Exception):  # noqa: N818 - the user's wish, not an error
    """Raised by a progress callback to stop the work; what is finished stays in the store."""
