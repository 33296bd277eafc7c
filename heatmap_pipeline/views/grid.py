"""A replayed window in price bins: the one shape that both formats of the heatmap are written from.

What belongs here: merging buckets into bins, long and short side by side, rounding, totals. What does not: bytes
(`api/encode.py`) and the words around the numbers (`heatmap.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.model.book import LONG, SHORT, Floats, Ints
from heatmap_pipeline.model.buckets import bucket_number
from heatmap_pipeline.views.replay import Replay

DECIMALS = 4
SCALE = 10.0**DECIMALS
"""Volumes are answered to 0.0001 USDT, which is closer than two sums of the same numbers agree."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A window in bins, sparse; a row is an interval and a bin in which anything is, sorted by both.

    Attributes:
        units: height of a bin, 1e-8 USDT.
        first_bin: number of the lowest bin; its lower edge is the number times the height.
        bins: how many bins there are up to the highest in use.
        interval: of each row, shape (n,).
        bin: of each row, counted from `first_bin`.
        long: USDT open at the end of the interval, rounded to `DECIMALS`.
        short: the same.
        consumed_long: USDT liquidated within the interval, rounded.
        consumed_short: the same.
        dead_long: sum of what was liquidated per interval, before rounding, shape (intervals,).
        dead_short: the same.
    """

    units: int
    first_bin: int
    bins: int
    interval: Ints
    bin: Ints
    long: Floats
    short: Floats
    consumed_long: Floats
    consumed_short: Floats
    dead_long: Floats
    dead_short: Floats

    @property
    def bin_size(self) -> float:
        """Height of a bin, USDT."""
        return self.units / 1e8

    @property
    def prices(self) -> Floats:
        """Lower edge of every bin, USDT."""
        return (self.first_bin + np.arange(self.bins)) * self.units / 1e8


def price_span(played: Replay, otherwise: int) -> tuple[int, int]:
    """Return the lowest and the highest price of any cell, 1e-8 USDT; without any cell `otherwise` twice."""
    if not len(played.price):
        return otherwise, otherwise
    return int(played.price.min()), int(played.price.max())


def make_grid(played: Replay, units: int, span: tuple[int, int], intervals: int) -> Grid:
    """Merge the cells of a window into bins of a height.

    Args:
        played: the window.
        units: height of a bin, 1e-8 USDT.
        span: lowest and highest price, 1e-8 USDT.
        intervals: number of intervals of the window.
    """
    first = span[0] // units
    interval, bins, volumes = _merged(played.interval, played.price, played.side, played.active, played.consumed, units)
    dead_long, dead_short = (
        np.bincount(played.interval[mask], played.consumed[mask], intervals).astype(np.float64)
        for mask in ((played.consumed > 0) & (played.side == side) for side in (LONG, SHORT))
    )
    return Grid(
        units=units,
        first_bin=first,
        bins=span[1] // units - first + 1,
        interval=interval,
        bin=bins - first,
        long=volumes[0],
        short=volumes[1],
        consumed_long=volumes[2],
        consumed_short=volumes[3],
        dead_long=dead_long,
        dead_short=dead_short,
    )


@compiled
def _merged(interval, price, side, active, consumed, units):  # type: ignore[no-untyped-def]
    """Return interval and bin of every row, and its four volumes, rounded: long, short, consumed long, consumed short.

    Cells stand in the order of interval and price, so those of one bin stand together whatever its height.
    """
    cells = len(interval)
    intervals, bins = np.empty(cells, dtype=np.int64), np.empty(cells, dtype=np.int64)
    volumes = np.zeros((4, cells))
    rows, number = 0, np.int64(0)
    for cell in range(cells):
        number = bucket_number(price[cell], units, number)
        if rows == 0 or intervals[rows - 1] != interval[cell] or bins[rows - 1] != number:
            intervals[rows], bins[rows] = interval[cell], number
            rows += 1
        short = 0 if side[cell] > 0 else 1
        volumes[short, rows - 1] += active[cell]
        volumes[2 + short, rows - 1] += consumed[cell]
    for column in range(4):
        for row in range(rows):
            volumes[column, row] = np.rint(volumes[column, row] * SCALE) / SCALE
    return intervals[:rows], bins[:rows], volumes[:, :rows]
