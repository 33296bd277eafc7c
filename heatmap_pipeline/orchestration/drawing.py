"""From the stored map to what is drawn: which days, at which resolution. No Dagster in this file."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from heatmap_pipeline.chain.history import ChainError, resolve_parameters
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.render.data import HeatmapData, make_heatmap_data
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store import read

DAYS_DRAWN = 30
"""Newest days on the page, without a gap; more would be more columns than a screen has."""

_ONE_DAY = timedelta(days=1)


def load_heatmap(con: Any, settings: Settings, symbol: str, model: str) -> HeatmapData:
    """Read the newest days of one symbol and model, ready to be drawn.

    Raises:
        ChainError: if nothing is stored of it.
    """
    record = stored_raw.get_symbol(con, symbol)
    days = stored.day_records(con, symbol, model)
    if record is None or not days:
        raise ChainError(f"{symbol} {model}: nothing is stored, so there is nothing to draw")
    last = max(days)
    first = last
    while first - _ONE_DAY in days and (last - first).days + 1 < DAYS_DRAWN:
        first -= _ONE_DAY
    start = datetime.combine(first, datetime.min.time())
    end = datetime.combine(last + timedelta(days=1), datetime.min.time())
    seconds = SECONDS[settings.snapshot_interval_of(symbol)]
    bucket = resolve_parameters(settings, record, model, last).bucket
    cells = read.load_cells(con, symbol, model, start, end, seconds)
    return make_heatmap_data(
        symbol=symbol,
        model=model,
        bucket=bucket,
        interval_seconds=seconds,
        timestamps=cells.timestamps.astype("datetime64[us]"),
        buckets=cells.indices(bucket),
        sides=cells.sides,
        active=cells.active,
        consumed=cells.consumed,
        candles=read.load_candles_window(con, symbol, start, end),
        coverage=read.coverage(con, symbol, model),
        simulated=record.simulated,
        provisional=days[last].provisional,
    )
