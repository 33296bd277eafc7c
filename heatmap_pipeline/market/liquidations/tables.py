"""The clean shape of liquidations: rows, the stretches of time that were recorded, and how the rows became clean.

A stretch without a record is missing and never 0: a source lists only what happened, so that nothing but `recorded`
tells an hour without liquidations from an hour nobody watched. All times are UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.repair import MAX_CONTRACTS, MAX_VALUE
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.prices import MAX_PRICE, PRICE_UNIT

LEAST_RECORDED = 0.98
"""Share of an hour that makes it a recorded one: a recorder loses some seconds where it connects again."""

LIQUIDATION_COLUMNS = ("timestamp", "side", "price", "quantity", "volume", "resolution_seconds", "complete")
"""Columns of clean liquidations; `Liquidations` says what they hold."""

SIDES = ("long", "short")
"""Sides of a position, in the order of the columns of sums."""

HOUR = 3600 * 10**6
"""Microseconds of an hour."""

_RAW_COLUMNS = ("time", "side", "price", "quantity", "volume")


@dataclass(frozen=True)
class Liquidations:
    """What one source says about the liquidations of one symbol.

    Attributes:
        symbol: as our candles call the market, for example BTCUSDT.
        source: `exchange_kind`, for example `binance_archive` or `bybit_stream`; see `exchange_of`.
        table: rows in time order with `LIQUIDATION_COLUMNS`: `timestamp` (datetime64[us]; of a sum the start of its
            interval), `side` (of the POSITION that was closed: long or short), `price` (NaN = unknown), `quantity`
            (contracts of a linear market = base units, above 0), `volume` (quote asset; as the source says, else
            quantity x price, NaN where neither is known), `resolution_seconds` (0 = a single liquidation, else the
            interval that the row is the sum of) and `complete` (whether the source prints every liquidation).
        recorded: int64[n, 2], microseconds since 1970: the half-open stretches [from, to) that were recorded, in time
            order and disjoint. Inside them what is not listed did not happen; outside nothing is known.
        repairs: count of each repair that was made; only those above 0.
        facts: what else was decided, JSON-able.
    """

    symbol: str
    source: str
    table: pd.DataFrame
    recorded: NDArray[np.int64]
    repairs: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def exchange(self) -> str:
        """The exchange whose liquidations these are."""
        return exchange_of(self.source)

    def of_day(self, day: date) -> Liquidations:
        """Return what falls into one UTC day: its rows, and its part of what was recorded."""
        start = day_start(day)
        return self.between(start, start + DAY)

    def between(self, start: int, end: int) -> Liquidations:
        """Return what falls into [start, end), microseconds since 1970; repairs and facts stay those of the whole."""
        time = microseconds(self.table["timestamp"])
        inside = (time >= start) & (time < end)
        table = self.table.loc[inside].reset_index(drop=True)
        return replace(self, table=table, recorded=clip_ranges(self.recorded, start, end))

    def content_hash(self) -> str:
        """Return a hash of the rows and of what was recorded: equal content, equal hash, wherever it came from."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.symbol, self.source, self.table["side"].tolist()]).encode())
        for name in LIQUIDATION_COLUMNS:
            if name != "side":
                digest.update(np.ascontiguousarray(self.table[name].to_numpy()).tobytes())
        digest.update(np.ascontiguousarray(self.recorded).tobytes())
        return digest.hexdigest()


def joined(parts: Sequence[Liquidations]) -> Liquidations:
    """Return as one what a source says in several parts, of different stretches of time and in their order.

    Args:
        parts: at least one, all of the same symbol and source; facts are those of the first, and their number.
    """
    repairs: dict[str, int] = {}
    for part in parts:
        for name, count in part.repairs.items():
            _count(repairs, name, count)
    table = pd.concat([part.table for part in parts], ignore_index=True)
    recorded = merge_ranges(np.concatenate([part.recorded for part in parts]))
    facts = parts[0].facts if len(parts) == 1 else {**parts[0].facts, "parts": len(parts)}
    return replace(parts[0], table=table, recorded=recorded, repairs=repairs, facts=facts)


