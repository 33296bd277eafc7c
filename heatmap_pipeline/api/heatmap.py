"""The heatmap of a window: what is planned at once, and the body that is made of it in a worker."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.parameters import HeatmapQuery, read_weights, seconds_of
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.instants import iso
from heatmap_pipeline.model.book import Ints
from heatmap_pipeline.views.columns import as_columns, last_close, page_meta, window_meta
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.grid import Grid, make_grid, price_span
from heatmap_pipeline.views.replay import Books, Replay, Source, replay
from heatmap_pipeline.views.window import (
    Window,
    bin_units,
    check_interval,
    choose_bins,
    find_model,
    find_symbol,
    intervals_with_candles,
    model_window,
    own_or_other,
)

MAX_LEVELS = {"nested": 600_000, "columns": 1_500_000}
"""Rows of an answer, about 40 MB each."""


def plan_heatmap(version: Version, books: Books, query: HeatmapQuery) -> Plan:
    """Find out what a request means in a version.

    Raises:
        ViewError: of any kind, naming the parameter and what is allowed.
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
    price = last_close(source, window)
    span = price_span(played, round(price * 1e8))
    grid = make_grid(played, choose_bins(*span, source.symbol.bucket, units, rows), span, window.count)
    if len(grid.interval) > MAX_LEVELS[form]:
        raise ViewError(
            "too_large",
            f"the answer would hold {len(grid.interval)} levels, more than {MAX_LEVELS[form]}; ask for a longer "
            "interval, a larger price_bin_size, or less time between start_time and end_time",
        )
    meta = window_meta(source, window, present, interval, played, grid)
    if form == "columns":
        meta.update(page_meta(source, window, price))
        return encode.dump(as_columns(source, window, grid, meta))
    return _nested(window, present, played, grid, meta)


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
