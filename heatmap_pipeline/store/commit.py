"""Computed days and their cells into the tables: many in one transaction, each in place of what was stored of it.

What belongs here: writing position_events, open_positions, book_ledger, heatmap_days, liquidation_snapshots, and taking
away in the same transaction the lots and cells that are kept no longer. What does not: reading them (`days.py`), and
which days have to be computed (`chain/`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.model.book import BOOKS, LONG, Columns, DayResult, Floats, Ints, Lots, Sides
from heatmap_pipeline.store.days import ChainError, DayRecord
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.schema import amounts, table
from heatmap_pipeline.store.sql import (
    Arrow,
    Connection,
    constant,
    dates,
    insert_parts,
    naive,
    rows,
    scalar,
    sides,
    timestamps,
    transaction,
)

_EVENTS = ("liquidate", "close", "open")
_STEPS = ("liquidate", "close", "open", "liquidate")
"""What happens within a candle, in order: what its close has passed is liquidated after it has opened."""
LOT_DAYS = 31
"""Newest days of a model whose lots are stored; of the days before them only the last of each month's. The lots of any
other day follow from the nearest stored ones before it, at most a month away, in some tenths of a second."""

_KINDS = np.array([_EVENTS.index(step) for step in _STEPS], dtype=np.int8)


@dataclass(frozen=True)
class DayCells:
    """The cells of a day of a model.

    Attributes:
        symbol: as the exchange writes it.
        model: name of the model.
        day: UTC.
        state_hash: of the computed day that the cells belong to.
        interval_seconds: distance of the snapshots.
        cells: as `DayResult.cells`; a bucket's lower edge is `price_bucket` x `bucket`, to the nearest 1e-8.
        bucket: height of a bucket, quote asset.
        merged: how many cells there were, and how many leading digits of their buckets' numbers are kept, if they were
            put together.
    """

    symbol: str
    model: str
    day: date
    state_hash: str
    interval_seconds: int
    cells: Columns
    bucket: float
    merged: tuple[int, int] | None = None


def commit_days(con: Connection, computed: Sequence[tuple[DayRecord, DayResult]]) -> None:
    """Store computed days, the earlier of a model first, in place of what was stored of them, in one transaction.

    Their cells are stored separately: those of before are no longer vouched for (no row in snapshot_days), also where
    the state is the same and only the bucket is another. Lots are stored of the newest `LOT_DAYS` and of
    each last day of a month.

    Raises:
        ChainError: for the first day whose day before is not stored, or has another state than `record.previous_hash`
            names. The days before it are stored then.
    """
    records = [record for record, _ in computed]
    with transaction(con):
        unfit = _first_unfit(con, records)
        fit = computed[: len(computed) if unfit is None else unfit[0]]
        if fit:
            _replace_days(con, fit)
    if unfit is not None:
        raise unfit[1]


def _replace_days(con: Connection, computed: Sequence[tuple[DayRecord, DayResult]]) -> None:
    records = [record for record, _ in computed]
    parameters = [json.loads(record.parameters) for record in records]
    books = [BOOKS[chosen["books"]] for chosen in parameters]
    for name in ("position_events", "book_ledger", "open_positions", "lot_days", "heatmap_days", "snapshot_days"):
        _delete_days(con, name, records)
    events = (_events(record, result, sides_of) for (record, result), sides_of in zip(computed, books, strict=True))
    insert_parts(con, "position_events", events)
    _replace_lots(con, computed)
    ledgers = (
        _ledger(record, result.ledger, sides_of) for (record, result), sides_of in zip(computed, books, strict=True)
    )
    insert_parts(con, "book_ledger", ledgers)
    con.executemany(
        "INSERT INTO heatmap_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_row(record, result) for record, result in computed],
    )
    buckets = {
        record.symbol: (record, float(chosen["bucket"])) for record, chosen in zip(records, parameters, strict=True)
    }
    for record, bucket in buckets.values():  # the last day of each symbol
        _show_bucket(con, record, bucket)


def _replace_lots(con: Connection, computed: Sequence[tuple[DayRecord, DayResult]]) -> None:
    """Store the lots of the days that are kept, and take away those of days that are kept no longer."""
    oldest: dict[tuple[str, str], date] = {}
    for key in dict.fromkeys((record.symbol, record.model) for record, _ in computed):
        query = "SELECT max(day) FROM heatmap_days WHERE symbol = ? AND model = ?"
        days = [scalar(con, query, list(key)), *(record.day for record, _ in computed if _key(record) == key)]
        oldest[key] = max(day for day in days if day is not None) - timedelta(days=LOT_DAYS - 1)
    kept = [
        (record, result)
        for record, result in computed
        if record.day >= oldest[_key(record)] or _ends_a_month(record.day)
    ]
    if kept:
        insert_parts(con, "open_positions", (_positions(record, result.state.lots) for record, result in kept))
        con.executemany(
            "INSERT INTO lot_days VALUES (?, ?, ?, ?)",
            [[*_key(record), record.day, record.state_hash] for record, _ in kept],
        )
    for key, first in oldest.items():
        for name in ("open_positions", "lot_days"):
            con.execute(
                f"DELETE FROM {name} WHERE symbol = ? AND model = ? AND day < ? AND day <> last_day(day)",  # noqa: S608
                [*key, first],
            )


def _key(record: DayRecord) -> tuple[str, str]:
    return record.symbol, record.model


def _ends_a_month(day: date) -> bool:
    return (day + ONE_DAY).day == 1


def _row(record: DayRecord, result: DayResult) -> list[Any]:
    carried = {
        "carried": record.state,
        "open_interest": result.state.open_interest,
        "unlocated": list(result.state.unlocated),
    }
    return [
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
    ]


def _show_bucket(con: Connection, record: DayRecord, bucket: float) -> None:
    """Say the bucket of the newest computed day of a symbol in the table of symbols."""
    con.execute(
        "UPDATE symbols SET bucket = ? WHERE symbol = ? AND bucket <> ? AND NOT EXISTS "
        "(SELECT 1 FROM heatmap_days AS d WHERE d.symbol = symbols.symbol AND d.day > ?)",
        [bucket, record.symbol, bucket, record.day],
    )


def _delete_days(con: Connection, name: str, days: Iterable[DayRecord | DayCells]) -> None:
    """Delete what a table holds of days of models, days in a row at once."""
    wanted: dict[tuple[str, str], set[date]] = {}
    for record in days:
        wanted.setdefault((record.symbol, record.model), set()).add(record.day)
    for key, of_model in wanted.items():
        for first in sorted(of_model):
            if first - ONE_DAY in of_model:
                continue
            last = first
            while last + ONE_DAY in of_model:
                last += ONE_DAY
            within, bounds = table(name).within(first, last)
            con.execute(f"DELETE FROM {name} WHERE symbol = ? AND model = ? AND {within}", [*key, *bounds])  # noqa: S608


def _first_unfit(con: Connection, records: Sequence[DayRecord]) -> tuple[int, ChainError] | None:
    """Return the place of the first day that does not follow from the one before it, and why; None where all do."""
    here: dict[tuple[str, str, date], str] = {}
    for place, record in enumerate(records):
        before = here.get((record.symbol, record.model, record.day - ONE_DAY))
        try:
            _check_predecessor(con, record, before)
        except ChainError as error:
            return place, error
        here[record.symbol, record.model, record.day] = record.state_hash
    return None


def _check_predecessor(con: Connection, record: DayRecord, known: str | None) -> None:
    """Hold a day against the one before it, whose state is known where it is stored together with this one."""
    before = record.day - ONE_DAY
    states = [(known,)]
    if known is None:
        query = "SELECT state_hash FROM heatmap_days WHERE symbol = ? AND model = ? AND day = ?"
        states = rows(con, query, [record.symbol, record.model, before])
    name = f"{record.symbol} {record.model} {record.day}"
    if not states and record.previous_hash:
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
    if states and states[0][0] != record.previous_hash and (record.previous_hash or not record.state.get("restarted")):
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


def commit_cells(con: Connection, days: Sequence[DayCells]) -> None:
    """Store the cells of days in place of what was stored of them, in one transaction."""
    if not days:
        return
    with transaction(con):
        for name in ("liquidation_snapshots", "saved_snapshots", "snapshot_days", "coarse_days"):
            _delete_days(con, name, days)
        insert_parts(con, "liquidation_snapshots", (_cells(each) for each in days))
        for each in days:
            key = [each.symbol, each.model, each.day]
            count = len(each.cells["timestamp"])
            con.execute(
                "INSERT INTO snapshot_days VALUES (?, ?, ?, ?, ?, ?)",
                [*key, each.state_hash, each.interval_seconds, count],
            )
            if each.merged is not None:
                con.execute("INSERT INTO coarse_days VALUES (?, ?, ?, ?, ?)", [*key, *each.merged])


def drop_cells(con: Connection, symbol: str, models: Sequence[str], first: date) -> int:
    """Take away the cells of the days before one, in one transaction; return of how many days of models.

    A snapshot that was saved by hand goes with them. Nothing is written where nothing is stored of those days.
    """
    where = "symbol = ? AND model IN (SELECT unnest(?::VARCHAR[])) AND {} < ?"
    values = [symbol, list(models), first]
    count = int(scalar(con, f"SELECT count(*) FROM snapshot_days WHERE {where.format('day')}", values))  # noqa: S608
    if count:
        with transaction(con):
            for name in ("liquidation_snapshots", "saved_snapshots", "snapshot_days", "coarse_days"):
                con.execute(f"DELETE FROM {name} WHERE {where.format(table(name).time_column)}", values)  # noqa: S608
    return count


def _cells(day: DayCells) -> dict[str, Arrow]:
    cells, count = day.cells, len(day.cells["timestamp"])
    edges = cells["price_bucket"].astype(np.int64) * round(day.bucket * 1e8) / 1e8
    return {
        "symbol": constant(day.symbol, count),
        "model": constant(day.model, count),
        "timestamp": timestamps(cells["timestamp"]),
        "price_bucket": pa.array(edges),
        "side": sides(np.where(cells["side"] == LONG, 1, -1).astype(np.int8)),
        "active_volume": pa.array(cells["active_volume"]),
        "consumed_volume": pa.array(cells["consumed_volume"]),
    }
