"""What is said of every symbol without its candles: a few questions over all of them at once, however many there are.

What belongs here: the newest candle, the located share and the chain of days of each symbol and model. What does not:
whole columns of one symbol (`columns.py`), which are read when somebody asks for it. Times are microseconds since
1970-01-01 UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from heatmap_pipeline.instants import MICROSECONDS, ONE_DAY, day_of
from heatmap_pipeline.model.book import located_share
from heatmap_pipeline.store.sql import Connection, as_moment, micros, rows

Pair = tuple[str, str]
"""Symbol and model."""

_TIME = pa.timestamp("us")


@dataclass(frozen=True)
class ChainOfDays:
    """The computed days of a symbol and model, as far as they are spoken of.

    Attributes:
        first: first computed day.
        last: last computed day.
        complete: newest day that is over; None where none is.
        provisional: days that were not over when they were computed.
        missing: days between the first and the last that are not computed.
        broken: days whose predecessor is not stored, or is not the one they were computed from.
        parameters: each JSON text that a day was computed with, once.
        newest_parameters: that of the last day.
    """

    first: date
    last: date
    complete: date | None
    provisional: tuple[date, ...]
    missing: tuple[date, ...]
    broken: tuple[date, ...]
    parameters: tuple[str, ...]
    newest_parameters: str


@dataclass(frozen=True)
class NewestBook:
    """The ends of a model's candles, and what is known after the newest.

    Attributes:
        first: start of the first candle that the model has gone through.
        last: start of the newest.
        located_share: share of the open interest that the newest books put at a liquidation price.
        close: of the newest candle, quote asset; None where the candle is not there.
    """

    first: int
    last: int
    located_share: float
    close: float | None


_CHAINS = """
WITH each AS (
    SELECT symbol, model, day, previous_hash, provisional, parameters,
        lag(day) OVER before AS day_before, lag(state_hash) OVER before AS hash_before
    FROM heatmap_days WHERE symbol IN (SELECT unnest(?::VARCHAR[]))
    WINDOW before AS (PARTITION BY symbol, model ORDER BY day)
)
SELECT symbol, model, min(day), max(day), max(day) FILTER (NOT provisional),
    list(day ORDER BY day) FILTER (provisional),
    list({'after': day_before, 'day': day} ORDER BY day) FILTER (day_before < day - 1),
    list(day ORDER BY day) FILTER (
        previous_hash <> '' AND (day_before IS NULL OR day_before < day - 1 OR hash_before <> previous_hash)),
    list(DISTINCT parameters), arg_max(parameters, day)
FROM each GROUP BY symbol, model
"""


def chains_of_days(con: Connection, symbols: Sequence[str]) -> dict[Pair, ChainOfDays]:
    """Return the chain of days of each symbol and model."""
    return {
        (symbol, model): ChainOfDays(
            first,
            last,
            complete,
            tuple(provisional or ()),
            tuple(day for gap in gaps or () for day in _between(gap["after"], gap["day"])),
            tuple(broken or ()),
            tuple(texts),
            newest,
        )
        for symbol, model, first, last, complete, provisional, gaps, broken, texts, newest in rows(
            con, _CHAINS, [[*symbols]]
        )
    }


def _between(after: date, before: date) -> list[date]:
    return [after + number * ONE_DAY for number in range(1, (before - after).days)]


def newest_books_of(con: Connection, chains: Mapping[Pair, ChainOfDays]) -> dict[Pair, NewestBook]:
    """Return the ends of each chain's candles; a model that has gone through no candle yet is left out."""
    ends = _ends(con, [(pair, day) for pair, chain in chains.items() for day in {chain.first, chain.last}])
    # A day without any candle is rare, and the next that has some is looked for among all.
    unclear = [
        pair
        for pair, chain in chains.items()
        if not {chain.first, chain.last} <= {day_of(instant) for instant in ends.get(pair, ())}
    ]
    ends |= _ends(con, [(pair, None) for pair in unclear])
    shares = _located_shares(con, ends)
    closes = closes_at(con, {(symbol, last) for (symbol, _), (_, last) in ends.items()})
    return {
        pair: NewestBook(first, last, shares.get(pair, 0.0), closes.get((pair[0], last)))
        for pair, (first, last) in ends.items()
    }


def _ends(con: Connection, wanted: Iterable[tuple[Pair, date | None]]) -> dict[Pair, tuple[int, int]]:
    """Return the first and the last candle of each pair on its days; of all days where its day is None."""
    asked = [(symbol, model, day) for (symbol, model), day in wanted]
    if not asked:
        return {}
    on_days, of_days = _on_days("l.timestamp", (day for _, _, day in asked))
    query = (
        "SELECT l.symbol, l.model, min(l.timestamp), max(l.timestamp) FROM book_ledger AS l "  # noqa: S608 - ours
        "SEMI JOIN wanted AS w ON l.symbol = w.symbol AND l.model = w.model "
        "AND (w.day IS NULL OR CAST(l.timestamp AS DATE) = w.day) "
        f"WHERE {on_days} GROUP BY ALL"
    )
    ends = _joined(con, query, {"symbol": pa.string(), "model": pa.string(), "day": pa.date32()}, asked, of_days)
    return {(symbol, model): (micros(first), micros(last)) for symbol, model, first, last in ends}


