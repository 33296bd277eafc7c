"""Do bright cells see more liquidations than others that price reached from the same distance?

1. A cell is a bucket of price in the map as it stands at an hour's start. It is *reached* in the hour if price, from
   its open, got to the bucket's middle: long low <= middle < open, short open < middle <= high. Empty buckets count.
2. What was reported of a side in the hour is spread evenly over the cells of that side reached in it: they *see* it.
3. Cells are compared within bands of |middle - open| / open (`BANDS`), all hours of the window together. The *brightest
   tenth* of a band is the tenth of its reached cells that hold most; cells equal at its edge share what room is left.
4. lift = sum over bright cells of what they saw / sum over bright cells of what the average reached cell of their band
   saw. 1: brightness tells nothing that distance does not.
5. Null: the same with brightness shuffled within each band. Its spread takes cells for independent, which cells of one
   hour are not; the interval of the lift itself draws whole days and is the one to judge by.

The share of liquidations in the brightest zones, without bands, measures nearness and is not computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heatmap_pipeline.model.book import LONG, Floats, Ints, Sides
from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.model.score.hours import SIDES, Flags, ScoreHours
from heatmap_pipeline.model.score.ranks import ELEMENTS, DayResamples, interval, resample_days

BANDS = (0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, np.inf)
"""Edges of the bands of distance, as a share of the hour's open."""

FEWEST = 30
"""A band with fewer reached cells in the window than this is left out: its brightest tenth would be a cell or two."""

BRIGHTEST = 0.1


@dataclass(frozen=True)
class MapCells:
    """The map as it stood at the start of each hour; an hour without any cell of either side has no map.

    Attributes:
        hour: start of the hour, microseconds since 1970 UTC, shape (m,).
        side: +1 long, -1 short.
        price_bucket: lower edge of the bucket, a multiple of `bucket`.
        volume: active volume in the bucket at that instant, quote asset.
        bucket: height of a bucket, one for the whole window.
    """

    hour: Ints
    side: Sides
    price_bucket: Floats
    volume: Floats
    bucket: float


@dataclass(frozen=True)
class ReachedCells:
    """Cells of one side that price reached, shape (k,): number of their hour, band, brightness, what they saw."""

    hour: Ints
    band: Ints
    brightness: Floats
    seen: Floats


@dataclass(frozen=True)
class Lift:
    """The lift of the brightest tenth with its 95 % interval, and the mean and 95 % of its shuffled null.

    All nan where no band has enough reached cells or nothing was reported. `cells` and `hours` are those used.
    """

    value: float
    low: float
    high: float
    null: float
    null_low: float
    null_high: float
    cells: int
    hours: int


