"""Liquidations that really happened in and out: a day of a source is written only when its content changed.

What belongs here: raw_liquidations, recorded, and what the views over them say. What does not: how rows became clean
(`market/liquidations/`), and which days are read (`chain/liquidations.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from heatmap_pipeline.instants import DAY
from heatmap_pipeline.market.liquidations.tables import LIQUIDATION_COLUMNS, Liquidations, microseconds, recorded_share
from heatmap_pipeline.model.book import Floats, Ints
from heatmap_pipeline.store.sql import (
    Connection,
    arrow,
    column,
    constant,
    dates,
    day_bounds,
    insert,
    naive,
    rows,
    timestamps,
    transaction,
)

_KIND = "liquidations"
"""What `raw_days` calls them; its row vouches for a day's rows of one source."""


@dataclass(frozen=True)
class StoredSource:
    """One source of a symbol's liquidations, a row of the view `liquidation_sources`.

    Attributes:
        symbol: as the exchange writes it.
        source: `exchange_kind`.
        exchange: whose liquidations they are.
        own_exchange: whether that is the market's own.
        complete: whether it prints every liquidation.
        resolution_seconds: 0 = single liquidations, else the interval of the sums; None where there is no row.
        rows: how many are stored.
        first: start of what was recorded, UTC without zone.
        last: end of what was recorded.
        recorded_hours: how much of the time between was recorded.
        newest: the newest liquidation, None where there is none.
        chosen: whether `liquidations_hourly` is made from it.
    """

    symbol: str
    source: str
    exchange: str
    own_exchange: bool
    complete: bool
    resolution_seconds: int | None
    rows: int
    first: datetime
    last: datetime
    recorded_hours: float
    newest: datetime | None
    chosen: bool


def save_liquidations(con: Connection, days: Mapping[date, Liquidations]) -> list[date]:
    """Store days of one source and symbol in place of what was stored of them, in one transaction.

    Args:
        con: an open warehouse.
        days: what there is of each day, no more and no less (`Liquidations.of_day`).

    Returns:
        the days that were new or different, rising; the others are left alone.
    """
    if not days:
        return []
    first = next(iter(days.values()))
    key = [first.symbol, first.source]
    hashes = {day: made.content_hash() for day, made in days.items()}
    with transaction(con):
        stored = dict(
            rows(
                con,
                "SELECT day, content_hash FROM raw_days WHERE symbol = ? AND source = ? AND kind = ? ORDER BY day",
                [*key, _KIND],
            )
        )
        changed = sorted(day for day in days if stored.get(day) != hashes[day])
        replaced = [day for day in changed if day in stored]
        for table in ("raw_liquidations", "recorded", "raw_days") if replaced else ():
            con.execute(
                f"DELETE FROM {table} WHERE symbol = ? AND source = ? AND day IN (SELECT unnest(?))"  # noqa: S608 - ours
                + (f" AND kind = '{_KIND}'" if table == "raw_days" else ""),
                [*key, replaced],
            )
        if changed:
            _insert(con, {day: days[day] for day in changed}, hashes)
    return changed


def _insert(con: Connection, days: Mapping[date, Liquidations], hashes: Mapping[date, str]) -> None:
    parts = list(days.values())
    symbol, source = parts[0].symbol, parts[0].source
    frame = pd.concat([part.table for part in parts], ignore_index=True)
    shared = {"symbol": constant(symbol, len(frame)), "source": constant(source, len(frame))}
    columns = {
        **shared,
        "day": dates(list(days), [len(part.table) for part in parts]),
        "timestamp": timestamps(microseconds(frame["timestamp"])),
        "side": pa.array(frame["side"].to_list(), pa.string()),
    }
    for name in LIQUIDATION_COLUMNS[2:]:
        columns[name] = pa.array(frame[name].to_numpy(), from_pandas=True)  # NaN, unknown, becomes NULL
    insert(con, "raw_liquidations", columns)
    ranges = np.concatenate([part.recorded for part in parts])
    insert(
        con,
        "recorded",
        {
            "symbol": constant(symbol, len(ranges)),
            "day": dates(list(days), [len(part.recorded) for part in parts]),
            "source": constant(source, len(ranges)),
            "from": timestamps(ranges[:, 0]),
            "to": timestamps(ranges[:, 1]),
        },
    )
    now = naive(datetime.now(UTC))
    con.executemany(
        "INSERT INTO raw_days VALUES (?, ?, ?, ?, ?, ?, '{}', '{}', ?, ?)",
        [
            [symbol, _KIND, day, hashes[day], _resolution(part), len(part.table), source, now]
            for day, part in days.items()
        ],
    )


