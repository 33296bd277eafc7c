"""A database of an earlier version of this program, given the tables and columns of today without computing anything.

What belongs here: what an earlier version lacks, and what its rows say of it. What does not: whether its numbers are
still wanted; `chain/history.py` says which days are stale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from heatmap_pipeline.store.schema import schema_text, table, tables
from heatmap_pipeline.store.sql import Connection, rows, scalar, transaction
from heatmap_pipeline.symbols import DOLLARS, OTHERS

SCHEMA_VERSION = int(re.findall(r"INSERT INTO schema_version VALUES \((\d+)\)", schema_text())[0])
"""What schema.sql says of itself; it goes up where a column or a table comes."""

READABLE = frozenset(range(1, SCHEMA_VERSION + 1))
"""Versions whose rows this program can read and take over."""

_QUOTE = f"regexp_extract(symbol, '({'|'.join((*DOLLARS, *OTHERS))})$', 1)"
_BASE = f"regexp_extract(symbol, '^(.+?)({'|'.join((*DOLLARS, *OTHERS))})$', 1)"
_ADDED: Mapping[str, Mapping[str, str]] = {
    "book_ledger": {"liquidated_at_once": "0.0", "rescaled": "0.0"},
    "symbols": {
        "quote": _QUOTE,
        "exchange": "'binance'",
        "native_symbol": "symbol",
        "base": _BASE,
        "margin": "'linear'",
        "contract_size": "1.0",
        "lot": "NULL",
        "oi_sides": "NULL",
        "clock_rule": "NULL",
    },
}
"""Columns that earlier versions lack, by table, and what they are in their rows, in SQL: nothing passed at once, no
level shifted, the quote asset that the name ends with; every market was one of Binance, called by its bare name."""

_MADE_OF: Mapping[str, tuple[str, str]] = {
    "lot_days": ("heatmap_days", "SELECT symbol, model, day, state_hash FROM {}"),
}
"""Tables that earlier versions lack though their rows follow from another one: the lots of every day were kept."""

_CREATES = re.compile(r"^CREATE (TYPE|TABLE|VIEW) (\w+)", re.MULTILINE)


def columns_there(con: Connection, database: str | None = None) -> dict[str, list[str]]:
    """Return the columns of every table, in order; `database` is the name of an attached one."""
    pairs = rows(
        con,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = ? AND NOT internal "
        "AND table_name IN (SELECT table_name FROM duckdb_tables()) ORDER BY table_oid, column_index",
        [database or scalar(con, "SELECT current_database()")],
    )
    columns: dict[str, list[str]] = {}
    for name, column in pairs:
        columns.setdefault(name, []).append(column)
    return columns


def select_as_today(name: str, source: str, have: list[str]) -> str:
    """Return the query that gives rows of a readable version the columns of today, in their order.

    Args:
        name: of the table in schema.sql.
        source: where its rows are, as SQL names it.
        have: the columns there.
    """
    added = _ADDED.get(name, {})
    wanted = [f'"{column}"' if column in have else f'{added[column]} AS "{column}"' for column in table(name).types]
    return f"SELECT {', '.join(wanted)} FROM {source}"  # noqa: S608 - names of ours


def rows_as_today(name: str, schema: str, there: Mapping[str, list[str]]) -> str | None:
    """Return the query that gives a table's rows of a readable version; None where it has none.

    Args:
        name: of the table in schema.sql.
        schema: where the tables are, for an attached database `name.main`.
        there: the columns of its tables, as `columns_there` says them.
    """
    if name in there:
        return select_as_today(name, f"{schema}.{name}", there[name])
    source, query = _MADE_OF.get(name, ("", ""))
    return query.format(f"{schema}.{source}") if source in there else None


def migrate(con: Connection) -> None:
    """Bring a private database of a readable earlier version to today's, in one transaction: all of it or nothing."""
    with transaction(con):
        there = columns_there(con)
        altered = [each.name for each in tables() if each.name in there and there[each.name] != list(each.types)]
        for (name,) in rows(con, "SELECT view_name FROM duckdb_views() WHERE NOT internal"):
            con.execute(f'DROP VIEW "{name}"')
        for name in altered:
            con.execute(f"ALTER TABLE {name} RENAME TO before_{name}")
        types = {name for (name,) in rows(con, "SELECT type_name FROM duckdb_types() WHERE NOT internal")}
        kept = types | (there.keys() - set(altered))
        for statement in con.extract_statements(schema_text()):
            made = _CREATES.search(statement.query)
            # What is created stands; the one row that schema.sql inserts is set below.
            if (made and made[2] in kept) or "INSERT INTO schema_version" in statement.query:
                continue
            con.execute(statement)
        for name in altered:
            con.execute(f"INSERT INTO {name} {select_as_today(name, f'before_{name}', there[name])}")
            con.execute(f"DROP TABLE before_{name}")
        for name, (source, query) in _MADE_OF.items():
            if name not in there and source in there:
                con.execute(f"INSERT INTO {name} {query.format(source)}")
        con.execute("UPDATE schema_version SET version = ?", [SCHEMA_VERSION])