def superseded(before: Liquidations, newer: Liquidations) -> Liquidations:
    """Return what a source that forgets has said by now: inside of what is newly recorded the newer, else the older.

    Args:
        before: what it said before.
        newer: what it says now, of the same symbol and source.
    """
    time = microseconds(before.table["timestamp"])
    at = np.searchsorted(newer.recorded[:, 0], time, side="right") - 1
    again = (
        (at >= 0) & (time < newer.recorded[np.maximum(at, 0), 1]) if len(newer.recorded) else np.zeros(len(time), bool)
    )
    rows = [table for table in (before.table.loc[~again], newer.table) if len(table)]
    table = newer.table
    if len(rows) > 1:
        table = pd.concat(rows, ignore_index=True)
        table = table.sort_values(["timestamp", "side", "price", "quantity"], kind="stable", ignore_index=True)
    elif rows:
        table = rows[0].reset_index(drop=True)
    recorded = merge_ranges(np.concatenate([before.recorded, newer.recorded]))
    return replace(newer, table=table, recorded=recorded)


@dataclass(frozen=True)
class HourlySums:
    """Sums per hour and side; column 0 is long, column 1 short.

    Attributes:
        hour: datetime64[us][n], start of each hour.
        recorded: float64[n], the share of the hour that was recorded, 0 to 1.
        quantity: float64[n, 2], contracts; NaN where too little of the hour was recorded.
        volume: float64[n, 2], quote asset; NaN there too, and where a row's volume is unknown.
    """

    hour: NDArray[np.datetime64]
    recorded: NDArray[np.float64]
    quantity: NDArray[np.float64]
    volume: NDArray[np.float64]


def exchange_of(source: str) -> str:
    """Return the exchange whose liquidations a source tells of.

    Example:
        >>> exchange_of("bybit_stream"), exchange_of("binance_archive")
        ('bybit', 'binance')
    """
    return source.partition("_")[0]


def microseconds(times: Any) -> NDArray[np.int64]:
    """Return a column of datetime64 as microseconds since 1970."""
    return np.asarray(times, dtype="datetime64[us]").astype(np.int64)


def clean_liquidations(
    raw: pd.DataFrame,
    *,
    symbol: str,
    source: str,
    place: str,
    resolution_seconds: int = 0,
    complete: bool = False,
    recorded: NDArray[np.int64],
    repairs: dict[str, int] | None = None,
    facts: dict[str, Any] | None = None,
) -> Liquidations:
    """Check and order the rows of one source.

    Repairs: `sorted_rows` (stood after a later row), `empty_rows` (quantity 0: they say no more than `recorded` does),
    and for sums `duplicate_sums` (exact repeats of an interval and side, dropped).

    Args:
        raw: `time` (int64, microseconds since 1970), `side` (long or short), `price`, `quantity`, `volume` (float64,
            NaN = blank) and `row`, the line in `place`; may hold `place` to name a file per row.
        symbol: as our candles call the market.
        source: `exchange_kind`.
        place: named in errors.
        resolution_seconds: 0 for single liquidations, else the interval of the sums.
        complete: whether the source prints every liquidation.
        recorded: int64[n, 2], in any order.
        repairs: counts of what was repaired before.
        facts: what was decided before.

    Raises:
        MarketError: naming the row, for a price that is no price, a quantity or volume that is blank where it must
            not be, negative or not finite, or two different sums of one interval and side.
    """
    repairs = dict(repairs or {})
    _refuse_bad_rows(raw, place)
    time = raw["time"].to_numpy(np.int64)
    late = int((time[1:] < np.maximum.accumulate(time)[:-1]).sum()) if len(time) else 0
    _count(repairs, "sorted_rows", late)
    # Equal instants: by side, price and quantity, so that equal content has one order wherever it came from.
    raw = raw.sort_values(["time", "side", "price", "quantity"], kind="stable")
    if resolution_seconds:
        raw = _one_sum_each(raw, place, repairs)
    empty = raw["quantity"].to_numpy() == 0
    _count(repairs, "empty_rows", int(empty.sum()))
    raw = raw.loc[~empty]
    price, quantity, volume = (raw[name].to_numpy(np.float64) for name in ("price", "quantity", "volume"))
    table = pd.DataFrame(
        {
            "timestamp": raw["time"].to_numpy(np.int64).astype("datetime64[us]"),
            "side": pd.array(raw["side"].to_list(), dtype="str"),
            "price": price,
            "quantity": quantity,
            "volume": np.where(np.isnan(volume), quantity * price, volume),
            "resolution_seconds": np.full(len(raw), resolution_seconds, dtype=np.int64),
            "complete": np.full(len(raw), complete),
        },
        columns=list(LIQUIDATION_COLUMNS),
    )
    return Liquidations(symbol, source, table, merge_ranges(recorded), repairs, dict(facts or {}))


