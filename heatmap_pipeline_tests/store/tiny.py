"""A little market and a little book, enough to fill every table with rows that obey every rule.

Not the model: three leverages, no renormalising, written for reading. The store must not care who made the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations.tables import HOUR, Liquidations, clean_liquidations, raw_rows
from heatmap_pipeline.market.tables import CleanDay
from heatmap_pipeline.model.book import BOOKS, LONG, SHORT, DayResult, Lots, ModelState
from heatmap_pipeline.model.parameters import MODELS, ModelParameters
from heatmap_pipeline.store.commit import DayCells, commit_cells, commit_days
from heatmap_pipeline.store.days import DayRecord
from heatmap_pipeline.store.liquidations import save_liquidations
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol, save_raw
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, day_bounds, transaction
from heatmap_pipeline.symbols import contract_of

FIRST = date(2024, 3, 1)
DAYS = tuple(FIRST + timedelta(days=n) for n in range(3))
STEP, INTERVAL, BUCKET = 1800, 3600, 100.0
MODELS_USED = ("turnover", "delta")
MADE = datetime(2024, 4, 1, 12, tzinfo=UTC)
_TIERS = ((5.0, 0.6), (20.0, 0.3), (400.0, 0.1))
"""The last one is close enough to be passed by the close of its own candle now and then."""


def parameters(model: str) -> ModelParameters:
    return ModelParameters(MODELS[model], BUCKET, STEP)


def market(symbol: str, seed: int = 1, days: tuple[date, ...] = DAYS) -> tuple[list[CleanDay], list[CleanDay]]:
    """Return clean candles and open interest of some days; a sample is taken at each candle's end."""
    rng = np.random.default_rng(30 + seed)  # from 1 on, a day of BTCUSDT would end with an empty book
    count = 86400 // STEP
    candles, samples = [], []
    price, contracts = 60000.0, 80000.0
    for day in days:
        start = pd.Timestamp(day)
        times = (start + pd.to_timedelta(np.arange(count) * STEP, unit="s")).as_unit("us")
        close = np.round(price * np.exp(np.cumsum(rng.normal(0, 0.004, count))), 1)
        opened = np.concatenate(([price], close[:-1]))
        high = np.round(np.maximum(opened, close) * (1 + rng.random(count) * 0.002), 1)
        low = np.round(np.minimum(opened, close) * (1 - rng.random(count) * 0.002), 1)
        volume = np.round(rng.lognormal(6, 0.8, count), 3)
        frame = pd.DataFrame({"open_time": times, "open": opened, "high": high, "low": low, "close": close})
        frame = frame.assign(volume=volume, quote_volume=volume * close, trades=np.arange(count, dtype=np.int64))
        frame = frame.assign(taker_buy_volume=np.where(np.arange(count) % 7, volume / 3, np.nan))
        frame["taker_buy_quote_volume"] = frame["taker_buy_volume"] * close
        candles.append(CleanDay(symbol, day, frame, STEP, {"snapped": 2}, {"file": f"{day}.zip"}))
        level = contracts * np.exp(np.cumsum(rng.normal(0, 0.002, count)))
        first = [contracts] if day == days[0] else []
        taken = times + pd.Timedelta(seconds=STEP)
        if first:
            taken = pd.DatetimeIndex([start, *taken]).as_unit("us")
        held = np.concatenate((first, level))
        value = np.where(np.arange(len(held)) % 5, held * 60000, np.nan)
        table = pd.DataFrame({"snapshot_time": taken, "contracts": held, "value": value})
        samples.append(CleanDay(symbol, day, table, STEP, {}, {"clock": "measured"}))
        price, contracts = float(close[-1]), float(level[-1])
    return candles, samples


