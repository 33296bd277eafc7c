"""What the tables look like, read from schema.sql itself, for everyone who describes, fills, copies or checks them.

A column is said in schema.sql and nowhere else. The columns of a table also say how it is stored: by `day`, `timestamp`
or `hour`, or as a whole; and tables with a hash in their rows vouch for the other tables' rows of the same day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal

import duckdb

from heatmap_pipeline.store.sql import day_bounds

_PRIVATE = "private, never published"
"""What the comment of a table says that readers never get."""


@dataclass(frozen=True)
class Table:
    """One table of schema.sql.

    Attributes:
        name: of the table.
        types: DuckDB type of each column, in order.
        private: whether its rows are left out of the published database.
    """

    name: str
    types: Mapping[str, str]
    private: bool

    @property
    def time_column(self) -> Literal["day", "timestamp", "hour"] | None:
        """The column that says which day a row belongs to; None where a table has a few rows per symbol."""
        names: tuple[Literal["day", "timestamp", "hour"], ...] = ("day", "timestamp", "hour")
        return next((name for name in names if name in self.types), None)

    def within(self, first: date, last: date) -> tuple[str, list[date]]:
        """Return the condition, with its values, that a row belongs to the days first..last.

        Raises:
            ValueError: for a table whose rows belong to no day.
        """
        if self.time_column == "day":
            return "day BETWEEN ? AND ?", [first, last]
        if self.time_column is not None:
            return f"{self.time_column} >= ? AND {self.time_column} < ?", list(day_bounds(first, last))
        raise ValueError(f"the rows of {self.name} belong to no day")

    @property
    def vouches(self) -> bool:
        """Whether its rows carry a hash, so that they change whenever any row of the same day does."""
        return any(name.endswith("_hash") for name in self.types)


def schema_text() -> str:
    """Return the statements that make every table and view."""
    return files("heatmap_pipeline.store").joinpath("schema.sql").read_text()


@cache
def comments() -> Mapping[tuple[str, str], str]:
    """Return what schema.sql says of tables, views and columns, by name and column; the column is empty for a whole.

    Example:
        >>> comments()["heatmap", ""]
        'liquidation_snapshots with long and short side by side, in the quote asset'
    """
    with duckdb.connect(":memory:") as con:
        con.execute(schema_text())
        found = con.execute(
            "SELECT table_name, '', comment, table_oid, 0 FROM duckdb_tables() "
            "UNION ALL SELECT view_name, '', comment, view_oid, 0 FROM duckdb_views() WHERE NOT internal "
            "UNION ALL SELECT table_name, column_name, comment, table_oid, column_index FROM duckdb_columns() "
            "WHERE NOT internal"
        ).fetchall()
    ordered = sorted(found, key=lambda row: row[3:])
    return {(name, column): comment for name, column, comment, *_ in ordered if comment}


@cache
def tables() -> tuple[Table, ...]:
    """Return every table, in the order of schema.sql."""
    with duckdb.connect(":memory:") as con:
        con.execute(schema_text())
        names = con.execute(
            "SELECT table_name, coalesce(comment, '') FROM duckdb_tables() ORDER BY table_oid"
        ).fetchall()
        columns = con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY table_oid, column_index"
        ).fetchall()
    return tuple(
        Table(name, {column: kind for table, column, kind in columns if table == name}, comment.endswith(_PRIVATE))
        for name, comment in names
    )


@cache
def symbol_tables(*, private: bool = True) -> tuple[Table, ...]:
    """Return the tables that have rows of a symbol; without the private ones if they are not wanted."""
    return tuple(table for table in tables() if "symbol" in table.types and (private or not table.private))


@cache
def _by_name() -> Mapping[str, Table]:
    return {table.name: table for table in tables()}


def table(name: str) -> Table:
    """Return one table; raises KeyError if there is none of that name."""
    return _by_name()[name]


def column_types(name: str) -> tuple[tuple[str, str], ...]:
    """Return (name, DuckDB type) of a table's columns in order.

    Raises:
        KeyError: if there is no such table.

    Example:
        >>> column_types("open_positions")[0]
        ('symbol', 'VARCHAR')
    """
    return tuple(_by_name()[name].types.items())


def amounts(name: str) -> tuple[str, ...]:
    """Return the columns of a table that hold numbers with a fraction: prices, contracts, amounts, leverage.

    Example:
        >>> amounts("liquidation_snapshots")
        ('price_bucket', 'active_volume', 'consumed_volume')
    """
    return tuple(column for column, kind in column_types(name) if kind == "DOUBLE")
