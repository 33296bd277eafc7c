"""Zones: stretches of price where a book is thick, found on the book itself; and the deprecated max pain.

The one definition of what the read endpoint and the page call clusters (docs/api.md, "Zones"). It knows the price and
the book of an instant and nothing of windows, ranges or what is in view. No files, no rules of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Ints, Lots, Sides
from heatmap_pipeline.model.buckets import bucket_number

SMOOTHED = 0.0025
"""Share of the price over which a book is smoothed: the weight of a bucket falls to 0 at that distance."""

FLOOR = 0.6
"""A zone reaches as far as the smoothed volume stays at this share of its peak; so it rises by 0.4 at least."""

NEAR = 0.1
"""Share of the price within which zones are weighed against the rest of their side."""

LEAST_SHARE = 0.03
"""What holds less than this share of its side's volume within `NEAR` is no zone."""

FINEST = 50
"""Buckets to the width of the smoothing; finer ones, which only a setting makes, are put together first."""

LARGEST = 5

LEAST_PERCENT = 1.0
"""A shorter way than this counts as this long for `max_pain`, or the bin next to the price would win by nearness."""

Side = Literal["long", "short"]


@dataclass(frozen=True)
class Zone:
    """One zone; prices and volumes in the quote asset.

    Attributes:
        side: of the positions that would be liquidated.
        low: lower edge of its lowest bucket that holds anything.
        high: upper edge of the highest.
        peak: middle of the bucket at which it is thickest, smoothed.
        price: mean of the middles of its buckets, weighted by volume.
        volume: the sum of its buckets, not smoothed.
        distance_percent: from the price of the instant to `price`; below 0 for a zone under it.
        share: of its side's volume within 10 % of the price, what is in the zone; 0 for a zone beyond.
    """

    side: Side
    low: float
    high: float
    peak: float
    price: float
    volume: float
    distance_percent: float
    share: float

    def overlaps(self, other: Zone) -> bool:
        """Whether both are of one side and have prices in common."""
        return self.side == other.side and self.low < other.high and other.low < self.high


@dataclass(frozen=True, eq=False)
class Zones:
    """The zones of many books as columns, by book, longs first, rising in price; shape (n,) each, as in `Zone`.

    `book` is the number of the book that a zone is of, `side` +1 long, -1 short.
    """

    book: Ints
    side: Sides
    low: Floats
    high: Floats
    peak: Floats
    price: Floats
    volume: Floats
    distance_percent: Floats
    share: Floats

    def __len__(self) -> int:
        return len(self.book)

    def of(self, book: int) -> tuple[Zone, ...]:
        """Return the zones of one book."""
        first, end = np.searchsorted(self.book, (book, book + 1))
        return tuple(self[row] for row in range(first, end))

    def __getitem__(self, row: int) -> Zone:
        return Zone(
            "long" if self.side[row] > 0 else "short",
            *(
                float(column[row])
                for column in (
                    self.low,
                    self.high,
                    self.peak,
                    self.price,
                    self.volume,
                    self.distance_percent,
                    self.share,
                )
            ),
        )

    def rows(self, wanted: Ints) -> Zones:
        """Return some of them, by their numbers."""
        return Zones(**{name: column[wanted] for name, column in vars(self).items()})


