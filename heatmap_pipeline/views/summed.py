"""The heatmap of a base: the sum of its markets' books over a window, with what each market has of every cell.

Each market is replayed for itself and put into the bins of the sum, which is what it answers alone; its volumes,
rounded as they are answered, are added. Nothing is modelled of the sum.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from heatmap_pipeline.bins import resample
from heatmap_pipeline.instants import DAY, day_start, iso
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Lots
from heatmap_pipeline.model.parameters import bucket_misfit
from heatmap_pipeline.model.zones import Zones, find_zones, joined_zones
from heatmap_pipeline.views.adding import Book, book_between, cells_of_sum, sum_of_grids, volumes_between, volumes_of
from heatmap_pipeline.views.base import (
    Base,
    Bools,
    Part,
    base_window,
    day_is_provisional,
    leading,
    parts_of_window,
    provenance,
    stretches,
    units_by_day,
    without_ended,
)
from heatmap_pipeline.views.columns import VOLUMES, Columns, PartColumns, candle_seconds, filled
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.grid import DECIMALS, Grid, make_grid, price_span
from heatmap_pipeline.views.heatmap import Heatmap, units_of
from heatmap_pipeline.views.modelled import Modelled, together
from heatmap_pipeline.views.replay import Replay, replay
from heatmap_pipeline.views.reported import Reported, reported_in
from heatmap_pipeline.views.window import Window, choose_bins
from heatmap_pipeline.views.zones import lots_after, zones_to_look_at

_STRETCH = 48
"""Intervals of which zones are looked for at once."""


def check_levels(levels: int, most: int) -> None:
    """Accept a sum of not too many levels.

    Raises:
        ViewError: too large.
    """
    if levels > most:
        raise ViewError(
            "too_large",
            f"the answer would hold {levels} levels, more than {most}; ask for a longer interval, a larger "
            "price_bin_size, fewer symbols, or less time between start_time and end_time",
        )


@dataclass(frozen=True, eq=False)
class Summed:
    """A window of a base in price bins.

    Attributes:
        base: its markets.
        window: its intervals.
        interval: their width by name.
        parts: what each market has of the window.
        heatmaps: that of each market, in the bins of the sum; None of one without a candle in the window.
        grid: the sum.
    """

    base: Base
    window: Window
    interval: str
    parts: tuple[Part, ...]
    heatmaps: tuple[Heatmap | None, ...]
    grid: Grid

    @cached_property
    def there(self) -> Bools:
        """Whether any market has candles in each interval, shape (T,)."""
        there: Bools = np.any([part.present for part in self.parts], axis=0)
        return there

    @property
    def newest(self) -> int:
        """Number of the newest interval in which any market has candles."""
        return int(np.flatnonzero(self.there)[-1])

    @property
    def end(self) -> int:
        """End of the newest candle of any market in the window."""
        return self.parts[0].newest

    @cached_property
    def closes(self) -> Floats:
        """Price of each interval: that of the market whose candles are shown, else of the next that has any."""
        closes = np.full(self.window.count, np.nan)
        ends = self.window.first + self.window.step * np.arange(1, self.window.count + 1)
        for part in reversed(leading(self.parts)):
            model = part.source.model
            last = np.searchsorted(model.times, ends[part.present]) - 1
            closes[part.present] = part.source.symbol.candles.close[model.rows[last]]
        return closes

    @property
    def price(self) -> float:
        """Last price in the window of the market whose candles are shown."""
        part = leading(self.parts)[0]
        model = part.source.model
        return float(part.source.symbol.candles.close[model.rows[part.at]])

    @cached_property
    def located(self) -> Floats:
        """Share of the open interest located at the end of each interval, by market, shape (parts, T); NaN = none."""
        shares = np.full((len(self.parts), self.window.count), np.nan)
        for row, (part, heatmap) in enumerate(zip(self.parts, self.heatmaps, strict=True)):
            if heatmap is not None:
                shares[row, part.present] = heatmap.played.located_shares[part.present]
        return shares

    @cached_property
    def located_shares(self) -> Floats:
        """Located contracts of the markets that are there / their open interest, shape (T,); else as it was before."""
        ends = self.window.first + self.window.step * np.arange(1, self.window.count + 1)
        level = np.zeros_like(self.located)
        for row, part in enumerate(self.parts):
            model = part.source.model
            level[row, part.present] = model.open_interest[np.searchsorted(model.times, ends[part.present]) - 1]
        whole = level.sum(axis=0)
        located = np.where(np.isnan(self.located), 0.0, self.located * level).sum(axis=0)
        shares = np.divide(located, whole, out=np.zeros(self.window.count), where=whole > 0)
        newest = np.maximum.accumulate(np.where(self.there, np.arange(self.window.count), -1))
        carried: Floats = np.where(newest < 0, 0.0, shares[newest])
        return carried

    def records(self) -> list[dict[str, Any]]:
        """Return what the answer says of each market."""
        ends = [self._totals(heatmap) for heatmap in self.heatmaps]
        missing = [not part.present[self.newest] for part in self.parts]
        whole = sum(long + short for (long, short), gone in zip(ends, missing, strict=True) if not gone)
        records = []
        for row, part in enumerate(self.parts):
            present = np.flatnonzero(part.present)
            share = float(self.located[row, present[-1]]) if len(present) else None
            said = part.record(missing[row], *ends[row], whole, share)
            gone = stretches(part.present)
            records.append({**said, "intervals": len(present), "without_candles": gone})
        return records

    def _totals(self, heatmap: Heatmap | None) -> tuple[float, float]:
        """Return the long and the short volume of a market in the newest interval, rounded as it answers alone."""
        if heatmap is None:
            return 0.0, 0.0
        played = heatmap.played
        newest = played.interval == self.newest
        long, short = (
            round(float(played.active[newest & (played.side == side)].sum()), DECIMALS) for side in (LONG, SHORT)
        )
        return long, short

    def meta(self) -> dict[str, Any]:
        """Return what the sum says of itself in every format."""
        grid, base, records = self.grid, self.base, self.records()
        ends = [record for record in records if not record["missing"]]
        played = [heatmap.played for heatmap in self.heatmaps if heatmap is not None]
        share = float(self.located_shares[-1])
        return {
            "symbol": base.name,
            "model": base.model,
            "start_time": iso(self.window.first),
            "end_time": iso(self.window.last),
            "clipped": list(self.window.clipped),
            "interval": self.interval,
            "total_snapshots": int(self.there.sum()),
            "price_bin_size": grid.bin_size,
            "price_range": {
                "min": grid.first_bin * grid.units / 1e8,
                "max": (grid.first_bin + grid.bins) * grid.units / 1e8,
            },
            "total_long_volume": round(sum(record["long_volume"] for record in ends), DECIMALS),
            "total_short_volume": round(sum(record["short_volume"] for record in ends), DECIMALS),
            "total_consumed": round(
                sum(round(float(replayed.consumed.sum()), DECIMALS) for replayed in played), DECIMALS
            ),
            "located_share": share,
            "coverage": share,
            "as_of": iso(self.end),
            "simulated": base.simulated,
            "exchange": None,
            "title": base.title,
            "units": units_of(base.quote),
            "leverage_weights": None if base.weights is None else [list(row) for row in base.weights],
            "tiers": list(base.all_tiers),
            "leverage_tiers": None if base.shown_tiers is None else list(base.shown_tiers),
            **provenance(base, self.parts, records),
        }

    def missing_in(self, interval: int) -> list[str]:
        """Return the ids of the markets that are missing in an interval."""
        return [part.source.symbol.name for part in self.parts if not part.present[interval]]


def make_summed(
    base: Base, seconds: int, interval: str, times: tuple[int | None, int | None], units: int | None, max_rows: int
) -> Summed:
    """Replay a window of every market and add them up; as `make_heatmap`.

    Args:
        base: the markets.
        seconds: width of an interval.
        interval: its name.
        times: start and end as asked, microseconds.
        units: height of a bin, 1e-8 of the quote asset; None means the smallest round multiple of the largest bucket
            with at most `max_rows`.
        max_rows: see above.

    Raises:
        ViewError: as `base_window`, and as `make_heatmap`.
        ModelError: if the weights cannot be had.
    """
    window = base_window(base, seconds, interval, *times)
    return summed_in(without_ended(base, window.first), window, interval, units, max_rows)


def summed_in(
    base: Base,
    window: Window,
    interval: str,
    units: int | None,
    max_rows: int,
    most: int | None = None,
) -> Summed:
    """Replay a window that is known of every market and add them up; as `make_summed`.

    Raises:
        ViewError: too large for more cells of all markets than `most`; as `Base.bucket` and `make_heatmap`.
    """
    parts = parts_of_window(base, window)
    first = leading(parts)[0]
    price = round(float(first.source.symbol.candles.close[first.source.model.rows[first.at]]) * 1e8)
    with _workers(len(parts)) as workers:
        played = list(workers.map(lambda part: _replayed(part, window), parts))
        spans = [
            price_span(replayed, price) for replayed in played if replayed is not None and len(replayed.price)
        ] or [(price, price)]
        span = min(low for low, _ in spans), max(high for _, high in spans)
        height = choose_bins(*span, base.bucket(window.first, window.last), units, max_rows)

        def in_bins(part: Part, replayed: Replay | None) -> Heatmap | None:
            if replayed is None:
                return None
            grid = make_grid(replayed, height, span, window.count)
            return Heatmap(part.source, window, interval, np.flatnonzero(part.present), replayed, grid)

        heatmaps = tuple(workers.map(in_bins, parts, played))
        if most is not None:
            check_levels(sum(len(heatmap.grid.interval) for heatmap in heatmaps if heatmap is not None), most)
        grid = sum_of_grids([each.grid for each in heatmaps if each is not None], window.count, workers)
        return Summed(base, window, interval, parts, heatmaps, grid)


def _workers(count: int) -> ThreadPoolExecutor:
    """Return threads for what is done of each market: most of it runs compiled, without Python's lock."""
    return ThreadPoolExecutor(min(count, os.cpu_count() or 1))


