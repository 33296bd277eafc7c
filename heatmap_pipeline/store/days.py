"""Days of a model in and out: each in one transaction, each tied to the one before it by the hash of its state.

What belongs here: heatmap_days, open_positions, position_events, book_ledger, liquidation_snapshots. What does not:
which days have to be computed (`chain/`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.model.book import BOOKS, LONG, Columns, DayResult, Floats, Ints, Lots, ModelState, Sides
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.schema import amounts, table
from heatmap_pipeline.store.sql import (
    Arrow,
    Connection,
    arrow,
    column,
    constant,
    dates,
    insert,
    naive,
    parsed,
    rows,
    scalar,
    side_column,
    sides,
    timestamps,
    transaction,
)
from heatmap_pipeline.store.warehouse import StoreError

_EVENTS = ("liquidate", "close", "open")
_STEPS = ("liquidate", "close", "open", "liquidate")
"""What happens within a candle, in order: what its close has passed is liquidated after it has opened."""
_KINDS = np.array([_EVENTS.index(step) for step in _STEPS], dtype=np.int8)


class ChainError(StoreError):
    """A day whose predecessor is missing or not the one it was computed from; names the day and the repair."""


@dataclass(frozen=True)
class DayRecord:
    """One computed day of one symbol and model.

    Attributes:
        symbol: as the exchange writes it.
        model: name of the model.
        day: UTC.
        input_hash: hash of everything the day was computed from besides the state before it.
        previous_hash: `state_hash` of the day before; '' at the start of a history.
        state_hash: hash of the state the day left.
        parameters: `ModelParameters.to_json()`.
        repairs: count of each repair made on the day's input.
        provisional: whether the day was not over yet.
        state: what is carried besides the books, JSON-able.
        created_at: when it was computed, UTC.
    """

    symbol: str
    model: str
    day: date
    input_hash: str
    previous_hash: str
    state_hash: str
    parameters: str
    repairs: dict[str, int]
    provisional: bool
    state: dict[str, Any]
    created_at: datetime


def day_records(con: Connection, symbol: str, model: str) -> dict[date, DayRecord]:
    """Return the computed days of a symbol and model, rising."""
    found = rows(
        con,
        "SELECT day, input_hash, previous_hash, state_hash, parameters, repairs, provisional, state, created_at "
        "FROM heatmap_days WHERE symbol = ? AND model = ? ORDER BY day",
        [symbol, model],
    )
    return {
        day: DayRecord(
            symbol=symbol,
            model=model,
            day=day,
            input_hash=input_hash,
            previous_hash=previous_hash,
            state_hash=state_hash,
            parameters=parameters,
            repairs=parsed(repairs),
            provisional=provisional,
            state=parsed(state)["carried"],
            created_at=created_at.replace(tzinfo=UTC),
        )
        for day, input_hash, previous_hash, state_hash, parameters, repairs, provisional, state, created_at in found
    }


def restarted_days(con: Connection, symbol: str) -> list[date]:
    """Return the days, of any model, that began a history anew (`--restart`), rising."""
    query = (
        "SELECT DISTINCT day FROM heatmap_days WHERE symbol = ? "
        "AND json_extract_string(state, '$.carried.restarted') = 'true' ORDER BY day"
    )
    return [day for (day,) in rows(con, query, [symbol])]


def computed_days(con: Connection) -> dict[str, dict[str, dict[date, str]]]:
    """Return the parameters of every computed day, by symbol, model and day, rising."""
    found: dict[str, dict[str, dict[date, str]]] = {}
    for symbol, model, day, parameters in rows(
        con, "SELECT symbol, model, day, parameters FROM heatmap_days ORDER BY ALL"
    ):
        found.setdefault(symbol, {}).setdefault(model, {})[day] = parameters
    return found


def load_state(con: Connection, symbol: str, model: str, day: date) -> tuple[ModelState, dict[str, Any]]:
    """Return the books at the end of a day, bit for bit as they were committed, and what else is carried.

    Raises:
        ChainError: if the day is not stored.
    """
    found = rows(con, "SELECT state FROM heatmap_days WHERE symbol = ? AND model = ? AND day = ?", [symbol, model, day])
    if not found:
        raise ChainError(
            f"{symbol} {model} {day} is not computed; run `{stored_command(con, 'run', symbol, days=(day, day))}`"
        )
    state = json.loads(found[0][0])
    lots_table = arrow(
        con,
        "SELECT side, leverage, liq_price, quantity, volume, opened_at FROM open_positions "
        "WHERE symbol = ? AND model = ? AND day = ? ORDER BY side, leverage, liq_price",
        [symbol, model, day],
    )
    lots = Lots(
        side=side_column(lots_table),
        leverage=column(lots_table, "leverage", np.float64),
        liq_price=np.round(column(lots_table, "liq_price", np.float64) * 1e8).astype(np.int64),
        quantity=column(lots_table, "quantity", np.float64),
        volume=column(lots_table, "volume", np.float64),
        opened_at=column(lots_table, "opened_at", np.int64),
    )
    return ModelState(lots, tuple(state["unlocated"]), state["open_interest"]), state["carried"]


def commit_day(con: Connection, record: DayRecord, result: DayResult) -> None:
    """Store a computed day in place of what was stored of it, in one transaction.

    Its cells are stored separately: those of before are no longer vouched for (no row in snapshot_days), also where the
    state is the same and only the bucket is another.

    Raises:
        ChainError: if the day before is not stored, or its state is not the one that `record.previous_hash` names.
    """
    parameters = json.loads(record.parameters)
    books = BOOKS[parameters["books"]]
    with transaction(con):
        _check_predecessor(con, record)
        for name in ("position_events", "book_ledger", "open_positions", "heatmap_days", "snapshot_days"):
            _delete_day(con, name, record.symbol, record.model, record.day)
        insert(con, "position_events", _events(record, result, books))
        insert(con, "open_positions", _positions(record, result.state.lots))
        insert(con, "book_ledger", _ledger(record, result.ledger, books))
        carried = {
            "carried": record.state,
            "open_interest": result.state.open_interest,
            "unlocated": list(result.state.unlocated),
        }
        con.execute(
            "INSERT INTO heatmap_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                record.symbol,
                record.model,
                record.day,
                record.input_hash,
                record.previous_hash,
                record.state_hash,
                record.parameters,
                json.dumps(record.repairs, sort_keys=True),
                record.provisional,
                naive(record.created_at),
                json.dumps(carried, sort_keys=True),
            ],
        )
        _show_bucket(con, record, float(parameters["bucket"]))


def _show_bucket(con: Connection, record: DayRecord, bucket: float) -> None:
    """Say the bucket of the newest computed day of a symbol in the table of symbols."""
    con.execute(
        "UPDATE symbols SET bucket = ? WHERE symbol = ? AND bucket <> ? AND NOT EXISTS "
        "(SELECT 1 FROM heatmap_days AS d WHERE d.symbol = symbols.symbol AND d.day > ?)",
        [bucket, record.symbol, bucket, record.day],
    )


def _delete_day(con: Connection, name: str, symbol: str, model: str, day: date) -> None:
    """Delete what a table holds of a day of a model."""
    days, bounds = table(name).within(day, day)
    con.execute(f"DELETE FROM {name} WHERE symbol = ? AND model = ? AND {days}", [symbol, model, *bounds])  # noqa: S608


def _check_predecessor(con: Connection, record: DayRecord) -> None:
    before = record.day - ONE_DAY
    found = rows(
        con,
        "SELECT state_hash FROM heatmap_days WHERE symbol = ? AND model = ? AND day = ?",
        [record.symbol, record.model, before],
    )
    name = f"{record.symbol} {record.model} {record.day}"
    if not found and record.previous_hash:
        newest = scalar(
            con,
            "SELECT max(day) FROM heatmap_days WHERE symbol = ? AND model = ? AND day < ?",
            [record.symbol, record.model, record.day],
        )
        start = newest + ONE_DAY if newest else before
        raise ChainError(
            f"{name} needs {before} before it, which is not computed; "
            f"run `{stored_command(con, 'run', record.symbol, days=(start, record.day))}`"
        )
    if found and found[0][0] != record.previous_hash and (record.previous_hash or not record.state.get("restarted")):
        raise ChainError(
            f"{name} was computed from another state than {before} has now (did another run rebuild it?); "
            f"run `{stored_command(con, 'run', record.symbol, days=(record.day, record.day))}`"
        )


def _names(record: DayRecord, count: int) -> dict[str, Arrow]:
    return {"symbol": constant(record.symbol, count), "model": constant(record.model, count)}


def _book_sides(book: Ints, books: tuple[int | None, ...]) -> Sides:
    """Return the side of each book index, 0 where a book holds both."""
    return np.array([side or 0 for side in books], dtype=np.int8)[book]


def _events(record: DayRecord, result: DayResult, books: tuple[int | None, ...]) -> dict[str, Arrow]:
    """Return the day's events in the order in which they happened.

    Within a step of a candle they stand by side, leverage, liquidation price and entry price.
    """
    lots, closes, opens = result.liquidations, result.closes, result.opens
    counts = [len(part["timestamp"]) for part in (lots, closes, opens)]
    step = np.repeat(np.arange(3, dtype=np.int8), counts)
    step[: counts[0]][lots["opened_at"] == lots["timestamp"]] = 3
    blank = np.full(counts[1], np.nan)

    def joined(name: str, of_closes: Floats | Ints | Sides) -> Any:
        return np.concatenate([lots[name], of_closes, opens[name]])

    time = joined("timestamp", closes["timestamp"])
    side = joined("side", _book_sides(closes["book"], books)).astype(np.int8)
    leverage = joined("leverage", blank)
    price = joined("liq_price", np.zeros(counts[1], dtype=np.int64))
    opened = np.concatenate([lots["opened_at"], np.zeros(counts[1], dtype=np.int64), opens["timestamp"]])
    entry = joined("entry_price", blank)
    order = np.lexsort((entry, price, leverage, -side, step, time))
    closing = (step == 1)[order]

    def unless_closing(values: Any) -> Arrow:
        return pa.array(values[order], mask=closing)

    return {
        **_names(record, len(order)),
        "timestamp": timestamps(time[order]),
        "event_type": pa.DictionaryArray.from_arrays(pa.array(_KINDS[step[order]]), list(_EVENTS)),
        "side": sides(side[order]),
        "leverage": unless_closing(leverage),
        "entry_price": unless_closing(entry),
        "liq_price": unless_closing(price / 1e8),
        "quantity": pa.array(joined("quantity", closes["quantity"])[order]),
        "volume": pa.array(joined("volume", closes["volume"])[order]),
        "opened_at": unless_closing(opened).cast(pa.timestamp("us")),
    }


def _positions(record: DayRecord, lots: Lots) -> dict[str, Arrow]:
    count = len(lots)
    return {
        **_names(record, count),
        "day": dates([record.day], [count]),
        "side": sides(lots.side),
        "leverage": pa.array(lots.leverage),
        "entry_price": pa.array(lots.entry_price),
        "liq_price": pa.array(lots.liq_price / 1e8),
        "quantity": pa.array(lots.quantity),
        "volume": pa.array(lots.volume),
        "opened_at": timestamps(lots.opened_at),
    }


def _ledger(record: DayRecord, ledger: Columns, books: tuple[int | None, ...]) -> dict[str, Arrow]:
    order = np.lexsort((ledger["book"], ledger["timestamp"]))
    columns = {
        **_names(record, len(order)),
        "timestamp": timestamps(ledger["timestamp"][order]),
        "side": sides(_book_sides(ledger["book"][order], books)),
    }
    for name in amounts("book_ledger"):
        columns[name] = pa.array(ledger[name][order])
    return columns


def commit_snapshots(
    con: Connection,
    symbol: str,
    model: str,
    day: date,
    state_hash: str,
    interval_seconds: int,
    cells: Columns,
    bucket: float,
    *,
    merged: tuple[int, int] | None = None,
) -> None:
    """Store the cells of a day in place of what was stored of it, in one transaction.

    Args:
        con: an open warehouse.
        symbol: as the exchange writes it.
        model: name of the model.
        day: UTC.
        state_hash: of the computed day that the cells belong to.
        interval_seconds: distance of the snapshots.
        cells: as `DayResult.cells`; a bucket's lower edge is `price_bucket` x `bucket`, to the nearest 1e-8 USDT.
        bucket: height of a bucket, USDT.
        merged: how many cells there were, and how many leading digits of their buckets' numbers are kept, if they were
            put together.
    """
    count = len(cells["timestamp"])
    edges = cells["price_bucket"].astype(np.int64) * round(bucket * 1e8) / 1e8
    with transaction(con):
        for name in ("liquidation_snapshots", "saved_snapshots", "snapshot_days", "coarse_days"):
            _delete_day(con, name, symbol, model, day)
        insert(
            con,
            "liquidation_snapshots",
            {
                "symbol": constant(symbol, count),
                "model": constant(model, count),
                "timestamp": timestamps(cells["timestamp"]),
                "price_bucket": pa.array(edges),
                "side": sides(np.where(cells["side"] == LONG, 1, -1).astype(np.int8)),
                "active_volume": pa.array(cells["active_volume"]),
                "consumed_volume": pa.array(cells["consumed_volume"]),
            },
        )
        con.execute(
            "INSERT INTO snapshot_days VALUES (?, ?, ?, ?, ?, ?)",
            [symbol, model, day, state_hash, interval_seconds, count],
        )
        if merged is not None:
            con.execute("INSERT INTO coarse_days VALUES (?, ?, ?, ?, ?)", [symbol, model, day, *merged])


def coarse_days(con: Connection, symbol: str, model: str) -> dict[date, tuple[int, int]]:
    """Return how many cells each day had whose cells were put together, and how many digits were kept; rising."""
    query = "SELECT day, cells, digits FROM coarse_days WHERE symbol = ? AND model = ? ORDER BY day"
    return {day: (cells, digits) for day, cells, digits in rows(con, query, [symbol, model])}


def snapshot_days(con: Connection, symbol: str, model: str) -> dict[date, tuple[str, int]]:
    """Return the state hash and the interval (seconds) that each stored day of cells was made with, rising."""
    found = rows(
        con,
        "SELECT day, state_hash, interval_seconds FROM snapshot_days WHERE symbol = ? AND model = ? ORDER BY day",
        [symbol, model],
    )
    return {day: (state_hash, interval) for day, state_hash, interval in found}


def record_failure(con: Connection, symbol: str, stage: str, day: date, message: str) -> None:
    """Remember that a day failed, in place of its failure before."""
    with transaction(con):
        con.execute("DELETE FROM failed_days WHERE symbol = ? AND stage = ? AND day = ?", [symbol, stage, day])
        con.execute(
            "INSERT INTO failed_days VALUES (?, ?, ?, ?, ?)",
            [symbol, stage, day, message, naive(datetime.now(UTC))],
        )


def clear_failures(con: Connection, symbol: str, stage: str, first: date, last: date) -> None:
    """Forget that days of a stage failed, both ends included."""
    con.execute(
        "DELETE FROM failed_days WHERE symbol = ? AND stage = ? AND day BETWEEN ? AND ?", [symbol, stage, first, last]
    )
