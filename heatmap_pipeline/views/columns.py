"""A heatmap as columns of time and rows of price: what the page and the picture draw, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.bins import Candles, Floats, Ints, resample
from heatmap_pipeline.instants import DAY, MICROSECONDS, SECONDS, day_of, day_start
from heatmap_pipeline.model.book import Lots
from heatmap_pipeline.model.distance import Side, Usual, usual_volumes
from heatmap_pipeline.model.parameters import bucket_misfit
from heatmap_pipeline.store.columns import Reports
from heatmap_pipeline.views.grid import Grid
from heatmap_pipeline.views.heatmap import Heatmap
from heatmap_pipeline.views.modelled import Modelled
from heatmap_pipeline.views.reported import Reported, reported_in
from heatmap_pipeline.views.window import Window
from heatmap_pipeline.views.zones import WindowZones, lots_after, zones_of_window

MAX_CANDLES = 3000
VOLUMES = ("long", "short", "consumed_long", "consumed_short")
"""The four volumes of a cell, USDT: open at the end of the column, and liquidated within it."""

Dense: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells that hold something, by column, then row, each once: indices and volume (USDT), shape (n,) each."""

    column: Ints
    row: Ints
    volume: Floats


@dataclass(frozen=True, eq=False)
class PartColumns:
    """What one market has of a heatmap that is drawn.

    Attributes:
        symbol: id of the market.
        volumes: by `VOLUMES`, of each cell of the sum, quote asset; NaN = missing.
        located_shares: of each column, shape (T,); NaN = missing.
        zones: of each zone of the sum its volume, by the name of the side; NaN = missing.
        modelled: what was liquidated in each column, by side.
        reported: real liquidations of the market; None where none of the window was recorded.
    """

    symbol: str
    volumes: Mapping[str, Floats]
    located_shares: Floats
    zones: Mapping[str, Floats]
    modelled: Modelled
    reported: Reported | None

    def record(self) -> dict[str, Any]:
        """Return it as the endpoint's `format=columns` has it; who sends it encodes the arrays."""
        return {
            "symbol": self.symbol,
            **self.volumes,
            "located_shares": self.located_shares.round(6),
            "zones": {side: volumes.round(4) for side, volumes in self.zones.items()},
            "modelled": {side: sums.record() for side, sums in self.modelled.items()},
            "reported": None if self.reported is None else self.reported.record(),
        }


@dataclass(frozen=True, eq=False)
class Columns:
    """A heatmap to draw. Instants are microseconds UTC, prices and volumes USDT.

    Attributes:
        times: start of each column, shape (T,), evenly spaced; columns without candles are there and empty.
        prices: lower edge of each row, shape (P,), evenly spaced.
        cells: of each of `VOLUMES`, to 0.0001 USDT.
        candles: as wide as the columns or narrower.
        meta: what the heatmap says of itself, as in docs/api.md.
        located_shares: share of the open interest located at the end of each column, shape (T,).
        zones: of each column, where its book is thick.
        modelled: what the model liquidated in each column, by side.
        reported: the real liquidations; None where none of the window was recorded.
        lots: the book at the end of the window; None: nobody says.
        by_market: of the heatmap of a base, what each market has of it; nothing of that of one market.
    """

    times: Ints
    prices: Floats
    cells: Mapping[str, Cells]
    candles: Candles
    meta: Mapping[str, Any]
    located_shares: Floats
    zones: WindowZones
    modelled: Modelled
    reported: Reported | None = None
    lots: Lots | None = None
    by_market: Sequence[PartColumns] = ()

    @property
    def seconds(self) -> int:
        """Width of a column."""
        return int(self.meta["interval_seconds"])

    @property
    def bin_size(self) -> float:
        """Height of a row, USDT."""
        return float(self.meta["price_bin_size"])

    @property
    def edges(self) -> Floats:
        """Prices between the rows, shape (P + 1,)."""
        return np.append(self.prices, self.meta["price_range"]["max"])

    @cached_property
    def long(self) -> Dense:
        """Open long volume of every cell, shape (P, T)."""
        return self._dense("long")

    @cached_property
    def short(self) -> Dense:
        """Open short volume of every cell, shape (P, T)."""
        return self._dense("short")

    @cached_property
    def closes(self) -> Floats:
        """The last close within each column, quote asset, shape (T,); NaN where it has no candle."""
        closes = np.full(len(self.times), np.nan)
        if len(self.times):
            column = (self.candles.open_time - self.times[0]) // (self.seconds * MICROSECONDS)
            closes[column] = self.candles.close  # rising, so the last one of a column stays
        return closes

    @cached_property
    def usual(self) -> Usual:
        """What usually stands at a distance from the price, in the columns there are."""
        first = round(self.prices[0] / self.bin_size)
        sides: tuple[Side, Side] = ("long", "short")
        (long, columns), (short, _) = (
            usual_volumes(self.closes, self.bin_size, cells.column, first + cells.row, cells.volume, side)
            for side, cells in ((side, self.cells[side]) for side in sides)
        )
        return Usual(long, short, columns)

    def _dense(self, name: str) -> Dense:
        dense = np.zeros((len(self.prices), len(self.times)), dtype=np.float32)
        cells = self.cells[name]
        dense[cells.row, cells.column] = cells.volume
        return dense

    def record(self) -> dict[str, Any]:
        """Return the endpoint's `format=columns` with its arrays as they are; who sends it encodes them."""
        return {
            "format": 2,
            "timestamps": self.times // 1000,
            "prices": self.prices,
            "located_shares": np.round(self.located_shares, 6),
            **{
                name: {"time": cells.column, "price": cells.row, "volume": cells.volume}
                for name, cells in self.cells.items()
            },
            "candles": {
                "interval_seconds": self.candles.seconds,
                "open_time": self.candles.open_time // 1000,
                **{name: getattr(self.candles, name) for name in ("open", "high", "low", "close", "volume")},
            },
            "modelled": {side: sums.record() for side, sums in self.modelled.items()},
            "reported": None if self.reported is None else self.reported.record(),
            "usual": self.usual.record(),
            "zones": self.zones.record(),
            **({"by_market": [market.record() for market in self.by_market]} if self.by_market else {}),
            "meta": self.meta,
        }