def reached_cells(hours: ScoreHours, cells: MapCells, side: int, chosen: Flags) -> ReachedCells:
    """Return the cells of a side that price reached in the chosen hours (point 1 and 2 above).

    Args:
        hours: market and reports.
        cells: the maps at the hours' starts.
        side: +1 long, -1 short.
        chosen: shape (n,), the hours to use; they must be scored hours.

    Raises:
        ModelError: for a bucket that is not a positive number.
    """
    if not (np.isfinite(cells.bucket) and cells.bucket > 0):
        raise ModelError(f"bucket = {cells.bucket!r} of the map's cells is not a positive number")
    market = hours.market
    number = np.flatnonzero(chosen & np.isin(market.start, cells.hour))
    opened, low, high = (column[number] / cells.bucket - 0.5 for column in (market.open, market.low, market.high))
    # In units of buckets, with the middle of bucket i at i: longs reach [low, open), shorts (open, high].
    first = np.ceil(low) if side == LONG else np.floor(opened) + 1
    last = np.ceil(opened) - 1 if side == LONG else np.floor(high)
    count = np.maximum(last - first + 1, 0).astype(np.int64)
    row = np.repeat(np.arange(len(number)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    bucket = first[row].astype(np.int64) + place
    seen = hours.reported[SIDES.index(side), number][row] / count[row]
    distance = np.abs(bucket - opened[row]) * cells.bucket / market.open[number][row]
    band = np.searchsorted(np.asarray(BANDS), distance, side="right") - 1
    return ReachedCells(number[row], band, _brightness(cells, side, market.start[number][row], bucket), seen)


def brightest_lift(reached: ReachedCells, start: Ints, *, resamples: int, seed: int) -> Lift:
    """Return the lift of the brightest tenth (points 3 to 5 above).

    Args:
        reached: cells of one side.
        start: starts of all hours, which `reached.hour` numbers.
        resamples: draws of days, and shuffles.
        seed: of both.
    """
    enough = (np.bincount(reached.band, minlength=len(BANDS)) >= FEWEST)[reached.band]
    hour, band, seen = reached.hour[enough], reached.band[enough], reached.seen[enough]
    if not seen.sum() > 0:
        nan = float("nan")
        return Lift(nan, nan, nan, nan, nan, nan, len(hour), len(np.unique(hour)))
    bright = _bright(band, reached.brightness[enough])
    draws = resample_days(start[hour], resamples, seed)
    low, high = interval(_resampled(band, seen, bright, draws))
    expected = float(bright @ (np.bincount(band, weights=seen) / np.maximum(np.bincount(band), 1))[band])
    null = _shuffled(band, seen, bright, resamples, seed) / expected
    value = float(bright @ seen) / expected
    return Lift(value, low, high, float(null.mean()), *interval(null), len(hour), len(np.unique(hour)))


def _brightness(cells: MapCells, side: int, hour: Ints, bucket: Ints) -> Floats:
    """Look up what the map held in a bucket at an hour's start: 0 where it has no row."""
    if len(bucket) == 0:
        return np.empty(0)
    there = cells.side == side
    cell_bucket = np.rint(cells.price_bucket[there] / cells.bucket).astype(np.int64)
    width = int(max(bucket.max(), cell_bucket.max(initial=0))) + 1
    hours = np.unique(np.append(hour, cells.hour))
    keys, row = np.unique(np.searchsorted(hours, cells.hour[there]) * width + cell_bucket, return_inverse=True)
    if len(keys) == 0:
        return np.zeros(len(bucket))
    volume = np.bincount(row, weights=cells.volume[there])
    wanted = np.searchsorted(hours, hour) * width + bucket
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, volume[place], 0.0)


def _bright(band: Ints, brightness: Floats) -> Floats:
    """Return which share of each cell belongs to the brightest tenth of its band: 1, 0, or between for ties."""
    bright = np.zeros(len(band))
    for which in np.unique(band):
        of = np.flatnonzero(band == which)
        _, inverse, count = np.unique(-brightness[of], return_inverse=True, return_counts=True)
        room = BRIGHTEST * len(of) - (np.cumsum(count) - count)
        bright[of] = np.clip(room / count, 0.0, 1.0)[inverse]
    return bright


def _shuffled(band: Ints, seen: Floats, bright: Floats, shuffles: int, seed: int) -> Floats:
    """Return what bright cells saw in total when brightness is dealt out anew within each band, shape (shuffles,)."""
    generator, saw = np.random.default_rng(seed), np.zeros(shuffles)
    for which in np.unique(band):
        of = band == which
        rows = max(1, ELEMENTS // int(of.sum()))
        for first in range(0, shuffles, rows):
            part = saw[first : first + rows]
            part += generator.permuted(np.tile(bright[of], (len(part), 1)), axis=1) @ seen[of]
    return saw


def _resampled(band: Ints, seen: Floats, bright: Floats, draws: DayResamples) -> Floats:
    """Return the lift of every draw of days; which cells are bright stays as it is in the whole window."""
    days, bands = draws.counts.shape[1], int(band.max()) + 1
    key = draws.day * bands + band

    def drawn(weights: Floats) -> Floats:
        by_day = np.bincount(key, weights=weights, minlength=days * bands).reshape(days, bands)
        return np.asarray(draws.counts @ by_day)

    cells, saw, bright_cells, bright_saw = (drawn(each) for each in (np.ones(len(band)), seen, bright, bright * seen))
    expected = (bright_cells * saw / np.maximum(cells, 1.0)).sum(axis=1)
    return np.where(expected > 0, bright_saw.sum(axis=1) / np.where(expected > 0, expected, 1.0), np.nan)
