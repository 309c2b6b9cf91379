"""Ctrl-C and SIGTERM as requests that a run answers when it has saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody has asked."""

    requested = False


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Turn SIGTERM and Ctrl-C into a request that the loop answers between two steps."""
    stop = Stop()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.requested = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
