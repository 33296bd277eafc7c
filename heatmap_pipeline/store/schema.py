"""What the tables look like, read from schema.sql itself, for everyone who describes, fills, copies or checks them.

A column is said in schema.sql and nowhere else. The columns of a table also say how it is stored: by `day`, `timestamp`
or `hour`, or as a whole; and tables with a hash in their rows vouch for the other tables' rows of the same day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal

import duckdb

from heatmap_pipeline.store.sql import day_bounds

_PRIVATE = "private: always empty in heatmap.duckdb"
"""What the comment of a table says that readers never get."""


@dataclass(frozen=True)
class Relation:
    """One table or view of schema.sql.

    Attributes:
        name: of the table or view.
        comment: what a row is.
        types: DuckDB type of each column, in order.
        notes: what each column holds, with its unit, in the same order.
    """

    name: str
    comment: str
    types: Mapping[str, str]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class View(Relation):
    """One view of schema.sql."""


@dataclass(frozen=True)
class Table(Relation):
    """One table of schema.sql."""

    @property
    def private(self) -> bool:
        """Whether its rows are left out of the published database."""
        return self.comment.endswith(_PRIVATE)

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
def table_statements() -> tuple[str, ...]:
    """Return the statements that make the tables, and say of which version they are: no views, no comments."""
    made = re.compile(r"^(CREATE (TYPE|TABLE)|INSERT INTO) ", re.MULTILINE)
    return tuple(
        statement.query for statement in duckdb.extract_statements(schema_text()) if made.search(statement.query)
    )


_COMMENT = re.compile(r"""^COMMENT ON (?:TABLE|VIEW|COLUMN) ([\w."]+) IS '((?:[^']|'')*)';$""", re.MULTILINE)
"""A statement that says something of a table, a view, or a column of one, and no more than that."""


@cache
def relations() -> tuple[Table | View, ...]:
    """Return every table, then every view, each in the order of schema.sql."""
    # Read here and not by DuckDB, which takes three times as long with them: every process begins with this.
    said = {name.replace('"', ""): text.replace("''", "'") for name, text in _COMMENT.findall(schema_text())}
    with duckdb.connect(":memory:") as con:
        con.execute(_COMMENT.sub("", schema_text()))
        named = con.execute(
            "SELECT table_name, true AS is_table, table_oid AS place FROM duckdb_tables() "
            "UNION ALL SELECT view_name, false, view_oid FROM duckdb_views() WHERE NOT internal "
            "ORDER BY is_table DESC, place"
        ).fetchall()
        columns = con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY table_oid, column_index"
        ).fetchall()
    made: list[Table | View] = []
    for name, is_table, _ in named:
        types = {column: kind for of, column, kind in columns if of == name}
        notes = {column: said.get(f"{name}.{column}", "") for column in types}
        made.append((Table if is_table else View)(name, said.get(name, ""), types, notes))
    return tuple(made)


@cache
def comments() -> Mapping[tuple[str, str], str]:
    """Return what schema.sql says of tables, views and columns, by name and column; the column is empty for a whole.

    Example:
        >>> comments()["heatmap", "state_at"].partition(":")[0]
        'End of the interval, UTC'
    """
    said: dict[tuple[str, str], str] = {}
    for relation in relations():
        said[relation.name, ""] = relation.comment
        said |= {(relation.name, column): note for column, note in relation.notes.items()}
    return said


def tables() -> tuple[Table, ...]:
    """Return every table, in the order of schema.sql."""
    return tuple(relation for relation in relations() if isinstance(relation, Table))


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
