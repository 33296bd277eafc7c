"""What the read endpoint keeps in memory of a published database, and the start of a history it replays from.

What belongs here: whole columns of a symbol, read once per publication. What does not: what is answered with them
(`api/`). Times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import pyarrow as pa

from heatmap_pipeline.model.book import Floats, Ints, Sides
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.raw import SymbolRecord
from heatmap_pipeline.store.sql import Connection, arrow, as_moment, column, rows, side_column
from heatmap_pipeline.store.warehouse import StoreError

CANDLE_FLOATS = ("open", "high", "low", "close", "volume", "quote_volume")


@dataclass(frozen=True, eq=False)
class Reports:
    """Real liquidations of a stretch of time as one source reports them. Instants are microseconds UTC.

    Attributes:
        source: `exchange_kind`, for example `bybit_stream`.
        complete: whether the source prints every liquidation; None where it has printed none.
        resolution_seconds: width of the sums it prints; 0 = single liquidations.
        recorded: the half-open stretches that it recorded, rising and disjoint, shape (n, 2).
        time: of a single liquidation, or the start of the interval that is summed, rising, shape (m,).
        side: of the positions: 1 long, -1 short.
        price: quote asset, of a sum weighted by quantity; NaN = unknown.
        quantity: contracts.
        volume: quote asset; NaN = unknown.
    """

    source: str
    complete: bool | None
    resolution_seconds: int
    recorded: Ints
    time: Ints
    side: Sides
    price: Floats
    quantity: Floats
    volume: Floats


def modest(con: Connection) -> None:
    """Keep a connection that stays open for long to one thread and little memory."""
    con.execute("SET threads = 1")
    con.execute("SET memory_limit = '512MB'")


def served_symbols(con: Connection) -> list[tuple[SymbolRecord, tuple[str, ...]]]:
    """Return every symbol that has computed days, by name, and the models it has them of."""
    records = rows(
        con,
        "SELECT s, (SELECT list_sort(list(DISTINCT model)) FROM heatmap_days WHERE symbol = s.symbol) "
        "FROM symbols AS s WHERE s.symbol IN (SELECT symbol FROM heatmap_days) ORDER BY s.symbol",
    )
    return [(SymbolRecord.of_row(row), tuple(models)) for row, models in records]


def any_row(con: Connection) -> bool:
    """Return whether the database answers, and holds a symbol."""
    return bool(rows(con, "SELECT 1 FROM symbols LIMIT 1"))


def candle_columns(con: Connection, symbol: str) -> tuple[Ints, dict[str, Floats]]:
    """Return the start of every clean candle of a symbol, rising, and its `CANDLE_FLOATS`; NaN = unknown.

    Nothing paid for what was traded means unknown too: some files of the archive have it so.
    """
    candles = arrow(
        con,
        f"SELECT open_time, {', '.join(CANDLE_FLOATS[:-1])}, "  # noqa: S608 - names of ours
        "CASE WHEN quote_volume = 0 AND volume > 0 THEN NULL ELSE quote_volume END AS quote_volume "
        "FROM raw_candles WHERE symbol = ? ORDER BY open_time",
        [symbol],
    )
    times: Ints = column(candles, "open_time", np.int64)
    return times, {name: column(candles, name, np.float64) for name in CANDLE_FLOATS}


def model_candles(con: Connection, symbol: str, model: str) -> tuple[Ints, Floats]:
    """Return the start of every candle that a model has gone through, rising, and the open interest at its end."""
    ledger = arrow(
        con,
        "SELECT timestamp, any_value(open_interest) AS open_interest FROM book_ledger "
        "WHERE symbol = ? AND model = ? GROUP BY timestamp ORDER BY timestamp",
        [symbol, model],
    )
    return column(ledger, "timestamp", np.int64), column(ledger, "open_interest", np.float64)


@dataclass(frozen=True)
class ServedDay:
    """What a computed day is replayed with.

    Attributes:
        parameters: as JSON.
        is_first: whether a history begins with it.
        factors: start of a candle and what all that is open is multiplied by before it, where that is not 1.
    """

    parameters: str
    is_first: bool
    factors: Sequence[tuple[int, float]]


def served_days(con: Connection, symbol: str) -> dict[str, dict[date, ServedDay]]:
    """Return the computed days of a symbol by model and day, rising."""
    query = (
        "SELECT model, day, parameters, previous_hash = '', "
        "CASE WHEN state LIKE '%\"factors\"%' THEN CAST(json_extract(state, '$.carried.factors') AS VARCHAR) END "
        "FROM heatmap_days WHERE symbol = ? ORDER BY model, day"
    )
    days: dict[str, dict[date, ServedDay]] = {}
    for model, day, parameters, is_first, factors in rows(con, query, [symbol]):
        days.setdefault(model, {})[day] = ServedDay(parameters, is_first, json.loads(factors) if factors else ())
    return days


def first_samples(con: Connection, symbol: str, days: Iterable[date]) -> dict[date, float]:
    """Return the contracts of the first sample of each day: the open interest a history that begins there starts from.

    Raises:
        StoreError: if a day has no sample.
    """
    wanted = sorted(set(days))
    starts = rows(
        con,
        "SELECT day, arg_min(contracts, snapshot_time) FROM raw_open_interest "
        "WHERE symbol = ? AND day IN (SELECT unnest(?)) GROUP BY day",
        [symbol, wanted],
    )
    missing = set(wanted) - {day for day, _ in starts}
    if missing:
        raise StoreError(
            f"{symbol} {min(missing)} has no open interest to start from; "
            f"run `{stored_command(con, 'refresh', symbol)}` again"
        )
    return dict(starts)


@dataclass(frozen=True, eq=False)
class BookCells:
    """A book by bucket, rising, long before short, shape (n,) each.

    Attributes:
        bucket: number of the bucket.
        side: of the positions: 1 long, -1 short.
        volume: quote asset at entry.
    """

    bucket: Ints
    side: Sides
    volume: Floats


_BOOKS_OF_A_DAY = """
SELECT p.symbol, CAST(round(p.liq_price * 1e8) AS BIGINT) // w.units AS bucket, p.side, sum(p.volume) AS volume
FROM open_positions AS p JOIN wanted AS w ON p.symbol = w.symbol AND p.model = w.model AND p.day = w.day
WHERE p.day = ? GROUP BY ALL
"""


def newest_books(con: Connection, wanted: Sequence[tuple[str, str, date, int]]) -> dict[str, BookCells]:
    """Return the stored books of many symbols at the end of a day, in one question; an empty book is left out.

    Args:
        con: the database.
        wanted: symbol (each once), model, day, and height of a bucket in 1e-8 of the quote asset.
    """
    if not wanted:
        return {}
    names, models, days, units = zip(*wanted, strict=True)
    con.register("wanted", pa.table({"symbol": names, "model": models, "day": days, "units": pa.array(units)}))
    # A part for each day, as a day that is named is looked up where it lies; one market that ended long ago would else
    # have all days since read.
    each = sorted(set(days))
    books = arrow(con, f"{' UNION ALL '.join([_BOOKS_OF_A_DAY] * len(each))} ORDER BY ALL", each)
    con.unregister("wanted")
    owner = books.column("symbol").combine_chunks().dictionary_encode()  # sorted: a symbol's rows stand together
    starts = np.append(np.flatnonzero(np.diff(owner.indices.to_numpy(), prepend=-1)), books.num_rows)
    bucket, side = column(books, "bucket", np.int64), side_column(books)
    volume = column(books, "volume", np.float64)
    return {
        name: BookCells(bucket[first:end], side[first:end], volume[first:end])
        for name, (first, end) in zip(owner.dictionary.to_pylist(), pairwise(starts.tolist()), strict=True)
    }


def reported_liquidations(con: Connection, symbol: str, first: int, last: int, step: int) -> list[Reports]:
    """Return the real liquidations in [first, last), of each source that recorded a part of it, by name of the source.

    Single ones are summed by `step` microseconds, side, and what is known of them (price, volume), as a year of them
    would fill the memory.
    """
    about = {
        source: (bool(complete), int(resolution))
        for source, complete, resolution in rows(
            con,
            "SELECT source, bool_and(complete), max(resolution_seconds) FROM raw_liquidations "
            "WHERE symbol = ? GROUP BY source",
            [symbol],
        )
    }
    stretches = arrow(
        con,
        'SELECT source, "from", "to" FROM recorded WHERE symbol = ? AND "to" > ? AND "from" < ? ORDER BY ALL',
        [symbol, as_moment(first), as_moment(last)],
    )
    names = np.array(stretches.column("source").to_pylist(), dtype=object)
    ends = np.stack([column(stretches, name, np.int64) for name in ("from", "to")], axis=1).clip(first, last)
    reports = []
    for source in sorted(set(names)):
        complete, resolution = about.get(source, (None, 0))
        table = arrow(con, _SUMS, [step, step, symbol, source, as_moment(first), as_moment(last)])
        reports.append(
            Reports(
                source,
                complete,
                resolution,
                _joined(ends[names == source]),
                column(table, "start", np.int64),
                side_column(table),
                *(column(table, name, np.float64) for name in ("price", "quantity", "volume")),
            )
        )
    return reports


_SUMS = """
SELECT epoch_us(timestamp) // ? * ? AS start, side,
    sum(price * quantity ORDER BY timestamp, price, quantity)
        / sum(quantity ORDER BY timestamp, price, quantity) AS price,
    sum(quantity ORDER BY timestamp, price, quantity) AS quantity,
    sum(volume ORDER BY timestamp, price, quantity) AS volume
FROM raw_liquidations
WHERE symbol = ? AND source = ? AND timestamp >= ? AND timestamp < ? AND quantity > 0
GROUP BY start, side, price IS NULL, volume IS NULL
ORDER BY ALL
"""
"""In a fixed order, as the last digit of a sum depends on it."""


def _joined(stretches: Ints) -> Ints:
    """Return rising stretches with those that touch as one: they are stored cut at midnights."""
    begins = np.append(True, stretches[1:, 0] > np.maximum.accumulate(stretches[:-1, 1]))
    first = np.flatnonzero(begins)
    return np.stack([stretches[first, 0], np.maximum.reduceat(stretches[:, 1], first)], axis=1)
