"""What the tables look like, read from schema.sql itself, for everyone who describes them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import duckdb


@cache
def column_types(table: str) -> tuple[tuple[str, str], ...]:
    """Return (name, DuckDB type) of a table's columns in order.

    Raises:
        KeyError: if there is no such table.

    Example:
        >>> column_types("open_positions")[0]
        ('symbol', 'VARCHAR')
    """
    with duckdb.connect(":memory:") as con:
        con.execute(files("heatmap_pipeline.store").joinpath("schema.sql").read_text())
        found = con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
        ).fetchall()
    if not found:
        raise KeyError(table)
    return tuple((str(name), str(kind)) for name, kind in found)
