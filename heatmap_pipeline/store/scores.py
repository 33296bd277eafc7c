"""Scores in and out: what a score is computed from, as arrays, and its rows, replaced whole per symbol and model.

What belongs here: map_scores, score_hours, score_days, and reading the records of real liquidations for them. What does
not: which record is scored against, and the numbers (`chain/scoring.py`, `model/score/`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from heatmap_pipeline.instants import DAY, day_of
from heatmap_pipeline.market.liquidations.tables import exchange_of
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Columns, Floats, Ints, Sides
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours
from heatmap_pipeline.model.score.lift import MapCells
from heatmap_pipeline.model.score.table import ScoreRow
from heatmap_pipeline.store.sql import (
    Connection,
    arrow,
    column,
    constant,
    dates,
    insert,
    rows,
    scalar,
    side_column,
    sides,
    timestamps,
    transaction,
)
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

ROW_COLUMNS = tuple(field.name for field in fields(ScoreRow))
"""Columns of `map_scores` between the source and the parameters."""


@dataclass(frozen=True)
class Record:
    """What one source recorded of the liquidations of one symbol.

    Attributes:
        source: its name, `exchange_kind`.
        complete: whether it prints every liquidation.
        resolution: seconds of the longest sum; 0 = single liquidations only.
        timestamp: of its reports, microseconds since 1970 UTC, rising whatever order they came in; of a sum its start.
        side: of the position, +1 long, -1 short.
        quantity: contracts.
        recorded: the half-open stretches that were recorded, shape (k, 2), microseconds.
    """

    source: str
    complete: bool
    resolution: int
    timestamp: Ints
    side: Sides
    quantity: Floats
    recorded: Ints

    def __post_init__(self) -> None:
        order = np.lexsort((self.quantity, self.side, self.timestamp))  # so that equal reports have equal sums
        for name in ("timestamp", "side", "quantity"):
            object.__setattr__(self, name, getattr(self, name)[order])

    @property
    def exchange(self) -> str:
        """The exchange whose liquidations these are."""
        return exchange_of(self.source)

    def content_hash(self) -> str:
        """Return a hash of all of it."""
        digest = hashlib.blake2b(repr((self.source, self.complete)).encode(), digest_size=16)
        for values in (self.timestamp, self.side, self.quantity, self.recorded):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def load_records(con: Connection, symbol: str) -> list[Record]:
    """Return what every source recorded of a symbol, by the source's name."""
    names = rows(con, "SELECT DISTINCT source FROM recorded WHERE symbol = ? ORDER BY source", [symbol])
    return [_record(con, symbol, source) for (source,) in names]


def _record(con: Connection, symbol: str, source: str) -> Record:
    reports = arrow(
        con,
        "SELECT timestamp, side, quantity FROM raw_liquidations WHERE symbol = ? AND source = ?",
        [symbol, source],
    )
    ((complete, resolution),) = rows(
        con,
        "SELECT coalesce(bool_and(complete), false), coalesce(max(resolution_seconds), 0) FROM raw_liquidations "
        "WHERE symbol = ? AND source = ?",
        [symbol, source],
    )
    ranges = arrow(
        con,
        'SELECT "from", "to" FROM recorded WHERE symbol = ? AND source = ? ORDER BY "from", "to"',
        [symbol, source],
    )
    return Record(
        source,
        bool(complete),
        int(resolution),
        column(reports, "timestamp", np.int64),
        side_column(reports),
        column(reports, "quantity", np.float64),
        np.column_stack([column(ranges, "from", np.int64), column(ranges, "to", np.int64)]),
    )


def load_liquidated(con: Connection, symbol: str, model: str) -> tuple[Ints, Sides, Floats, Ints]:
    """Return what a model liquidated, in time order: start of the candle, side, contracts and `opened_at`."""
    liquidated = arrow(
        con,
        "SELECT timestamp, side, quantity, opened_at FROM position_events "
        "WHERE symbol = ? AND model = ? AND event_type = 'liquidate' "
        "ORDER BY timestamp, side, leverage, liq_price, opened_at, entry_price, quantity",
        [symbol, model],
    )
    return (
        column(liquidated, "timestamp", np.int64),
        side_column(liquidated),
        column(liquidated, "quantity", np.float64),
        column(liquidated, "opened_at", np.int64),
    )


