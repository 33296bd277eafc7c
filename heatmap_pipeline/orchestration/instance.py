"""Dagster's history of runs, opened for one run in this process, without what makes it slow.

A run over 90 days stores some 1,300 events, each in a transaction of its own, and by default each makes a new database
engine, compiles its SQL anew, asks which tables and columns there are and waits for the disk: a third of the time of
the run; each storage and each new run reads all migrations that Dagster ever had. Here the events of a range of days
are one transaction of a few statements (`event_rows.py`), and what cannot change is asked once. The remedy leans on
names that Dagster keeps to itself; where a version does not have them, its history works as it is, but slower.
"""

from __future__ import annotations

import inspect
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from heatmap_pipeline.orchestration import event_rows
from heatmap_pipeline.orchestration.instance_file import is_the_users, unusable

_STORAGE = "SqliteEventLogStorage"
"""Class of the storage that is meant; any other is somebody's own choice in dagster.yaml."""

_REPLACED = {
    "_connect": 1,
    "has_table": 1,
    "_has_asset_key_col_on_connection": 2,
    "store_event": 1,
    "store_event_batch": 1,
}
"""Its methods that are replaced, and with how many arguments each is called; `_Kept` has the same."""

_CALLED = {**_REPLACED, **event_rows.CALLED, "_initdb": 1, "conn_string_for_shard": 1}
"""Those and its methods that are called."""

_KEPT = ("_db_lock", "_initialized_dbs")
"""What it keeps itself and is used here."""

_BATCH = "DAGSTER_EVENT_BATCH_SIZE"
"""Variable by which Dagster keeps the events of a range of days back until there are so many, or it is over."""

_BEGINNINGS = 30
"""How often a history is opened at most: more often than it has tables, each of which another process may make."""

_THERE_BY_NOW = {"42P07", "42710", "23505"}
"""What Postgres calls a table, its type, and its name in the catalogue that is there already."""

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
        with (
            _reading_migrations_once(),
            _batching(),
            _opened(folder) as instance,
            _keeping_engines(instance.event_log_storage),
        ):
            yield instance
    finally:
        sqlalchemy.event.remove(Engine, "connect", _do_not_wait)


def _opened(folder: Path) -> dg.DagsterInstance:
    begun = 0
    while True:
        begun += 1
        try:
            return dg.DagsterInstance.from_config(str(folder))
        except Exception as error:  # whatever a storage of the user's choice raises: a module, a server, a password
            if begun < _BEGINNINGS and _others_made_it(error):
                continue
            if is_the_users(folder):
                raise unusable(folder, error) from None
            raise


def _others_made_it(error: Exception) -> bool:
    """Whether Postgres refused to make a table which another process has made since it was looked for.

    Processes of a fleet that begin at the same moment do so; Dagster tries again for some tables, and not for others.
    """
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else None
    return getattr(cause, "pgcode", None) in _THERE_BY_NOW


def _do_not_wait(connection: Any, _record: Any) -> None:
    """Let commits not wait for the disk one by one.

    A power cut may then lose the last events, but damages nothing, and our own tables do not depend on them.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def _batching() -> Iterator[None]:
    """Have Dagster hand over the events of a range of days at once, unless somebody has said how many."""
    if _BATCH in os.environ:
        yield
        return
    os.environ[_BATCH] = "1000"
    try:
        yield
    finally:
        os.environ.pop(_BATCH, None)


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
    kept = _Kept(storage)
    if type(storage).__name__ != _STORAGE:
        yield kept.engines
        return
    if missing := _missing(storage):
        _log.warning(
            "Dagster %s keeps its history in another way than this program knows (%s): runs take up to half as long "
            "again; use the version that constraints.txt names",
            dg.__version__,
            ", ".join(missing),
        )
        yield kept.engines
        return
    for name in _REPLACED:  # of this one object, before its class's
        setattr(storage, name, getattr(kept, name))
    try:
        yield kept.engines
    finally:
        for name in _REPLACED:
            delattr(storage, name)
        for engine in kept.engines.values():
            engine.dispose()


class _Kept:
    """What a storage's own methods do, on files that stay open and with answers that are remembered.

    Attributes:
        engines: by name of the file.
    """

    def __init__(self, storage: Any) -> None:
        self.engines: dict[str, Engine] = {}
        self._storage = storage
        self._has_table: Any = getattr(storage, "has_table", None)
        self._has_column: Any = getattr(storage, "_has_asset_key_col_on_connection", None)
        self._there: set[str] = set()
        self._batching: int | None = None
        """Thread that stores a batch; it holds the storage's lock."""
        self._begun: dict[str, Connection] = {}
        """Its connections, by name of the file."""
        self._ends = ExitStack()
        """Ends what it began."""

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if self._batching == threading.get_ident():
            if shard not in self._begun:
                self._begun[shard] = self._ends.enter_context(self._engine(shard).begin())
            yield self._begun[shard]
            return
        with self._storage._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        storage = self._storage
        if shard not in self.engines:
            address = storage.conn_string_for_shard(shard)
            self.engines[shard] = sqlalchemy.create_engine(address, connect_args={"timeout": 60})
        if shard not in storage._initialized_dbs:
            storage._initdb(self.engines[shard])
            storage._initialized_dbs.add(shard)
        return self.engines[shard]

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event as `store_event_batch` does several."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events in one transaction of each file that has them; all or, with an error, none."""
        with self._storage._db_lock, ExitStack() as self._ends:
            self._batching = threading.get_ident()
            try:
                event_rows.store(self._storage, self._connect, events)
            finally:
                self._batching = None
                self._begun.clear()

    def has_table(self, name: str) -> bool:
        return self._remember(name, lambda: self._has_table(name))

    def _has_asset_key_col_on_connection(self, connection: Connection, name: str) -> bool:
        return self._remember(f"asset_keys.{name}", lambda: self._has_column(connection, name))

    def _remember(self, thing: str, ask: Callable[[], bool]) -> bool:
        """Return whether something is there, asked until it is."""
        if thing not in self._there and ask():
            self._there.add(thing)
        return thing in self._there


def _missing(storage: Any) -> list[str]:
    """Return the names that this version of the storage does not have, or that are called in another way."""
    missing = [name for name in _KEPT if not hasattr(storage, name)]
    missing += [name for name in event_rows.NAMED if name not in event_rows.names_of(storage)]
    for name, count in _CALLED.items():
        try:
            inspect.signature(getattr(storage, name)).bind(*[None] * count)
        except (AttributeError, TypeError, ValueError):
            missing.append(name)
    return missing
