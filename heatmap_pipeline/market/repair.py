"""Dirty rows in, clean rows out: every repair is counted, and what cannot be repaired is refused with its row named.

Nothing here reads a file; any source of candles or samples uses these two functions.

Repairs of candles: `sorted_rows` (stood after a later row), `duplicate_candles` (exact repeats dropped),
`missing_candles` (no row in the grid; nothing is filled in).

Repairs of samples: `snapped_labels` (label within 30 s of the step's grid moved onto it), `sorted_rows`,
`duplicate_samples` (exact repeats dropped), `invalid_contracts` (contracts blank, not finite, zero, negative or above
1e18: as if the row were missing), `replaced_samples` (another valid row of the same instant stands later in the file),
`unknown_values` (value blank, not finite, not positive or above 1e25: stored as NaN), `outside_day` (taken before the
day's first or after its last midnight).
"""

from __future__ import annotations

from datetime import date
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.clock import Clock, measure_clock
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS, CleanDay, MarketError, RawRows, frame
from heatmap_pipeline.prices import MAX_PRICE, PRICE_UNIT

MAX_CONTRACTS = 1e18
"""Largest volume and open interest accepted, contracts: a thousand times the supply of the cheapest coin."""

MAX_VALUE = MAX_CONTRACTS * MAX_PRICE
"""Largest amount of USDT accepted; sums over a history stay finite, also in float32."""

SNAP_SECONDS = 30
"""A label this near to the grid of its step is taken to mean the grid."""

