"""A stop that reaches work which knows nothing of runs: whoever starts long work says how to ask whether it should end,
and whoever does it asks now and then.

The question belongs to the thread that asks it, so that two runs which open their data at once end each on its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class StopAskedError(Exception):
    """Work was ended because somebody asked for it; nothing is wrong."""


_question: ContextVar[Callable[[], bool] | None] = ContextVar("stop_question", default=None)


@contextlib.contextmanager
def stoppable(asked: Callable[[], bool]) -> Iterator[None]:
    """Inside, `check_stop` ends the work of this thread once `asked` says so."""
    token = _question.set(asked)
    try:
        yield
    finally:
        _question.reset(token)


def may_be_stopped() -> bool:
    """Whether anybody could ask for a stop of what this thread does."""
    return _question.get() is not None


def check_stop() -> None:
    """Raise `StopAskedError` once somebody has asked for a stop."""
    asked = _question.get()
    if asked is not None and asked():
        raise StopAskedError("ended because somebody asked for a stop")