def first_model_candle(con: Connection, symbol: str, model: str) -> int | None:
    """Return the start of the first candle a model went through, microseconds; None where there is none."""
    at = scalar(con, "SELECT epoch_us(min(timestamp)) FROM book_ledger WHERE symbol = ? AND model = ?", [symbol, model])
    return None if at is None else int(at)


def load_hour_maps(
    con: Connection, symbol: str, model: str, market: HourlyMarket, bucket: float, more: Columns
) -> MapCells:
    """Return the maps as they stood at the starts of hours, as far as price reached them in the hour.

    Cells are those of buckets of `bucket`, which those of every day divide: several of one hour and bucket add up (not
    here: a database adds in any order, and the last bits would differ). Each hour that has a map also has a cell
    without volume at its open, so that a map without any cell within reach still is one.

    Args:
        con: an open database.
        symbol: as the exchange writes it.
        model: its name.
        market: the hours; those without a price are left out.
        bucket: height of a bucket of the answer, USDT.
        more: cells of days whose cells are not stored: `hour` (microseconds), `side`, `price` (lower edge, 1e-8 of the
            quote asset) and `volume` (above 0), shape (n,) each.
    """
    known = np.isfinite(market.open) & np.isfinite(market.low) & np.isfinite(market.high)
    units = round(bucket * 1e8)

    def floor(price: Floats) -> Any:
        return pa.array(np.floor(price[known] / bucket).astype(np.int64))

    hours = pa.table(
        {
            "hour": timestamps(market.start[known]),
            "lowest": floor(market.low),
            "opened": floor(market.open),
            "highest": floor(market.high),
        }
    )
    con.register("hours", hours)
    replayed = {"hour": timestamps(more["hour"]), "side": sides(more["side"].astype(np.int8))}
    replayed |= {name: pa.array(more[name]) for name in ("price", "volume")}
    con.register("replayed", pa.table(replayed))
    cells = arrow(
        con,
        """
        WITH cells AS (
            SELECT s.timestamp + to_seconds(d.interval_seconds) AS hour, s.side, s.active_volume,
                CAST(round(s.price_bucket * 1e8) AS BIGINT) // ? AS bucket
            FROM liquidation_snapshots AS s JOIN snapshot_days AS d
                ON d.symbol = s.symbol AND d.model = s.model AND d.day = CAST(s.timestamp AS DATE)
            WHERE s.symbol = ? AND s.model = ? AND s.active_volume > 0
                AND (epoch_us(s.timestamp) + d.interval_seconds * 1000000) % ? = 0
            UNION ALL
            SELECT hour, CAST(side AS side_name), volume, price // ? FROM replayed
        ), there AS (SELECT DISTINCT hour FROM cells)
        SELECT c.hour, c.side, c.bucket, c.active_volume AS volume FROM cells AS c JOIN hours AS h ON h.hour = c.hour
        WHERE c.bucket BETWEEN h.lowest - 1 AND h.highest + 1
        UNION ALL
        SELECT h.hour, CAST('long' AS side_name), h.opened, 0.0 FROM hours AS h JOIN there AS t ON t.hour = h.hour
        ORDER BY ALL
        """,
        [units, symbol, model, HOUR, units],
    )
    con.unregister("hours")
    con.unregister("replayed")
    return MapCells(
        column(cells, "hour", np.int64),
        side_column(cells),
        column(cells, "bucket", np.int64) * units / 1e8,
        column(cells, "volume", np.float64),
        bucket,
    )


def score_inputs_hash(con: Connection, symbol: str, model: str) -> str | None:
    """Return the hash of the inputs that the stored score was computed from, None where none is stored."""
    stored = rows(con, "SELECT parameters FROM map_scores WHERE symbol = ? AND model = ? LIMIT 1", [symbol, model])
    return str(json.loads(stored[0][0])["inputs"]) if stored else None