def raw_rows(
    time: Sequence[int], side: Sequence[str], price: Sequence[float], quantity: Sequence[float], volume: Sequence[float]
) -> pd.DataFrame:
    """Return rows as `clean_liquidations` takes them, numbered from 1."""
    columns: dict[str, Any] = {
        "time": np.asarray(time, dtype=np.int64),
        "side": pd.array(list(side), dtype="str"),
        "price": np.asarray(price, dtype=np.float64),
        "quantity": np.asarray(quantity, dtype=np.float64),
        "volume": np.asarray(volume, dtype=np.float64),
    }
    return pd.DataFrame(columns).assign(row=np.arange(len(columns["time"])) + 1)


def halve_doubled(raw: pd.DataFrame, repairs: dict[str, int]) -> pd.DataFrame:
    """Return half of the rows if every row stands there an even number of times, else all of them.

    Some sources print every row twice; two liquidations of one instant, price and quantity stay two. Counted as
    `doubled_rows`.
    """
    place = raw.groupby(list(_RAW_COLUMNS), sort=False, dropna=False).cumcount().to_numpy()
    count = raw.groupby(list(_RAW_COLUMNS), sort=False, dropna=False)["row"].transform("size").to_numpy()
    if not len(raw) or (count % 2).any():
        return raw
    _count(repairs, "doubled_rows", len(raw) // 2)
    return raw.loc[place < count // 2]


def drop_redelivered(raw: pd.DataFrame, delivery: NDArray[np.int64], repairs: dict[str, int]) -> pd.DataFrame:
    """Return each liquidation as often as the delivery that has it most often.

    A stream repeats what it sent before after a reconnection, pages overlap, and files do; yet two equal liquidations
    in one delivery are two. What goes is counted as `redelivered_rows`.

    Args:
        raw: rows of `clean_liquidations`.
        delivery: int64[m], the number of the message, page or file that a row came with.
        repairs: is counted in.

    Example:
        >>> rows = raw_rows([5, 5, 5], ["long"] * 3, [9.0] * 3, [1.0] * 3, [9.0] * 3)
        >>> len(drop_redelivered(rows, np.array([1, 1, 2]), {}))
        2
    """
    place = raw.assign(delivery=delivery).groupby([*_RAW_COLUMNS, "delivery"], sort=False, dropna=False).cumcount()
    numbered = raw.loc[:, list(_RAW_COLUMNS)].assign(place=place)
    repeated = numbered.duplicated(keep="first").to_numpy()
    _count(repairs, "redelivered_rows", int(repeated.sum()))
    return raw.loc[~repeated]


def merge_ranges(ranges: Any) -> NDArray[np.int64]:
    """Return half-open ranges in order, joined where they touch or overlap, without empty ones.

    Example:
        >>> merge_ranges([(5, 7), (1, 3), (3, 4), (9, 9)]).tolist()
        [[1, 4], [5, 7]]
    """
    table = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    table = table[table[:, 1] > table[:, 0]]
    if not len(table):
        return table
    table = table[np.argsort(table[:, 0], kind="stable")]
    reach = np.maximum.accumulate(table[:, 1])
    first = np.concatenate([[True], table[1:, 0] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([table[first, 0], reach[last]])


def clip_ranges(ranges: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    """Return the part of ranges that lies in [start, end)."""
    return merge_ranges(np.clip(ranges, start, end))


def recorded_share(recorded: NDArray[np.int64], hours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each hour that was recorded, 0 to 1.

    Args:
        recorded: int64[n, 2], disjoint and in order, microseconds.
        hours: int64[m], start of each hour, microseconds.
    """
    if not len(recorded):
        return np.zeros(len(hours))
    length = np.concatenate([[0], np.cumsum(recorded[:, 1] - recorded[:, 0])])

    def before(instant: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the microseconds recorded before each instant."""
        at = np.searchsorted(recorded[:, 0], instant, side="right") - 1
        inside = np.clip(instant - recorded[np.maximum(at, 0), 0], 0, np.diff(recorded)[np.maximum(at, 0), 0])
        return np.where(at < 0, 0, length[np.maximum(at, 0)] + inside)

    return np.asarray((before(hours + HOUR) - before(hours)) / HOUR, dtype=np.float64)


def hourly_sums(
    table: pd.DataFrame, recorded: NDArray[np.int64], *, start: int, hours: int, least_recorded: float = LEAST_RECORDED
) -> HourlySums:
    """Return liquidated quantity and volume per hour and side, NaN where the hour was not recorded.

    Args:
        table: rows with `LIQUIDATION_COLUMNS`, of one source.
        recorded: int64[n, 2], disjoint and in order, microseconds.
        start: of the first hour, microseconds since 1970.
        hours: how many.
        least_recorded: share of an hour that makes it a recorded one; reconnections cost a recorder some seconds.

    Raises:
        MarketError: for sums over more than an hour, or that do not divide it.
    """
    hour = start + HOUR * np.arange(hours, dtype=np.int64)
    for seconds in np.unique(table["resolution_seconds"].to_numpy()):
        if seconds and 3600 % seconds:
            raise MarketError(
                f"liquidations summed over {seconds} s cannot be split into hours; use a source of hours or finer"
            )
    share = recorded_share(recorded, hour)
    at = (microseconds(table["timestamp"]) - start) // HOUR
    inside = (at >= 0) & (at < hours)
    side = (table["side"].to_numpy() == SIDES[1]).astype(np.int64)
    cell = (at * 2 + side)[inside]

    def summed(name: str) -> NDArray[np.float64]:
        total = np.bincount(cell, weights=table[name].to_numpy(np.float64)[inside], minlength=2 * hours)
        per_hour = np.asarray(total, dtype=np.float64).reshape(hours, 2)
        per_hour[share < least_recorded] = np.nan
        return per_hour

    return HourlySums(hour.astype("datetime64[us]"), share, summed("quantity"), summed("volume"))


def refuse_row(place: str, row: int, what: str) -> NoReturn:
    """Raise a MarketError about one row of a file or an answer."""
    raise MarketError(f"{place}, row {row}: {what}; correct that row, get a good copy of it, or leave it out")


def _refuse_bad_rows(raw: pd.DataFrame, place: str) -> None:
    """Raise for the first row, in the order given, that no repair can mend."""
    price, quantity, volume = (raw[name].to_numpy(np.float64) for name in ("price", "quantity", "volume"))
    known_price, known_volume = ~np.isnan(price), ~np.isnan(volume)
    bad: list[tuple[NDArray[np.bool_], str]] = [
        (~raw["side"].isin(SIDES).to_numpy(), "the side is neither long nor short"),
        (known_price & ~(price >= PRICE_UNIT), f"the price is zero, negative or below {PRICE_UNIT:g}"),
        (known_price & (price > MAX_PRICE), f"the price is above {MAX_PRICE:g}"),
        (~(np.isfinite(quantity) & (quantity >= 0)), "the quantity is blank, negative or not finite"),
        (quantity > MAX_CONTRACTS, f"the quantity is above {MAX_CONTRACTS:g}"),
        (known_volume & ~(volume >= 0), "the volume is negative"),
        (known_volume & (volume > MAX_VALUE), f"the volume is above {MAX_VALUE:g}"),
    ]
    wrong = np.logical_or.reduce([mask for mask, _ in bad])
    if wrong.any():
        first = int(np.argmax(wrong))
        reason = next(text for mask, text in bad if mask[first])
        refuse_row(_place(raw, first, place), int(raw["row"].iloc[first]), reason)


def _one_sum_each(raw: pd.DataFrame, place: str, repairs: dict[str, int]) -> pd.DataFrame:
    """Drop exact repeats of a sum; raise for two different sums of one interval and side."""
    repeated = raw.duplicated(subset=list(_RAW_COLUMNS)).to_numpy()
    _count(repairs, "duplicate_sums", int(repeated.sum()))
    raw = raw.loc[~repeated]
    another = raw.duplicated(subset=["time", "side"]).to_numpy()
    if another.any():
        first = int(np.argmax(another))
        row, other = int(raw["row"].iloc[first]), int(raw["row"].iloc[first - 1])
        files = _place(raw, first, place), _place(raw, first - 1, place)
        where = f"row {other}" if files[0] == files[1] else f"row {other} of {files[1]}"
        refuse_row(files[0], row, f"another sum of the interval and side of {where}, but a different one")
    return raw


def _place(raw: pd.DataFrame, at: int, place: str) -> str:
    return str(raw["place"].iloc[at]) if "place" in raw else place


def _count(repairs: dict[str, int], name: str, count: int) -> None:
    if count:
        repairs[name] = repairs.get(name, 0) + count
