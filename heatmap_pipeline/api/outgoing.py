"""The bodies that are on their way to clients: each counted once, however many take it, and bounded together.

A body that is made has its memory already, so nothing is refused here: while too much is on its way, no further body is
made (`turns.py` asks `room_for`), and who keeps the others waiting is cut.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

SHARE = 4
"""One client may have a quarter of the bytes on their way before its next question has to wait for its own."""

PATIENCE_SECONDS = 10.0
"""An answer that has been on its way for longer may be cut for those who wait."""


@dataclass(eq=False)
class Taker:
    """An answer on its way.

    Attributes:
        client: that it counts for.
        body: what is to be taken.
        stalled: whether nothing of it has been taken for a while.
        cut: ends it.
        since: when it was admitted (monotonic seconds).
    """

    client: str
    body: bytes = field(repr=False)
    stalled: Callable[[], bool]
    cut: Callable[[], None]
    since: float = 0.0


class Outgoing:
    """Bodies that connections have not taken yet. All methods belong to the event loop.

    Args:
        most: bytes beyond which no further body is made.
        clock: for tests.

    Attributes:
        size: bytes on their way.
        taken: bodies that were on their way.
        freed: called when one is not any more.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.size, self.taken = most, 0, 0
        self.freed: Callable[[], None] = lambda: None
        self._clock = clock
        self._takers: dict[Taker, None] = {}  # the oldest first
        self._times: Counter[int] = Counter()  # how many take each body

    def __len__(self) -> int:
        return len(self._takers)

    def admit(self, taker: Taker) -> None:
        """Count a body until `release`."""
        taker.since = self._clock()
        self._takers[taker] = None
        self._times[id(taker.body)] += 1
        if self._times[id(taker.body)] == 1:
            self.size += len(taker.body)

    def release(self, taker: Taker) -> None:
        """Say that a body is taken, or that nobody is there to take it."""
        if taker not in self._takers:
            return
        del self._takers[taker]
        self._times[id(taker.body)] -= 1
        if not self._times[id(taker.body)]:
            del self._times[id(taker.body)]
            self.size -= len(taker.body)
            self.taken += 1
            self.freed()

    def room_for(self, client: str) -> bool:
        """Return whether a further body may be made for a client."""
        return self.size < self.most and (not self.size or self._of(client) < self.most / SHARE)

    def make_room(self) -> None:
        """Cut who has taken nothing for a while, then the oldest late answer of the client that has most of them."""
        for taker in [taker for taker in self._takers if taker.stalled()]:
            if self.size >= self.most:
                self._end(taker)
        while self.size >= self.most:
            late = [taker for taker in self._takers if self._clock() - taker.since > PATIENCE_SECONDS]
            if not late:
                return
            sizes = {client: self._of(client) for client in {taker.client for taker in late}}
            self._end(max(late, key=lambda taker: sizes[taker.client]))

    def _end(self, taker: Taker) -> None:
        taker.cut()
        self.release(taker)

    def _of(self, client: str) -> int:
        bodies = {id(taker.body): len(taker.body) for taker in self._takers if taker.client == client}
        return sum(bodies.values())
