"""What is read when it is first asked for, and kept as long as there is room: of a hundred symbols few are looked at.

What belongs here: who reads what nobody has read yet, and what leaves. What does not: what is read (`data.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")


class _Reading(Generic[Value]):
    """A value that is being read: the lock of who reads it, how many hold or wait for that, and what came of it."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.users = 0
        self.value: Value | None = None


class Loaded(Generic[Value]):
    """Values by key, the most recently used ones, up to a number of bytes. Safe between threads.

    Who holds a value goes on with it when it leaves. Of those who ask for the same one at once the first reads it and
    the others wait for that; others are not held up.

    Args:
        max_bytes: how much is kept; a value that is larger is handed out and not kept.
        size: bytes that a value takes.

    Attributes:
        reads: how often a value was read.
    """

    def __init__(self, max_bytes: int, size: Callable[[Value], int]) -> None:
        self.max_bytes, self.reads = max_bytes, 0
        self._size = size
        self._kept: LRUCache[Hashable, Value] = LRUCache(max_bytes, size)
        self._lock = threading.Lock()
        self._readings: dict[Hashable, _Reading[Value]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that the kept values take."""
        return int(self._kept.currsize)

    def get(self, key: Hashable) -> Value | None:
        """Return a value that is kept."""
        with self._lock:
            return self._kept.get(key)

    def get_or_read(self, key: Hashable, read: Callable[[], Value]) -> Value:
        """Return a value that is kept, or read it; what `read` raises is raised, and nothing is kept of it."""
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                return known
            reading = self._readings.setdefault(key, _Reading())
            reading.users += 1
        try:
            with reading.turn:
                if reading.value is None:
                    reading.value = read()
                    self._keep(key, reading.value)
                return reading.value
        finally:
            with self._lock:
                reading.users -= 1
                if not reading.users:
                    del self._readings[key]

    def keep_only(self, wanted: Callable[[Hashable], bool]) -> None:
        """Forget what nobody will ask for any more."""
        with self._lock:
            for key in [key for key in self._kept if not wanted(key)]:
                del self._kept[key]

    def _keep(self, key: Hashable, value: Value) -> None:
        with self._lock:
            self.reads += 1
            if self._size(value) <= self.max_bytes:
                self._kept[key] = value
