"""Putting narrow things together to wide ones: candles in time, and the round multiples that buckets are merged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.instants import MICROSECONDS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candles:
    """Candles on a regular grid, rising, shape (n,) each.

    Attributes:
        seconds: width of a candle.
        open_time: microseconds UTC.
        open: quote asset, as the other prices.
        high: see above.
        low: see above.
        close: see above.
        volume: contracts.
        quote_volume: quote asset; NaN = unknown.
    """

    seconds: int
    open_time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quote_volume: Floats

    @property
    def step(self) -> int:
        """Width of a candle, microseconds."""
        return self.seconds * MICROSECONDS


def merge_cells(cells: dict[str, npt.NDArray[Any]], most: int) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Put cells together until there are at most `most`: of a bucket's number 4 leading digits are kept, or 3, 2, 1.

    So what is far above the price becomes coarse first, and what is near it stays as fine as 0.1 % as long as it can.
    The lower edge of a wide cell is that of the lowest bucket in it.

    Args:
        cells: `timestamp`, `price_bucket` (the number of a bucket, from 0), `side`, `active_volume` and
            `consumed_volume`, in the order of time, price, long before short, shape (n,) each.
        most: how many cells may be left; of one digit, which is all that can be done, there may be more.

    Returns:
        The cells, in the same order, and how many digits are kept; 0 and the cells as they were if there are not more.
    """
    if len(cells["side"]) <= most:
        return cells, 0
    for digits in (4, 3, 2, 1):
        height = 10 ** np.maximum(np.searchsorted(_TENS, cells["price_bucket"], side="right") - digits, 0)
        bucket = cells["price_bucket"] // height * height
        order = np.lexsort((-cells["side"], bucket, cells["timestamp"]))
        keys = [array[order] for array in (cells["timestamp"], bucket, cells["side"])]
        begins = np.flatnonzero(np.any([np.diff(key, prepend=key[0] - 1) != 0 for key in keys], axis=0))
        if len(begins) <= most:
            break
    merged = {name: key[begins] for name, key in zip(("timestamp", "price_bucket", "side"), keys, strict=True)}
    for name in ("active_volume", "consumed_volume"):
        merged[name] = np.add.reduceat(cells[name][order], begins)
    return merged, digits


_TENS = 10 ** np.arange(19, dtype=np.int64)


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


def resample(candles: Candles, first: int, last: int, seconds: int) -> Candles:
    """Return the candles of `seconds` each that start in [first, last), put together from the stored ones.

    A quote volume of which a part is unknown is NaN.
    """
    low, high = (int(at) for at in np.searchsorted(candles.open_time, (first, last)))
    step = seconds * MICROSECONDS
    times = candles.open_time[low:high] // step * step
    begins = np.flatnonzero(np.diff(times, prepend=-1))
    if not len(begins):
        none = np.zeros(0)
        return Candles(seconds, times, none, none, none, none, none, none)
    ends = np.append(begins[1:], len(times)) - 1
    return Candles(
        seconds,
        open_time=times[begins],
        open=candles.open[low:high][begins],
        high=np.maximum.reduceat(candles.high[low:high], begins),
        low=np.minimum.reduceat(candles.low[low:high], begins),
        close=candles.close[low:high][ends],
        volume=_summed(candles.volume[low:high], begins),
        quote_volume=_summed(candles.quote_volume[low:high], begins),
    )
