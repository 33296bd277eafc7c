"""The heatmap of a window: what is planned at once, and the body that is made of it in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.data import Candles, Version, day_of
from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.grid import DECIMALS, Grid, make_grid, price_span, resample
from heatmap_pipeline.api.parameters import HeatmapQuery, read_weights, seconds_of
from heatmap_pipeline.api.replay import Books, Replay, Source, replay
from heatmap_pipeline.api.window import (
    Window,
    bin_units,
    check_interval,
    choose_bins,
    find_model,
    find_symbol,
    intervals_with_candles,
    iso,
    model_window,
    own_or_other,
)
from heatmap_pipeline.model.book import Ints

MAX_CANDLES = 3000
MAX_LEVELS = {"nested": 600_000, "columns": 1_500_000}
"""Rows of an answer, about 40 MB each."""

UNITS = {"time": "UTC", "price": "USDT", "volume": "USDT", "density": "USDT per price bin and side"}
_CANDLE_WIDTHS = (60, 300, 900, 1800, 3600, 14400, 86400)


@dataclass(frozen=True, eq=False)
class Plan:
    """An answer that is not made yet.

    Attributes:
        key: with `fingerprint` all that its bytes depend on.
        fingerprint: of the data.
        make: make the body; may raise `ApiError`, but not while its parts are read.
        live: whether it holds the newest data, which the next publication will change.
    """

    key: tuple[object, ...]
    fingerprint: str
    make: Callable[[], encode.Body]
    live: bool


def plan_heatmap(version: Version, books: Books, query: HeatmapQuery) -> Plan:
    """Find out what a request means in a version.

    Raises:
        ApiError: 404, 413 or 422, naming the parameter and what is allowed.
    """
    symbol = find_symbol(version, query.symbol)
    model = find_model(symbol, query.model)
    seconds = seconds_of(query.interval)
    check_interval(seconds, query.interval, symbol.candles)
    weights = own_or_other(model, read_weights(query.leverage_weights))
    units = bin_units(query.price_bin_size, symbol.bucket)
    source = Source(version, symbol, model, weights, books)
    window = model_window(source, seconds, query.start_time, query.end_time)
    rows = 0 if units is not None else query.max_rows
    key = ("heatmap", symbol.name, model.name, weights, window, units, rows, query.format)

    def make() -> encode.Body:
        return _body(source, window, query.interval, units, rows, query.format)

    return Plan(key, symbol.fingerprint, make, window.last >= model.end)


def _body(source: Source, window: Window, interval: str, units: int | None, rows: int, form: str) -> encode.Body:
    present = intervals_with_candles(source, window)
    played = replay(source, window.first, window.last, window.seconds)
    price = _last_close(source, window)
    span = price_span(played, round(price * 1e8))
    grid = make_grid(played, choose_bins(*span, source.symbol.bucket, units, rows), span, window.count)
    if len(grid.interval) > MAX_LEVELS[form]:
        raise ApiError(
            413,
            f"the answer would hold {len(grid.interval)} levels, more than {MAX_LEVELS[form]}; ask for a longer "
            "interval, a larger price_bin_size, or less time between start_time and end_time",
        )
    meta = _meta(source, window, present, interval, played, grid)
    if form == "columns":
        meta.update(_page_meta(source, window, price))
        return _columns(source, window, grid, meta)
    return _nested(window, present, played, grid, meta)


def _last_close(source: Source, window: Window) -> float:
    last = int(np.searchsorted(source.model.times, window.last)) - 1
    return float(source.symbol.candles.close[source.model.rows[last]])


def newest_end(source: Source, window: Window) -> int:
    """Return the end of the newest model candle in a window, microseconds."""
    times = source.model.times
    return int(times[np.searchsorted(times, window.last) - 1]) + source.symbol.candles.step


def _meta(source: Source, window: Window, present: Ints, interval: str, played: Replay, grid: Grid) -> dict[str, Any]:
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


def _page_meta(source: Source, window: Window, price: float) -> dict[str, Any]:
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


def _nested(window: Window, present: Ints, played: Replay, grid: Grid, meta: dict[str, Any]) -> encode.Body:
    keep = (grid.long > 0) | (grid.short > 0)
    interval = grid.interval[keep]
    starts = np.searchsorted(interval, present)
    prices = encode.dump(grid.prices)[1:-1].decode().split(",")
    return encode.nested(
        stamps=[iso(window.first + int(one) * window.step) for one in present],
        starts=np.append(starts, len(interval)).astype(np.int64),
        price_texts=prices,
        bins=grid.bin[keep],
        long=grid.long[keep],
        short=grid.short[keep],
        counts=np.stack((played.created[present], played.liquidated[present]), axis=1),
        consumed=np.stack((grid.dead_long[present], grid.dead_short[present]), axis=1),
        meta=encode.dump(meta),
    )


def _columns(source: Source, window: Window, grid: Grid, meta: dict[str, Any]) -> bytes:
    def column(volume: Any) -> dict[str, Any]:
        there = np.flatnonzero(volume > 0)
        return {"time": grid.interval[there], "price": grid.bin[there], "volume": volume[there]}

    candles = source.symbol.candles
    seconds = _candle_seconds(candles, window)
    bars = resample(candles, window.first, min(window.last, source.model.end), seconds)
    del bars["quote_volume"]
    bars["open_time"] = bars["open_time"] // 1000
    return encode.dump(
        {
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
    )


def _candle_seconds(candles: Candles, window: Window) -> int:
    """Return the finest width of candles that divides an interval and is not too fine to draw."""
    span = window.count * window.seconds
    widths = (candles.seconds, *_CANDLE_WIDTHS)
    fitting = (one for one in sorted(widths) if one % candles.seconds == 0 and window.seconds % one == 0)
    return next((one for one in fitting if span // one <= MAX_CANDLES), window.seconds)
