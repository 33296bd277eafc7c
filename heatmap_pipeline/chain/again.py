"""Cells of days whose cells are stored no more (HEATMAP_KEEP_CELLS), computed again from what is.

What belongs here: the cells that a score needs at the starts of hours, bit for bit those that were stored. What does
not: what a reader asks for, which `views/replay.py` computes whether cells are stored or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np

from heatmap_pipeline.bins import merge_cells
from heatmap_pipeline.chain.compute import most_cells
from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.flows import level_changes
from heatmap_pipeline.model.book import Columns, DayCandles, Floats, Ints
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.model.score.hours import HOUR
from heatmap_pipeline.store.columns import first_samples, model_candles
from heatmap_pipeline.store.days import DayRecord, snapshot_days
from heatmap_pipeline.store.sql import Connection


def cells_again(
    con: Connection,
    symbol: str,
    model: str,
    days: Mapping[date, DayRecord],
    times: Ints,
    columns: Mapping[str, Floats],
) -> Columns:
    """Return the cells at the ends of whole hours of the days before the first whose cells are stored.

    Args:
        con: an open database.
        symbol: as the exchange writes it.
        model: its name.
        days: of the model, rising; the first begins a history.
        times: starts of the candles of these days, microseconds.
        columns: `open`, `high`, `low`, `close` and `volume` of these candles.

    Returns:
        `hour` (microseconds), `side`, `price` (lower edge of the bucket, 1e-8 of the quote asset) and `volume` (quote
        asset, above 0), shape (n,) each.
    """
    cells = snapshot_days(con, symbol, model)
    first = min(cells, default=date.min)
    wanted = {day: record for day, record in days.items() if day < first}
    none: Columns = {name: np.zeros(0, dtype=np.int64) for name in ("hour", "side", "price")}
    parts = [{**none, "volume": np.zeros(0)}]
    if not wanted:
        return parts[0]
    seconds = cells[first][1]
    model_times, level = model_candles(con, symbol, model)
    fresh = first_samples(con, symbol, [day for day, record in wanted.items() if record.previous_hash == ""])
    state = None
    for day, record in wanted.items():
        parameters = ModelParameters.from_json(record.parameters)
        if day in fresh or state is None:
            state = start_state(parameters, fresh[day])
        low, high = np.searchsorted(model_times, (day_start(day), day_start(day) + DAY))
        rows = np.searchsorted(times, model_times[low:high])
        factor = np.ones(high - low)
        for time, value in record.state.get("factors", ()):
            factor[np.searchsorted(model_times[low:high], time)] = value
        candles = DayCandles(
            times[rows],
            **{name: columns[name][rows] for name in ("open", "high", "low", "close", "volume")},
            flow=level_changes(level[low:high], factor, state.open_interest),
            open_interest=level[low:high],
            factor=factor,
        )
        result = run_day(parameters, state, candles, seconds)
        parts.append(_at_hours(merge_cells(result.cells, most_cells(seconds))[0], seconds, parameters.bucket_units))
        state = result.state
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _at_hours(cells: Columns, seconds: int, bucket_units: int) -> Columns:
    end = cells["timestamp"] + seconds * MICROSECONDS
    kept = (end % HOUR == 0) & (cells["active_volume"] > 0)
    return {
        "hour": end[kept],
        "side": cells["side"][kept].astype(np.int64),
        "price": cells["price_bucket"][kept].astype(np.int64) * bucket_units,
        "volume": cells["active_volume"][kept],
    }
