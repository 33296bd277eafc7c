"""DuckDB itself, started once and lent out: that takes seven times as long as opening a file in it.

What belongs here: which DuckDB a connection is of. What does not: which file may be opened when (`warehouse.py`).

A DuckDB is lent to one borrower at a time and is waiting only where all went well; after any error, and where a query
needed the disk for its memory, it is closed. No file stays open in one that waits, so nobody outside sees a difference.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import duckdb

from heatmap_pipeline.store.sql import Connection, quoted, roll_back, rows

Settings: TypeAlias = Mapping[str, str]

_NAME = "warehouse"
"""The database in use, whatever the name of its file."""

NOTHING = "nothing"
"""The empty one in use where there is no file: so nothing is ever made in that of the instance itself, which stays."""

_waiting: dict[tuple[object, ...], Connection] = {}
"""At most one for each set of settings, so that a program with many threads keeps no more memory than one with one."""


def _leave_to_the_parent() -> None:
    """Forget those that wait, in a forked process: it has none of their threads, and closing one would abort it."""
    for instance in _waiting.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(instance))  # so that it is not closed at the end either
    _waiting.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
atexit.register(_waiting.clear)  # left to the interpreter's end, DuckDB might say on stderr that they leak


@contextmanager
def lent(settings: Settings, path: Path | None = None, spill: Path | None = None) -> Iterator[Connection]:
    """Give a connection with a file open and in use, or with none; roll back what was not committed.

    Args:
        settings: of DuckDB. The borrower changes none of them, except in a connection of its own (`alone`).
        path: of the database; None is an empty one in memory, to which the borrower may attach others.
        spill: the folder that is made where a query needs the disk for its memory, and goes with the loan; None: beside
            the database, or among the temporary files of the machine.

    Raises:
        duckdb.Error: for every failure of the file.
    """
    key = (path is None, *sorted(settings.items()))
    instance = _waiting.pop(key, None) or _start(settings)
    on_disk = spill or (_elsewhere() if path is None else Path(f"{path}.tmp"))
    con = instance.cursor()
    try:
        con.execute(f"SET temp_directory = {quoted(on_disk)}")
        name = NOTHING if path is None else _NAME
        con.execute(f"ATTACH {quoted(path or ':memory:')} AS {name}")
        con.execute(f"USE {name}")
        yield con
    except BaseException:
        _end(con)
        instance.close()
        raise
    _end(con)
    # What it wrote there stays until its own end.
    if on_disk.exists() or not _emptied(instance) or _waiting.setdefault(key, instance) is not instance:
        instance.close()


@contextmanager
def alone(settings: Settings, spill: Path | None = None) -> Iterator[Connection]:
    """Give a connection to a DuckDB that nobody had before or has afterwards, whose settings may be changed."""
    con = _start(settings)
    try:
        con.execute(f"SET temp_directory = {quoted(spill or _elsewhere())}")
        yield con
    finally:
        _end(con)


def _elsewhere() -> Path:
    """Return a folder for a query's memory; DuckDB's own choice is where the process was started, whose may be `/`."""
    return Path(tempfile.gettempdir(), f"heatmap-{os.getpid()}-{threading.get_ident()}.tmp")


def _start(settings: Settings) -> Connection:
    config: dict[str, str | bool | int | float | list[str]] = {**settings}
    return duckdb.connect(":memory:", config=config)


def _end(con: Connection) -> None:
    roll_back(con)
    con.close()


def _emptied(instance: Connection) -> bool:
    """Close what is open in it; return whether it is as new."""
    try:
        names = [name for (name,) in rows(instance, "SELECT database_name FROM duckdb_databases() WHERE NOT internal")]
        for name in sorted({*names} - {"memory"}):
            instance.execute(f'DETACH "{name}"')
    except duckdb.Error:
        return False
    return True