def _located_shares(con: Connection, ends: Mapping[Pair, tuple[int, int]]) -> dict[Pair, float]:
    if not ends:
        return {}
    on_days, of_days = _on_days("l.timestamp", (day_of(last) for _, last in ends.values()))
    query = (
        "SELECT l.symbol, l.model, list(l.located ORDER BY l.side), any_value(l.open_interest) "  # noqa: S608 - ours
        "FROM book_ledger AS l "
        "SEMI JOIN wanted AS w ON l.symbol = w.symbol AND l.model = w.model AND l.timestamp = w.time "
        f"WHERE {on_days} GROUP BY ALL"
    )
    asked = [(*pair, as_moment(last)) for pair, (_, last) in ends.items()]
    interests = _joined(con, query, {"symbol": pa.string(), "model": pa.string(), "time": _TIME}, asked, of_days)
    return {(symbol, model): located_share(located, interest) for symbol, model, located, interest in interests}


def closes_at(con: Connection, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], float]:
    """Return the close of candles by symbol and start; one that is not there is left out."""
    if not wanted:
        return {}
    on_days, of_days = _on_days("c.open_time", (day_of(time) for _, time in wanted))
    query = (
        "SELECT c.symbol, c.open_time, c.close FROM raw_candles AS c "  # noqa: S608 - ours
        f"SEMI JOIN wanted AS w ON c.symbol = w.symbol AND c.open_time = w.time WHERE {on_days}"
    )
    asked = [(symbol, as_moment(time)) for symbol, time in sorted(wanted)]
    closes = _joined(con, query, {"symbol": pa.string(), "time": _TIME}, asked, of_days)
    return {(symbol, micros(time)): close for symbol, time, close in closes}


def recent_closes(
    con: Connection, wanted: Sequence[tuple[str, int, int]], seconds: int
) -> dict[str, list[tuple[int, float]]]:
    """Return the last close of each interval in which a symbol has candles, with the interval's start, rising.

    Args:
        con: the database.
        wanted: symbol (each once), and the half-open stretch of time that is asked for, some days.
        seconds: of an interval, which divides a day.
    """
    if not wanted:
        return {}
    spans = {(day_of(first), day_of(end)) for _, first, end in wanted}
    days = {day for first, last in spans for day in (first, *_between(first, last), last)}
    on_days, of_days = _on_days("c.open_time", days)
    query = (
        "SELECT c.symbol, epoch_us(c.open_time) // ? * ? AS start, arg_max(c.close, c.open_time) "  # noqa: S608 - ours
        "FROM raw_candles AS c JOIN wanted AS w "
        'ON c.symbol = w.symbol AND c.open_time >= w."first" AND c.open_time < w."end" '
        f"WHERE {on_days} GROUP BY ALL ORDER BY ALL"
    )
    step = seconds * MICROSECONDS
    asked = [(symbol, as_moment(first), as_moment(end)) for symbol, first, end in wanted]
    closes: dict[str, list[tuple[int, float]]] = {}
    for symbol, start, close in _joined(
        con, query, {"symbol": pa.string(), "first": _TIME, "end": _TIME}, asked, [step, step, *of_days]
    ):
        closes.setdefault(symbol, []).append((start, close))
    return closes


def _on_days(column: str, days: Iterable[date | None]) -> tuple[str, list[Any]]:
    """Return a condition that a column of times is on one of some days, and its values; of None, on any.

    A stretch that is named is looked up where it lies; of a join alone every row would be read.
    """
    distinct = set(days)
    if None in distinct or not distinct:
        return "true", []
    first, *others = sorted(day for day in distinct if day is not None)
    stretches = [[first, first + ONE_DAY]]
    for day in others:
        if day == stretches[-1][1]:
            stretches[-1][1] = day + ONE_DAY
        else:
            stretches.append([day, day + ONE_DAY])
    each = " OR ".join([f"({column} >= ?::DATE AND {column} < ?::DATE)"] * len(stretches))
    return f"({each})", [day for stretch in stretches for day in stretch]


def _joined(
    con: Connection, query: str, names: Mapping[str, Any], wanted: Sequence[tuple[Any, ...]], values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Return the rows of a query to which the table `wanted` is lent."""
    columns = zip(*wanted, strict=True)
    table = {name: pa.array(values, kind) for (name, kind), values in zip(names.items(), columns, strict=True)}
    con.register("wanted", pa.table(table))
    try:
        return rows(con, query, values)
    finally:
        con.unregister("wanted")


def cells_of(con: Connection, symbols: Sequence[str]) -> dict[Pair, tuple[date, int]]:
    """Return of each symbol and model the first day whose cells are stored, and the interval of the newest, seconds."""
    query = (
        "SELECT symbol, model, min(day), arg_max(interval_seconds, day) FROM snapshot_days "
        "WHERE symbol IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL"
    )
    return {(symbol, model): (first, seconds) for symbol, model, first, seconds in rows(con, query, [[*symbols]])}
