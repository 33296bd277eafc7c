"""The bodies that are on their way to clients: each counted once, however many take it, and bounded together."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.turns import RETRY_SECONDS


class Outgoing:
    """Bodies that connections have not taken yet. All methods belong to the event loop.

    Args:
        most: bytes there may be; one body alone may be larger.
    """

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._takers: dict[int, tuple[bytes, set[Hashable]]] = {}
        self._taken_by: dict[Hashable, list[int]] = {}

    def admit(self, taker: Hashable, body: bytes, cut_one: Callable[[], bool]) -> None:
        """Count a body for a connection until `release`.

        Args:
            taker: the connection.
            body: what it is to take.
            cut_one: ends a connection that takes nothing, which releases what it had; whether there was one.

        Raises:
            ApiError: 503 if there are too many bytes on their way.
        """
        name = id(body)
        if name not in self._takers:
            while self.size and self.size + len(body) > self.most:
                if not cut_one():
                    raise ApiError(
                        503,
                        f"answers of {self.size >> 20} MB are on their way, as much as this server allows at a time; "
                        "try again soon",
                        {"Retry-After": str(RETRY_SECONDS)},
                    )
            self._takers[name] = body, set()
            self.size += len(body)
        self._takers[name][1].add(taker)
        self._taken_by.setdefault(taker, []).append(name)

    def release(self, taker: Hashable) -> None:
        """Say that a connection has taken what it was to take, or is gone."""
        for name in self._taken_by.pop(taker, ()):
            if name not in self._takers:
                continue
            body, takers = self._takers[name]
            takers.discard(taker)
            if not takers:
                del self._takers[name]
                self.size -= len(body)