def liquidations(symbol: str, seed: int = 1, days: tuple[date, ...] = DAYS) -> Liquidations:
    """Return twenty single liquidations a day of another exchange, recorded but for the last hour."""
    rng = np.random.default_rng(seed)
    start, count = day_start(days[0]), 20 * len(days)
    time = start + np.sort(rng.integers(0, len(days) * DAY - HOUR, count))
    amounts = [rng.uniform(50000, 60000, count), rng.uniform(0.1, 3, count), np.full(count, np.nan)]
    side = ["long" if up else "short" for up in rng.integers(0, 2, count)]
    raw = raw_rows(time.tolist(), side, *(amount.tolist() for amount in amounts))
    recorded = np.array([[start, start + len(days) * DAY - HOUR]], dtype=np.int64)
    return clean_liquidations(raw, symbol=symbol, source="okx_file", place="tiny", recorded=recorded)


@dataclass
class _Book:
    unlocated: float
    lots: dict[tuple[int, float, int], list[float]] = field(default_factory=dict)
    """(side, leverage, price in 1e-8) -> quantity, volume, opened_at."""

    def located(self) -> float:
        return float(sum(lot[0] for lot in self.lots.values()))

    def total(self) -> float:
        return self.located() + self.unlocated


class _Rows(dict[str, list[Any]]):
    def add(self, **values: Any) -> None:
        for name, value in values.items():
            self.setdefault(name, []).append(value)

    def columns(self, *names: str) -> dict[str, Any]:
        integers = {"timestamp": np.int64, "opened_at": np.int64, "liq_price": np.int64, "price_bucket": np.int64}
        kinds = {**integers, "side": np.int8, "book": np.int64}
        return {name: np.array(self.get(name, []), dtype=kinds.get(name, np.float64)) for name in names}


def start_state(model: str, contracts: float) -> ModelState:
    spec = MODELS[model]
    start = contracts if spec.rules.holds_open_interest else 0.0
    return ModelState(Lots.empty(), (start,) * len(BOOKS[spec.books]), contracts)


