"""Days of a model as they are stored, each tied to the one before it by the hash of its state; and failures of days.

What belongs here: what is read of heatmap_days, open_positions, lot_days, snapshot_days and coarse_days. What does
not: writing them (`commit.py`), and which days have to be computed (`chain/`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import numpy as np

from heatmap_pipeline.model.book import Lots, ModelState
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.sql import (
    Connection,
    arrow,
    column,
    naive,
    parsed,
    rows,
    scalar,
    side_column,
    transaction,
)
from heatmap_pipeline.store.warehouse import StoreError


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
    records = rows(
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
        for day, input_hash, previous_hash, state_hash, parameters, repairs, provisional, state, created_at in records
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
    computed: dict[str, dict[str, dict[date, str]]] = {}
    for symbol, model, day, parameters in rows(
        con, "SELECT symbol, model, day, parameters FROM heatmap_days ORDER BY ALL"
    ):
        computed.setdefault(symbol, {}).setdefault(model, {})[day] = parameters
    return computed


def load_state(con: Connection, symbol: str, model: str, day: date) -> tuple[ModelState, dict[str, Any]] | None:
    """Return the books at the end of a day, bit for bit as they were committed, and what else is carried.

    None where the lots of the day are not kept (`commit.LOT_DAYS`): the books follow from those of an earlier day.

    Raises:
        ChainError: if the day is not stored.
    """
    states = rows(
        con, "SELECT state FROM heatmap_days WHERE symbol = ? AND model = ? AND day = ?", [symbol, model, day]
    )
    if not states:
        raise ChainError(
            f"{symbol} {model} {day} is not computed; run `{stored_command(con, 'run', symbol, days=(day, day))}`"
        )
    state = json.loads(states[0][0])
    lots_table = arrow(
        con,
        "SELECT side, leverage, liq_price, quantity, volume, opened_at FROM open_positions "
        "WHERE symbol = ? AND model = ? AND day = ? ORDER BY side, leverage, liq_price",
        [symbol, model, day],
    )
    if not lots_table.num_rows and not _lots_are_kept(con, symbol, model, day):
        return None
    lots = Lots(
        side=side_column(lots_table),
        leverage=column(lots_table, "leverage", np.float64),
        liq_price=np.round(column(lots_table, "liq_price", np.float64) * 1e8).astype(np.int64),
        quantity=column(lots_table, "quantity", np.float64),
        volume=column(lots_table, "volume", np.float64),
        opened_at=column(lots_table, "opened_at", np.int64),
    )
    return ModelState(lots, tuple(state["unlocated"]), state["open_interest"]), state["carried"]


def _lots_are_kept(con: Connection, symbol: str, model: str, day: date) -> bool:
    """Whether a day without lots left an empty book, and not lots that are not kept; earlier versions kept them all."""
    query = "SELECT count(*) FROM lot_days WHERE symbol = ? AND model = ? AND day = ?"
    try:
        return bool(scalar(con, query, [symbol, model, day]))
    except duckdb.CatalogException:
        return True


def coarse_days(con: Connection, symbol: str, model: str) -> dict[date, tuple[int, int]]:
    """Return how many cells each day had whose cells were put together, and how many digits were kept; rising."""
    query = "SELECT day, cells, digits FROM coarse_days WHERE symbol = ? AND model = ? ORDER BY day"
    return {day: (cells, digits) for day, cells, digits in rows(con, query, [symbol, model])}


def snapshot_days(con: Connection, symbol: str, model: str) -> dict[date, tuple[str, int]]:
    """Return the state hash and the interval (seconds) that each stored day of cells was made with, rising."""
    stored = rows(
        con,
        "SELECT day, state_hash, interval_seconds FROM snapshot_days WHERE symbol = ? AND model = ? ORDER BY day",
        [symbol, model],
    )
    return {day: (state_hash, interval) for day, state_hash, interval in stored}


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


def failed_outside(con: Connection, symbol: str) -> list[date]:
    """Return days before the first stored one and after the last that could not be read, rising."""
    outside = rows(
        con,
        "SELECT DISTINCT day FROM failed_days, (SELECT min(day) AS first, max(day) AS last FROM raw_days "
        "WHERE symbol = ?) WHERE symbol = ? AND stage LIKE 'raw%' AND day NOT BETWEEN first AND last ORDER BY day",
        [symbol, symbol],
    )
    return [day for (day,) in outside]


def clear_failures_to_read(con: Connection, symbol: str, days: Collection[date]) -> None:
    """Forget that these days could not be read."""
    con.executemany(
        "DELETE FROM failed_days WHERE symbol = ? AND stage LIKE 'raw%' AND day = ?", [[symbol, day] for day in days]
    )
