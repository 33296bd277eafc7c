"""How much stands at a distance from the price, and how much usually does: what a map is measured against.

A map is brightest where positions of low leverage pile up, far from the price, whatever happens. Held against what
usually stands at the same distance it shows what is unusual. No files, no rules of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heatmap_pipeline.model.book import Floats, Ints

EDGES_PERCENT: tuple[float, ...] = (
    *(number / 4 for number in range(40)),
    *(float(number) for number in range(10, 20)),
    *(float(number) for number in range(20, 50, 5)),
    50.0,
    75.0,
    100.0,
)
"""Bands of distance, percent of the price: 0.25 wide up to 10, 1 up to 20, 5 up to 50, 25 up to 100; beyond, none."""

LEAST_COLUMNS = 24
"""With fewer columns than this nobody knows what is usual."""

Side = Literal["long", "short"]


@dataclass(frozen=True, eq=False)
class Usual:
    """What usually stands at a distance from the price, per price row.

    Attributes:
        long: by band of `EDGES_PERCENT`, quote asset; NaN where it is not known, or where usually nothing stands.
        short: the same.
        columns: how many columns it is the median of.
    """

    long: Floats
    short: Floats
    columns: int

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able values: what is not known is None."""
        lists = {
            side: [None if np.isnan(value) else value for value in getattr(self, side).round(4).tolist()]
            for side in ("long", "short")
        }
        return {"edges_percent": list(EDGES_PERCENT), **lists, "columns": self.columns}


def band_rows(price: Floats, bin_size: float, side: Side) -> Ints:
    """Return where bands begin, as numbers of price rows; row k reaches from k to k + 1 times the height.

    A row belongs to the band in which its middle lies, seen from the price: upward for shorts, downward for longs. The
    row that holds the price belongs to the first band of both sides.

    Args:
        price: of each column, shape (T,).
        bin_size: height of a row, in the unit of the price.
        side: of the positions.

    Returns:
        Shape (T, bands + 1). Shorts: band b has the rows from `[b]` up to `[b + 1]`, not included, rising. Longs: band
        b has those from `[b + 1]` up to `[b]`, not included, falling.

    Example:
        >>> band_rows(np.array([100.0]), 0.5, "short")[0, :5].tolist()
        [200, 201, 201, 201, 202]
        >>> band_rows(np.array([100.0]), 0.5, "long")[0, :5].tolist()
        [201, 200, 199, 199, 198]
    """
    edges = np.array(EDGES_PERCENT[1:])
    holding = np.floor(price / bin_size)[:, None]
    if side == "short":
        rows = np.maximum(np.ceil(price[:, None] * (100 + edges) / 100 / bin_size - 0.5), holding + 1)
        return np.hstack((holding, rows)).astype(np.int64)
    rows = np.minimum(np.floor(price[:, None] * (100 - edges) / 100 / bin_size - 0.5) + 1, holding)
    return np.hstack((holding + 1, rows)).astype(np.int64)


def usual_volumes(
    price: Floats, bin_size: float, column: Ints, row: Ints, volume: Floats, side: Side
) -> tuple[Floats, int]:
    """Return the volume per row that usually stands in each band of distance: the median over columns.

    In each column a band counts with the mean over all of its rows, empty ones too, so that one spike does not make the
    band; where rows are so high that none has its middle in the band, the column does not count for it.

    Args:
        price: of each column, shape (T,); NaN where there is none: that column does not count.
        bin_size: height of a row, in the unit of the price.
        column: of each cell that holds something, shape (n,).
        row: its row, counted from price 0.
        volume: quote asset.
        side: of the positions. A cell on the other side of the price counts for the first band.

    Returns:
        By band, quote asset per row; NaN where fewer than `LEAST_COLUMNS` columns tell it, or where it is 0. And how
        many columns have a price.
    """
    there = np.flatnonzero(np.isfinite(price))
    bands = len(EDGES_PERCENT) - 1
    if len(there) < LEAST_COLUMNS:
        return np.full(bands, np.nan), len(there)
    starts = band_rows(price[there], bin_size, side)
    counted = np.abs(np.diff(starts, axis=1)).astype(np.float64)
    position = np.full(len(price), -1, dtype=np.int64)
    position[there] = np.arange(len(there))
    at = position[column]
    known = at >= 0
    at, rows, volumes = at[known], row[known], volume[known]
    band = _bands_of(starts, at, rows, side)
    inside = band < bands
    sums = np.bincount(at[inside] * bands + band[inside], volumes[inside], len(there) * bands)
    with np.errstate(invalid="ignore"):
        mean = np.where(counted > 0, sums.reshape(len(there), bands) / counted, np.nan)
    enough = np.isfinite(mean).sum(axis=0) >= LEAST_COLUMNS
    usual = np.full(bands, np.nan)
    usual[enough] = np.nanmedian(mean[:, enough], axis=0)
    usual[usual <= 0] = np.nan
    return usual, len(there)


def _bands_of(starts: Ints, column: Ints, row: Ints, side: Side) -> Ints:
    """Return the band of each cell; as many as there are bands, where it lies beyond all of them."""
    if side == "long":  # mirrored: rows count downward, and a band begins with its highest row
        starts, row = 1 - starts, -row
    # One sorted list of all columns, one search: each column's rows are lifted above those of the one before it.
    low = min(int(starts.min()), int(row.min(initial=0)))
    height = max(int(starts.max()), int(row.max(initial=0))) - low + 1
    lifted = (starts - low + height * np.arange(len(starts))[:, None]).ravel()
    place = np.searchsorted(lifted, row - low + height * column, side="right") - 1
    band: Ints = np.maximum(place - column * starts.shape[1], 0)
    return band
