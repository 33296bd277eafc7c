"""Clean market data in and out: a day is written only when its content changed.

What belongs here: raw_candles, raw_open_interest, what is known about each of their days, and the registry of symbols.
What does not: how rows became clean (`market/`), and liquidations, of which a day may have several sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS, CleanDay
from heatmap_pipeline.store.sql import (
    Arrow,
    Connection,
    arrow,
    column,
    dates,
    insert,
    naive,
    parsed,
    rows,
    timestamps,
    transaction,
)
from heatmap_pipeline.symbols import HOME_EXCHANGE, Contract, contract_of, exchange_and_name

Kind: TypeAlias = Literal["candles", "open_interest"]

_COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "candles": ("raw_candles", CANDLE_COLUMNS),
    "open_interest": ("raw_open_interest", OPEN_INTEREST_COLUMNS),
}


@dataclass(frozen=True)
class SymbolRecord:
    """A market: its candle interval (seconds) and where its data come from, chosen once; the newest bucket; what it is.

    `quote` is the asset of the contract's prices and volumes, as the exchange said or the name says; '' where neither
    does, as in a publication of an earlier version. So is `base`, the asset one contract is. `lot` is in contracts,
    `oi_sides` and `clock_rule` are of the newest day with samples; None = not known.
    """

    symbol: str
    candle_interval_seconds: int
    bucket: float
    source: str
    simulated: bool
    quote: str = ""
    exchange: str = HOME_EXCHANGE
    native_symbol: str = ""
    base: str = ""
    margin: str = "linear"
    contract_size: float = 1.0
    lot: float | None = None
    oi_sides: int | None = None
    clock_rule: str | None = None

    @classmethod
    def of(cls, contract: Contract, interval: int, bucket: float, source: str, *, simulated: bool) -> SymbolRecord:
        """Return the record of a market that is read for the first time.

        Args:
            contract: what it is.
            interval: of its candles, seconds.
            bucket: quote asset.
            source: where its data come from.
            simulated: whether they are made up.
        """
        exchange, native = exchange_and_name(contract.symbol)
        return cls(
            contract.symbol,
            interval,
            bucket,
            source,
            simulated,
            quote=contract.quote,
            exchange=exchange,
            native_symbol=native,
            base=contract.base,
            contract_size=contract.contract_size,
            lot=contract.lot,
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> SymbolRecord:
        """Return the record that a row of `symbols` holds (`SELECT s FROM symbols AS s`).

        A publication of an earlier version lacks columns; what it does not say is as the fields have it by default.
        """
        said = {name: row[name] for name in SYMBOL_COLUMNS if row.get(name) is not None}
        return cls(**{"native_symbol": row["symbol"], **said})

    @property
    def unit(self) -> str:
        """What prices and volumes of the symbol are in, for people."""
        return self.quote or contract_of(self.symbol).quote or "quote asset"


SYMBOL_COLUMNS = tuple(field.name for field in fields(SymbolRecord))
"""Columns of the table `symbols`."""


@dataclass(frozen=True)
class RawDay:
    """What is known about one stored day of one kind: see `CleanDay`; `step` in seconds."""

    content_hash: str
    step: int
    rows: int
    repairs: dict[str, int]
    facts: dict[str, Any]
    source: str


def get_symbol(con: Connection, symbol: str) -> SymbolRecord | None:
    """Return what is recorded for a symbol, None where nothing is."""
    matches = rows(con, "SELECT s FROM symbols AS s WHERE s.symbol = ?", [symbol])
    return SymbolRecord.of_row(matches[0][0]) if matches else None


def put_symbol(con: Connection, record: SymbolRecord) -> None:
    """Record a symbol, in place of what was recorded before."""
    with transaction(con):
        con.execute("DELETE FROM symbols WHERE symbol = ?", [record.symbol])
        con.execute(
            f"INSERT INTO symbols ({', '.join(SYMBOL_COLUMNS)}) "  # noqa: S608 - names of ours
            f"VALUES ({', '.join('?' * len(SYMBOL_COLUMNS))})",
            astuple(record),
        )


def save_raw(con: Connection, kind: Kind, days: Sequence[CleanDay], source: str) -> list[date]:
    """Store clean days in one transaction; days stored already, with the same repairs and facts, are left alone.

    Args:
        con: an open warehouse.
        kind: 'candles' or 'open_interest'.
        days: of one or several symbols, each day once; the later of two of the same day wins.
        source: where they came from, as `HEATMAP_SOURCE` names it.

    Returns:
        the days that were new or different, rising.
    """
    table, names = _COLUMNS[kind]
    now = naive(datetime.now(UTC))
    changed: list[CleanDay] = []
    with transaction(con):
        for symbol in dict.fromkeys(day.symbol for day in days):
            stored = raw_days(con, symbol)[kind]
            latest = {day.day: day for day in days if day.symbol == symbol}
            new = [day for day in latest.values() if _differs(day, stored.get(day.day))]
            replaced = [day.day for day in new if day.day in stored]
            for name in (table, "raw_days") if replaced else ():
                con.execute(
                    f"DELETE FROM {name} WHERE symbol = ? AND day IN (SELECT unnest(?))"  # noqa: S608 - ours
                    + (" AND kind = ?" if name == "raw_days" else ""),
                    [symbol, replaced, kind][: 3 if name == "raw_days" else 2],
                )
            changed += sorted(new, key=lambda day: day.day)
        if changed:
            insert(con, table, _rows(changed, names))
            con.executemany(
                "INSERT INTO raw_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    [
                        day.symbol,
                        kind,
                        day.day,
                        day.content_hash(),
                        day.step,
                        len(day.table),
                        json.dumps(day.repairs, sort_keys=True),
                        json.dumps(day.facts, sort_keys=True),
                        source,
                        now,
                    ]
                    for day in changed
                ],
            )
    return sorted({day.day for day in changed})


def _differs(day: CleanDay, stored: RawDay | None) -> bool:
    """Whether a day has other rows than the stored one, or the same but read in another way."""
    if stored is None or (stored.content_hash, stored.step) != (day.content_hash(), day.step):
        return True
    known, read = (json.dumps([version.repairs, version.facts], sort_keys=True) for version in (stored, day))
    return known != read


def _rows(days: Sequence[CleanDay], names: Sequence[str]) -> dict[str, Arrow]:
    counts = [len(day.table) for day in days]
    frame = pd.concat([day.table for day in days], ignore_index=True)
    symbols = list(dict.fromkeys(day.symbol for day in days))
    codes = np.repeat([symbols.index(day.symbol) for day in days], counts).astype(np.int32)
    columns: dict[str, Arrow] = {
        "symbol": pa.DictionaryArray.from_arrays(pa.array(codes), symbols),
        "day": dates([day.day for day in days], counts),
        names[0]: timestamps(_microseconds(frame[names[0]])),
    }
    for name in names[1:]:
        columns[name] = pa.array(frame[name].to_numpy(), from_pandas=True)  # NaN, unknown, becomes NULL
    return columns


def _microseconds(times: pd.Series[Any]) -> Any:
    instants = times.dt.tz_convert(None) if times.dt.tz is not None else times
    return instants.to_numpy().astype("datetime64[us]").astype(np.int64)


def raw_days(con: Connection, symbol: str) -> dict[str, dict[date, RawDay]]:
    """Return what is stored of a symbol, by kind ('candles' and 'open_interest', always both) and day, rising."""
    result: dict[str, dict[date, RawDay]] = {kind: {} for kind in _COLUMNS}
    for kind, day, content_hash, step, count, repairs, facts, source in rows(
        con,
        "SELECT kind, day, content_hash, step_seconds, rows, repairs, facts, source FROM raw_days "
        "WHERE symbol = ? AND kind IN (SELECT unnest(?)) ORDER BY kind, day",
        [symbol, list(_COLUMNS)],
    ):
        result[kind][day] = RawDay(content_hash, step, count, parsed(repairs), parsed(facts), source)
    return result


def load_candles(con: Connection, symbol: str, first: date, last: date) -> pd.DataFrame:
    """Return the clean candles of the days first..last: `CANDLE_COLUMNS` and `day` (date), in time order."""
    return _load(con, "candles", symbol, first, last)


def load_open_interest(con: Connection, symbol: str, first: date, last: date) -> pd.DataFrame:
    """Return the clean samples of the days first..last: `OPEN_INTEREST_COLUMNS` and `day` (date), by day and time."""
    return _load(con, "open_interest", symbol, first, last)


def _load(con: Connection, kind: Kind, symbol: str, first: date, last: date) -> pd.DataFrame:
    table, names = _COLUMNS[kind]
    stored = arrow(
        con,
        f"SELECT {', '.join(names)}, day FROM {table} "  # noqa: S608 - names of ours
        f"WHERE symbol = ? AND day BETWEEN ? AND ? ORDER BY day, {names[0]}",
        [symbol, first, last],
    )
    frame = clean_frame(stored, names)
    frame["day"] = stored.column("day").to_pandas()
    return frame


def clean_frame(rows_read: Arrow, names: Sequence[str]) -> pd.DataFrame:
    """Return stored rows as they were saved: the first column is a time, `trades` is whole, all else float64."""
    frame = pd.DataFrame({names[0]: column(rows_read, names[0], np.int64).astype("datetime64[us]")})
    for name in names[1:]:
        frame[name] = column(rows_read, name, np.int64 if name == "trades" else np.float64)
    return frame