def as_columns(heatmap: Heatmap, reports: Sequence[Reports] = (), lots: Lots | None = None) -> Columns:
    """Return a heatmap as it is drawn.

    Args:
        heatmap: the window.
        reports: real liquidations that its sources report of it.
        lots: the book at its end, which tells since when the newest zones stand; None: nobody says.
    """
    window, grid = heatmap.window, heatmap.grid
    candles = heatmap.source.symbol.candles
    width = candle_seconds(candles, window)

    modelled = grid.dead_long + grid.dead_short if heatmap.source.tiers is None else None

    return Columns(
        times=window.first + np.arange(window.count) * window.step,
        prices=grid.prices,
        cells={name: filled(grid, name) for name in VOLUMES},
        candles=resample(candles, window.first, min(window.last, heatmap.source.model.end), width),
        meta={**heatmap.meta(), **_page_meta(heatmap)},
        located_shares=heatmap.played.located_shares,
        zones=zones_of_window(heatmap.source, window, heatmap.played, lots),
        modelled=heatmap.played.modelled,
        reported=reported_in(heatmap.source.symbol.name, reports, window, candles, modelled),
        lots=lots,
    )


def filled(grid: Grid, name: str) -> Cells:
    """Return the cells of a grid that hold something of one of `VOLUMES`."""
    volume = getattr(grid, name)
    there = np.flatnonzero(volume > 0)
    return Cells(grid.interval[there], grid.bin[there], volume[there])


def reports_of(heatmap: Heatmap) -> list[Reports]:
    """Return the real liquidations that are stored of a heatmap's window."""
    symbol, window = heatmap.source.symbol, heatmap.window
    return heatmap.source.version.reports(symbol.name, window.first, window.last, symbol.candles.step)


def lots_of(heatmap: Heatmap) -> Lots:
    """Return the book at the end of a heatmap's window."""
    source = heatmap.source
    return lots_after(source, int(np.searchsorted(source.model.times, heatmap.window.last)) - 1)


def _page_meta(heatmap: Heatmap) -> dict[str, Any]:
    """Return what who draws a heatmap has to know besides its `meta`."""
    symbol, model = heatmap.source.symbol, heatmap.source.model
    bucket = model.bucket(heatmap.window.first, heatmap.window.last)
    touched = {day_of(heatmap.window.first), day_of(heatmap.end - 1)}
    return {
        "bucket": bucket,
        "bucket_misfit": bucket_misfit(bucket, heatmap.price) or None,
        "interval_seconds": heatmap.window.seconds,
        "price": heatmap.price,
        "provisional": bool(touched & model.provisional),
        "first_day": model.days[0].isoformat(),
        "last_day": model.days[-1].isoformat(),
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
        "not_whole": {
            day.isoformat(): words
            for day, words in symbol.not_whole.items()
            if day_start(day) < heatmap.window.last and day_start(day) + DAY > heatmap.window.first
        },
        "without_candles": _between(heatmap.present, heatmap.window.count),
    }


def _between(present: Ints, count: int) -> list[tuple[int, int]]:
    """Return the stretches of the numbers from 0 to `count` that are not among rising ones: first, and one after last.

    Example:
        >>> _between(np.array([0, 1, 4]), 6)
        [(2, 4), (5, 6)]
    """
    begins, ends = np.append(-1, present) + 1, np.append(present, count)
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True) if begin < end]


def candle_seconds(candles: Candles, window: Window) -> int:
    """Return the finest width of candles that divides an interval and is not too fine to draw."""
    span = window.count * window.seconds
    fitting = (width for width in SECONDS.values() if width % candles.seconds == 0 and window.seconds % width == 0)
    return next((width for width in fitting if span // width <= MAX_CANDLES), window.seconds)
