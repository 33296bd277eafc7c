"""Putting narrow things together to wide ones: candles in time, and the round multiples that buckets are merged by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.instants import MICROSECONDS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class CandleColumns(Protocol):
    """Candles on a regular grid, rising, shape (n,) each: times in microseconds UTC, prices in the quote asset."""

    @property
    def open_time(self) -> Ints: ...  # noqa: D102
    @property
    def open(self) -> Floats: ...  # noqa: D102
    @property
    def high(self) -> Floats: ...  # noqa: D102
    @property
    def low(self) -> Floats: ...  # noqa: D102
    @property
    def close(self) -> Floats: ...  # noqa: D102
    @property
    def volume(self) -> Floats: ...  # noqa: D102
    @property
    def quote_volume(self) -> Floats: ...  # noqa: D102


def round_multiples() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500 and so on."""
    yield from (1, 2, 5)
    power = 10
    while True:
        yield from (power, 2 * power, 5 * power // 2, 5 * power)
        power *= 10


def _summed(amounts: Floats, begins: Ints) -> Floats:
    """Return the sum of each part; a sum of 0.1 and 0.2 is 0.3."""
    if len(begins) == len(amounts):
        return amounts
    total: Floats = np.add.reduceat(amounts, begins)
    return total.round(8)


def resample(candles: CandleColumns, first: int, last: int, seconds: int) -> dict[str, npt.NDArray[np.int64] | Floats]:
    """Return the candles of `seconds` each that start in [first, last), put together from the stored ones.

    `open_time` is in microseconds; a quote volume of which a part is unknown is NaN.
    """
    low, high = (int(at) for at in np.searchsorted(candles.open_time, (first, last)))
    times = candles.open_time[low:high] // (seconds * MICROSECONDS) * (seconds * MICROSECONDS)
    begins = np.flatnonzero(np.diff(times, prepend=-1))
    ends = np.append(begins[1:], len(times)) - 1
    if not len(begins):
        none = np.zeros(0)
        return {"open_time": times, **dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume"), none)}
    return {
        "open_time": times[begins],
        "open": candles.open[low:high][begins],
        "high": np.maximum.reduceat(candles.high[low:high], begins),
        "low": np.minimum.reduceat(candles.low[low:high], begins),
        "close": candles.close[low:high][ends],
        "volume": _summed(candles.volume[low:high], begins),
        "quote_volume": _summed(candles.quote_volume[low:high], begins),
    }
