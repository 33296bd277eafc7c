"""Taking a symbol out of both databases, and saying in which of them it is."""

from __future__ import annotations

from heatmap_pipeline.store import spare
from heatmap_pipeline.store.migrate import columns_there
from heatmap_pipeline.store.origin import forget_archive
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.reading import forget_readings
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, rows, transaction
from heatmap_pipeline.store.warehouse import Warehouse


def holds_symbol(con: Connection, symbol: str) -> bool:
    """Whether any table of a database, private or published, has a row of a symbol."""
    there = columns_there(con)
    return any(
        rows(con, f"SELECT 1 FROM {table.name} WHERE symbol = ? LIMIT 1", [symbol])  # noqa: S608 - a name of ours
        for table in symbol_tables()
        if table.name in there
    )


def known_symbols(con: Connection) -> list[str]:
    """Return the symbols that a database has days of, sorted."""
    return [name for (name,) in rows(con, "SELECT DISTINCT symbol FROM raw_days ORDER BY symbol")]


def forget_symbol(warehouse: Warehouse, symbol: str) -> None:
    """Delete every row of a symbol, first the private ones, in one transaction, then those that are published.

    Rows of other symbols stay as they are, in each of the files. Killed in between, it is simply done again.

    Raises:
        StoreError: if the disk is full, or a database is held by another process or cannot be used.
    """
    with warehouse.connect() as con, transaction(con):
        for table in symbol_tables():
            con.execute(f"DELETE FROM {table.name} WHERE symbol = ?", [symbol])  # noqa: S608 - a name of ours
    with warehouse.locked(), warehouse.explaining():
        forget_archive(warehouse.home, symbol)
        forget_readings(warehouse.home, symbol)
        spare.spare_path(warehouse).unlink(missing_ok=True)  # the file published before holds it still
    if warehouse.published.exists():
        publish(warehouse, [symbol], keep_former=False)
