"""The zones of a history: of every interval of a window, and since when those of an instant stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heatmap_pipeline.instants import DAY, day_of
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Ints, Lots
from heatmap_pipeline.model.zones import NEAR, Zones, find_zones, standing_since
from heatmap_pipeline.views.replay import Replay, Source
from heatmap_pipeline.views.window import Window


@dataclass(frozen=True, eq=False)
class WindowZones:
    """The zones to look at of each interval of a window; `since` is known of the newest interval's only.

    Attributes:
        zones: `book` is the number of the interval.
        since: microseconds UTC, NaN = not known, shape (n,).
    """

    zones: Zones
    since: Floats

    def record(self) -> dict[str, dict[str, Any]]:
        """Return them as the endpoint's `format=columns` has them; who sends it encodes the arrays."""
        return {SIDE_NAMES[side]: self._of_side(side) for side in (LONG, SHORT)}

    def _of_side(self, side: int) -> dict[str, Any]:
        rows = np.flatnonzero(self.zones.side == side)
        zones = self.zones.rows(rows)
        return {
            "time": zones.book,
            **{name: getattr(zones, name).round(8) for name in ("low", "high", "peak", "price")},
            "volume": zones.volume.round(4),
            "distance_percent": zones.distance_percent.round(6),
            "share": zones.share.round(6),
            "since": self.since[rows] // 1000,
        }


def zones_of_window(source: Source, window: Window, played: Replay, lots: Lots | None = None) -> WindowZones:
    """Return the zones of each interval: those within 10 % of its price, and the nearest of each side.

    They are found on the model's own buckets, so they are the same in every window, range and price bin.

    Args:
        source: what was replayed.
        window: its intervals.
        played: the cells of it.
        lots: the book at the end of the window (`lots_after`), which tells since when its zones stand.
    """
    model = source.model
    begins = window.first + np.arange(window.count) * window.step
    last = np.maximum(np.searchsorted(model.times, begins + window.step) - 1, 0)
    closes = source.symbol.candles.close[model.rows[last]]
    days, number = np.unique(begins // DAY, return_inverse=True)
    # A day that is not computed has no cells: any height will do.
    computed = [day if (day := day_of(int(begin) * DAY)) in model.parameters else model.days[-1] for begin in days]
    units = np.array([source.parameters(day).bucket_units for day in computed], dtype=np.int64)
    zones = find_zones(played.interval, played.price, played.side, played.active, closes, units[number])
    return zones_to_look_at(zones, window.count, lots)


def zones_to_look_at(zones: Zones, count: int, lots: Lots | None = None) -> WindowZones:
    """Return the zones to look at of each interval.

    Args:
        zones: all of each.
        count: number of intervals.
        lots: the book at the end of the newest one.
    """
    zones = zones.rows(_to_look_at(zones))
    since = np.full(len(zones), np.nan)
    if lots is not None and len(zones):
        newest = np.flatnonzero(zones.book == count - 1)
        known = standing_since(lots, [zones[int(row)] for row in newest])
        since[newest] = [np.nan if instant is None else instant for instant in known]
    return WindowZones(zones, since)


def _to_look_at(zones: Zones) -> Ints:
    """Return the numbers of the zones within 10 % of the price, and of the nearest one of each book and side."""
    away = np.abs(zones.distance_percent)
    order = np.lexsort((away, zones.side, zones.book))
    key = zones.book[order] * 2 + (zones.side[order] > 0)
    nearest = order[np.flatnonzero(np.diff(key, prepend=-1))]
    return np.union1d(nearest, np.flatnonzero(away <= 100 * NEAR))


def lots_after(source: Source, at: int) -> Lots:
    """Return the book after the model candle number `at`, of the tiers shown."""
    day = day_of(int(source.model.times[at]))
    lots = source.run(day, source.before(day), None, until=at + 1 - source.model.bounds[day][0]).state.lots
    if source.tiers is None:
        return lots
    shown = np.isin(lots.leverage, source.tiers)
    return Lots(**{name: column[shown] for name, column in vars(lots).items()})
