"""Finished bodies, kept by what they depend on, up to a number of bytes and an age.

Used from the event loop only, so nothing here locks. What does not belong here: how a body is made (`service.py`).
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

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
        self.max_bytes, self.max_age, self.bytes = max_bytes, max_age, 0
        self.stats = Stats()
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[bytes, float]] = OrderedDict()  # a body and the end of its time

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> bytes | None:
        """Return a body that is kept and not too old."""
        if key not in self._kept:
            return None
        body, end = self._kept[key]
        if self._clock() > end:
            self._forget(key)
            self.stats.expired += 1
            return None
        self._kept.move_to_end(key)
        return body

    def put(self, key: Hashable, body: bytes, *, lasting: bool = False) -> None:
        """Keep a body, a lasting one until there is no room; what was used longest ago makes room."""
        if len(body) + _OVERHEAD > self.max_bytes // 4:
            return
        if key in self._kept:
            self._forget(key)
        self._kept[key] = (body, math.inf if lasting else self._clock() + self.max_age)
        self.bytes += len(body) + _OVERHEAD
        while self.bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))
            self.stats.evictions += 1

    def sweep(self) -> None:
        """Forget what is too old, whether anybody asks for it again or not."""
        for key in [key for key, (_, end) in self._kept.items() if self._clock() > end]:
            self._forget(key)
            self.stats.expired += 1

    def _forget(self, key: Hashable) -> None:
        self.bytes -= len(self._kept.pop(key)[0]) + _OVERHEAD
