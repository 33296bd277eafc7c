"""The heatmap of a window: what is planned at once, and the body that is made of it in a worker."""

from __future__ import annotations

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.base import asks_for_base, plan_base_heatmap
from heatmap_pipeline.api.parameters import Format, HeatmapQuery, read_tiers, read_weights
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.instants import SECONDS, iso
from heatmap_pipeline.views.columns import as_columns, lots_of, reports_of
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.heatmap import Heatmap, make_heatmap
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.window import (
    Window,
    bin_units,
    check_interval,
    find_model,
    find_symbol,
    model_window,
    only_tiers,
    own_or_other,
)

MAX_LEVELS: dict[Format, int] = {"nested": 600_000, "columns": 1_500_000}
"""Rows of an answer, about 40 MB each."""


def plan_heatmap(version: Version, books: Books, query: HeatmapQuery) -> Plan:
    """Find out what a request means in a version.

    Raises:
        ViewError: of any kind, naming the parameter and what is allowed.
    """
    if asks_for_base(version, query):
        return plan_base_heatmap(version, books, query, MAX_LEVELS[query.format])
    symbol = find_symbol(version, query.market)
    model = find_model(symbol, query.model)
    seconds = SECONDS[query.interval]
    check_interval(seconds, query.interval, symbol.candles)
    weights = own_or_other(model, read_weights(query.leverage_weights))
    source = only_tiers(Source(version, symbol, model, weights, books), read_tiers(query.leverage_tiers))
    window = model_window(source, seconds, query.start_time, query.end_time)
    units = bin_units(query.price_bin_size, model.bucket(window.first, window.last), symbol.quote)
    rows = 0 if units is not None else query.max_rows
    key = ("heatmap", symbol.name, model.name, weights, source.tiers, window, units, rows, query.format)

    def make() -> encode.Body:
        return _body(source, window, query.interval, units, rows, query.format)

    return Plan(key, symbol.fingerprint, make, window.last >= model.end)


def _body(source: Source, window: Window, interval: str, units: int | None, rows: int, form: Format) -> encode.Body:
    heatmap = make_heatmap(source, window, interval, units, rows)
    levels = len(heatmap.grid.interval)
    if levels > MAX_LEVELS[form]:
        raise ViewError(
            "too_large",
            f"the answer would hold {levels} levels, more than {MAX_LEVELS[form]}; ask for a longer "
            "interval, a larger price_bin_size, or less time between start_time and end_time",
        )
    if form == "columns":
        return encode.Dump(as_columns(heatmap, reports_of(heatmap), lots_of(heatmap)).record())
    return _nested(heatmap)


def _nested(heatmap: Heatmap) -> encode.Body:
    window, present, grid, played = heatmap.window, heatmap.present, heatmap.grid, heatmap.played
    keep = (grid.long > 0) | (grid.short > 0)
    interval = grid.interval[keep]
    starts = np.searchsorted(interval, present)
    prices = encode.dump(grid.prices)[1:-1].decode().split(",")
    return encode.nested(
        stamps=[iso(window.first + int(number) * window.step) for number in present],
        starts=np.append(starts, len(interval)).astype(np.int64),
        price_texts=prices,
        bins=grid.bin[keep],
        long=grid.long[keep],
        short=grid.short[keep],
        counts=np.stack((played.created[present], played.liquidated[present]), axis=1),
        consumed=np.stack((grid.dead_long[present], grid.dead_short[present]), axis=1),
        meta=encode.dump(heatmap.meta()),
    )
