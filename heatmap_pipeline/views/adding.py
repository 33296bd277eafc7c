"""Grids and books of several markets put together, cell by cell: arrays in, arrays out.

The order of the markets is that of the additions, and sums of what is rounded are rounded, so that every cell of a sum
is exactly the sum of what the markets answer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.model.book import Floats, Ints, Sides
from heatmap_pipeline.model.buckets import bucket_number
from heatmap_pipeline.views.base import Bools, added
from heatmap_pipeline.views.columns import VOLUMES, Cells
from heatmap_pipeline.views.grid import DECIMALS, SCALE, Grid

Book: TypeAlias = tuple[Ints, Ints, Sides, Floats]
"""Interval, bucket (lower edge, 1e-8 of the quote asset), side and open volume of each cell."""


def sum_of_grids(grids: Sequence[Grid], count: int, workers: ThreadPoolExecutor) -> Grid:
    """Return the sum of grids of the same bins.

    Args:
        grids: in the order in which they are added, which a sum of floats depends on; at least one.
        count: number of their intervals.
        workers: what to add in.
    """
    units, first, bins = grids[0].units, grids[0].first_bin, grids[0].bins
    place = np.zeros(count * bins, dtype=np.int64)
    for grid in grids:
        _mark(place, bins, grid.interval, grid.bin)
    interval, row = _numbered(place, bins)
    sums = np.zeros((len(VOLUMES), len(interval)))

    def add(intervals: tuple[int, int]) -> None:
        for grid in grids:
            cut = slice(*np.searchsorted(grid.interval, intervals))
            of_grid = (getattr(grid, name)[cut] for name in VOLUMES)
            _add(place, bins, grid.interval[cut], grid.bin[cut], *of_grid, sums)
        _round(sums[:, slice(*np.searchsorted(interval, intervals))])

    list(workers.map(add, pairwise((0, count // 2, count))))
    dead = {
        name: added(np.array([getattr(grid, name).round(DECIMALS) for grid in grids]))
        for name in ("dead_long", "dead_short")
    }
    return Grid(units, first, bins, interval, row, **dict(zip(VOLUMES, sums, strict=True)), **dead)


@compiled
def _mark(place, bins, interval, row):  # type: ignore[no-untyped-def]
    """Mark the rows of a grid, by interval and bin."""
    for cell in range(len(interval)):
        place[interval[cell] * bins + row[cell]] = 1


@compiled
def _numbered(place, bins):  # type: ignore[no-untyped-def]
    """Write the number of its row where each is marked; return interval and bin of every row."""
    rows = place.sum()
    interval, row = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    at = 0
    for number in range(len(place) // bins):
        for each in range(bins):
            if place[number * bins + each]:
                place[number * bins + each] = at
                interval[at], row[at] = number, each
                at += 1
    return interval, row


@compiled
def _add(place, bins, interval, row, long, short, dead_long, dead_short, sums):  # type: ignore[no-untyped-def]
    """Add the volumes of a grid where its rows stand in the sum."""
    for cell in range(len(interval)):
        at = place[interval[cell] * bins + row[cell]]
        sums[0, at] += long[cell]
        sums[1, at] += short[cell]
        sums[2, at] += dead_long[cell]
        sums[3, at] += dead_short[cell]


@compiled
def _round(sums):  # type: ignore[no-untyped-def]
    """Round sums of what is rounded, exactly to that of the decimals."""
    for column in range(len(sums)):
        for row in range(sums.shape[1]):
            sums[column, row] = np.rint(sums[column, row] * SCALE) / SCALE


def volumes_of(grid: Grid | None, present: Bools, cells: Mapping[str, Cells]) -> dict[str, Floats]:
    """Return what a market has of the cells of a sum, by `VOLUMES`: 0 where it holds nothing, NaN where it is missing.

    Args:
        grid: of the market, one of those added; None of one that has nothing.
        present: whether it is there in each interval.
        cells: of the sum, all of them.
    """
    volumes = {name: np.zeros(len(of_sum.column)) for name, of_sum in cells.items()}
    for name, of_sum in cells.items():
        if grid is not None:
            _pick(of_sum.column, of_sum.row, grid.interval, grid.bin, getattr(grid, name), volumes[name])
        if not present.all():
            volumes[name][~present[of_sum.column]] = np.nan
    return volumes


@compiled
def _pick(column, row, own_interval, own_bin, own_volume, volumes):  # type: ignore[no-untyped-def]
    """Write what a market has of cells, among which is each that it has something of; both in their order."""
    at = 0
    for number in range(len(own_volume)):
        if own_volume[number] > 0:
            while row[at] != own_bin[number] or column[at] != own_interval[number]:
                at += 1
            volumes[at] = own_volume[number]


def book_between(book: Book, first: int, end: int) -> Book:
    """Return what a sorted book has in the intervals from `first` to `end`, not included."""
    cut = slice(*np.searchsorted(book[0], (first, end)))
    interval, price, side, active = book
    return interval[cut], price[cut], side[cut], active[cut]


def cells_of_sum(books: Sequence[Book | None], units: Ints) -> Book:
    """Return the open cells of all markets in the buckets of the sum, by interval, then bucket, then market.

    Args:
        books: of each market, sorted; None of one that has nothing.
        units: height of the buckets of the sum in each interval, 1e-8 of the quote asset.
    """
    none = np.zeros(0, dtype=np.int64)
    cells: Book = (none, none, none.astype(np.int8), np.zeros(0))
    for book in books:
        if book is not None:
            cells = _merged(*cells, *book, units)
    return cells


@compiled
def _merged(interval, price, side, active, more_interval, more_price, more_side, more_active, units):  # type: ignore[no-untyped-def]
    """Return cells, and those of one more market in buckets of other heights; of one bucket that market comes last."""
    size, more = len(interval) + len(more_interval), len(more_interval)
    intervals, prices = np.empty(size, np.int64), np.empty(size, np.int64)
    sides, volumes = np.empty(size, np.int8), np.empty(size)
    old = at = 0
    number = np.int64(0)
    for new in range(more):
        if more_active[new] <= 0:
            continue
        height = units[more_interval[new]]
        number = bucket_number(more_price[new], height, number)
        bucket = number * height
        while old < len(interval) and (
            interval[old] < more_interval[new] or (interval[old] == more_interval[new] and price[old] <= bucket)
        ):
            intervals[at], prices[at], sides[at], volumes[at] = interval[old], price[old], side[old], active[old]
            old += 1
            at += 1
        intervals[at], prices[at], sides[at], volumes[at] = more_interval[new], bucket, more_side[new], more_active[new]
        at += 1
    rest = len(interval) - old
    intervals[at : at + rest], prices[at : at + rest] = interval[old:], price[old:]
    sides[at : at + rest], volumes[at : at + rest] = side[old:], active[old:]
    return intervals[: at + rest], prices[: at + rest], sides[: at + rest], volumes[: at + rest]


def volumes_between(books: Sequence[Book | None], book: Ints, side: Sides, low: Ints, high: Ints) -> Floats:
    """Return what each market holds between prices, shape (markets, n).

    Args:
        books: of each market, sorted; None of one that has nothing.
        book: number of the interval of each stretch of price, shape (n,).
        side: of each stretch.
        low: lower edge of each, 1e-8 of the quote asset; an edge of a bucket of the sum, and so of the market's.
        high: upper edge, not included; the same.
    """
    volumes = np.zeros((len(books), len(book)))
    if len(book):
        for cells, of_market in zip(books, volumes, strict=True):
            if cells is not None:
                begins = np.searchsorted(cells[0], np.arange(int(book.max()) + 2))
                _between(*cells[1:], begins, book, side, low, high, of_market)
    return volumes


@compiled
def _between(price, sides, active, begins, book, side, low, high, volumes):  # type: ignore[no-untyped-def]
    for stretch in range(len(book)):
        begin, end = begins[book[stretch]], begins[book[stretch] + 1]
        cell = begin + np.searchsorted(price[begin:end], low[stretch])
        while cell < end and price[cell] < high[stretch]:
            if sides[cell] == side[stretch]:
                volumes[stretch] += active[cell]
            cell += 1
