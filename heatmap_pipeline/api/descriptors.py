"""Open files of the server: as many as the system allows, with some kept back for what is published next.

DuckDB ends the whole process where it cannot open a file, so it is never asked to when none may be opened.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from heatmap_pipeline.store.warehouse import StoreError

RESERVE = 32
"""Files that are kept back; reading a publication opens fewer than half of them at a time."""

BACKLOG = 128
"""Connections the system accepts before the server has looked at them."""

_OWN = 64
"""Files the process has open without any connection, and the reserve."""


def raise_limit() -> int:
    """Raise the number of files this process may open as far as it may by itself; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses "without limit" and has no more than 10,240 in one process.
    for wanted in (hard, 10240):
        if wanted == resource.RLIM_INFINITY or (soft != resource.RLIM_INFINITY and wanted > soft):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                soft = wanted
                break
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft


def room_for_connections(limit: int) -> int:
    """Return how many connections leave the rest of the process the files it needs.

    Twice the backlog are open for a moment: those that are being refused, and those accepted meanwhile.

    Example:
        >>> room_for_connections(1024), room_for_connections(64)
        (704, 0)
    """
    return max(limit - _OWN - 2 * BACKLOG, 0)


class Reserve:
    """Files kept open for nothing from the first use on, so that as many can be opened when it matters."""

    def __init__(self, count: int = RESERVE) -> None:
        self._count = count
        self._kept: list[int] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Give the files back to who opens others now, and take as many afterwards.

        Raises:
            StoreError: if so many files are open that the reserve itself could not be kept.
        """
        with self._lock:
            self._fill()
            if len(self._kept) < self._count:
                raise StoreError(
                    "too many files are open in this process to read what is published; it is tried again every few "
                    "seconds (raise the limit with ulimit -n, or have fewer connections)"
                )
            self.close()
            try:
                yield
            finally:
                self._fill()

    def close(self) -> None:
        """Keep nothing back any more."""
        while self._kept:
            os.close(self._kept.pop())

    def _fill(self) -> None:
        with suppress(OSError):
            while len(self._kept) < self._count:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