def _replayed(part: Part, window: Window) -> Replay | None:
    return None if part.at is None else replay(part.source, window.first, window.last, window.seconds)


def summed_columns(summed: Summed) -> Columns:
    """Return the heatmap of a base as it is drawn, with what each market has of it."""
    window, grid = summed.window, summed.grid
    leader = leading(summed.parts)[0].source
    lots = joined_lots([_lots(part, window) for part in summed.parts if part.present[summed.newest]])
    with _workers(len(summed.parts)) as workers:
        zones_of_stretches = _zones(summed, workers)
        cells = {name: filled(grid, name) for name in VOLUMES}
        of_each = list(zip(summed.parts, summed.heatmaps, strict=True))
        volumes = [volumes_of(None if each is None else each.grid, part.present, cells) for part, each in of_each]
        reported = [_reported(part, heatmap, window) for part, heatmap in of_each]
        zones = zones_to_look_at(joined_zones(list(zones_of_stretches)), window.count, lots)
    in_zones = _in_zones(summed, zones.zones)
    modelled = [_no_deaths() if each is None else each.played.modelled for each in summed.heatmaps]
    by_market = tuple(
        PartColumns(
            part.source.symbol.name,
            volumes[row],
            summed.located[row],
            {SIDE_NAMES[side]: in_zones[row, zones.zones.side == side] for side in (LONG, SHORT)},
            modelled[row],
            reported[row],
        )
        for row, part in enumerate(summed.parts)
    )
    candles = leader.symbol.candles
    return Columns(
        times=window.first + np.arange(window.count) * window.step,
        prices=grid.prices,
        cells=cells,
        candles=resample(candles, window.first, min(window.last, leader.model.end), candle_seconds(candles, window)),
        meta={**summed.meta(), **_page_meta(summed)},
        located_shares=summed.located_shares,
        zones=zones,
        modelled=together(modelled),
        lots=lots,
        by_market=by_market,
    )