def replace_scores(
    con: Connection,
    symbol: str,
    model: str,
    source: str,
    score_rows: Sequence[ScoreRow],
    hours: ScoreHours,
    parameters: Mapping[str, Any],
) -> None:
    """Store a score in place of the one of before, in one transaction.

    Args:
        con: an open warehouse.
        symbol: as the exchange writes it.
        model: its name.
        source: whose record it is.
        score_rows: as `model.score.table.score` returns them.
        hours: what they were computed from.
        parameters: how, JSON-able, with the hash of the inputs as `inputs`.
    """
    text = json.dumps(parameters, sort_keys=True)
    columns = _hour_columns(symbol, model, source, hours)
    with transaction(con):
        _delete(con, symbol, model)
        insert(con, "map_scores", _score_columns(symbol, model, source, score_rows, text))
        insert(con, "score_hours", columns)
        insert(con, "score_days", _day_columns(symbol, model, hours.market.start, columns))


def delete_scores(con: Connection, symbol: str, model: str) -> None:
    """Remove the score of a symbol and model, if there is one."""
    with transaction(con):
        _delete(con, symbol, model)


def _delete(con: Connection, symbol: str, model: str) -> None:
    for name in ("map_scores", "score_hours", "score_days"):
        con.execute(f"DELETE FROM {name} WHERE symbol = ? AND model = ?", [symbol, model])  # noqa: S608 - ours


def _number(values: Any) -> Any:
    """Return numbers as a column in which what is not known is NULL."""
    array = np.asarray(values, dtype=np.float64)
    return pa.array(array, mask=~np.isfinite(array))


def _score_columns(symbol: str, model: str, source: str, score_rows: Sequence[ScoreRow], text: str) -> dict[str, Any]:
    count = len(score_rows)
    columns: dict[str, Any] = {
        "symbol": constant(symbol, count),
        "model": constant(model, count),
        "source": constant(source, count),
        "parameters": constant(text, count),
    }
    for name, values in zip(ROW_COLUMNS, zip(*map(astuple, score_rows), strict=True), strict=True):
        columns[name] = _number(values) if isinstance(values[0], float) else pa.array(values)
    return columns


