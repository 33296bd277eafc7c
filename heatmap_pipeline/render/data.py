"""The one shape that every picture draws, and how sparse snapshots become it.

What belongs here: sampling in time, re-binning and cropping in price, the profile of the newest book. What does not:
colours, axes, files (`picture.py`, `page.py`) and where the rows come from (the store).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.errors import HeatmapError

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 2000
MAX_ROWS = 400
MAX_CANDLES = 3000

CANDLE_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")

_MICROSECONDS = 1_000_000
_NICE_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)


class RenderError(HeatmapError):
    """Something that cannot be drawn; names the symbol or argument and what it needs."""


@dataclass(frozen=True, eq=False)
class HeatmapData:
    """Everything that a picture of one symbol and model shows. Times are UTC, prices and volumes USDT.

    Attributes:
        symbol: as the exchange writes it.
        model: name of the model.
        bucket: height of a row, USDT; a round multiple of `own_bucket`.
        own_bucket: height of the buckets that the rows were merged from, USDT.
        interval_seconds: width of a column.
        times: start of each column, datetime64[us], shape (T,), evenly spaced.
        buckets: index of each row, int64, shape (P,), rising by one; a row's lower price is index * bucket.
        long: active long volume at the end of each column, float32, shape (P, T); 0 where there is none.
        short: the same for shorts.
        consumed: one bubble per column and side in which levels were consumed: timestamp (start of the column), side
            ('long' or 'short'), price (mean, weighted by volume), volume.
        consumed_cells: the same cell by cell, for those inside of the rows: column, row (indices), side, volume; sorted
            by side, column and row.
        candles: open_time, open, high, low, close, volume; as wide as the columns or narrower.
        candle_seconds: width of a candle.
        price: last close.
        as_of: end of the newest candle, datetime64[us].
        coverage: share of the open interest whose liquidation prices the model knows, 0..1.
        simulated: whether the market is made up.
        provisional: whether the newest day is not complete yet.
        first_day: day of the first candle.
        last_day: day of the last candle.
    """

    symbol: str
    model: str
    bucket: float
    own_bucket: float
    interval_seconds: int
    times: npt.NDArray[np.datetime64]
    buckets: npt.NDArray[np.int64]
    long: npt.NDArray[np.float32]
    short: npt.NDArray[np.float32]
    consumed: pd.DataFrame
    consumed_cells: pd.DataFrame
    candles: pd.DataFrame
    candle_seconds: int
    price: float
    as_of: np.datetime64
    coverage: float
    simulated: bool
    provisional: bool
    first_day: date
    last_day: date

    def __post_init__(self) -> None:
        shape = (len(self.buckets), len(self.times))
        for name in ("long", "short"):
            if getattr(self, name).shape != shape:
                raise RenderError(f"{name} has shape {getattr(self, name).shape}; buckets and times ask for {shape}")
        if not 0 <= self.coverage <= 1 + 1e-9:
            raise RenderError(f"coverage = {self.coverage!r} of {self.symbol} is not a share between 0 and 1")

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Prices between the rows, shape (P + 1,), USDT."""
        return np.arange(self.buckets[0], self.buckets[-1] + 2) * self.bucket


