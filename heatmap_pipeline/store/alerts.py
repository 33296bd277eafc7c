"""Alerts and what their rules remember, and the books and hours that rules are shown.

What belongs here: the tables alerts and alert_watches, and reading what `chain/alerts.py` asks of the others. What does
not: when a rule fires (`model/alerts.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import duckdb
import numpy as np

from heatmap_pipeline.model.alerts import Alert, Memory, Seen
from heatmap_pipeline.model.book import Columns
from heatmap_pipeline.model.zones import Zone
from heatmap_pipeline.store.sql import (
    Connection,
    arrow,
    as_moment,
    column,
    micros,
    rows,
    scalar,
    side_column,
    transaction,
)

KEPT = 1000
"""Newest alerts of each symbol that are kept."""


@dataclass(frozen=True)
class Watch:
    """What a rule remembers of a symbol: the rule as it was (JSON), the last instant it was shown, and its memory."""

    definition: str
    evaluated: int
    memory: Memory


@dataclass(frozen=True)
class StoredAlert:
    """A row of `alerts`; `at` is microseconds UTC, prices and volume are in the quote asset."""

    symbol: str
    model: str
    at: int
    rule: str
    kind: str
    side: str
    price: float
    low: float | None
    high: float | None
    peak: float | None
    volume: float
    words: str


def stored_alert(symbol: str, model: str, alert: Alert) -> StoredAlert:
    """Return an alert as it is stored."""
    zone = alert.zone
    return StoredAlert(
        symbol,
        model,
        alert.at,
        alert.rule,
        alert.kind,
        alert.side,
        alert.price,
        low=None if zone is None else zone.low,
        high=None if zone is None else zone.high,
        peak=None if zone is None else zone.peak,
        volume=alert.volume,
        words=alert.words,
    )


def load_watches(con: Connection, symbol: str) -> dict[str, Watch]:
    """Return what the rules remember of a symbol, by their names."""
    watches = rows(con, "SELECT rule, definition, evaluated, memory FROM alert_watches WHERE symbol = ?", [symbol])
    return {
        rule: Watch(definition, micros(evaluated), _memory(memory)) for rule, definition, evaluated, memory in watches
    }


def save_watches(con: Connection, symbol: str, watches: Mapping[str, Watch], alerts: Sequence[StoredAlert]) -> None:
    """Store what the rules remember of a symbol, in place of what they did, and what they have told, in one go."""
    with transaction(con):
        con.execute("DELETE FROM alert_watches WHERE symbol = ?", [symbol])
        for rule, watch in watches.items():
            con.execute(
                "INSERT INTO alert_watches VALUES (?, ?, ?, ?, ?)",
                [symbol, rule, watch.definition, as_moment(watch.evaluated), json.dumps(_plain(watch.memory))],
            )
        for alert in alerts:
            symbol, model, at, *rest = asdict(alert).values()
            con.execute(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [symbol, model, as_moment(at), *rest]
            )
        con.execute(
            "DELETE FROM alerts WHERE symbol = ? AND rowid NOT IN "
            "(SELECT rowid FROM alerts WHERE symbol = ? ORDER BY known_at DESC, rowid DESC LIMIT ?)",
            [symbol, symbol, KEPT],
        )


def last_alerts(con: Connection, symbol: str | None, limit: int, since: int = 0) -> list[StoredAlert]:
    """Return the newest alerts, of one symbol or of all, newest first; none of a database of an earlier version."""
    try:
        newest = rows(
            con,
            "SELECT * FROM alerts WHERE (symbol = ? OR ? IS NULL) AND known_at >= ? "
            "ORDER BY known_at DESC, symbol DESC, rowid DESC LIMIT ?",
            [symbol, symbol, as_moment(since), limit],
        )
    except duckdb.CatalogException:
        return []
    return [StoredAlert(name, model, micros(at), *rest) for name, model, at, *rest in newest]


def newest_end(con: Connection, symbol: str, model: str) -> int | None:
    """Return the end of the newest candle of a model, microseconds; None without any."""
    end: int | None = scalar(
        con,
        "SELECT epoch_us(max(l.timestamp)) + 1000000 * any_value(s.candle_interval_seconds) FROM book_ledger AS l "
        "JOIN symbols AS s ON s.symbol = l.symbol WHERE l.symbol = ? AND l.model = ?",
        [symbol, model],
    )
    return end


def load_books(con: Connection, symbol: str, model: str, first: int, last: int) -> Columns:
    """Return the cells of the intervals that end after an instant and begin before another, by time and price.

    Columns: `start` (of the interval) and `interval` (its width), microseconds, `bucket` and `bucket_units` (1e-8 of
    the quote asset), `side`, `volume`. An interval whose book is empty has one cell of volume 0.
    """
    cells = arrow(
        con,
        """
        WITH days AS (
            SELECT d.day, d.interval_seconds * 1000000 AS width,
                CAST(round(b.bucket * 1e8) AS BIGINT) AS bucket_units
            FROM snapshot_days AS d JOIN buckets AS b ON b.symbol = d.symbol AND b.model = d.model AND b.day = d.day
            WHERE d.symbol = $1 AND d.model = $2 AND d.day >= CAST(make_timestamp($3) AS DATE) - 1
        ), there AS (
            SELECT DISTINCT epoch_us(l.timestamp) // d.width * d.width AS start, d.width, d.bucket_units
            FROM book_ledger AS l JOIN days AS d ON d.day = CAST(l.timestamp AS DATE)
            WHERE l.symbol = $1 AND l.model = $2
        )
        SELECT t.start, t.width AS interval, t.bucket_units,
            coalesce(CAST(round(s.price_bucket * 1e8) AS BIGINT), 0) AS bucket,
            coalesce(CAST(s.side AS VARCHAR), 'long') AS side, coalesce(s.active_volume, 0) AS volume
        FROM there AS t LEFT JOIN liquidation_snapshots AS s
            ON s.symbol = $1 AND s.model = $2 AND s.timestamp = make_timestamp(t.start) AND s.active_volume > 0
        WHERE t.start + t.width > $3 AND t.start < $4
        ORDER BY t.start, bucket, s.side
        """,
        [symbol, model, first, last],
    )
    names = ("start", "interval", "bucket_units", "bucket")
    columns: Columns = {name: column(cells, name, np.int64) for name in names}
    return {**columns, "side": side_column(cells), "volume": column(cells, "volume", np.float64)}


def load_prices(con: Connection, symbol: str, first: int) -> Columns:
    """Return `start` (microseconds), `low`, `high` and `close` of the candles from an instant on, rising."""
    candles = arrow(
        con,
        "SELECT open_time AS start, low, high, close FROM raw_candles "
        "WHERE symbol = ? AND open_time >= make_timestamp(?) ORDER BY open_time",
        [symbol, first],
    )
    prices: Columns = {name: column(candles, name, np.float64) for name in ("low", "high", "close")}
    return {"start": column(candles, "start", np.int64), **prices}


def load_liquidated(con: Connection, symbol: str, model: str, first: int) -> Columns:
    """Return what a model liquidated from an instant on: `start` of the candle, `side`, `volume` (quote asset)."""
    liquidated = arrow(
        con,
        "SELECT timestamp AS start, side, sum(volume) AS volume FROM position_events WHERE symbol = ? AND model = ? "
        "AND event_type = 'liquidate' AND timestamp >= make_timestamp(?) GROUP BY ALL ORDER BY ALL",
        [symbol, model, first],
    )
    return {
        "start": column(liquidated, "start", np.int64),
        "side": side_column(liquidated),
        "volume": column(liquidated, "volume", np.float64),
    }


def load_reported_hours(con: Connection, symbol: str, model: str, first: int) -> Columns:
    """Return `start`, `side` and `reported` (contracts) of the recorded hours from an instant on."""
    reports = arrow(
        con,
        "SELECT hour AS start, side, reported FROM liquidations_hourly WHERE symbol = ? AND model = ? AND recorded "
        "AND hour >= make_timestamp(?) ORDER BY hour, side",
        [symbol, model, first],
    )
    return {
        "start": column(reports, "start", np.int64),
        "side": side_column(reports),
        "reported": column(reports, "reported", np.float64),
    }


def first_hour(con: Connection, symbol: str, model: str) -> int:
    """Return the first whole hour that a model has gone through, microseconds."""
    begin = scalar(
        con, "SELECT epoch_us(min(timestamp)) FROM book_ledger WHERE symbol = ? AND model = ?", [symbol, model]
    )
    return -(-int(begin) // 3_600_000_000) * 3_600_000_000


def _plain(memory: Memory) -> dict[str, object]:
    return {"zones": [asdict(seen) for seen in memory.zones], "sides": sorted(memory.sides)}


def _memory(text: str) -> Memory:
    plain = json.loads(text)
    zones = tuple(Seen(Zone(**seen["zone"]), seen["at"]) for seen in plain["zones"])
    return Memory(zones, frozenset(plain["sides"]))
