"""Finished bodies, kept by what they depend on, up to a number of bytes and an age.

Used from the event loop only, so nothing here locks. What does not belong here: how a body is made (`service.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from cachetools import LRUCache

_OVERHEAD = 500
"""Bytes an entry takes besides its body."""


@dataclass
class Stats:
    """What happened since the start; `coalesced` requests waited for the same body that another was already making."""

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    evictions: int = 0
    expired: int = 0
    not_modified: int = 0
    rejected: int = 0


class ByteCache:
    """Bodies by key, the most recently used ones.

    Args:
        max_bytes: how much is kept; a body larger than a quarter of it is not kept at all.
        max_age: seconds after which a body is made anew.
        clock: for tests.
    """

    def __init__(self, max_bytes: int, max_age: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes, self.max_age = max_bytes, max_age
        self.stats = Stats()
        self._clock = clock
        # A body and the end of its time.
        self._kept: LRUCache[Hashable, tuple[bytes, float]] = LRUCache(max_bytes, lambda entry: _size(entry[0]))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that the kept bodies take."""
        return int(self._kept.currsize)

    def get(self, key: Hashable) -> bytes | None:
        """Return a body that is kept and not too old."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        body, end = entry
        if self._clock() > end:
            del self._kept[key]
            self.stats.expired += 1
            return None
        return body

    def put(self, key: Hashable, body: bytes, *, lasting: bool = False) -> None:
        """Keep a body, a lasting one until there is no room; what was used longest ago makes room."""
        if _size(body) > self.max_bytes // 4:
            return
        self._kept.pop(key, None)
        before = len(self._kept)
        self._kept[key] = (body, math.inf if lasting else self._clock() + self.max_age)
        self.stats.evictions += before + 1 - len(self._kept)

    def sweep(self) -> None:
        """Forget what is too old, whether anybody asks for it again or not."""
        for key in [key for key, (_, end) in self._kept.items() if self._clock() > end]:
            del self._kept[key]
            self.stats.expired += 1


def _size(body: bytes) -> int:
    return len(body) + _OVERHEAD
