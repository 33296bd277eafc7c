"""The rows of a symbol's month as a Parquet file: which they are, in which order, and a hash that tells changes.

What belongs here: what an export (`export.py`) and the parts of a store (`parts.py`) have in common, and what a part
leaves out of its rows. What does not: where the files are, and what stands beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from heatmap_pipeline.store.schema import Table
from heatmap_pipeline.store.sql import Connection, quoted, rows

Group: TypeAlias = tuple[str, str]
"""What is written together: symbol and month, each empty for the tables that have none."""

AS_PARQUET = "(FORMAT parquet, PARQUET_VERSION v1, COMPRESSION zstd, DICTIONARY_SIZE_LIMIT 1000)"
"""What every reader of the last years understands: the newer encodings of version 2 are not among that. Only what has
few values gets a dictionary; of prices and times it takes more room, and more time, than zstd without it."""

_PRODUCTS: Mapping[str, Mapping[str, str]] = {
    "position_events": {"volume": '"quantity" * "entry_price"'},
    "open_positions": {"volume": '"quantity" * "entry_price"'},
}
"""Columns that are, in nearly every row and to the last bit, what SQL makes of others: a part has NULL there. Of a
product of numbers nothing can be compressed; it was two of five bytes of all events."""


def folder_of(table: str, symbol: str) -> str:
    """Return the folder of a table's rows of a symbol, from whose name readers take the symbol.

    Example:
        >>> folder_of("raw_candles", "BTCUSDT")
        'raw_candles/symbol=BTCUSDT'
    """
    return f"{table}/symbol={quote(symbol, safe='')}"


def fingerprints(
    con: Connection, tables: Iterable[Table], how: bytes, *, symbol: str | None = None
) -> dict[Group, str]:
    """Return a hash per symbol and month, of the rows that vouch for all rows of the month.

    Args:
        con: the database, open.
        tables: of which those that vouch, and those whose rows belong to no day, are read.
        how: what the rows depend on besides, as how they are written.
        symbol: the only one that is looked at; None: all.
    """
    digests: dict[Group, hashlib.blake2b] = {}
    for table in tables:
        if not table.vouches and table.time_column is not None:
            continue
        of_symbol = "symbol" if "symbol" in table.types else "''"
        of_month = f"strftime({table.time_column}, '%Y-%m')" if table.time_column else "''"
        only = f"WHERE symbol = {quoted(symbol)} " if symbol is not None else ""
        query = (
            f"SELECT {of_symbol}, {of_month}, md5(string_agg(CAST(r AS VARCHAR), chr(10) ORDER BY CAST(r AS VARCHAR))) "  # noqa: S608 - ours
            f"FROM {table.name} AS r {only}GROUP BY ALL ORDER BY ALL"
        )
        for name, month, hashed in rows(con, query):
            digest = digests.setdefault((name, month), hashlib.blake2b(how, digest_size=16))
            digest.update(f"{table.name} {hashed}".encode())
    return {group: digest.hexdigest() for group, digest in digests.items()}


def from_part(table: Table, column: str) -> str:
    """Return what a column of a table is in SQL, of a part that leaves out what follows from other columns.

    Example:
        >>> from heatmap_pipeline.store.schema import table
        >>> from_part(table("position_events"), "volume")
        'coalesce("volume", "quantity" * "entry_price")'
        >>> from_part(table("position_events"), "quantity")
        '"quantity"'
    """
    product = _PRODUCTS.get(table.name, {}).get(column)
    return f'coalesce("{column}", {product})' if product else f'"{column}"'


def _to_part(table: Table, column: str) -> str:
    product = _PRODUCTS.get(table.name, {}).get(column)
    return f'nullif("{column}", {product})' if product else f'"{column}"'


def rows_of(table: Table, symbol: str, month: str, files: Sequence[Path] = (), *, as_part: bool = False) -> str:
    """Return the query for the rows of a file, in an order that does not depend on when which day was stored.

    The column `symbol` is in the path. An ENUM is written as text.

    Args:
        table: of schema.sql.
        symbol: '' for those of all, of a table that has no symbols.
        month: YYYY-MM, '' for those of all months.
        files: parts that hold these rows and no others, in this order, where the table is a view over such.
        as_part: without what follows from other columns, see `from_part`.
    """
    of = from_part if files else _to_part if as_part else lambda _, name: f'"{name}"'
    columns = [
        f'CAST("{name}" AS VARCHAR) AS "{name}"' if kind.startswith("ENUM") else f'{of(table, name)} AS "{name}"'
        for name, kind in table.types.items()
        if name != "symbol"
    ]
    if files:
        read = f"read_parquet([{', '.join(quoted(escape(str(file))) for file in files)}], hive_partitioning = false)"
        return f"SELECT {', '.join(columns)} FROM {read}"  # noqa: S608 - names of ours
    conditions = [f"symbol = {quoted(symbol)}"] if symbol else []
    if month:
        first = f"DATE '{month}-01'"
        conditions.append(f"{table.time_column} >= {first} AND {table.time_column} < {first} + INTERVAL 1 MONTH")
    if table.time_column is None:  # few, whose order may mean something: that of a score, of alerts of an instant
        order = "rowid"
    elif table.vouches:
        order = "ALL"
    else:  # of a large one: in the order in which a day was stored, which means something, as of events in a candle
        order = ", ".join([*(["model"] if "model" in table.types else []), table.time_column, "rowid"])
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    return f"SELECT {', '.join(columns)} FROM {table.name} {where}ORDER BY {order}"  # noqa: S608 - names of ours
