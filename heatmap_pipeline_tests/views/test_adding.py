"""Cells of several markets put together in arrays are what plain Python makes of them, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.book import LONG, SHORT, Floats
from heatmap_pipeline.views.adding import Book, cells_of_sum, sum_of_grids, volumes_between, volumes_of
from heatmap_pipeline.views.base import added
from heatmap_pipeline.views.columns import VOLUMES, filled
from heatmap_pipeline.views.grid import DECIMALS, Grid
from heatmap_pipeline_tests._examples import examples

FINE, COARSE = 500, 2000
"""Heights of buckets, 1e-8 of the quote asset, the smaller of which divides the larger."""


def a_grid(random: np.random.Generator, count: int, bins: int, present: Any) -> Grid:
    """Return a grid of some cells in the intervals that are there, mostly of one volume out of four."""
    every = np.flatnonzero((random.random((count, bins)) < random.choice([0.0, 0.2, 0.9])) & present[:, None])
    volumes = random.choice([0.0, 0.1, 0.2, 0.3, 1 / 3, 1e9 / 7], size=(4, len(every))).round(DECIMALS)
    dead = random.random((2, count)) * 1e5
    return Grid(COARSE, 7, bins, every // bins, every % bins, *volumes, *dead)


def dense(grid: Grid, name: str, count: int) -> Floats:
    """Return the volume of every cell there could be, shape (count x bins,)."""
    volumes = np.zeros(count * grid.bins)
    volumes[grid.interval * grid.bins + grid.bin] = getattr(grid, name)
    return volumes


@examples(100)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
def test_a_sum_of_grids_is_the_sum_of_each_cell_in_the_order_of_the_markets(
    seed: int, markets: int, count: int, bins: int
) -> None:
    random = np.random.default_rng(seed)
    present = [random.random(count) < random.choice([0.6, 1.0]) for _ in range(markets)]
    grids = [a_grid(random, count, bins, there) for there in present]
    with ThreadPoolExecutor(2) as workers:
        whole = sum_of_grids(grids, count, workers)
    rows = whole.interval * bins + whole.bin
    assert rows.tolist() == sorted(set().union(*((grid.interval * bins + grid.bin).tolist() for grid in grids)))
    cells = {name: filled(whole, name) for name in VOLUMES}
    for name in VOLUMES:
        of_each = np.array([dense(grid, name, count) for grid in grids])
        np.testing.assert_array_equal(getattr(whole, name), added(of_each)[rows])
        shown = np.flatnonzero(added(of_each) > 0)
        assert (cells[name].column * bins + cells[name].row).tolist() == shown.tolist()
        for own, there, volumes in zip(grids, present, of_each, strict=True):
            expected = np.where(there[cells[name].column], volumes[shown], np.nan)
            np.testing.assert_array_equal(volumes_of(own, there, cells)[name], expected)
        nobody = volumes_of(None, np.zeros(count, dtype=np.bool_), cells)[name]
        np.testing.assert_array_equal(nobody, np.full(len(shown), np.nan))
    for name in ("dead_long", "dead_short"):
        np.testing.assert_array_equal(
            getattr(whole, name), added(np.array([getattr(grid, name).round(DECIMALS) for grid in grids]))
        )


def a_book(random: np.random.Generator, count: int, height: int) -> Book:
    """Return a book as it is replayed: by interval, bucket, and long before short; some cells hold nothing."""
    cells = [
        (interval, bucket * height, side, float(random.choice([0.0, 0.1, 0.7, 1e9 / 3])))
        for interval in range(count)
        for bucket in np.flatnonzero(random.random(12 * COARSE // height) < random.choice([0.0, 0.3, 0.9])).tolist()
        for side in (LONG, SHORT)
        if random.random() < 0.7
    ]
    interval, price, side, active = zip(*cells, strict=True) if cells else ((), (), (), ())
    return (
        np.array(interval, dtype=np.int64),
        np.array(price, dtype=np.int64),
        np.array(side, dtype=np.int8),
        np.array(active, dtype=np.float64),
    )


def plainly(books: Sequence[Book | None], units: Any) -> list[tuple[int, int, int, int, float]]:
    """Return what `cells_of_sum` returns, with whose each cell is in the third place."""
    cells = [
        (interval, price // int(units[interval]) * int(units[interval]), market, side, active)
        for market, book in enumerate(books)
        if book is not None
        for interval, price, side, active in zip(*(column.tolist() for column in book), strict=True)
        if active > 0
    ]
    return sorted(cells, key=lambda cell: cell[:3])  # which keeps the order of those of one market


@examples(100)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_books_of_nested_buckets_are_put_together_and_told_apart_again(seed: int, markets: int, count: int) -> None:
    random = np.random.default_rng(seed)
    heights = random.choice([FINE, COARSE], size=markets).tolist()
    books = [a_book(random, count, height) if random.random() < 0.8 else None for height in heights]
    units = np.array([max(heights) * int(random.choice([1, 3])) for _ in range(count)], dtype=np.int64)
    expected = plainly(books, units)
    together = cells_of_sum(books, units)
    assert list(zip(*(column.tolist() for column in together), strict=True)) == [
        (interval, bucket, side, active) for interval, bucket, _, side, active in expected
    ]
    stretches = [
        (interval, side, low * int(units[interval]), high * int(units[interval]))
        for interval in range(count)
        for side in (LONG, SHORT)
        for low, high in ((0, 1), (1, 5), (0, 200), (300, 301))
    ]
    book, side, low, high = (np.array(column, dtype=np.int64) for column in zip(*stretches, strict=True))
    held = volumes_between(books, book, side.astype(np.int8), low, high)
    assert held.shape == (markets, len(stretches))
    for market in range(markets):
        for number, (interval, side_, low_, high_) in enumerate(stretches):
            total = 0.0
            for cell in expected:
                if cell[:1] + cell[2:4] == (interval, market, side_) and low_ <= cell[1] < high_:
                    total += cell[4]
            assert held[market, number] == total


def test_no_stretch_holds_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert volumes_between([None, None], none, none.astype(np.int8), none, none).shape == (2, 0)
