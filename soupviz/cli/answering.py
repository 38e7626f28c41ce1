"""Stdout is for a command's answer alone: what else prints meanwhile, user code or a library, does so on stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

_STREAM: ContextVar[TextIO | None] = ContextVar("answers", default=None)


@contextmanager
def answering() -> Iterator[None]:
    """Within it only `answer` and what is written to `stream` reach stdout."""
    with _apart(sys.stdout) as kept, redirect_stdout(sys.stderr):
        token = _STREAM.set(kept)
        try:
            yield
        finally:
            _STREAM.reset(token)


def stream() -> TextIO:
    """Where answers go."""
    return _STREAM.get() or sys.stdout


def answer(text: str) -> None:
    """Print what the user asked for."""
    print(text, file=stream(), flush=True)


@contextmanager
def _apart(stdout: TextIO) -> Iterator[TextIO]:
    """A stream to where stdout leads, whose own descriptor leads to stderr meanwhile: code in C does not ask Python."""
    if (_descriptor(stdout), _descriptor(sys.stderr)) != (1, 2):  # another program's, which catches what is printed
        yield stdout
        return
    stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) as kept:
        os.dup2(2, 1)
        try:
            yield kept
        finally:
            os.dup2(kept.fileno(), 1)


def _descriptor(one: TextIO) -> int | None:
    try:
        return one.fileno()
    except (AttributeError, OSError, ValueError):  # none, or one in memory
        return None
