"""heatmap.duckdb made of the parts of a store: the tables and views that readers know, whoever computed them.

What belongs here: making the file and putting it in its place in one step. What does not: fetching parts
(`fleet/pull.py`). Small tables are always real ones. Large ones are, too, where that is quickly done; else they are
views over the files, whose `symbol=` folders let a query of one symbol open only its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path

from heatmap_pipeline.files import sync
from heatmap_pipeline.store.generations import PARTS_FOLDER, built_note, generations
from heatmap_pipeline.store.leftovers import remove_leftovers, temporary
from heatmap_pipeline.store.manifest import Part
from heatmap_pipeline.store.months import from_part
from heatmap_pipeline.store.parts import by_month, load
from heatmap_pipeline.store.schema import Table, symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, scalar, transaction
from heatmap_pipeline.store.warehouse import StoreError, Warehouse


def build(warehouse: Warehouse, parts: Mapping[str, Mapping[Part, Path]], *, views_over: Path | None = None) -> None:
    """Make the published database of parts, and put it in the place of the one before; the caller holds its lock.

    Args:
        warehouse: of the folder.
        parts: by symbol, where each part is.
        views_over: the folder TABLE/symbol=SYMBOL/... that they are in, and nothing else is, where large tables are to
            be views; it has to stay. None: all tables are real ones.

    Raises:
        StoreError: if the folder cannot be written, or its disk is full; heatmap.duckdb is as it was.
    """
    new = temporary(warehouse, "catalogue")
    with warehouse.explaining():
        remove_leftovers(warehouse)  # one of a killed process of the same number would be filled a second time
        try:
            with warehouse.opened(new) as con:
                with transaction(con):
                    for symbol, files in sorted(parts.items()):
                        load(con, symbol, {part: path for part, path in files.items() if _is_real(part, views_over)})
                    for table in symbol_tables(private=False):
                        if views_over is not None and by_month(table) and (views_over / table.name).is_dir():
                            _make_view(con, table, views_over)
                con.execute("CHECKPOINT")
            new.chmod(0o644)
            sync(new)
            warehouse.published.with_name(f"{warehouse.published.name}.wal").unlink(missing_ok=True)
            new.replace(warehouse.published)
            sync(warehouse.home)
        finally:
            remove_leftovers(warehouse)


def made_of(warehouse: Warehouse, views_over: Path | None) -> str:
    """Return what tells the database that was made of parts from any other, '' where there is none.

    A folder that was moved is another one to its views.
    """
    try:
        said = warehouse.published.stat()
    except OSError:
        return ""
    return f"{said.st_ino} {said.st_size} {said.st_mtime_ns} {views_over or 'tables'}"


def is_catalogue(warehouse: Warehouse) -> bool:
    """Whether what is published in a folder was made of a store's parts, and not of private databases.

    Its size and its time tell, which a folder keeps that was moved or copied as a whole.
    """
    notes: list[str | None] = []
    with suppress(OSError):  # no parts, or none to be seen
        notes = [built_note(place) for place in generations(warehouse.home / PARTS_FOLDER)]
    _, *published = made_of(warehouse, None).split()[:3] or [""]
    return bool(published) and any(note.split()[1:3] == published for note in notes if note)


def refuse_catalogue(warehouse: Warehouse) -> None:
    """Let nobody compute days into the catalogue of a store, whose rows they would take the place of.

    Raises:
        StoreError: saying what the home is, and which other one or verb to take.
    """
    if is_catalogue(warehouse):
        raise StoreError(
            f"home {warehouse.home} is the catalogue of a fleet: its heatmap.duckdb is made of what is in a store, and "
            "no days are computed into it; choose another home with --home or HEATMAP_HOME, or set HEATMAP_STORE to "
            "compute into the store"
        )


def views_over(con: Connection, database: str | None = None) -> Path | None:
    """Return the folder that the views of a database are over, None where all its tables are real ones.

    Args:
        con: with it attached.
        database: its name; None: the one in use.
    """
    query = "SELECT view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal"
    for name, statement in rows(con, query, [database or scalar(con, "SELECT current_database()")]):
        if match := re.search(rf"'((?:[^']|'')*)/{re.escape(name)}/symbol=\*/\*\.parquet'", statement):
            return Path(re.sub(r"\[([*?[])\]", r"\1", match[1].replace("''", "'")))
    return None


def can_be_shown(folder: Path) -> bool:
    """Whether views may be over files in a folder: of `symbol=` in its own path DuckDB would take their symbol."""
    return not any(name.lower().startswith("symbol=") for name in folder.parts)


def _is_real(part: Part, views_over: Path | None) -> bool:
    table = next((table for table in symbol_tables(private=False) if table.name == part.table), None)
    return table is not None and (views_over is None or not by_month(table))


def _make_view(con: Connection, table: Table, folder: Path) -> None:
    """Put a view over the files in the place of a table, with its columns and what is said of them."""
    columns = ", ".join(f'CAST({from_part(table, name)} AS {kind}) AS "{name}"' for name, kind in _named_types(table))
    files = Path(escape(str(folder))) / table.name / "symbol=*" / "*.parquet"
    con.execute(f"DROP TABLE {table.name}")
    con.execute(
        f"CREATE VIEW {table.name} AS SELECT {columns} FROM read_parquet({quoted(files)}, "  # noqa: S608 - names of ours
        "hive_partitioning = true, hive_types = {'symbol': VARCHAR})"
    )
    con.execute(f"COMMENT ON VIEW {table.name} IS {quoted(table.comment)}")
    for name, note in table.notes.items():
        con.execute(f'COMMENT ON COLUMN {table.name}."{name}" IS {quoted(note)}')


_ENUMS = {"side": "side_name", "event_type": "event_name"}


def _named_types(table: Table) -> list[tuple[str, str]]:
    """Return the columns with their types as schema.sql names them."""
    return [(name, _ENUMS[name] if kind.startswith("ENUM") else kind) for name, kind in table.types.items()]