def _hour_columns(symbol: str, model: str, source: str, hours: ScoreHours) -> dict[str, Any]:
    """Return two rows per hour, the long one first."""
    market, count = hours.market, 2 * len(hours.market.start)
    unknown = np.full((2, len(market.start)), np.nan)
    columns: dict[str, Any] = {
        "symbol": constant(symbol, count),
        "model": constant(model, count),
        "source": constant(source, count),
        "hour": timestamps(np.repeat(market.start, 2)),
        "side": sides(np.tile(np.array([LONG, SHORT], dtype=np.int8), count // 2)),
        "recorded": pa.array(np.repeat(hours.recorded, 2)),
    }
    for name in ("predicted", "predicted_at_start", "volume_only", "volume_only_at_start"):
        values = getattr(hours, name)
        columns[name] = _number((unknown if values is None else values).T.ravel())
    columns["reported"] = _number(np.where(hours.recorded, hours.reported, np.nan).T.ravel())
    for name in ("open", "high", "low", "volume"):
        columns[name] = _number(np.repeat(getattr(market, name), 2))
    for name in ("move", "extreme"):
        columns[name] = _number(getattr(market, name).T.ravel())
    return columns


def _day_columns(symbol: str, model: str, start: Ints, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hash of the rows of each day, which come in time order."""
    days, first = np.unique(start // DAY, return_index=True)
    table = pa.table(dict(columns))
    hashes = []
    for begin, end in zip(first, np.append(first[1:], len(start)), strict=True):
        rows_of_day = table.slice(2 * begin, 2 * (end - begin)).to_pydict()
        hashes.append(hashlib.blake2b(repr(sorted(rows_of_day.items())).encode(), digest_size=16).hexdigest())
    return {
        "symbol": constant(symbol, len(days)),
        "model": constant(model, len(days)),
        "day": dates([day_of(int(day) * DAY) for day in days], [1] * len(days)),
        "hours_hash": pa.array(hashes),
    }


@dataclass(frozen=True)
class StoredScore:
    """A stored score: whose record, its rows (NULL is nan), and how it was computed."""

    source: str
    rows: tuple[ScoreRow, ...]
    parameters: Mapping[str, Any]


def load_score(con: Connection, symbol: str, model: str) -> StoredScore | None:
    """Return the stored score of a symbol and model, its rows in the order of `score`; None where there is none."""
    names = ", ".join(f'"{name}"' for name in ROW_COLUMNS)
    scored = rows(
        con,
        f"SELECT source, parameters, {names} FROM map_scores "  # noqa: S608 - names of ours
        "WHERE symbol = ? AND model = ? ORDER BY rowid",
        [symbol, model],
    )
    if not scored:
        return None
    source, text = scored[0][:2]
    score_rows = []
    for row in scored:
        values: list[Any] = [float("nan") if value is None else value for value in row[2:]]
        score_rows.append(ScoreRow(*values))
    return StoredScore(source, tuple(score_rows), json.loads(text))


@dataclass(frozen=True)
class Agreement:
    """How well a map agrees with reported liquidations, hour by hour: the headline of a score.

    Attributes:
        long: rank correlation of modelled and reported longs; None where undefined.
        short: the same of shorts.
        hours: how many hours it is of, of the side that has fewer.
        source: whose record.
        own_exchange: whether that is the market's own.
    """

    long: float | None
    short: float | None
    hours: int
    source: str
    own_exchange: bool


def agreements(con: Connection) -> dict[tuple[str, str], dict[str, Agreement]]:
    """Return the headline of every stored score by symbol and model, then window, in one question."""
    headlines = rows(
        con,
        "SELECT symbol, model, \"window\", any_value(value) FILTER (side = 'long'), "
        "any_value(value) FILTER (side = 'short'), min(hours), any_value(source), "
        "any_value(CAST(json_extract(parameters, '$.own_exchange') AS BOOLEAN)) FROM map_scores "
        "WHERE measure = 'spearman' AND horizon = 'nowcast' AND baseline = '' GROUP BY ALL "
        "HAVING any_value(value) IS NOT NULL",
    )
    scores: dict[tuple[str, str], dict[str, Agreement]] = {}
    for symbol, model, window, long, short, hours, source, own_exchange in headlines:
        scores.setdefault((symbol, model), {})[window] = Agreement(long, short, hours, source, own_exchange)
    return scores


def published_score(warehouse: Warehouse, symbol: str, model: str) -> StoredScore | None:
    """Return the score that is published; None where there is none, or the published database cannot be read now."""
    if not warehouse.published.exists():
        return None
    try:
        with warehouse.read() as con:
            return load_score(con, symbol, model)
    except (StoreError, duckdb.CatalogException):  # unreadable, or by a version that knew no scores
        return None


def load_scored_hours(con: Connection, symbol: str, model: str, start: int, end: int) -> dict[str, list[Any]]:
    """Return hour (microseconds), side, predicted and reported of the recorded hours in [start, end), in time order."""
    hours_stored = arrow(
        con,
        "SELECT hour, side, predicted, reported FROM score_hours WHERE symbol = ? AND model = ? AND recorded "
        "AND predicted IS NOT NULL AND open IS NOT NULL AND high IS NOT NULL AND volume IS NOT NULL "
        "AND hour >= make_timestamp(?) AND hour < make_timestamp(?) ORDER BY hour, side",
        [symbol, model, start, end],
    )
    return {
        "hour": column(hours_stored, "hour", np.int64).tolist(),
        "side": [SIDE_NAMES[int(side)] for side in side_column(hours_stored)],
        "predicted": column(hours_stored, "predicted", np.float64).tolist(),
        "reported": column(hours_stored, "reported", np.float64).tolist(),
    }


def has_record(con: Connection, symbol: str) -> bool:
    """Return whether any source has recorded anything of a symbol."""
    return bool(scalar(con, "SELECT count(*) FROM recorded WHERE symbol = ?", [symbol]))


def newest_day(con: Connection, symbol: str, model: str) -> date | None:
    """Return the last computed day of a model."""
    day: date | None = scalar(con, "SELECT max(day) FROM heatmap_days WHERE symbol = ? AND model = ?", [symbol, model])
    return day