def make_heatmap_data(
    *,
    symbol: str,
    model: str,
    bucket: float,
    interval_seconds: int,
    timestamps: npt.ArrayLike,
    buckets: npt.ArrayLike,
    sides: npt.ArrayLike,
    active: npt.ArrayLike,
    consumed: npt.ArrayLike,
    candles: pd.DataFrame,
    coverage: float,
    simulated: bool,
    provisional: bool = False,
    max_columns: int = MAX_COLUMNS,
    max_rows: int = MAX_ROWS,
) -> HeatmapData:
    """Build what is drawn from sparse snapshots and candles, small enough for a screen.

    In time, a column that holds several snapshots shows the last one and the sum of what was consumed. In price, the
    view reaches beyond the candles by 60 % of their range or 12 % of the price, whichever is more; rows are merged by
    summing. Levels outside of that view are left out.

    Args:
        symbol: as the exchange writes it.
        model: name of the model.
        bucket: height of the price buckets given, USDT.
        interval_seconds: distance of the snapshots given.
        timestamps: start of each cell's interval, datetime64 UTC, shape (N,).
        buckets: bucket of each cell as an integer, lower price / bucket, shape (N,).
        sides: +1 for long and -1 for short, shape (N,).
        active: active volume of each cell, USDT, shape (N,).
        consumed: volume consumed in each cell, USDT, shape (N,).
        candles: rows with `open_time` (UTC, without zone) and open, high, low, close, volume, on a regular grid.
        coverage: share of the open interest that the newest book locates, 0..1.
        simulated: whether the market is made up.
        provisional: whether the newest day is not complete yet.
        max_columns: largest number of columns.
        max_rows: largest number of rows.

    Raises:
        RenderError: if there is no candle, or arrays do not fit each other.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import

    stamp = np.asarray(timestamps).astype("datetime64[us]", copy=False).view(np.int64)
    index, volume, dead = np.asarray(buckets), np.asarray(active), np.asarray(consumed)
    is_short = _is_short(sides)
    for name, column in (("buckets", index), ("sides", is_short), ("active", volume), ("consumed", dead)):
        if column.shape != stamp.shape:
            raise RenderError(f"{name} has shape {column.shape}, timestamps {stamp.shape}; give one of each per cell")

    bars, bar_seconds = _clean_candles(symbol, candles, interval_seconds)
    opens = bars["open_time"].to_numpy().astype(np.int64)
    columns = _Columns.over(stamp, opens, interval_seconds, max_columns)
    rows = _Rows.around(bars, bucket, max_rows)
    hit = np.flatnonzero(dead > 0)
    # A year has tens of millions of cells, so what a column hides goes before anything else is computed.
    kept = np.flatnonzero(stamp == columns.newest_snapshot(stamp, opens)[columns.of(stamp)])
    row = index[kept].astype(np.int64) // rows.merged - rows.first
    inside = (row >= 0) & (row < rows.count)
    kept, row = kept[inside], row[inside]
    cell = row * columns.count + columns.of(stamp[kept])

    def grid(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        flat = np.bincount(cell[mask], volume[kept][mask], rows.count * columns.count)
        return flat.reshape(rows.count, columns.count).astype(np.float32)

    candle_seconds = _candle_step(bar_seconds, columns.seconds, opens)
    last = bars.iloc[-1]
    return HeatmapData(
        symbol=symbol,
        model=model,
        bucket=bucket * rows.merged,
        own_bucket=bucket,
        interval_seconds=columns.seconds,
        times=columns.times,
        buckets=np.arange(rows.first, rows.first + rows.count, dtype=np.int64),
        long=grid(~is_short[kept]),
        short=grid(is_short[kept]),
        consumed=_bubbles(
            columns, columns.of(stamp[hit]), is_short[hit], (index[hit].astype(np.float64) + 0.5) * bucket, dead[hit]
        ),
        consumed_cells=_consumed_cells(
            columns, rows, columns.of(stamp[hit]), is_short[hit], index[hit].astype(np.int64), dead[hit]
        ),
        candles=resample_candles(bars, candle_seconds),
        candle_seconds=candle_seconds,
        price=float(last["close"]),
        as_of=np.datetime64(int(opens[-1]) + bar_seconds * _MICROSECONDS, "us"),
        coverage=float(coverage),
        simulated=simulated,
        provisional=provisional,
        first_day=pd.Timestamp(bars["open_time"].iloc[0]).date(),
        last_day=pd.Timestamp(last["open_time"]).date(),
    )


def profile(data: HeatmapData) -> pd.DataFrame:
    """Return the newest book by price: what price would meet on its way, and how much of it in sum.

    Returns:
        One row per bucket, rising: bucket, price_low, price_high, long, short, long_cumulative (from the price
        downwards), short_cumulative (from the price upwards), all volumes USDT.
    """
    import pandas as pd  # noqa: PLC0415

    long = data.long[:, -1].astype(np.float64)
    short = data.short[:, -1].astype(np.float64)
    return pd.DataFrame(
        {
            "bucket": data.buckets,
            "price_low": data.edges[:-1],
            "price_high": data.edges[1:],
            "long": long,
            "short": short,
            "long_cumulative": np.cumsum(long[::-1])[::-1],
            "short_cumulative": np.cumsum(short),
        }
    )


def colour_limit(data: HeatmapData, quantile: float = 0.995) -> float:
    """Return the volume (USDT) at the top of the colour scale: a quantile, so that one cell does not dim the rest."""
    total = data.long + data.short
    filled = total[total > 0]
    return float(np.quantile(filled, quantile)) if filled.size else 1.0


@dataclass(frozen=True)
class _Columns:
    """Evenly spaced columns: start in microseconds, width in seconds, number, and the snapshots' own distance."""

    first: int
    seconds: int
    count: int
    snapshot: int

    @classmethod
    def over(
        cls, stamp: npt.NDArray[np.int64], opens: npt.NDArray[np.int64], snapshot: int, max_columns: int
    ) -> _Columns:
        low = min(int(opens[0]), int(stamp.min(initial=opens[0])))
        high = max(int(opens[-1]), int(stamp.max(initial=opens[-1])))
        needed = math.ceil((high - low + 1) / (snapshot * _MICROSECONDS)) + 1
        widths = [snapshot] + [s for s in _NICE_SECONDS if s > snapshot and s % snapshot == 0]
        widths += [snapshot * math.ceil(needed / max(max_columns - 1, 1))]
        for seconds in widths:
            step = seconds * _MICROSECONDS
            count = high // step - low // step + 1
            if count <= max_columns:
                break
        return cls(low // step * step, seconds, count, snapshot)

    @property
    def times(self) -> npt.NDArray[np.datetime64]:
        starts = self.first + np.arange(self.count, dtype=np.int64) * self.seconds * _MICROSECONDS
        return starts.astype("datetime64[us]")

    def of(self, instants: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return (instants - self.first) // (self.seconds * _MICROSECONDS)

    def newest_snapshot(self, stamp: npt.NDArray[np.int64], opens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the newest snapshot of each column; one that candles prove to exist counts even with an empty book."""
        step = self.snapshot * _MICROSECONDS
        newest = np.full(self.count, -1, dtype=np.int64)
        for instants in (stamp, opens // step * step):
            np.maximum.at(newest, self.of(instants), instants)
        return newest


@dataclass(frozen=True)
class _Rows:
    """Contiguous rows: index of the first (in merged buckets), number, and how many buckets make one row."""

    first: int
    count: int
    merged: int

    @classmethod
    def around(cls, bars: pd.DataFrame, bucket: float, max_rows: int) -> _Rows:
        low, high = float(bars["low"].min()), float(bars["high"].max())
        margin = max(0.6 * (high - low), 0.12 * float(bars["close"].iloc[-1]))
        first, last = math.floor(max(low - margin, 0.0) / bucket), math.floor((high + margin) / bucket)
        merged = next(
            step
            for step in _round_multiples()
            if last // step - first // step + 1 <= max_rows or first // step == last // step
        )
        return cls(first // merged, last // merged - first // merged + 1, merged)


def _round_multiples() -> Iterator[int]:
    """1, 2, 5, 10, 20, 25, 50, 100, ...: what buckets are merged by, so that a row's height is a round number too."""
    yield from (1, 2, 5)
    power = 10
    while True:
        yield from (power, 2 * power, power * 5 // 2, 5 * power)
        power *= 10


def _is_short(sides: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    side: npt.NDArray[Any] = np.asarray(sides)
    if side.dtype.kind not in "if" or not (np.abs(side) == 1).all():
        raise RenderError("sides holds values other than +1 (long) and -1 (short)")
    return np.asarray(side < 0)


def _clean_candles(symbol: str, candles: pd.DataFrame, fallback: int) -> tuple[pd.DataFrame, int]:
    missing = [name for name in CANDLE_COLUMNS if name not in candles.columns]
    if missing:
        raise RenderError(f"candles of {symbol} have no column {', '.join(missing)}")
    if candles.empty:
        raise RenderError(f"{symbol} has no candles, so there is nothing to draw; compute a day of it first")
    bars = candles.loc[:, list(CANDLE_COLUMNS)].sort_values("open_time", ignore_index=True)
    bars["open_time"] = bars["open_time"].astype("datetime64[us]")
    steps = np.diff(bars["open_time"].to_numpy().astype(np.int64))
    return bars, int(steps.min()) // _MICROSECONDS if steps.size else fallback


def _candle_step(own: int, column: int, opens: npt.NDArray[np.int64]) -> int:
    """Return the finest width that divides a column and leaves a number of candles that a browser draws at ease."""
    span = (int(opens[-1]) - int(opens[0])) // _MICROSECONDS + own
    fitting = [s for s in (own, *_NICE_SECONDS) if own <= s <= column and s % own == 0 and column % s == 0]
    return next((s for s in sorted(fitting) if span / s <= MAX_CANDLES), max(own, column))


def resample_candles(bars: pd.DataFrame, seconds: int) -> pd.DataFrame:
    """Return candles of `seconds` each, aligned to UTC, from narrower ones with the columns of `CANDLE_COLUMNS`."""
    step = seconds * _MICROSECONDS
    start = bars["open_time"].to_numpy().astype(np.int64) // step * step
    grouped = bars.groupby(start.astype("datetime64[us]"), sort=True)
    table = grouped.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    return table.rename_axis("open_time").reset_index()


def _bubbles(
    columns: _Columns,
    column: npt.NDArray[np.int64],
    is_short: npt.NDArray[np.bool_],
    price: npt.NDArray[np.float64],
    volume: npt.NDArray[np.float64],
) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    slot = column * 2 + is_short
    total = np.bincount(slot, volume, 2 * columns.count)
    filled = np.flatnonzero(total > 0)
    mean = np.bincount(slot, volume * price, 2 * columns.count)[filled] / total[filled]
    return pd.DataFrame(
        {
            "timestamp": columns.times[filled // 2],
            "side": np.where(filled % 2 == 1, "short", "long"),
            "price": mean,
            "volume": total[filled],
        }
    )


def _consumed_cells(
    columns: _Columns,
    rows: _Rows,
    column: npt.NDArray[np.int64],
    is_short: npt.NDArray[np.bool_],
    index: npt.NDArray[np.int64],
    volume: npt.NDArray[np.float64],
) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    row = index // rows.merged - rows.first
    inside = (row >= 0) & (row < rows.count)
    cell = ((is_short * columns.count + column) * rows.count + row)[inside]
    filled, slot = np.unique(cell, return_inverse=True)
    return pd.DataFrame(
        {
            "column": filled // rows.count % columns.count,
            "row": filled % rows.count,
            "side": np.where(filled >= columns.count * rows.count, "short", "long"),
            "volume": np.bincount(slot, volume[inside], len(filled)),
        }
    )
