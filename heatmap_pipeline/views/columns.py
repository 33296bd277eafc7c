"""A window as columns: what the page draws, cell by cell, and the words about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatmap_pipeline.bins import resample
from heatmap_pipeline.instants import day_of, iso
from heatmap_pipeline.model.book import Ints
from heatmap_pipeline.views.data import Candles
from heatmap_pipeline.views.grid import DECIMALS, Grid
from heatmap_pipeline.views.replay import Replay, Source
from heatmap_pipeline.views.window import (
    Window,
)

MAX_CANDLES = 3000
UNITS = {"time": "UTC", "price": "USDT", "volume": "USDT", "density": "USDT per price bin and side"}
_CANDLE_WIDTHS = (60, 300, 900, 1800, 3600, 14400, 86400)


def last_close(source: Source, window: Window) -> float:
    """Return the close of the newest model candle in a window, USDT."""
    last = int(np.searchsorted(source.model.times, window.last)) - 1
    return float(source.symbol.candles.close[source.model.rows[last]])


def newest_end(source: Source, window: Window) -> int:
    """Return the end of the newest model candle in a window, microseconds."""
    times = source.model.times
    return int(times[np.searchsorted(times, window.last) - 1]) + source.symbol.candles.step


def window_meta(
    source: Source, window: Window, present: Ints, interval: str, played: Replay, grid: Grid
) -> dict[str, Any]:
    """Return what a heatmap says of itself in every format."""
    newest = played.interval == present[-1]
    is_long = played.side > 0
    return {
        "symbol": source.symbol.name,
        "model": source.model.name,
        "start_time": iso(window.first),
        "end_time": iso(window.last),
        "clipped": list(window.clipped),
        "interval": interval,
        "total_snapshots": len(present),
        "price_bin_size": grid.bin_size,
        "price_range": {
            "min": grid.first_bin * grid.units / 1e8,
            "max": (grid.first_bin + grid.bins) * grid.units / 1e8,
        },
        "total_long_volume": round(float(played.active[newest & is_long].sum()), DECIMALS),
        "total_short_volume": round(float(played.active[newest & ~is_long].sum()), DECIMALS),
        "total_consumed": round(float(played.consumed.sum()), DECIMALS),
        "coverage": played.coverage,
        "as_of": iso(newest_end(source, window)),
        "simulated": source.symbol.simulated,
        "units": UNITS,
        "leverage_weights": None if source.weights is None else [list(row) for row in source.weights],
    }


def page_meta(source: Source, window: Window, price: float) -> dict[str, Any]:
    """Return what the page has to know besides `window_meta`."""
    days = source.model.days
    touched = {day_of(window.first), day_of(newest_end(source, window) - 1)}
    return {
        "bucket": source.symbol.bucket,
        "interval_seconds": window.seconds,
        "price": price,
        "provisional": bool(touched & source.model.provisional),
        "first_day": days[0].isoformat(),
        "last_day": days[-1].isoformat(),
    }


def as_columns(source: Source, window: Window, grid: Grid, meta: dict[str, Any]) -> dict[str, Any]:
    """Return a window as the page takes it: columns of time and price, and the cells that hold something."""

    def column(volume: Any) -> dict[str, Any]:
        there = np.flatnonzero(volume > 0)
        return {"time": grid.interval[there], "price": grid.bin[there], "volume": volume[there]}

    candles = source.symbol.candles
    seconds = candle_seconds(candles, window)
    bars = resample(candles, window.first, min(window.last, source.model.end), seconds)
    del bars["quote_volume"]
    bars["open_time"] = bars["open_time"] // 1000
    return {
        "format": 2,
        "timestamps": (window.first + np.arange(window.count) * window.step) // 1000,
        "prices": grid.prices,
        "long": column(grid.long),
        "short": column(grid.short),
        "consumed_long": column(grid.consumed_long),
        "consumed_short": column(grid.consumed_short),
        "candles": {"interval_seconds": seconds, **bars},
        "meta": meta,
    }


def candle_seconds(candles: Candles, window: Window) -> int:
    """Return the finest width of candles that divides an interval and is not too fine to draw."""
    span = window.count * window.seconds
    widths = (candles.seconds, *_CANDLE_WIDTHS)
    fitting = (one for one in sorted(widths) if one % candles.seconds == 0 and window.seconds % one == 0)
    return next((one for one in fitting if span // one <= MAX_CANDLES), window.seconds)
