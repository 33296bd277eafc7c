"""Arrays into tables: transactions, Arrow columns and times, shared by everything in this folder.

What belongs here: how a value travels between numpy and DuckDB. What does not: any table's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heatmap_pipeline.instants import DAY, ONE_DAY, day_start
from heatmap_pipeline.model.book import LONG, Ints

Connection: TypeAlias = duckdb.DuckDBPyConnection
Arrow: TypeAlias = Any
"""An Arrow array; pyarrow has no types."""

_SIDES = ("long", "short")

_ROW_GROUP = 122_880
"""Rows that DuckDB compresses together. Of fewer at a time it makes as many first, a third more work."""


@contextmanager
def transaction(con: Connection) -> Iterator[None]:
    """Commit what happens inside, or nothing of it."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        roll_back(con)
        raise


def roll_back(con: Connection) -> None:
    """End an open transaction without its changes; nothing happens where there is none."""
    # An error means that none is open, or that the database already gave up: either way nothing of it remains.
    with suppress(duckdb.Error):
        con.rollback()


def quoted(text: Path | str) -> str:
    """Return a path, or any other words, as an SQL text."""
    return "'" + str(text).replace("'", "''") + "'"


def rows(con: Connection, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query (an unfinished result would block the connection)."""
    return con.execute(query, list(parameters)).fetchall()


def scalar(con: Connection, query: str, parameters: Sequence[Any] = ()) -> Any:
    """Return the first value of a query that has exactly one row."""
    return rows(con, query, parameters)[0][0]


@lru_cache(maxsize=2**15)
def parsed(text: str) -> dict[str, Any]:
    """Return a JSON object of a row, which is not to be changed.

    A run reads the same rows some twenty times, thousands of them after some years: each text is parsed once.
    """
    value: dict[str, Any] = json.loads(text)
    return value


def arrow(con: Connection, query: str, parameters: Sequence[Any] = ()) -> Arrow:
    """Return the result of a query as an Arrow table."""
    return con.sql(query, params=list(parameters)).to_arrow_table()


def column(table: Arrow, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return one column of an Arrow table as a new contiguous array; timestamps as microseconds, NULL as NaN."""
    values = table.column(name).combine_chunks()
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    return np.array(values.to_numpy(zero_copy_only=False), dtype=dtype, order="C")


def side_column(table: Arrow, name: str = "side") -> npt.NDArray[np.int8]:
    """Return a column of sides as +1 long, -1 short."""
    names = table.column(name).cast(pa.string()).to_numpy()
    return np.where(names == "long", 1, -1).astype(np.int8)


def insert(con: Connection, table: str, columns: Mapping[str, Arrow]) -> int:
    """Append rows to a table by column name; return how many."""
    batch = pa.table(dict(columns))
    if batch.num_rows:
        con.register("batch", batch)
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM batch")  # noqa: S608 - a table name of ours
        con.unregister("batch")  # not after an error: it would fail too, and hide what went wrong
    return int(batch.num_rows)


def insert_parts(con: Connection, table: str, parts: Iterable[Mapping[str, Arrow]]) -> None:
    """Append rows to a table by column name in one statement; a part at a time is made of the columns, in order.

    Whatever making a part raises is raised; rows may have been appended then, to be rolled back.
    """
    raised: list[BaseException] = []
    tables = (pa.table(dict(part)) for part in parts)
    first = next(tables, None)
    if first is None:
        return
    batches = _keeping_errors(_row_groups(chain([first], tables)), raised)
    con.register("batch", pa.RecordBatchReader.from_batches(first.schema, batches))
    try:
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM batch")  # noqa: S608 - a table name of ours
    except duckdb.Error:
        if raised:  # of which DuckDB makes an error of its own, with a traceback in its words
            raise raised[0] from None
        raise
    con.unregister("batch")  # not after an error: it would fail too, and hide what went wrong


def _keeping_errors(batches: Iterator[Arrow], raised: list[BaseException]) -> Iterator[Arrow]:
    try:
        yield from batches
    except BaseException as error:
        raised.append(error)
        raise


def _row_groups(tables: Iterable[Arrow]) -> Iterator[Arrow]:
    """Yield the rows of tables as batches that each fill a row group, but for the last one."""
    waiting: list[Arrow] = []
    count = 0
    for part in tables:
        waiting.append(part)
        count += part.num_rows
        while count >= _ROW_GROUP:
            joined = pa.concat_tables(waiting).unify_dictionaries()
            yield from joined.slice(0, _ROW_GROUP).combine_chunks().to_batches()
            waiting, count = [joined.slice(_ROW_GROUP)], count - _ROW_GROUP
    yield from pa.concat_tables(waiting).unify_dictionaries().combine_chunks().to_batches()


def timestamps(microseconds: Ints) -> Arrow:
    """Return microseconds since 1970 as a column of timestamps without zone."""
    return pa.array(np.ascontiguousarray(microseconds, dtype=np.int64)).cast(pa.timestamp("us"))


def dates(days: Sequence[date], counts: Sequence[int]) -> Arrow:
    """Return a column of dates, each repeated as often as `counts` says."""
    numbers = np.array([day_start(day) // DAY for day in days], dtype=np.int32)
    return pa.array(np.repeat(numbers, counts)).cast(pa.date32())


def constant(value: str | None, count: int) -> Arrow:
    """Return a text column of one value (or NULL), which takes a byte a row."""
    codes = pa.array(np.zeros(count, dtype=np.int8), mask=np.full(count, value is None))
    return pa.DictionaryArray.from_arrays(codes, [value or ""])


def sides(signs: npt.NDArray[np.int8]) -> Arrow:
    """Return a text column of sides: 1 = long, -1 = short, 0 = NULL (both)."""
    codes = np.where(signs == LONG, 0, 1).astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=signs == 0), list(_SIDES))


def day_bounds(first: date, last: date | None = None) -> tuple[datetime, datetime]:
    """Return the start of the first day and the end of the last one, without zone as the tables hold them."""
    start = datetime.combine(first, time())
    return start, datetime.combine(last or first, time()) + ONE_DAY


def naive(moment: datetime) -> datetime:
    """Return a moment as the tables hold it: UTC without zone. One without zone is taken as UTC."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def as_moment(instant: int) -> datetime:
    """Return microseconds since 1970-01-01 UTC as a moment without zone, as the tables hold it."""
    return datetime(1970, 1, 1) + timedelta(microseconds=instant)


def micros(moment: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC."""
    return (naive(moment) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
