"""The private database of all symbols that homes of earlier versions have, taken apart into one per symbol.

What belongs here: writing the new files beside the old one, and making them wait in one step. What does not: putting
them in their places, which whoever comes next does after a kill (`moving_in.py`).
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from heatmap_pipeline.files import sync
from heatmap_pipeline.store.instances import NOTHING
from heatmap_pipeline.store.moving_in import FORMER, PRIVATE, release
from heatmap_pipeline.store.schema import schema_text, symbol_tables, tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, scalar, transaction

if TYPE_CHECKING:
    from heatmap_pipeline.store.warehouse import Warehouse

_STAGED = ".split.part"
"""Folder of the home for files that are being written."""

_log = logging.getLogger(__name__)


def symbols_in(con: Connection) -> list[str]:
    """Return the symbols that any table of an open database has rows of, sorted."""
    names = " UNION ".join(f"SELECT symbol FROM {table.name}" for table in symbol_tables())  # noqa: S608 - ours
    return [name for (name,) in rows(con, f"{names} ORDER BY symbol")]


def show_only(con: Connection, symbol: str) -> None:
    """Let a connection to an old database, attached as `warehouse`, see the rows of one symbol in every table."""
    con.execute(f"USE {NOTHING}")
    for table in symbol_tables():
        con.execute(f"CREATE VIEW {table.name} AS FROM warehouse.main.{table.name} WHERE symbol = {quoted(symbol)}")
    for statement in con.extract_statements(schema_text()):
        if re.search(r"^CREATE (TYPE|VIEW) ", statement.query, re.MULTILINE):
            con.execute(statement)


def stage_symbols(warehouse: Warehouse) -> None:
    """Write each symbol of the old database to a file of its own, and make all of them wait to be moved in.

    Until that last step the home is as it was; after it the old database is not needed any more, and is removed when
    they are moved in. It is kept aside where somebody added tables to it, or a symbol of it has a file already: of a
    home that an earlier version was used on again. That file stays. The caller holds the lock of the home.

    Raises:
        StoreError: if the old database is damaged or of no version of this program, or the disk is full.
    """
    old, staged = warehouse.former, warehouse.home / _STAGED
    with warehouse.opened(old) as con:
        warehouse.ensure_schema(con, old)
        con.execute("CHECKPOINT")
        symbols = symbols_in(con)
        there = rows(con, "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND database_name = 'warehouse'")
        ours = {name for (name,) in there} == {table.name for table in tables()}
        counts = {table.name: scalar(con, f"SELECT count(*) FROM {table.name}") for table in symbol_tables()}  # noqa: S608
    try:
        with warehouse.explaining():
            shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
            (staged / PRIVATE).mkdir(parents=True)
            taken = [symbol for symbol in symbols if warehouse.path(symbol).exists()]
            for symbol in symbols:
                if symbol not in taken:
                    _write(warehouse, symbol, counts)
                    _log.info("%s has a file of its own, %d of %d", symbol, symbols.index(symbol) + 1, len(symbols))
            if not taken and any(counts.values()):
                raise RuntimeError(f"rows of {old} belong to no symbol: {counts}")
            sync(staged / PRIVATE)
            folder = f"replaced-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
            if taken:
                _log.warning("%s is kept in %s: %s have files already", old, folder, ", ".join(taken))
            if ours and not taken:
                release(warehouse.home, staged, folder, aside=(), done_with=(FORMER, f"{FORMER}.wal"))
            else:
                release(warehouse.home, staged, folder, aside=(FORMER,))
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write(warehouse: Warehouse, symbol: str, counts: dict[str, int]) -> None:
    """Write a symbol's rows to a new file, and take their number from the numbers of all rows."""
    new = warehouse.home / _STAGED / PRIVATE / warehouse.path(symbol).name
    with warehouse.opened(new, fault=warehouse.former) as con:
        con.execute(f"ATTACH {quoted(warehouse.former)} AS old (READ_ONLY)")
        with transaction(con):
            for name in counts:
                con.execute(f"INSERT INTO {name} FROM old.main.{name} WHERE symbol = ?", [symbol])
        con.execute("CHECKPOINT")
        for name in counts:
            counts[name] -= scalar(con, f"SELECT count(*) FROM {name}")  # noqa: S608 - a table name of ours
    new.chmod(warehouse.former.stat().st_mode & 0o777)
    sync(new)