def _no_deaths() -> Modelled:
    return together([])


def _page_meta(summed: Summed) -> dict[str, Any]:
    """Return what who draws a heatmap has to know besides its `meta`."""
    window, parts = summed.window, summed.parts
    bucket = summed.base.bucket(window.first, window.last)
    not_whole: dict[str, str] = {}
    for part in parts:
        symbol = part.source.symbol
        for day, words in symbol.not_whole.items():
            if day_start(day) < window.last and day_start(day) + DAY > window.first:
                before = not_whole.get(day.isoformat())
                not_whole[day.isoformat()] = f"{f'{before}; ' if before else ''}{symbol.name}: {words}"
    ends = [part.source.symbol.ended for part in parts]
    return {
        "bucket": bucket,
        "bucket_misfit": bucket_misfit(bucket, summed.price) or None,
        "interval_seconds": window.seconds,
        "price": summed.price,
        "provisional": day_is_provisional(parts, window.first, summed.end),
        "first_day": min(part.source.model.days[0] for part in parts).isoformat(),
        "last_day": max(part.source.model.days[-1] for part in parts).isoformat(),
        "ended": max(end.day for end in ends if end is not None).isoformat() if all(ends) else None,
        "not_whole": dict(sorted(not_whole.items())),
        "without_candles": stretches(summed.there),
    }


