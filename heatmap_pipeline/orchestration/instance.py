"""Dagster's history of runs, opened for one run in this process, without what makes it slow.

A run over 90 days stores some 970 events, each in a transaction of its own, and by default each makes a new database
engine, compiles its SQL anew and waits for the disk: a third of the time of the run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy.engine import Connection, Engine


@contextmanager
def open_history(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open the history in a folder that holds dagster.yaml.

    Raises:
        SQLAlchemyError, OSError: if its files cannot be used.
    """
    sqlalchemy.event.listen(Engine, "connect", _do_not_wait)
    try:
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            storage = instance.event_log_storage
            if type(storage) is SqliteEventLogStorage:  # any other is somebody's own choice in dagster.yaml
                storage.__class__ = _KeptEngines
            try:
                yield instance
            finally:
                for engine in storage.__dict__.get("_kept", {}).values():
                    engine.dispose()
    finally:
        sqlalchemy.event.remove(Engine, "connect", _do_not_wait)


def _do_not_wait(connection: Any, _record: Any) -> None:
    """Let commits not wait for the disk one by one.

    A power cut may then lose the last events, but damages nothing, and our own tables do not depend on them.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


class _KeptEngines(SqliteEventLogStorage):
    """The same storage in the same files, opened once per file, with each statement compiled once."""

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engines: dict[str, Engine] = self.__dict__.setdefault("_kept", {})
            if shard not in engines:
                address = self.conn_string_for_shard(shard)
                engines[shard] = sqlalchemy.create_engine(address, connect_args={"timeout": 60})
            if shard not in self._initialized_dbs:
                self._initdb(engines[shard])
                self._initialized_dbs.add(shard)
            with engines[shard].begin() as connection:
                yield connection
