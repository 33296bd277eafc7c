"""What stands out in the newest book: clusters of levels, the nearest of them, and where a move would hit most.

The one definition that the read endpoint answers with and the page shows (docs/api.md, "Clusters"). A book here is two
columns over evenly spaced price bins: the volume of longs and that of shorts, USDT. No files, no rules of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from heatmap_pipeline.model.book import Floats

MERGE_SHARE = 0.75
"""Adjacent bins are one cluster where each exceeds this share of the largest bin of their side."""

NEAREST_SHARE = 0.10
"""The nearest cluster is one that has at least this share of the largest cluster of its side."""

LEAST_PERCENT = 1.0
"""A shorter way than this counts as this long for `max_pain`, or the bin next to the price would win by nearness."""

LARGEST = 5


@dataclass(frozen=True)
class Cluster:
    """Levels of one side that stand together.

    Attributes:
        price: mean of its bins' middles, weighted by volume, USDT.
        volume: USDT.
        distance_percent: from the current price to `price`; below 0 for a cluster under it.
        side: of the positions that would be liquidated.
    """

    price: float
    volume: float
    distance_percent: float
    side: Literal["long", "short"]


@dataclass(frozen=True)
class Move:
    """A straight move from the current price: where it ends, what it hits (USDT), how far it is (percent).

    `volume_per_percent` is what makes it the best; a way shorter than `LEAST_PERCENT` counts as that long there.
    """

    price: float
    volume: float
    volume_per_percent: float
    distance_percent: float


@dataclass(frozen=True)
class Landmarks:
    """What stands out above the price, where shorts are, and below it, where longs are; empty or None without any.

    Attributes:
        above: the largest clusters of shorts, largest first, at most `LARGEST`.
        below: the same of longs.
        nearest_above: the nearest cluster above that is large enough.
        nearest_below: the same below.
        max_pain_above: the end of the move up that hits most USDT per percent.
        max_pain_below: the same down.
    """

    above: tuple[Cluster, ...]
    below: tuple[Cluster, ...]
    nearest_above: Cluster | None
    nearest_below: Cluster | None
    max_pain_above: Move | None
    max_pain_below: Move | None


def landmarks(first_price: float, bin_size: float, long: Floats, short: Floats, price: float) -> Landmarks:
    """Return what stands out in a book.

    Args:
        first_price: lower edge of the first bin, USDT.
        bin_size: height of a bin, USDT.
        long: volume of longs per bin, USDT, shape (n,), none left out; n may be 0.
        short: the same of shorts.
        price: the current price, USDT.

    Example:
        >>> book = np.array([0.0, 3.5, 4.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0, 2.0])
        >>> found = landmarks(90.0, 5.0, *book, price=105.0)
        >>> round(found.below[0].price, 2), found.below[0].volume, found.above[0].price
        (100.17, 7.5, 112.5)
    """
    above = clusters(first_price, bin_size, short, price, "short")
    below = clusters(first_price, bin_size, long, price, "long")
    up, down = _moves(first_price, bin_size, long, short, price)
    return Landmarks(_largest(above), _largest(below), _nearest(above), _nearest(below), up, down)


def clusters(
    first_price: float, bin_size: float, volume: Floats, price: float, side: Literal["long", "short"]
) -> list[Cluster]:
    """Return all clusters of one side by rising price.

    Adjacent bins that each exceed `MERGE_SHARE` of the side's largest bin are merged; of what results, every local
    maximum is a cluster: more than what is below it, and not less than what is above it.
    """
    if not len(volume) or not volume.max() > 0:
        return []
    large = volume > MERGE_SHARE * volume.max()
    begins = np.flatnonzero(~(large & np.concatenate(([False], large[:-1]))))
    total = np.add.reduceat(volume, begins)
    middle = first_price + (np.arange(len(volume)) + 0.5) * bin_size
    weighted = np.add.reduceat(volume * middle, begins)
    beneath, over = np.concatenate(([0.0], total[:-1])), np.concatenate((total[1:], [0.0]))
    return [
        Cluster(at := float(weighted[one] / total[one]), float(total[one]), float((at / price - 1) * 100), side)
        for one in np.flatnonzero((total > beneath) & (total >= over))
    ]


def _largest(found: list[Cluster]) -> tuple[Cluster, ...]:
    return tuple(sorted(found, key=lambda one: (-one.volume, abs(one.distance_percent)))[:LARGEST])


def _nearest(found: list[Cluster]) -> Cluster | None:
    largest = max((one.volume for one in found), default=0.0)
    enough = [one for one in found if one.volume >= NEAREST_SHARE * largest]
    return min(enough, key=lambda one: abs(one.distance_percent), default=None)


def _moves(
    first_price: float, bin_size: float, long: Floats, short: Floats, price: float
) -> tuple[Move | None, Move | None]:
    """Return the best move up and the best one down, each to an edge of a bin: up hits shorts, down hits longs."""
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