def _lots(part: Part, window: Window) -> Lots:
    return lots_after(part.source, int(np.searchsorted(part.source.model.times, window.last)) - 1)


def joined_lots(books: Sequence[Lots]) -> Lots:
    """Return the lots of several books, one after the other."""
    return Lots(**{name: np.concatenate([getattr(book, name) for book in books]) for name in vars(books[0])})


def _reported(part: Part, heatmap: Heatmap | None, window: Window) -> Reported | None:
    """Return what was really liquidated of a market, as it answers alone."""
    symbol = part.source.symbol
    reports = part.source.version.reports(symbol.name, window.first, window.last, symbol.candles.step)
    grid = None if heatmap is None else heatmap.grid
    modelled = None if grid is None or part.source.tiers is not None else grid.dead_long + grid.dead_short
    return reported_in(symbol.name, reports, window, symbol.candles, modelled)


def _zones(summed: Summed, workers: ThreadPoolExecutor) -> Iterator[Zones]:
    """Have workers look for the zones of the sum; yield those of a stretch of intervals after the other.

    A stretch at a time, so that the cells of all markets together never take more room than a processor's cache has.
    """
    window, books = summed.window, _books(summed)
    units = units_by_day(summed.parts, window.first + np.arange(window.count) * window.step)
    closes = np.where(np.isnan(summed.closes), 1.0, summed.closes)  # an interval without candles has no cells

    def of_stretch(stretch: tuple[int, int]) -> Zones:
        cells = cells_of_sum([None if book is None else book_between(book, *stretch) for book in books], units)
        return find_zones(*cells, closes, units)

    return workers.map(of_stretch, pairwise([*range(0, window.count, _STRETCH), window.count]))


def _in_zones(summed: Summed, zones: Zones) -> Floats:
    """Return what each market has in each zone of the sum, shape (parts, n); NaN where it is missing."""
    low, high = (np.rint(edge * 1e8).astype(np.int64) for edge in (zones.low, zones.high))
    volumes = volumes_between(_books(summed), zones.book, zones.side, low, high)
    for row, part in enumerate(summed.parts):
        volumes[row, ~part.present[zones.book]] = np.nan
    return volumes


def _books(summed: Summed) -> list[Book | None]:
    played = [None if heatmap is None else heatmap.played for heatmap in summed.heatmaps]
    return [None if each is None else (each.interval, each.price, each.side, each.active) for each in played]