def joined_zones(parts: Sequence[Zones]) -> Zones:
    """Return the zones of books that follow each other as one; at least one part."""
    return Zones(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def find_zones(book: Ints, bucket: Ints, side: Sides, volume: Floats, price: Floats, bucket_units: Ints | int) -> Zones:
    """Return the zones of many books, each side for itself.

    A bucket's smoothed volume is the sum of the volumes around it, each times 1 - distance / (`SMOOTHED` x price). A
    zone is the stretch around a peak in which the smoothed volume is nowhere below `FLOOR` of the peak and nowhere
    above it; of equal peaks the lower price counts. It is cut to the buckets that hold something, and counts if it
    holds `LEAST_SHARE` of its side's volume within `NEAR` of the price. So zones do not overlap.

    Args:
        book: number of the book of each cell, rising, shape (n,).
        bucket: lower edge of each cell's bucket, 1e-8 of the quote asset, rising within a book.
        side: +1 long, -1 short.
        volume: quote asset, at least 0.
        price: of each book, positive, shape (books,).
        bucket_units: height of the buckets, 1e-8 of the quote asset, of each book or of all.

    Example:
        >>> edges = np.array([100, 101, 102, 107]) * 10**8
        >>> volumes = np.array([3.0, 4.0, 1.0, 5.0])
        >>> short = np.full(4, -1, dtype=np.int8)
        >>> found = find_zones(np.zeros(4, dtype=np.int64), edges, short, volumes, np.array([100.0]), 10**8)
        >>> [(zone.low, zone.high, zone.volume) for zone in found.of(0)]
        [(100.0, 102.0, 7.0), (107.0, 108.0, 5.0)]
    """
    sizes = np.broadcast_to(np.asarray(bucket_units, dtype=np.int64), price.shape)
    sizes = sizes * np.maximum(1, SMOOTHED * price * 1e8 // (sizes * FINEST)).astype(np.int64)
    whose, sides, edges, sums = _find(book, bucket, side, volume, price, sizes)
    height = sizes[whose] / 1e8
    low, high, peak = edges * sizes[whose] / 1e8
    total, weighted, near, all_near = sums
    mean = weighted / total
    return Zones(
        book=whose,
        side=sides,
        low=low,
        high=high + height,
        peak=peak + height / 2,
        price=mean,
        volume=total,
        distance_percent=(mean / price[whose] - 1) * 100,
        share=np.divide(near, all_near, out=np.zeros_like(near), where=all_near > 0),
    )


@compiled
def _find(book, bucket, side, volume, price, sizes):  # type: ignore[no-untyped-def]
    """Return of every zone its book, its side, the numbers of its lowest, highest and peak bucket, and four sums.

    The sums: volume, volume times middle, volume within `NEAR`, that of the whole side.
    """
    cells = len(book)
    whose, sides = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int8)
    edges, sums = np.empty((3, 0), dtype=np.int64), np.empty((4, 0))
    number, amount = np.empty(0, dtype=np.int64), np.empty(0)
    zones = start = 0
    while start < cells:
        here, end = book[start], start + 1
        while end < cells and book[end] == here:
            end += 1
        if end - start > len(number):
            number, amount = np.empty(2 * (end - start), dtype=np.int64), np.empty(2 * (end - start))
        if zones + end - start > len(whose):  # there are far fewer zones than cells, so room is made as they come
            whose, sides, edges, sums = _roomier(zones, 2 * (zones + end - start), whose, sides, edges, sums)
        size = sizes[here] / 1e8
        for wanted in (LONG, SHORT):
            filled, all_near, here_number = 0, 0.0, np.int64(0)
            for cell in range(start, end):
                if side[cell] == wanted and volume[cell] > 0:
                    here_number = bucket_number(bucket[cell], sizes[here], here_number)
                    if filled == 0 or number[filled - 1] != here_number:
                        number[filled], amount[filled] = here_number, 0.0
                        filled += 1
                    amount[filled - 1] += volume[cell]
                    if abs((here_number + 0.5) * size / price[here] - 1) <= NEAR:
                        all_near += volume[cell]
            before = zones
            zones = _of_side(number[:filled], amount[:filled], size, price[here], all_near, edges, sums, zones)
            whose[before:zones], sides[before:zones] = here, wanted
        start = end
    return whose[:zones], sides[:zones], edges[:, :zones], sums[:, :zones]


@compiled
def _roomier(zones, room, whose, sides, edges, sums):  # type: ignore[no-untyped-def]
    """Return the columns of `_find` with room for more zones, and those that there are in them."""
    more_whose, more_sides = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int8)
    more_edges, more_sums = np.empty((3, room), dtype=np.int64), np.empty((4, room))
    more_whose[:zones], more_sides[:zones] = whose[:zones], sides[:zones]
    more_edges[:, :zones], more_sums[:, :zones] = edges[:, :zones], sums[:, :zones]
    return more_whose, more_sides, more_edges, more_sums


@compiled
def _of_side(number, amount, size, price, all_near, edges, sums, zones):  # type: ignore[no-untyped-def]
    """Write the zones of one side of one book behind those that are there; return how many there are then.

    A zone always holds something, so there are no more of them than cells: around a bucket its smoothed volume is a
    tent, and a sum of tents has its maxima at their tops.
    """
    width = SMOOTHED * price / size
    reach = max(int(np.ceil(width)) - 1, 0)
    begin = 0
    while begin < len(number):
        end = begin + 1
        # Beyond a gap of that many buckets nothing is smoothed into anything before it.
        while end < len(number) and number[end] - number[end - 1] < 2 * reach + 2:
            end += 1
        base = number[begin] - reach - 1
        smooth = _smoothed(number[begin:end] - base, amount[begin:end], width, reach)
        cell = begin
        for top in range(1, len(smooth) - 1):
            if not (smooth[top] > smooth[top - 1] and smooth[top] >= smooth[top + 1]):
                continue
            low, high = _stretch(smooth, top)
            if low > high:
                continue
            while number[cell] - base < low:
                cell += 1
            first = peak = cell
            total, weighted, near = 0.0, 0.0, 0.0
            while cell < end and number[cell] - base <= high:
                middle = (number[cell] + 0.5) * size
                total += amount[cell]
                weighted += amount[cell] * middle
                if abs(middle / price - 1) <= NEAR:
                    near += amount[cell]
                if smooth[number[cell] - base] > smooth[number[peak] - base]:
                    peak = cell
                cell += 1
            if total >= LEAST_SHARE * all_near:
                edges[0, zones], edges[1, zones], edges[2, zones] = number[first], number[cell - 1], number[peak]
                sums[0, zones], sums[1, zones], sums[2, zones], sums[3, zones] = total, weighted, near, all_near
                zones += 1
        begin = end
    return zones


