"""A home with as many markets as a test wants: rows of one published market under other names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from heatmap_pipeline.store.warehouse import Warehouse


def add_markets(home: Path, like: str, names: Sequence[str]) -> None:
    """Publish a market under other names too.

    The published file is written where it stands, so that it must not be open.
    """
    with duckdb.connect(str(Warehouse(home).published)) as con:
        tables = con.execute(
            "SELECT c.table_name, list(c.column_name) FROM duckdb_columns() AS c JOIN duckdb_tables() AS t "
            "ON t.table_name = c.table_name GROUP BY ALL HAVING list_contains(list(c.column_name), 'symbol')"
        ).fetchall()
        con.execute("CREATE TEMP TABLE names AS SELECT unnest(?) AS name", [list(names)])
        for table, columns in tables:
            listed = ", ".join("n.name AS symbol" if name == "symbol" else f't."{name}"' for name in columns)
            con.execute(
                f"INSERT INTO {table} BY NAME SELECT {listed} FROM {table} AS t CROSS JOIN names AS n "
                "WHERE t.symbol = ? ORDER BY n.name",
                [like],
            )
