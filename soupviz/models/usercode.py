"""Code that is not soupviz's own: factories, models, data sets, tokenizers. All of it is run within `guarded`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from soupviz.errors import Cancelled, SoupError, told


@contextmanager
def guarded(refusal: Callable[[str], SoupError], *passed: type[BaseException]) -> Iterator[None]:
    """Whatever is raised within becomes one clear error: a script that wants to leave must not end soupviz.

    Args:
        refusal: makes the error, from what was raised in one line. passed: what callers tell apart themselves.
    """
    untouched: tuple[type[BaseException], ...] = (SoupError, Cancelled, KeyboardInterrupt, *passed)
    try:
        yield
    except untouched:
        raise
    except BaseException as error:  # SystemExit too, and classes that are no Exception
        raise refusal(told(error)) from error