_MINUTE = 60 * MICROSECONDS
_OPTIONAL = ("quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
_LARGEST_COUNT = 2.0**53


def clean_candles(raw: RawRows, *, symbol: str, day: date, interval: int, file: str) -> CleanDay:
    """Check and order the candles of one day.

    Args:
        raw: `CANDLE_COLUMNS` (open_time datetime64[us], the rest float64; NaN = blank) and `row`, the line in `file`;
            `close_time` (datetime64[us], NaT = unknown) is checked where there is such a column.
        symbol: as the exchange writes it.
        day: UTC day whose file it is.
        interval: step of the grid, seconds.
        file: named in errors.

    Raises:
        MarketError: for a price not in [1e-8, 1e7], high or low inside the body, a volume negative or above 1e18, a
            count of trades that is no count, a candle outside the day, off the grid or of another interval, two
            different candles with one open_time, and a day without candles.
    """
    if not len(raw["open_time"]):
        raise MarketError(f"{file}: holds no candles of {day}; delete it and download it again, or leave the day out")
    values = {name: np.asarray(raw[name]) for name in (*CANDLE_COLUMNS, "row")}
    values["open_time"] = values["open_time"].astype("datetime64[us]").astype(np.int64)
    for name in (*_OPTIONAL, "trades"):
        values[name] = np.nan_to_num(values[name].astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    _refuse_bad_candles(values, day, interval, file)
    if "close_time" in raw:
        _refuse_other_interval(raw, interval, file)

    repairs: dict[str, int] = {}
    order = _sort(values["open_time"], repairs)
    if order is not None:
        values = {name: column[order] for name, column in values.items()}
    same = np.flatnonzero(np.diff(values["open_time"]) == 0) + 1
    if len(same):
        for name in CANDLE_COLUMNS:
            different = same[values[name][same] != values[name][same - 1]]
            if len(different):
                row, other = (int(values["row"][different[0] - back]) for back in (0, 1))
                _refuse(file, row, f"another candle with the open_time of row {other}, but a different {name}")
        repairs["duplicate_candles"] = len(same)
        values = {name: np.delete(column, same) for name, column in values.items()}
    repairs["missing_candles"] = DAY // (interval * MICROSECONDS) - len(values["open_time"])

    values["open_time"] = values["open_time"].astype("datetime64[us]")
    values["trades"] = values["trades"].astype(np.int64)
    table = frame({name: values[name] for name in CANDLE_COLUMNS})
    return CleanDay(symbol, day, table, interval, {name: count for name, count in repairs.items() if count})


def _refuse_bad_candles(values: dict[str, NDArray[np.generic]], day: date, interval: int, file: str) -> None:
    """Raise for the first row, in file order, that no repair can mend."""
    opened, high, low, close = (values[name].astype(np.float64) for name in ("open", "high", "low", "close"))
    volume = values["volume"].astype(np.float64)
    since = values["open_time"].astype(np.int64) - day_start(day)
    bad: list[tuple[NDArray[np.bool_], str]] = [
        ((since < 0) | (since >= DAY), f"the candle does not open on {day} UTC"),
        (since % (interval * MICROSECONDS) != 0, f"the candle does not open on the grid of {interval} s"),
    ]
    for name, price in (("open", opened), ("high", high), ("low", low), ("close", close)):
        bad.append((~(price >= PRICE_UNIT), f"{name} is blank, zero, negative or below {PRICE_UNIT:g}"))
        bad.append((price > MAX_PRICE, f"{name} is above {MAX_PRICE:g}"))
    bad += [
        (high < low, "high is below low"),
        (low > np.minimum(opened, close), "low is above open or close"),
        (high < np.maximum(opened, close), "high is below open or close"),
        (~(np.isfinite(volume) & (volume >= 0)), "volume is blank, negative or not finite"),
        (volume > MAX_CONTRACTS, f"volume is above {MAX_CONTRACTS:g}"),
    ]
    for name in _OPTIONAL:
        optional = values[name].astype(np.float64)
        bad.append((~(np.isfinite(optional) & (optional >= 0)), f"{name} is negative or not finite"))
        bad.append((optional > MAX_VALUE, f"{name} is above {MAX_VALUE:g}"))
    trades = values["trades"].astype(np.float64)
    no_count = ~((trades >= 0) & (trades <= _LARGEST_COUNT)) | (np.floor(trades) != trades)
    bad.append((no_count, "the count of trades is not a whole number of 0 or more"))
    wrong = np.logical_or.reduce([mask for mask, _ in bad])
    if wrong.any():
        first = int(np.argmax(wrong))
        reason = next(text for mask, text in bad if mask[first])
        _refuse(file, int(values["row"].astype(np.int64)[first]), reason)


def _refuse_other_interval(raw: RawRows, interval: int, file: str) -> None:
    """Raise for a candle that closes before it opens or after its step; to end early is the exchange's affair."""
    length = (np.asarray(raw["close_time"]) - np.asarray(raw["open_time"])).astype("timedelta64[us]")
    known = ~np.isnat(length)
    wrong = known & ((length <= np.timedelta64(0, "us")) | (length > np.timedelta64(interval, "s")))
    if wrong.any():
        row = int(np.asarray(raw["row"])[int(np.argmax(wrong))])
        _refuse(file, row, f"close_time says that this is not a candle of {interval} s")


def clean_samples(
    raw: RawRows,
    *,
    symbol: str,
    day: date,
    interval: int,
    candles: pd.DataFrame,
    file: str,
    convention: int | None = None,
) -> CleanDay:
    """Repair the samples of one file and give them the instants they were taken at.

    Args:
        raw: `label` (datetime64[us] UTC), `contracts`, `value` (USDT; NaN = blank), in the order of the file.
        symbol: as the exchange writes it.
        day: UTC day whose file it is.
        interval: step of the candles, seconds.
        candles: clean candles of that day, which tell the clock of the labels.
        file: named in errors.
        convention: offset of the labels in seconds where nothing else decides; None = the archive's for the date.

    Returns:
        The clean samples, possibly none. `facts["clock"]` says which rule decided the clock.

    Raises:
        MarketError: if a label is missing.
    """
    times = np.asarray(raw["label"]).astype("datetime64[us]")
    if (blank := np.isnat(times)).any():
        _refuse(file, int(np.asarray(raw["row"])[blank][0]), "the time of the sample is blank")
    repairs: dict[str, int] = {}
    label = times.astype(np.int64)
    step = step_of_labels(label, interval)
    snapped = _snap(label, step, day_start(day))
    repairs["snapped_labels"] = int((snapped != label).sum())

    contracts, value = (np.asarray(raw[name], dtype=np.float64) for name in ("contracts", "value"))
    label = snapped
    if (order := _sort(snapped, repairs)) is not None:
        label, contracts, value = label[order], contracts[order], value[order]
    kept = _told_once(label, contracts, value, repairs)
    label, contracts, value = label[kept], contracts[kept], value[kept]
    unknown = ~((value > 0) & (value <= MAX_VALUE))
    repairs["unknown_values"] = int(unknown.sum())
    value[unknown] = np.nan
    with np.errstate(over="ignore"):
        implied = value / contracts
    # No mark price is beyond what a candle may be; an absurd one says nothing about the clock.
    implied[implied > MAX_PRICE] = np.nan
    clock = _clock(label, contracts, implied, candles, interval=interval, step=step, day=day, convention=convention)
    taken = label + clock.offset * MICROSECONDS
    inside = (taken >= day_start(day)) & (taken <= day_start(day) + DAY)
    repairs["outside_day"] = int((~inside).sum())
    columns = (taken[inside].astype("datetime64[us]"), contracts[inside], value[inside])
    table = frame(dict(zip(OPEN_INTEREST_COLUMNS, columns, strict=True)))
    counted = {name: count for name, count in repairs.items() if count}
    return CleanDay(symbol, day, table, step, counted, {"clock": clock.to_facts()})


def _told_once(
    label: NDArray[np.int64], contracts: NDArray[np.float64], value: NDArray[np.float64], repairs: dict[str, int]
) -> NDArray[np.intp]:
    """Return the rows without repeats and what is not valid, counting both; labels rise.

    Of rows that are alike the last one stays, and of valid rows with one label.
    """
    kept = np.arange(len(label))
    if _repeats(label):
        rows = pd.DataFrame({"label": label, "contracts": contracts, "value": value})
        kept = np.flatnonzero(~rows.duplicated(keep="last").to_numpy())
        repairs["duplicate_samples"] = len(label) - len(kept)
    valid = (contracts[kept] > 0) & (contracts[kept] <= MAX_CONTRACTS)
    repairs["invalid_contracts"] = int((~valid).sum())
    kept = kept[valid]
    if _repeats(label[kept]):
        last = np.append(np.diff(label[kept]) != 0, True)
        repairs["replaced_samples"] = int((~last).sum())
        kept = kept[last]
    return kept


def _repeats(label: NDArray[np.int64]) -> bool:
    return bool((np.diff(label) == 0).any())


def step_of_labels(label: NDArray[np.int64], interval: int) -> int:
    """Return the step of a file in seconds: the most frequent distance of its distinct labels, of equals the smallest.

    Distances of a minute and more are taken to the whole minute, shorter ones to the whole second: labels that come
    some seconds late would otherwise make nearly every distance a different one, and chance would pick the step.

    Args:
        label: int64[m], microseconds, in any order.
        interval: step of the candles in seconds, returned for fewer than two distinct labels.
    """
    distance = np.diff(np.unique(label))
    if not len(distance):
        return interval
    unit = np.where(distance >= _MINUTE, _MINUTE, MICROSECONDS)
    distance = np.maximum((distance + unit // 2) // unit * unit, MICROSECONDS)
    distinct, count = np.unique(distance, return_counts=True)
    return int(distinct[np.argmax(count)]) // MICROSECONDS


def _snap(label: NDArray[np.int64], step: int, midnight: int) -> NDArray[np.int64]:
    """Move labels that are at most 30 s from a multiple of the step, counted from midnight, onto it."""
    grid = step * MICROSECONDS
    nearest = midnight + (label - midnight + grid // 2) // grid * grid
    return np.where(np.abs(label - nearest) <= SNAP_SECONDS * MICROSECONDS, nearest, label)


def _sort(time: NDArray[np.int64], repairs: dict[str, int]) -> NDArray[np.intp] | None:
    """Return the stable order of the times, counting the rows that stood after a later one; None if all is in order."""
    late = int((time[1:] < np.maximum.accumulate(time)[:-1]).sum()) if len(time) else 0
    repairs["sorted_rows"] = late
    return np.argsort(time, kind="stable") if late else None


def _clock(
    label: NDArray[np.int64],
    contracts: NDArray[np.float64],
    implied_price: NDArray[np.float64],
    candles: pd.DataFrame,
    *,
    interval: int,
    step: int,
    day: date,
    convention: int | None,
) -> Clock:
    open_time = candles["open_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = (candles[name].to_numpy(np.float64) for name in ("open", "close", "volume"))
    return measure_clock(
        label,
        contracts,
        implied_price,
        open_time,
        *columns,
        interval=interval,
        step=step,
        day=day,
        convention=convention,
    )


def _refuse(file: str, row: int, what: str) -> NoReturn:
    raise MarketError(f"{file}, row {row}: {what}; get a good copy of it, or leave the day out")