@compiled
def _smoothed(number, amount, width, reach):  # type: ignore[no-untyped-def]
    """Return the smoothed volume of the buckets 0 to one beyond the last that anything reaches; it is 0 at both."""
    smooth = np.zeros(number[-1] + reach + 2)
    for cell in range(len(number)):
        smooth[number[cell]] += amount[cell]
        for step in range(1, reach + 1):
            part = amount[cell] * (1 - step / width)
            smooth[number[cell] - step] += part
            smooth[number[cell] + step] += part
    return smooth


@compiled
def _stretch(smooth, top):  # type: ignore[no-untyped-def]
    """Return the ends of the stretch around a peak; (1, 0) where it is none. The first and last value are 0."""
    floor = FLOOR * smooth[top]
    low = high = top
    while smooth[low - 1] >= floor:
        low -= 1
        if smooth[low] >= smooth[top]:
            return 1, 0
    while smooth[high + 1] >= floor:
        high += 1
        if smooth[high] > smooth[top]:
            return 1, 0
    return low, high


def standing_since(lots: Lots, zones: Sequence[Zone]) -> list[int | None]:
    """Return since when each zone stands, microseconds UTC: half of its volume, or more, had opened by then.

    Args:
        lots: the book that the zones are of.
        zones: of one book. One that none of the lots lies in has None.
    """
    since: list[int | None] = []
    for zone in zones:
        low, high = round(zone.low * 1e8), round(zone.high * 1e8)
        inside = (lots.liq_price >= low) & (lots.liq_price < high) & ((lots.side > 0) == (zone.side == "long"))
        order = np.argsort(lots.opened_at[inside], kind="stable")
        summed = np.cumsum(lots.volume[inside][order])
        if not len(summed):
            since.append(None)
            continue
        since.append(int(lots.opened_at[inside][order][np.searchsorted(summed, summed[-1] / 2)]))
    return since


@dataclass(frozen=True)
class Landmarks:
    """The zones above the price, where shorts are, and below it, where longs are; empty or None without any.

    Attributes:
        above: the largest zones of shorts within a distance, largest first, at most `LARGEST`.
        below: the same of longs.
        nearest_above: the nearest zone of shorts, whatever its distance.
        nearest_below: the same of longs.
    """

    above: tuple[Zone, ...]
    below: tuple[Zone, ...]
    nearest_above: Zone | None
    nearest_below: Zone | None


def landmarks(zones: Sequence[Zone], within_percent: float) -> Landmarks:
    """Return the largest zones of a book within a distance, and the nearest ones, which do not depend on it."""
    short, long = ([zone for zone in zones if zone.side == SIDE_NAMES[side]] for side in (SHORT, LONG))
    return Landmarks(_largest(short, within_percent), _largest(long, within_percent), nearest(short), nearest(long))


def _largest(zones: Sequence[Zone], within_percent: float) -> tuple[Zone, ...]:
    near = [zone for zone in zones if abs(zone.distance_percent) <= within_percent]
    return tuple(sorted(near, key=lambda zone: (-zone.volume, abs(zone.distance_percent)))[:LARGEST])


def nearest(zones: Sequence[Zone]) -> Zone | None:
    """Return the zone nearest to the price."""
    return min(zones, key=lambda zone: abs(zone.distance_percent), default=None)


@dataclass(frozen=True)
class Move:
    """A straight move from the current price: where it ends, what it hits (quote asset), how far it is (percent).

    `volume_per_percent` is what makes it the best; a way shorter than `LEAST_PERCENT` counts as that long there.
    """

    price: float
    volume: float
    volume_per_percent: float
    distance_percent: float


def max_pain(
    first_price: float, bin_size: float, long: Floats, short: Floats, price: float
) -> tuple[Move | None, Move | None]:
    """Return the straight move up and the one down that hit most per percent. Deprecated: it moves with the window.

    On real books windows of 3, 5, 10 and 20 % have the same answer in 6 to 10 of 100 cases; `find_zones` says what
    stands where.

    Args:
        first_price: lower edge of the first bin, quote asset.
        bin_size: height of a bin.
        long: volume of longs per bin, shape (n,), none left out; n may be 0.
        short: the same of shorts.
        price: the current price.
    """
    edges = first_price + np.arange(len(long) + 1, dtype=np.float64) * bin_size
    upward = np.concatenate(([0.0], np.cumsum(short)))
    downward = np.concatenate((np.cumsum(long[::-1])[::-1], [0.0]))
    return _best(edges, upward, price, edges > price), _best(edges, downward, price, edges < price)


def _best(edges: Floats, hit: Floats, price: float, there: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Move | None:
    candidates = np.flatnonzero(there & (hit > 0))
    if not len(candidates):
        return None
    distance = (edges[candidates] / price - 1) * 100
    density = hit[candidates] / np.maximum(np.abs(distance), LEAST_PERCENT)
    # Of equal ones the nearer: a move that hits nothing more is no better for being longer.
    best = int(np.lexsort((np.abs(distance), -density))[0])
    end = candidates[best]
    return Move(float(edges[end]), float(hit[end]), float(density[best]), float(distance[best]))
