"""A clock that tests set, for whole processes: the program, Dagster and SQLite read it in place of this machine's.

`Clock` writes eight bytes to a file, `follow` makes a process read them. As a script this file is the command in such a
process: `python -m heatmap_pipeline_tests.orchestration.clocked FILE serve --home ...`.

What the file system says of files stays as it is: times of change are this machine's. The clock lies in the past, so a
file made just now is from the future; `stamp` sets what is measured in days to the clock. Whoever measures in seconds
how long a file has lain there goes by this machine's clock. So do pauses and time limits, by `time.monotonic`.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pkgutil
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

_SIZE = 8
_STEP = 0.02
"""Seconds between two settings of a clock that runs."""

_BY_THIS_MACHINE = ("files", "notices", "store.publish", "store.spare")
"""Modules that hold how long a file has lain there, in seconds, against the file system."""


class Clock:
    """A clock that runs `rate` times as fast as this machine's, up to where it is told to wait.

    Args:
        path: of its file.
        start: what it says, UTC without zone.
        rate: seconds of it to one of this machine.
    """

    def __init__(self, path: Path, start: datetime, rate: float) -> None:
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as stream:
            self._said = mmap.mmap(stream.fileno(), _SIZE)
        self.path = path
        self._rate = rate
        self._limit = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.jump(start)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def now(self) -> datetime:
        """What it says, UTC without zone."""
        return datetime.fromtimestamp(_read(self._said), UTC).replace(tzinfo=None)

    def jump(self, moment: datetime) -> None:
        """Set it, and let it stand there."""
        with self._lock:
            self._limit = moment.replace(tzinfo=UTC).timestamp()
            self._write(self._limit)

    def run_to(self, moment: datetime) -> None:
        """Let it run, and stand at that moment."""
        with self._lock:
            self._limit = moment.replace(tzinfo=UTC).timestamp()

    def wait(self) -> None:
        """Return when it stands."""
        while _read(self._said) < self._limit:
            time.sleep(_STEP)

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(_STEP):
            now = time.monotonic()
            with self._lock:
                self._write(min(self._limit, _read(self._said) + self._rate * (now - before)))
            before = now

    def _write(self, seconds: float) -> None:
        self._said[:] = struct.pack("d", seconds)


def stamp(folder: Path, now: datetime) -> None:
    """Set the time of change of files that were changed since the last time to what the clock says."""
    seconds = now.replace(tzinfo=UTC).timestamp()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime > seconds:
            os.utime(path, (seconds, seconds))


def follow(path: Path, *packages: str) -> None:
    """Have this process go by the clock of that file, from now on, also in what it forks.

    Every module of the packages is imported first: one that is imported later finds the clock of the machine.
    """
    for package in packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    with path.open("rb") as stream:
        said = mmap.mmap(stream.fileno(), _SIZE, access=mmap.ACCESS_READ)

    def seconds() -> float:
        return _read(said)

    def now() -> datetime:
        return datetime.fromtimestamp(seconds(), UTC)

    this_machine = SimpleNamespace(**vars(time))
    clocked = _datetime(seconds)
    for name, loaded in list(sys.modules.items()):
        if name.startswith(("heatmap_pipeline.", "dagster.")) and getattr(loaded, "datetime", None) is datetime:
            setattr(loaded, "datetime", clocked)  # noqa: B010
        if name.removeprefix("heatmap_pipeline.") in _BY_THIS_MACHINE:
            setattr(loaded, "time", this_machine)  # noqa: B010
        if name == "dagster._time":
            setattr(loaded, "_mockable_get_current_datetime", now)  # noqa: B010
    setattr(time, "time", seconds)  # noqa: B010
    setattr(time, "time_ns", lambda: round(seconds() * 1e9))  # noqa: B010
    _tell_sqlite(now)


def _read(said: mmap.mmap) -> float:
    return float(struct.unpack("d", said[:])[0])


def _datetime(seconds: Callable[[], float]) -> type:
    """Return a class that is `datetime` in all but what it says of now; what it makes are ordinary ones."""

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Clocked(datetime, metaclass=Kind):
        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            return datetime(*arguments, **named)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(seconds(), tz) if tz else cls.utcnow()

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.fromtimestamp(seconds(), UTC).replace(tzinfo=None)

    return Clocked


def _tell_sqlite(now: Callable[[], datetime]) -> None:
    """Dagster's history has SQLite write down when a run was made."""
    connect = sqlite3.dbapi2.connect

    def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)
        connection.create_function("current_timestamp", 0, lambda: f"{now():%Y-%m-%d %H:%M:%S}")
        return connection

    for module in (sqlite3, sqlite3.dbapi2):
        setattr(module, "connect", connected)  # noqa: B010


if __name__ == "__main__":
    from heatmap_pipeline.cli import main

    follow(Path(sys.argv[1]), *(f"heatmap_pipeline.{name}" for name in ("store", "views", "api")))
    main(sys.argv[2:], prog_name="heatmap")
