"""A file lock beside which stands who holds it, so that whoever waits can say for whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

_POLL = 0.01
"""Seconds between two looks at a lock that is held; processes of one command take turns at one many times a second."""


class LockHeldError(Exception):
    """A lock that somebody else has for longer than was waited; `holder` is who, in words."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


@contextmanager
def file_lock(
    path: Path, *, timeout: float, patience: float, waiting: Callable[[str], None], must_name: bool = False
) -> Iterator[None]:
    """Hold a lock; while it is held, its holder stands in `NAME.holder` beside it.

    Args:
        path: the lock's file; its folder has to be there.
        timeout: seconds to wait before giving up.
        patience: seconds of waiting that are nothing to speak of.
        waiting: told after those who holds it.
        must_name: whether a name that cannot be written is an error, so that a full disk is found at once.

    Raises:
        LockHeldError: if somebody else holds it all the time.
        OSError: if there can be no such file; with `must_name` also if the name cannot be written.
    """
    holder = _beside(path)
    lock = FileLock(path, poll_interval=_POLL)
    try:
        lock.acquire(timeout=min(patience, timeout))
    except Timeout:
        waiting(holder_of(path))
        try:
            lock.acquire(timeout=max(timeout - patience, 0.0))
        except Timeout:
            raise LockHeldError(holder_of(path)) from None
    try:
        # The name is for others to read, the lock is what counts.
        with suppress(*(() if must_name else (OSError,))):
            holder.write_text(f"process {os.getpid()} (since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


@contextmanager
def notes_lock(home: Path) -> Iterator[None]:
    """Hold the lock under which a small file of a home is read, changed and written again: of all symbols in one.

    Raises:
        OSError: if the home cannot be written.
    """
    with FileLock(home / "notes.lock", poll_interval=_POLL):
        yield


def holder_of(path: Path) -> str:
    """Return in words who holds the lock of a file."""
    try:
        return _beside(path).read_text().strip() or "another process"
    except OSError:
        return "another process"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")
