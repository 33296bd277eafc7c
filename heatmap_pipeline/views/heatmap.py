"""The heatmap of a window: what happened in it, in price bins, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heatmap_pipeline.instants import iso
from heatmap_pipeline.model.book import Ints
from heatmap_pipeline.views.data import SymbolSummary
from heatmap_pipeline.views.grid import DECIMALS, Grid, make_grid, price_span
from heatmap_pipeline.views.replay import Replay, Source, replay
from heatmap_pipeline.views.window import Window, choose_bins, intervals_with_candles


def units_of(quote: str) -> dict[str, str]:
    """Return what the numbers of a heatmap are in, of a contract with that quote asset.

    Example:
        >>> units_of("USDC")["density"]
        'USDC per price bin and side'
    """
    return {"time": "UTC", "price": quote, "volume": quote, "density": f"{quote} per price bin and side"}


def title_record(symbol: SymbolSummary) -> dict[str, Any]:
    """Return what says whose contract a symbol is, in every answer of it."""
    return {"exchange": symbol.exchange, "title": symbol.title}


def tiers_record(source: Source) -> dict[str, Any]:
    """Return which leverage tiers an answer is of: those there are, and those shown (None where it is all of them)."""
    return {
        "tiers": list(source.all_tiers),
        "leverage_tiers": None if source.tiers is None else list(source.tiers),
    }


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A window of a history in price bins; everything that shows one is made from this.

    Attributes:
        source: symbol, model and weights.
        window: its intervals.
        interval: their width by name.
        present: numbers of the intervals in which there are candles, rising.
        played: the window bucket by bucket.
        grid: the same in bins.
    """

    source: Source
    window: Window
    interval: str
    present: Ints
    played: Replay
    grid: Grid

    @property
    def price(self) -> float:
        """Close of the newest model candle in the window, quote asset."""
        return last_close(self.source, self.window)

    @property
    def end(self) -> int:
        """End of the newest model candle in the window, microseconds."""
        times = self.source.model.times
        return int(times[np.searchsorted(times, self.window.last) - 1]) + self.source.symbol.candles.step

    def meta(self) -> dict[str, Any]:
        """Return what a heatmap says of itself in every format."""
        grid, played = self.grid, self.played
        newest = played.interval == self.present[-1]
        is_long = played.side > 0
        weights = self.source.weights
        return {
            "symbol": self.source.symbol.name,
            "model": self.source.model.name,
            "start_time": iso(self.window.first),
            "end_time": iso(self.window.last),
            "clipped": list(self.window.clipped),
            "interval": self.interval,
            "total_snapshots": len(self.present),
            "price_bin_size": grid.bin_size,
            "price_range": {
                "min": grid.first_bin * grid.units / 1e8,
                "max": (grid.first_bin + grid.bins) * grid.units / 1e8,
            },
            "total_long_volume": round(float(played.active[newest & is_long].sum()), DECIMALS),
            "total_short_volume": round(float(played.active[newest & ~is_long].sum()), DECIMALS),
            "total_consumed": round(float(played.consumed.sum()), DECIMALS),
            "located_share": played.located_share,
            "coverage": played.located_share,
            "as_of": iso(self.end),
            "simulated": self.source.symbol.simulated,
            **title_record(self.source.symbol),
            "units": units_of(self.source.symbol.quote),
            "leverage_weights": None if weights is None else [list(row) for row in weights],
            **tiers_record(self.source),
        }


def make_heatmap(source: Source, window: Window, interval: str, units: int | None, max_rows: int) -> Heatmap:
    """Replay a window and put it into price bins.

    Args:
        source: what to replay.
        window: when.
        interval: name of the window's intervals.
        units: height of a bin, 1e-8 of the quote asset; None means the smallest round multiple of the window's largest
            bucket with at most `max_rows`.
        max_rows: see above.

    Raises:
        ViewError: invalid where `units` yields too many rows.
        ModelError: if the weights cannot be had.
    """
    return binned(source, window, interval, replay(source, window.first, window.last, window.seconds), units, max_rows)


def binned(source: Source, window: Window, interval: str, played: Replay, units: int | None, max_rows: int) -> Heatmap:
    """Put a replayed window into price bins; as `make_heatmap`."""
    span = price_span(played, round(last_close(source, window) * 1e8))
    height = choose_bins(*span, source.model.bucket(window.first, window.last), units, max_rows)
    grid = make_grid(played, height, span, window.count)
    return Heatmap(source, window, interval, intervals_with_candles(source, window), played, grid)


def last_close(source: Source, window: Window) -> float:
    """Return the close of the newest model candle in a window, quote asset."""
    last = int(np.searchsorted(source.model.times, window.last)) - 1
    return float(source.symbol.candles.close[source.model.rows[last]])
