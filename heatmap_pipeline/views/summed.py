"""The heatmap of a base: the sum of its markets' books over a window, with what each market has of every cell.

Each market is replayed for itself and put into the bins of the sum, which is what it answers alone; its volumes,
rounded as they are answered, are added. Nothing is modelled of the sum.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from heatmap_pipeline.bins import resample
from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.instants import DAY, day_start, iso
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Ints, Lots, Sides
from heatmap_pipeline.model.buckets import bucket_number
from heatmap_pipeline.model.parameters import bucket_misfit
from heatmap_pipeline.views.base import (
    Base,
    Bools,
    Part,
    added,
    base_window,
    day_is_provisional,
    leading,
    parts_of_window,
    provenance,
    stretches,
    units_by_day,
    without_ended,
)
from heatmap_pipeline.views.columns import VOLUMES, Cells, Columns, PartColumns, candle_seconds, filled
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.grid import DECIMALS, SCALE, Grid, make_grid, price_span
from heatmap_pipeline.views.heatmap import Heatmap, units_of
from heatmap_pipeline.views.modelled import Modelled, together
from heatmap_pipeline.views.replay import Replay, replay
from heatmap_pipeline.views.reported import Reported, reported_in
from heatmap_pipeline.views.window import Window, choose_bins
from heatmap_pipeline.views.zones import WindowZones, lots_after, zones_of_cells


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
        cells: the open cells of all markets (`cells_of_sum`); None where nobody looks for zones.
    """

    base: Base
    window: Window
    interval: str
    parts: tuple[Part, ...]
    heatmaps: tuple[Heatmap | None, ...]
    grid: Grid
    cells: Book | None = None

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
            "total_consumed": round(sum(round(float(one.consumed.sum()), DECIMALS) for one in played), DECIMALS),
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
    *,
    with_cells: bool = True,
) -> Summed:
    """Replay a window that is known of every market and add them up; as `make_summed`.

    `with_cells` says whether zones will be looked for, in what is put together meanwhile.

    Raises:
        ViewError: too large for more cells of all markets than `most`; as `Base.bucket` and `make_heatmap`.
    """
    parts = parts_of_window(base, window)
    first = leading(parts)[0]
    price = round(float(first.source.symbol.candles.close[first.source.model.rows[first.at]]) * 1e8)
    with _workers(len(parts)) as workers:
        played = list(workers.map(lambda part: _replayed(part, window), parts))
        cells = workers.submit(_cells, parts, played, window) if with_cells else None
        spans = [price_span(one, price) for one in played if one is not None and len(one.price)] or [(price, price)]
        span = min(low for low, _ in spans), max(high for _, high in spans)
        height = choose_bins(*span, base.bucket(window.first, window.last), units, max_rows)

        def in_bins(part: Part, one: Replay | None) -> Heatmap | None:
            if one is None:
                return None
            grid = make_grid(one, height, span, window.count)
            return Heatmap(part.source, window, interval, np.flatnonzero(part.present), one, grid)

        heatmaps = tuple(workers.map(in_bins, parts, played))
        if most is not None:
            check_levels(sum(len(heatmap.grid.interval) for heatmap in heatmaps if heatmap is not None), most)
        grid = _added(heatmaps, height, span, window.count, workers)
        return Summed(base, window, interval, parts, heatmaps, grid, None if cells is None else cells.result())


def _workers(count: int) -> ThreadPoolExecutor:
    """Return threads for what is done of each market: most of it runs compiled, without Python's lock."""
    return ThreadPoolExecutor(min(count, os.cpu_count() or 1))


def _replayed(part: Part, window: Window) -> Replay | None:
    return None if part.at is None else replay(part.source, window.first, window.last, window.seconds)