def _resolution(part: Liquidations) -> int:
    return int(part.table["resolution_seconds"].max()) if len(part.table) else 0


def load_liquidations(con: Connection, symbol: str, source: str, first: date, last: date) -> Liquidations:
    """Return what is stored of a source and of the days first..last; empty where nothing is."""
    key = [symbol, source, first, last]
    stored = arrow(
        con,
        f"SELECT {', '.join(LIQUIDATION_COLUMNS)} FROM raw_liquidations "  # noqa: S608 - names of ours
        "WHERE symbol = ? AND source = ? AND day BETWEEN ? AND ? ORDER BY timestamp, side, price, quantity",
        key,
    )
    table = pd.DataFrame(
        {
            "timestamp": column(stored, "timestamp", np.int64).astype("datetime64[us]"),
            "side": pd.array(stored.column("side").cast(pa.string()).to_pylist(), dtype="str"),
            **{name: column(stored, name, np.float64) for name in ("price", "quantity", "volume")},
            "resolution_seconds": column(stored, "resolution_seconds", np.int64),
            "complete": column(stored, "complete", np.bool_),
        },
        columns=list(LIQUIDATION_COLUMNS),
    )
    return Liquidations(symbol, source, table, recorded_ranges(con, symbol, source, first, last))


def recorded_ranges(con: Connection, symbol: str, source: str, first: date, last: date) -> Ints:
    """Return what was recorded of a source: int64[n, 2], microseconds since 1970, half-open, cut at midnights."""
    ranges = arrow(
        con,
        'SELECT "from", "to" FROM recorded WHERE symbol = ? AND source = ? AND day BETWEEN ? AND ? ORDER BY "from"',
        [symbol, source, first, last],
    )
    return np.column_stack([column(ranges, name, np.int64) for name in ("from", "to")])


def liquidation_sources(con: Connection, symbol: str | None = None) -> list[StoredSource]:
    """Return the sources that are stored of a symbol, or of all of them; the chosen one of each first."""
    stored = rows(
        con,
        "SELECT symbol, source, exchange, own_exchange, complete, resolution_seconds, rows, "
        '"from", "to", recorded_hours, newest, chosen FROM liquidation_sources '
        "WHERE ? IS NULL OR symbol = ? ORDER BY symbol, chosen DESC, source",
        [symbol, symbol],
    )
    return [StoredSource(*row) for row in stored]


@dataclass(frozen=True)
class WatchedHours:
    """A market hour by hour, with what a source recorded of it; arrays of one length, rising hours.

    Attributes:
        hour: microseconds since 1970, start of each hour that has candles.
        activity: range of the hour as a share of its open, times its volume in contracts.
        events: liquidations of the source in the hour.
        recorded: share of the hour that was recorded, 0 to 1.
    """

    hour: Ints
    activity: Floats
    events: Ints
    recorded: Floats


def watched_hours(con: Connection, symbol: str, source: str, first: date, last: date) -> WatchedHours:
    """Return the hours of the days first..last that have candles, with what a source recorded of them."""
    market = arrow(
        con,
        "SELECT date_trunc('hour', open_time) AS hour, "
        "(max(high) - min(low)) / arg_min(open, open_time) * sum(volume) AS activity "
        "FROM raw_candles WHERE symbol = ? AND day BETWEEN ? AND ? GROUP BY hour ORDER BY hour",
        [symbol, first, last],
    )
    counted: dict[Any, int] = dict(
        rows(
            con,
            "SELECT epoch_us(date_trunc('hour', timestamp)) AS hour, count(*) FROM raw_liquidations "
            "WHERE symbol = ? AND source = ? AND day BETWEEN ? AND ? GROUP BY hour ORDER BY hour",
            [symbol, source, first, last],
        )
    )
    hour = column(market, "hour", np.int64)
    events = np.array([counted.get(int(start), 0) for start in hour], dtype=np.int64)
    share = recorded_share(recorded_ranges(con, symbol, source, first, last), hour)
    return WatchedHours(hour, column(market, "activity", np.float64), events, share)


def days_recorded_whole(con: Connection, symbol: str, source: str, first: date, last: date) -> set[date]:
    """Return the days of which a source is recorded from midnight to midnight."""
    days = rows(
        con,
        'SELECT day FROM recorded WHERE symbol = ? AND source = ? AND "from" >= ? AND "to" <= ? GROUP BY day '
        'HAVING sum(epoch_us("to") - epoch_us("from")) = ? ORDER BY day',
        [symbol, source, *day_bounds(first, last), DAY],
    )
    return {day for (day,) in days}
