"""Taking a symbol out of a home's databases, and saying in which of them it is."""

from __future__ import annotations

from pathlib import Path

from heatmap_pipeline.store import spare
from heatmap_pipeline.store.by_parts import Tell, tell_nobody
from heatmap_pipeline.store.catalogue import is_catalogue
from heatmap_pipeline.store.compact import remove_part
from heatmap_pipeline.store.migrate import columns_there
from heatmap_pipeline.store.origin import forget_archive
from heatmap_pipeline.store.publish import TABLES_UP_TO, publish
from heatmap_pipeline.store.reading import forget_readings
from heatmap_pipeline.store.schema import symbol_tables, tables
from heatmap_pipeline.store.sql import Connection, rows
from heatmap_pipeline.store.warehouse import Warehouse


def holds_symbol(con: Connection, symbol: str) -> bool:
    """Whether any table of a database, private or published, has a row of a symbol; that it failed is nothing of it."""
    there = columns_there(con).keys() - {"failed_days"}
    return any(
        rows(con, f"SELECT 1 FROM {table.name} WHERE symbol = ? LIMIT 1", [symbol])  # noqa: S608 - a name of ours
        for table in symbol_tables()
        if table.name in there
    )


def drop_if_nothing(warehouse: Warehouse, symbol: str) -> bool:
    """Remove the private database of a symbol of which nothing is stored, as a run in vain leaves one.

    A file in its place that holds anything else, as that of another program or of another symbol, stays.

    Returns:
        Whether there is none now.

    Raises:
        StoreError: as `Warehouse.connect` does.
    """
    path = warehouse.path(symbol)
    with warehouse.locked(symbol), warehouse.explaining(path):
        if path.exists():
            with warehouse.opened(path) as con:
                if not _is_empty(con):
                    return False
            _remove(path)
        return True


def _is_empty(con: Connection) -> bool:
    """Whether a database holds no row of any symbol but that it failed, and no table that is none of ours."""
    there = columns_there(con).keys()
    return there <= {table.name for table in tables()} and not any(
        rows(con, f"SELECT 1 FROM {name} LIMIT 1")  # noqa: S608 - a name of ours
        for name in there - {"schema_version", "failed_days"}
    )


def forget_symbol(
    warehouse: Warehouse, symbol: str, *, tables_up_to: float = TABLES_UP_TO, tell: Tell = tell_nobody
) -> None:
    """Remove the private database of a symbol, then its rows from what is published.

    Rows of other symbols stay as they are, and all of a catalogue: what is in that is said by the store. Killed in
    between, it is simply done again.

    Args:
        warehouse: of the home.
        symbol: id of the market.
        tables_up_to: as `publish`.
        tell: as `publish`.

    Raises:
        StoreError: if the disk is full, or a database is held by another process or cannot be used.
    """
    path = warehouse.path(symbol)
    with warehouse.locked(symbol), warehouse.explaining(path):
        _remove(path)
        forget_archive(warehouse.home, symbol)
        forget_readings(warehouse.home, symbol)
    if is_catalogue(warehouse):
        return
    with warehouse.publishing(), warehouse.explaining():
        spare.spare_path(warehouse).unlink(missing_ok=True)  # the file published before holds it still
    if warehouse.published.exists():
        publish(warehouse, [symbol], keep_former=False, tables_up_to=tables_up_to, tell=tell)


def _remove(path: Path) -> None:
    """Remove a private database, with what DuckDB and a killed run left beside it; under its lock."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    remove_part(path)
