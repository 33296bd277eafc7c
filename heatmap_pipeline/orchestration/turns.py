"""Whose turn it is: commands that work on the same symbol follow each other, those of different symbols do not wait.

    HOME/running/BTCUSDT.lock    held by a command as long as it works on BTCUSDT
    HOME/run.lock                shared by all of them; held alone by a restore, which no run may meet

What belongs here: these locks, and whether a command that left a trace still goes on. What does not: the locks of
database files (`store/warehouse.py`), which are held for milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.locks import LockHeldError, file_lock, holder_of
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import safe_name

_POLL = 0.05
"""Seconds between two looks at a lock that somebody else holds alone."""


class RunError(HeatmapError):
    """A run that was refused or failed; the message says what, where, and what to do."""


@contextmanager
def one_run_at_a_time(settings: Settings, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the run locks of the settings' symbols; a second run of one of them says who holds it and waits.

    Raises:
        RunError: if one is still held after `lock_timeout` seconds.
    """
    with ExitStack() as stack:
        path, waiting = settings.home / "run.lock", _waiting(settings, tell)
        try:
            stack.enter_context(_shared(path, settings.lock_timeout, waiting))
            for symbol in sorted(set(settings.symbols)):
                path = _lock_of(settings.home, symbol)
                path.parent.mkdir(exist_ok=True)
                stack.enter_context(file_lock(path, timeout=settings.lock_timeout, patience=0.0, waiting=waiting))
        except (LockHeldError, OSError) as error:
            raise _refusal(path, settings, error) from None
        yield


@contextmanager
def no_run_at_all(settings: Settings, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a home against every run of the command line; raises as `one_run_at_a_time`."""
    path, waiting = settings.home / "run.lock", _waiting(settings, tell)
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path, timeout=settings.lock_timeout, patience=0.0, waiting=waiting))
        except (LockHeldError, OSError) as error:
            raise _refusal(path, settings, error) from None
        yield


@contextmanager
def if_no_run_goes_on(settings: Settings) -> Iterator[bool]:
    """Hold a home against every run of the command line if none goes on now; say whether it is held.

    Raises:
        RunError: if its lock is not this user's to take.
    """
    path = settings.home / "run.lock"
    with ExitStack() as stack:
        alone = True
        try:
            stack.enter_context(FileLock(path).acquire(timeout=0))
        except Timeout:
            alone = False
        except OSError as error:
            raise _refusal(path, settings, error) from None
        yield alone


def goes_on(settings: Settings, symbols: Collection[str]) -> bool:
    """Return whether another command works on one of these symbols now; the caller holds those of the settings.

    A command holds the locks of all its symbols until it ends: one whose symbols the caller holds, or nobody, is gone.

    Raises:
        RunError: if a lock is not this user's to take.
    """
    if set(symbols) & set(settings.symbols):
        return False
    return any(_is_held(settings, _lock_of(settings.named_home, symbol)) for symbol in symbols)


def _is_held(settings: Settings, path: Path) -> bool:
    if path.exists():
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError as error:
            raise _refusal(path, settings, error) from None
    return False


@contextmanager
def drawing(settings: Settings, base: str) -> Iterator[None]:
    """Hold the lock of a map that runs of several markets draw.

    Raises:
        OSError: if the home cannot be written.
    """
    path = _lock_of(settings.home, base)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _lock_of(home: Path, symbol: str) -> Path:
    return home / "running" / f"{safe_name(symbol)}.lock"


def _waiting(settings: Settings, tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what is told who holds a lock that is waited for."""
    return lambda holder: tell(f"waiting for {holder} to finish its run on {settings.home}")


def _refusal(path: Path, settings: Settings, error: LockHeldError | OSError) -> RunError:
    if isinstance(error, LockHeldError):
        words = f"{error.holder} still holds {path} after {settings.lock_timeout:g} s"
        return RunError(f"{words}; try again when it is done")
    return RunError(
        f"{path} cannot be locked ({error.strerror}); mend its permissions, or choose another home with --home"
    )


@contextmanager
def _shared(path: Path, timeout: float, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock together with others who hold it so, while nobody holds it alone.

    Raises:
        LockHeldError: if somebody does all the time.
        OSError: if there can be no such file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    end, told = time.monotonic() + timeout, False
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = holder_of(path)
                if time.monotonic() > end:
                    raise LockHeldError(holder) from None
                if not told:
                    waiting(holder)
                told = True
                time.sleep(_POLL)
        yield
    finally:
        os.close(handle)
