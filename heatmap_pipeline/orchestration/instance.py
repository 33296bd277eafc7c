"""Dagster's history of runs, opened for one run in this process, without what makes it slow.

A run over 90 days stores some 970 events, each in a transaction of its own, and by default each makes a new database
engine, compiles its SQL anew and waits for the disk: a third of the time of the run. With each check it asks whether
there is a table for checks, and each storage and each new run reads all migrations that Dagster ever had. The remedy
leans on names that Dagster keeps to itself; where a version does not have them, its history works as it is, but
slower.
"""

from __future__ import annotations

import inspect
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from heatmap_pipeline.orchestration.instance_file import is_the_users, unusable

_STORAGE = "SqliteEventLogStorage"
"""Class of the storage that is meant; any other is somebody's own choice in dagster.yaml."""

_CALLED = {"_connect": 1, "_initdb": 1, "conn_string_for_shard": 1, "has_table": 1}
"""Its methods that are replaced or called, and with how many arguments."""

_KEPT = ("_db_lock", "_initialized_dbs")
"""What it keeps itself and is used here."""

_log = logging.getLogger(__name__)


@contextmanager
def open_history(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open the history in a folder that holds dagster.yaml.

    Raises:
        SQLAlchemyError, OSError: if its files cannot be used.
        InstanceFileError: if dagster.yaml is the user's, and Dagster cannot use it.
    """
    sqlalchemy.event.listen(Engine, "connect", _do_not_wait)
    try:
        with _reading_migrations_once(), _opened(folder) as instance, _keeping_engines(instance.event_log_storage):
            yield instance
    finally:
        sqlalchemy.event.remove(Engine, "connect", _do_not_wait)


def _opened(folder: Path) -> dg.DagsterInstance:
    try:
        return dg.DagsterInstance.from_config(str(folder))
    except Exception as error:  # whatever a storage of the user's choice raises: a module, a server, a password
        if is_the_users(folder):
            raise unusable(folder, error) from None
        raise


def _do_not_wait(connection: Any, _record: Any) -> None:
    """Let commits not wait for the disk one by one.

    A power cut may then lose the last events, but damages nothing, and our own tables do not depend on them.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


_migrations: dict[str, ScriptDirectory] = {}
"""Of Dagster, by the name under which they are asked for; no program changes its own files."""


@contextmanager
def _reading_migrations_once() -> Iterator[None]:
    """Have alembic read Dagster's migrations once for this process: some 50 files, and four times for every run."""
    read = ScriptDirectory.__dict__["from_config"]

    def read_once(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location") or ""
        if not place.startswith("dagster:"):
            return read.__func__(ScriptDirectory, config)  # type: ignore[no-any-return]
        if place not in _migrations:
            _migrations[place] = read.__func__(ScriptDirectory, config)
        return _migrations[place]

    setattr(ScriptDirectory, "from_config", staticmethod(read_once))  # noqa: B010  # mypy: a method is assigned to
    try:
        yield
    finally:
        setattr(ScriptDirectory, "from_config", read)  # noqa: B010


@contextmanager
def _keeping_engines(storage: Any) -> Iterator[dict[str, Engine]]:
    """Have the storage use the same files, opened once per file, with each statement compiled once.

    Yields the engines that are kept, by name of the file.
    """
    engines: dict[str, Engine] = {}
    if type(storage).__name__ != _STORAGE:
        yield engines
        return
    if missing := _missing(storage):
        _log.warning(
            "Dagster %s keeps its history in another way than this program knows (%s): runs take up to half as long "
            "again; use the version that constraints.txt names",
            dg.__version__,
            ", ".join(missing),
        )
        yield engines
        return

    @contextmanager
    def connect(shard: str) -> Iterator[Connection]:
        with storage._db_lock:
            if shard not in engines:
                address = storage.conn_string_for_shard(shard)
                engines[shard] = sqlalchemy.create_engine(address, connect_args={"timeout": 60})
            if shard not in storage._initialized_dbs:
                storage._initdb(engines[shard])
                storage._initialized_dbs.add(shard)
            with engines[shard].begin() as connection:
                yield connection

    there: set[str] = set()
    look = storage.has_table

    def has_table(name: str) -> bool:
        if name not in there and look(name):
            there.add(name)
        return name in there

    storage._connect, storage.has_table = connect, has_table  # of this one object, before its class's
    try:
        yield engines
    finally:
        del storage._connect, storage.has_table
        for engine in engines.values():
            engine.dispose()


def _missing(storage: Any) -> list[str]:
    """Return the names that this version of the storage does not have, or that are called in another way."""
    missing = [name for name in _KEPT if not hasattr(storage, name)]
    for name, count in _CALLED.items():
        try:
            inspect.signature(getattr(storage, name)).bind(*[None] * count)
        except (AttributeError, TypeError, ValueError):
            missing.append(name)
    return missing
