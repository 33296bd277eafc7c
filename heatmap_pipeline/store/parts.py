"""The rows of a symbol as immutable Parquet parts, and back: of what changed new files, of everything else nothing.

What belongs here: which rows are in which part, cut from a database and put into one. What does not: where the parts
are kept (`bucket.py`), and who has committed them (`manifest.py`).

Large tables are cut by month; small ones, among them the chain, are one part each. Whether a month changed is asked of
the rows that vouch for all of it, so that nothing of an old month is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from glob import escape
from pathlib import Path

from heatmap_pipeline.store.manifest import Part
from heatmap_pipeline.store.migrate import SCHEMA_VERSION, select_as_today
from heatmap_pipeline.store.months import AS_PARQUET, fingerprints, from_part, rows_of
from heatmap_pipeline.store.schema import Table, symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, scalar

_OF_CHANCE = {"liquidation_snapshots", "open_positions"}
"""Tables that are mostly numbers of which none is like another."""

_BYTES_APART = "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd)"
"""The first bytes of such numbers stand together, as they are alike: a tenth less than `AS_PARQUET`. Where numbers come
again, as in events, it would be a tenth more."""


@dataclass(frozen=True)
class Cut:
    """The rows of a symbol as parts.

    Attributes:
        parts: all of them, by table in the order of schema.sql, then by month.
        fingerprints: of each month, a hash of the rows that vouch for it; of each small table one of its rows.
        files: of the parts that are new, by their hash.
    """

    parts: tuple[Part, ...]
    fingerprints: Mapping[str, str]
    files: Mapping[str, Path]


def by_month(table: Table) -> bool:
    """Whether a table is cut by month: it may be large, and other rows vouch for those of each day."""
    return table.time_column is not None and not table.vouches and not table.private


def cut(
    con: Connection,
    symbol: str,
    folder: Path,
    parts: tuple[Part, ...] = (),
    before: Mapping[str, str] | None = None,
    *,
    private: bool = True,
) -> Cut:
    """Return the rows of a symbol as parts; files are made of those that differ from the ones before.

    Args:
        con: the private database, or a published one, open.
        symbol: id of the market.
        folder: where new files are put; there, and empty.
        parts: that the rows were in before.
        before: the fingerprints they had.
        private: whether the rows that readers never get are among them.

    Raises:
        RuntimeError: if a month has rows that none vouch for: a defect of ours.
    """
    tables = symbol_tables(private=private)
    by_months = fingerprints(con, tables, _how(), symbol=symbol)
    prints = {month: print_ for (_, month), print_ in by_months.items() if month}
    months = sorted(prints)
    prints |= {table.name: _print_of(con, table, symbol) for table in tables if not by_month(table)}
    same = {name for name, print_ in prints.items() if (before or {}).get(name) == print_}
    known = {part.hash for part in parts}
    kept = {(part.table, part.month): part for part in parts if (part.month or part.table) in same}
    every: list[Part] = []
    files: dict[str, Path] = {}
    for table in tables:
        for month in months if by_month(table) else [""]:
            if (month or table.name) in same:
                part = kept.get((table.name, month))
            else:
                part, file = _write(con, table, symbol, month, folder)
                if part is not None and part.hash in known:
                    file.unlink()
                elif part is not None:
                    files[part.hash] = file
            if part is not None:
                every.append(part)
        _check_all_there(con, table, symbol, months)
    return Cut(tuple(every), prints, files)


def load(con: Connection, symbol: str, files: Mapping[Part, Path]) -> None:
    """Put the rows of parts into the tables of a database that has none of the symbol.

    Args:
        con: the database, open, with its tables.
        symbol: id of the market.
        files: where each part is; those of a table in the order of their months.
    """
    for table in symbol_tables():
        paths = [escape(str(path)) for part, path in files.items() if part.table == table.name]
        if not paths:
            continue
        read = f"read_parquet([{', '.join(map(quoted, paths))}], hive_partitioning = false)"
        have = [name for name, *_ in rows(con, f"DESCRIBE SELECT * FROM {read}")]  # noqa: S608 - paths of ours
        columns = ", ".join(f'{from_part(table, name)} AS "{name}"' for name in have)
        source = f"(SELECT {quoted(symbol)} AS symbol, {columns} FROM {read})"  # noqa: S608 - paths of ours
        con.execute(f"INSERT INTO {table.name} {select_as_today(table.name, source, ['symbol', *have])}")


def days_of(con: Connection, symbol: str) -> dict[str, tuple[date, date, int]]:
    """Return the first and last computed day of each model, and how many there are."""
    query = "SELECT model, min(day), max(day), count(*) FROM heatmap_days WHERE symbol = ? GROUP BY 1 ORDER BY 1"
    return {model: (first, last, count) for model, first, last, count in rows(con, query, [symbol])}


def sha256_of(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _how() -> bytes:
    """Return what every part depends on besides its rows."""
    return repr((SCHEMA_VERSION, [(table.name, dict(table.types)) for table in symbol_tables()])).encode()


def _print_of(con: Connection, table: Table, symbol: str) -> str:
    """Return a hash of the rows of a small table; its file may differ by what DuckDB remembers of a column."""
    texts = f"SELECT CAST(r AS VARCHAR) AS text FROM {table.name} AS r WHERE symbol = ?"  # noqa: S608 - a name of ours
    hashed = scalar(con, f"SELECT md5(string_agg(text, chr(10) ORDER BY text)) FROM ({texts})", [symbol])  # noqa: S608
    return hashlib.blake2b(_how() + str(hashed).encode(), digest_size=16).hexdigest()


def _write(con: Connection, table: Table, symbol: str, month: str, folder: Path) -> tuple[Part | None, Path]:
    """Write the rows of a part; None where there are none."""
    new = folder / f"{table.name}.new"
    how = _BYTES_APART if table.name in _OF_CHANCE else AS_PARQUET
    count = scalar(con, f"COPY ({rows_of(table, symbol, month, as_part=True)}) TO {quoted(new)} {how}")
    if not count:
        new.unlink()
        return None, new
    part = Part(table=table.name, month=month, hash=sha256_of(new), rows=count, bytes=new.stat().st_size)
    return part, new.replace(folder / part.path(symbol).replace("/", "."))


def _check_all_there(con: Connection, table: Table, symbol: str, months: list[str]) -> None:
    if not by_month(table):
        return
    query = f"SELECT DISTINCT date_trunc('month', {table.time_column}) FROM {table.name} WHERE symbol = ?"  # noqa: S608
    if lost := sorted({f"{first:%Y-%m}" for (first,) in rows(con, query, [symbol])} - {*months}):
        raise RuntimeError(f"{table.name} of {symbol} has rows in {lost[0]}, for which nothing vouches")
