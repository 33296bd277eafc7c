"""Histories of random markets as views read them, without a database: what a view says is held against the model."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.instants import DAY, MICROSECONDS, ONE_DAY, day_of, day_start
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.store.columns import Reports
from heatmap_pipeline.symbols import contract_of
from heatmap_pipeline.views.data import ModelData, SymbolData, Version
from heatmap_pipeline.views.replay import Books, Source


class WithoutReports(Version):
    """A version in which no real liquidations were recorded, and behind which no database stands."""

    def reports(self, symbol: str, first: int, last: int, step: int) -> list[Reports]:
        del symbol, first, last, step
        return []


def history_of(
    parameters: ModelParameters, market: DayCandles, open_interest: float, name: str = "BTCUSDT", quote: str = "USDT"
) -> Source:
    """Return a history whose days are computed; `open_interest` (contracts) is that before its first candle."""
    times = market.open_time
    days = [day_of(int(day) * DAY) for day in np.unique(times // DAY)]
    prices = {name: getattr(market, name) for name in ("open", "high", "low", "close", "volume")}
    candles = Candles(parameters.interval, times, **prices, quote_volume=market.volume)
    model = ModelData(
        name=parameters.spec.name,
        first_day=days[0],
        last_day=days[-1],
        newest_complete=days[-1],
        newest_parameters=parameters,
        price=float(market.close[-1]),
        days=tuple(days),
        parameters=dict.fromkeys(days, parameters),
        fresh={days[0]: open_interest},
        provisional=frozenset(),
        missing=(),
        broken=(),
        times=times,
        rows=np.arange(len(times)),
        open_interest=market.open_interest,
        factor=market.factor,
        bounds={day: _bounds(times, day) for day in days},
        begin=int(times[0]),
        end=int(times[-1]) + parameters.interval * MICROSECONDS,
        located_share=0.0,
        snapshot_seconds=None,
        cells_from=None,
    )
    symbol = SymbolData(
        name,
        "",
        parameters.bucket,
        True,
        "demo",
        parameters.interval,
        {model.name: model},
        quote=quote,
        base=contract_of(name).base,
        candles=candles,
    )
    nothing: Any = None
    source = Source(WithoutReports("", {symbol.name: symbol}, {}, nothing), symbol, model, None, Books(1 << 30))
    for day in days:
        state = source.run(day, source.before(day), None).state
        source.books.put((symbol.name, symbol.fingerprint, model.name, None, day), state)
        assert day == days[-1] or day + ONE_DAY in model.bounds, "days follow each other"
    return source


def _bounds(times: Any, day: date) -> tuple[int, int]:
    first, end = np.searchsorted(times, (day_start(day), day_start(day) + DAY))
    return int(first), int(end)
