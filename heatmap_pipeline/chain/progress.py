"""How long work tells how far it is: one listener (the command line's), or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, str, int, int], None]
"""Called with symbol, stage, steps done and steps in all."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of everything that runs in this process to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(symbol: str, stage: str, done: int, total: int) -> None:
    """Say that `done` of `total` steps of a symbol's stage are done."""
    for listener in _listeners:
        listener(symbol, stage, done, total)