def run_day(model: str, state: ModelState, candles: pd.DataFrame, levels: np.ndarray[Any, Any]) -> DayResult:
    """Run a day of the little book; `levels` is the open interest at the end of each candle."""
    spec, sides = MODELS[model], BOOKS[MODELS[model].books]
    books = [_Book(unlocated) for unlocated in state.unlocated]
    lots = state.lots
    for side, leverage, price, *rest in zip(
        lots.side.tolist(),
        lots.leverage.tolist(),
        lots.liq_price.tolist(),
        lots.quantity.tolist(),
        lots.volume.tolist(),
        lots.opened_at.tolist(),
        strict=True,
    ):
        books[sides.index(side) if side in sides else 0].lots[side, leverage, price] = list(rest)
    out = {name: _Rows() for name in ("ledger", "opens", "liquidations", "closes", "cells")}
    dead: dict[tuple[int, int], float] = {}
    before = state.open_interest
    times = candles["open_time"].astype("int64").to_numpy()
    for n, bar in enumerate(candles.itertuples()):
        time, flow, before = int(times[n]), float(levels[n]) - before, float(levels[n])
        for index, book in enumerate(books):
            _candle(spec, sides[index], index, book, bar, time, flow, before, out, dead)
        if n == len(candles) - 1 or times[n + 1] // (INTERVAL * 10**6) != time // (INTERVAL * 10**6):
            _snapshot(books, dead, time // (INTERVAL * 10**6) * INTERVAL * 10**6, out["cells"])
            dead.clear()
    lot_names = ("timestamp", "side", "leverage", "entry_price", "liq_price", "quantity", "volume")
    ledger_names = ("open_interest", "opened", "liquidated", "liquidated_at_once", "closed", "dropped", "rescaled")
    return DayResult(
        ModelState(_lots(books), tuple(book.unlocated for book in books), before),
        out["ledger"].columns(
            "timestamp", "book", *ledger_names, "located", "unlocated", "active_volume", "consumed_volume"
        ),
        out["opens"].columns(*lot_names),
        out["liquidations"].columns(*lot_names, "opened_at"),
        out["closes"].columns("timestamp", "book", "quantity", "volume"),
        out["cells"].columns("timestamp", "price_bucket", "side", "active_volume", "consumed_volume"),
    )


def _candle(
    spec: Any,
    only: int | None,
    index: int,
    book: _Book,
    bar: Any,
    time: int,
    flow: float,
    level: float,
    out: dict[str, _Rows],
    dead: dict[tuple[int, int], float],
) -> None:
    low, high = round(bar.low * 1e8), round(bar.high * 1e8)
    died = consumed = 0.0
    for side, leverage, price in [k for k in book.lots if (low <= k[2] if k[0] == LONG else high >= k[2])]:
        quantity, volume, opened_at = book.lots.pop((side, leverage, price))
        out["liquidations"].add(timestamp=time, side=side, leverage=leverage, entry_price=volume / quantity)
        out["liquidations"].add(liq_price=price, quantity=quantity, volume=volume, opened_at=opened_at)
        cell = (price // round(BUCKET * 1e8), side)
        dead[cell] = dead.get(cell, 0.0) + volume
        died, consumed = died + quantity, consumed + volume
    net = flow + died if spec.rules.holds_open_interest else flow
    total = book.total()
    churn = max(min(spec.turnover * bar.volume, total - max(-net, 0.0)), 0.0)
    opened, closed = max(net, 0.0) + churn, max(-net, 0.0) + churn
    ratio = min(closed / total, 1.0) if total else 0.0
    if ratio * total > 0:
        closing = sum(lot[1] for lot in book.lots.values()) * ratio
        out["closes"].add(timestamp=time, book=index, quantity=ratio * total, volume=closing)
    for key, lot in list(book.lots.items()):
        lot[0], lot[1] = lot[0] * (1 - ratio), lot[1] * (1 - ratio)
        if lot[0] <= 0:
            del book.lots[key]
    book.unlocated *= 1 - ratio
    dropped = 0.0
    remaining = book.total()
    if spec.dust_rule == "drop":
        for key in [key for key, lot in book.lots.items() if lot[0] < spec.dust_share * remaining]:
            dropped += book.lots.pop(key)[0]
    side = only or (LONG if bar.close >= bar.open else SHORT)
    at_once, close = 0.0, round(bar.close * 1e8)
    entries: dict[float, float] = {}
    for name, share in spec.entry:
        entries[getattr(bar, name)] = entries.get(getattr(bar, name), 0.0) + share
    for (entry, share), (leverage, weight) in product(entries.items(), _TIERS) if opened > 0 else ():
        quantity = opened * share * weight
        liq_price, volume = round(entry * (1 - side / leverage) * 1e8), quantity * entry
        row = {"timestamp": time, "side": side, "leverage": leverage, "entry_price": entry}
        row |= {"liq_price": liq_price, "quantity": quantity, "volume": volume}
        out["opens"].add(**row)
        if side * (liq_price - close) >= 0:
            out["liquidations"].add(**row, opened_at=time)
            cell = (liq_price // round(BUCKET * 1e8), side)
            dead[cell] = dead.get(cell, 0.0) + volume
            at_once, consumed, book.unlocated = at_once + quantity, consumed + volume, book.unlocated + quantity
            continue
        lot = book.lots.setdefault((side, leverage, liq_price), [0.0, 0.0, time])
        lot[0], lot[1] = lot[0] + quantity, lot[1] + quantity * entry
    out["ledger"].add(timestamp=time, book=index, open_interest=level, opened=opened, liquidated=died)
    out["ledger"].add(liquidated_at_once=at_once, closed=ratio * total, dropped=dropped, rescaled=0.0)
    out["ledger"].add(located=book.located(), unlocated=book.unlocated)
    out["ledger"].add(active_volume=sum(lot[1] for lot in book.lots.values()), consumed_volume=consumed)


def _snapshot(books: list[_Book], dead: dict[tuple[int, int], float], time: int, cells: _Rows) -> None:
    active: dict[tuple[int, int], float] = {}
    for book in books:
        for (side, _, price), lot in book.lots.items():
            cell = (price // round(BUCKET * 1e8), side)
            active[cell] = active.get(cell, 0.0) + lot[1]
    for bucket, side in sorted(active.keys() | dead.keys(), key=lambda cell: (cell[0], -cell[1])):
        cells.add(timestamp=time, price_bucket=bucket, side=side)
        cells.add(active_volume=active.get((bucket, side), 0.0), consumed_volume=dead.get((bucket, side), 0.0))


def _lots(books: list[_Book]) -> Lots:
    keyed = [(key, lot) for book in books for key, lot in book.lots.items()]
    keyed.sort(key=lambda item: (-item[0][0], *item[0][1:]))
    return Lots(
        np.array([key[0] for key, _ in keyed], dtype=np.int8),
        np.array([key[1] for key, _ in keyed], dtype=np.float64),
        np.array([key[2] for key, _ in keyed], dtype=np.int64),
        np.array([lot[0] for _, lot in keyed], dtype=np.float64),
        np.array([lot[1] for _, lot in keyed], dtype=np.float64),
        np.array([lot[2] for _, lot in keyed], dtype=np.int64),
    )


def make_record(model: str, day: date, previous_hash: str, result: DayResult, **changes: Any) -> DayRecord:
    state = {"last_sample": {"at": "2024-03-01T24:00", "contracts": 0.1 + day.day}}
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "model": model,
        "day": day,
        "input_hash": f"in-{day}",
        "previous_hash": previous_hash,
        "state_hash": result.state.hash(state),
        "parameters": parameters(model).to_json(),
        "repairs": {"snapped": 2},
        "provisional": False,
        "state": state,
        "created_at": MADE,
    }
    return DayRecord(**{**values, **changes})


def compute(symbol: str, model: str, seed: int = 1) -> list[tuple[DayRecord, DayResult]]:
    """Return the records and results of all days."""
    return [(replace(record, symbol=symbol), result) for record, result in _compute(model, seed)]


@cache
def _compute(model: str, seed: int) -> list[tuple[DayRecord, DayResult]]:
    candles, samples = market("BTCUSDT", seed)
    state, previous, made = start_state(model, float(samples[0].table["contracts"].iloc[0])), "", []
    for bars, taken in zip(candles, samples, strict=True):
        levels = taken.table["contracts"].to_numpy()[-len(bars.table) :]
        result = run_day(model, state, bars.table, levels)
        record = make_record(model, bars.day, previous, result)
        made.append((record, result))
        state, previous = result.state, record.state_hash
    return made


def commit(con: Connection, record: DayRecord, result: DayResult) -> None:
    """Commit a day and its cells."""
    commit_days(con, [(record, result)])
    commit_cells(con, [cells_of(record, result)])


def cells_of(record: DayRecord, result: DayResult) -> DayCells:
    return DayCells(record.symbol, record.model, record.day, record.state_hash, INTERVAL, result.cells, BUCKET)


def fill(con: Connection, symbol: str = "BTCUSDT", seed: int = 1) -> None:
    """Store raw days, liquidations, chain and cells of a symbol, both models."""
    put_symbol(con, SymbolRecord.of(contract_of(symbol), STEP, BUCKET, "demo", simulated=True))
    candles, samples = market(symbol, seed)
    save_raw(con, "candles", candles, "demo")
    save_raw(con, "open_interest", samples, "demo")
    made = liquidations(symbol, seed)
    save_liquidations(con, {day: made.of_day(day) for day in DAYS})
    for model in MODELS_USED:
        for record, result in compute(symbol, model, seed):
            commit(con, record, result)


def forget_symbol(con: Connection, symbol: str) -> None:
    """Delete every row of a symbol."""
    with transaction(con):
        for table in symbol_tables():
            con.execute(f"DELETE FROM {table.name} WHERE symbol = ?", [symbol])


def change(con: Connection, symbol: str, day: date, number: int) -> None:
    """Give a day of a symbol other rows in every table."""
    start, end = day_bounds(day)
    for table in ("position_events", "book_ledger", "liquidation_snapshots"):
        where = "WHERE symbol = ? AND timestamp >= ? AND timestamp < ?"
        column = "volume" if table == "position_events" else "active_volume"
        con.execute(f"UPDATE {table} SET {column} = {column} + ? {where}", [number, symbol, start, end])
        con.execute(f"DELETE FROM {table} {where} AND epoch(timestamp) % 3600 = 0", [symbol, start, end])
    con.execute("UPDATE open_positions SET quantity = ? WHERE symbol = ? AND day = ?", [number, symbol, day])
    con.execute("UPDATE raw_candles SET close = ? WHERE symbol = ? AND day = ?", [number, symbol, day])
    con.execute("UPDATE raw_open_interest SET contracts = ? WHERE symbol = ? AND day = ?", [number, symbol, day])
    con.execute("UPDATE raw_liquidations SET quantity = ? WHERE symbol = ? AND day = ?", [number, symbol, day])
    con.execute(
        'UPDATE recorded SET "to" = "from" + to_seconds(? % 80000) WHERE symbol = ? AND day = ?', [number, symbol, day]
    )
    con.execute("UPDATE raw_days SET content_hash = ? WHERE symbol = ? AND day = ?", [str(number), symbol, day])
    con.execute("UPDATE heatmap_days SET state_hash = ? WHERE symbol = ? AND day = ?", [str(number), symbol, day])
    con.execute("UPDATE snapshot_days SET state_hash = ? WHERE symbol = ? AND day = ?", [str(number), symbol, day])


def digest(con: Connection, symbol: str | None = None) -> dict[str, tuple[Any, ...]]:
    """Return the number of rows of each table, and a sum over all their values that no order changes: quicker."""
    return _sums(con, {table.name: ["t"] for table in symbol_tables()}, symbol)


def digest_but_times(con: Connection, symbol: str | None = None) -> dict[str, tuple[Any, ...]]:
    """Return the same of every table that there is, without created_at and failed_at."""
    columns = con.execute(
        "SELECT table_name, list('\"' || column_name || '\"' ORDER BY column_index) FROM duckdb_columns() "
        "WHERE table_name IN (SELECT table_name FROM duckdb_tables()) AND table_name <> 'schema_version' "
        "AND column_name NOT IN ('created_at', 'failed_at') GROUP BY 1"
    ).fetchall()
    return _sums(con, dict(columns), symbol)


def _sums(con: Connection, hashed: Mapping[str, Sequence[str]], symbol: str | None) -> dict[str, tuple[Any, ...]]:
    where = f"WHERE symbol = '{symbol}'" if symbol else ""
    queries = [
        f"SELECT '{table}', count(*), sum(hash({', '.join(what)})::HUGEINT) FROM {table} AS t {where}"
        for table, what in hashed.items()
    ]
    return {name: tuple(of_table) for name, *of_table in con.execute(" UNION ALL ".join(queries)).fetchall()}


def dump(con: Connection, symbol: str | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table but created_at and failed_at, in an order of their values."""
    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'schema_version'").fetchall()
    result = {}
    for (table,) in tables:
        every = [name for name, *_ in con.execute(f"DESCRIBE {table}").fetchall()]
        names = [f'"{name}"' for name in every if name not in ("created_at", "failed_at")]
        where = f"WHERE symbol = '{symbol}'" if symbol else ""
        result[table] = con.execute(f"SELECT {', '.join(names)} FROM {table} {where} ORDER BY ALL").fetchall()
    return result