def _added(
    heatmaps: Sequence[Heatmap | None],
    height: int,
    span: tuple[int, int],
    count: int,
    workers: ThreadPoolExecutor,
) -> Grid:
    """Return the sum of grids of equal bins."""
    first = span[0] // height
    bins = span[1] // height - first + 1
    there = [heatmap.grid for heatmap in heatmaps if heatmap is not None]
    place = np.zeros(count * bins, dtype=np.int64)
    for grid in there:
        _mark(place, bins, grid.interval, grid.bin)
    interval, row = _numbered(place, bins)
    sums = np.zeros((len(VOLUMES), len(interval)))

    def add(intervals: tuple[int, int]) -> None:
        for grid in there:  # in the order of the markets: a sum of floats depends on it
            cut = slice(*np.searchsorted(grid.interval, intervals))
            of_grid = (getattr(grid, name)[cut] for name in VOLUMES)
            _add(place, bins, grid.interval[cut], grid.bin[cut], *of_grid, sums)
        _round(sums[:, slice(*np.searchsorted(interval, intervals))])

    list(workers.map(add, pairwise((0, count // 2, count))))
    dead = {
        name: added(np.array([getattr(grid, name).round(DECIMALS) for grid in there]))
        for name in ("dead_long", "dead_short")
    }
    return Grid(height, first, bins, interval, row, **dict(zip(VOLUMES, sums, strict=True)), **dead)


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


def _volumes(part: Part, heatmap: Heatmap | None, cells: Mapping[str, Cells]) -> dict[str, Floats]:
    """Return what a market has of cells of the sum, by `VOLUMES`: 0 where it holds nothing, NaN where it is missing."""
    volumes = {name: np.zeros(len(of_sum.column)) for name, of_sum in cells.items()}
    for name, of_sum in cells.items():
        if heatmap is not None:
            grid = heatmap.grid
            _pick(of_sum.column, of_sum.row, grid.interval, grid.bin, getattr(grid, name), volumes[name])
        if not part.present.all():
            volumes[name][~part.present[of_sum.column]] = np.nan
    return volumes


@compiled
def _pick(column, row, own_interval, own_bin, own_volume, volumes):  # type: ignore[no-untyped-def]
    """Write what a market has of cells, among which is each that it has something of; both in their order."""
    at = 0
    for own in range(len(own_volume)):
        if own_volume[own] > 0:
            while row[at] != own_bin[own] or column[at] != own_interval[own]:
                at += 1
            volumes[at] = own_volume[own]


def summed_columns(summed: Summed) -> Columns:
    """Return the heatmap of a base as it is drawn, with what each market has of it."""
    window, grid = summed.window, summed.grid
    leader = leading(summed.parts)[0].source
    lots = joined_lots([_lots(part, window) for part in summed.parts if part.present[summed.newest]])
    with _workers(1) as worker:
        zoned = worker.submit(_zones, summed, lots)
        cells = {name: filled(grid, name) for name in VOLUMES}
        of_each = list(zip(summed.parts, summed.heatmaps, strict=True))
        volumes = [_volumes(part, heatmap, cells) for part, heatmap in of_each]
        reported = [_reported(part, heatmap, window) for part, heatmap in of_each]
        zones, by_part = zoned.result()
    modelled = [_no_deaths() if each is None else each.played.modelled for each in summed.heatmaps]
    by_market = tuple(
        PartColumns(
            part.source.symbol.name,
            volumes[row],
            summed.located[row],
            {SIDE_NAMES[side]: by_part[row, zones.zones.side == side] for side in (LONG, SHORT)},
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


def _zones(summed: Summed, lots: Lots) -> tuple[WindowZones, Floats]:
    """Return the zones of each interval of the sum, and of each market what it has in each, shape (parts, n)."""
    window = summed.window
    units = _units(summed.parts, window)
    if summed.cells is None:
        raise RuntimeError("zones of a sum need its cells: summed_in(..., with_cells=True)")
    closes = np.where(np.isnan(summed.closes), 1.0, summed.closes)  # an interval without candles has no cells
    found = zones_of_cells(summed.cells, closes, units, window.count, lots)
    zones = found.zones
    low, high = (np.rint(edge * 1e8).astype(np.int64) for edge in (zones.low, zones.high))
    books = [None if heatmap is None else _book(heatmap.played) for heatmap in summed.heatmaps]
    by_part = volumes_between(books, zones.book, zones.side, low, high)
    for row, part in enumerate(summed.parts):
        by_part[row, ~part.present[zones.book]] = np.nan
    return found, by_part


def _units(parts: Sequence[Part], window: Window) -> Ints:
    return units_by_day(parts, window.first + np.arange(window.count) * window.step)


def _cells(parts: Sequence[Part], played: Sequence[Replay | None], window: Window) -> Book:
    return cells_of_sum([None if each is None else _book(each) for each in played], _units(parts, window))


def _book(played: Replay) -> Book:
    return played.interval, played.price, played.side, played.active


Book: TypeAlias = tuple[Ints, Ints, Sides, Floats]
"""Interval, bucket (lower edge, 1e-8 of the quote asset), side and open volume of each cell."""


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
