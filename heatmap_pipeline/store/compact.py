"""A private database without the room that rows left which were taken away: written anew, put in place in one step.

DuckDB uses such room for the rows that come. It gives back only what is at the end of the file: not what a day that is
stored later lies behind. A publication would copy that, too.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from heatmap_pipeline.files import sync
from heatmap_pipeline.store.schema import tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, scalar
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

MINIMUM = 64_000_000
"""Bytes of room below which nothing is written anew."""

_SHARE = 3
"""One byte of so many is room, or more, where the file is written anew."""

_log = logging.getLogger(__name__)


def has_room(con: Connection) -> bool:
    """Return whether so much of the open database is room, after a checkpoint, that it is worth writing it anew."""
    # The file's size, as DuckDB counts also the free blocks at the end that it has given back, once it opens the file.
    query = (
        "SELECT path, block_size * used_blocks FROM pragma_database_size() JOIN duckdb_databases() "
        "USING (database_name) WHERE database_name = current_database()"
    )
    ((path, used),) = rows(con, query)
    size = Path(path).stat().st_size
    room = size - used
    return bool(room >= MINIMUM and room * _SHARE >= size)


def compact(warehouse: Warehouse, symbol: str) -> bool:
    """Write the private database of a symbol anew and put it in the place of the old one; return whether that was done.

    A kill leaves the one or the other whole. Where it holds tables that are none of ours, or there is no room on the
    disk for both, it stays as it is. The caller holds the locks of the symbol and of the publication, and has the
    database closed.
    """
    path = warehouse.path(symbol)
    new = warehouse.home / f".heatmap.duckdb.{os.getpid()}.compact"
    before = path.stat().st_size
    try:
        with warehouse.explaining(path):
            if not _written_anew(warehouse, path, new):
                return False
            new.chmod(path.stat().st_mode & 0o777)
            sync(new)
            new.replace(path)
            sync(path.parent)
    except StoreError as error:
        _log.warning("%s keeps its room: %s", path, error)
        return False
    finally:
        new.unlink(missing_ok=True)
        new.with_name(new.name + ".wal").unlink(missing_ok=True)
    _log.info("%s is written anew: %d MB of %d", path, path.stat().st_size / 1e6, before / 1e6)
    return True


def _written_anew(warehouse: Warehouse, path: Path, new: Path) -> bool:
    names = [table.name for table in tables()]
    with warehouse.opened(new, fault=path) as con:
        con.execute(f"ATTACH {quoted(path)} AS old (READ_ONLY)")
        there = rows(con, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old' AND NOT internal")
        if sorted(names) != sorted(name for (name,) in there):
            return False
        for name in names:
            con.execute(f"DELETE FROM {name}")  # noqa: S608 - a table name of ours; one has a row from the start
            con.execute(f"INSERT INTO {name} FROM old.main.{name}")
        con.execute("CHECKPOINT")
        return all(
            scalar(con, f"SELECT count(*) FROM {name}") == scalar(con, f"SELECT count(*) FROM old.main.{name}")  # noqa: S608
            for name in names
        )
