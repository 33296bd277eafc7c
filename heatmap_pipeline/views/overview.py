"""All markets at a glance: price, its last days, the nearest zones, the score.

Two questions to the database however many there are, and no replay: the books are the stored ones at the end of each
market's newest day, so the zones are those of the newest map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from heatmap_pipeline.bins import resample
from heatmap_pipeline.instants import DAY, MICROSECONDS, iso
from heatmap_pipeline.model.zones import NEAR, Zone, find_zones, landmarks
from heatmap_pipeline.store.columns import BookCells
from heatmap_pipeline.store.scores import Agreement
from heatmap_pipeline.views.data import ModelData, SymbolData, Version
from heatmap_pipeline.views.heatmap import title_record

SPARK_DAYS = 7
SPARK_SECONDS = 7200
WINDOWS = ("28d", "all")
"""Windows of the score, the first that there is counts."""


def market_records(version: Version) -> list[dict[str, Any]]:
    """Return one record per symbol and its first model, in the order of symbols; what is not known is None.

    Keys: `symbol`, `model`, `quote`, `price`, `as_of`, `change_24h_percent`, `sparkline` (`start`, `interval_seconds`,
    `closes`), `nearest` (`above`, `below`: a zone each), `located_share`, `score` (`long`, `short`, `window`,
    `hours`, `source`, `own_exchange`), `simulated`, `provisional`, `newest_day` (the newest complete one), `ended`.
    """
    markets = [(symbol, next(iter(symbol.models.values()))) for symbol in version.symbols.values()]
    books = version.newest_books(
        [(symbol.name, model.name, model.days[-1], _units(model)) for symbol, model in markets]
    )
    scores = version.agreements()
    return [
        _record(symbol, model, books.get(symbol.name), scores.get((symbol.name, model.name), {}))
        for symbol, model in markets
    ]


def _units(model: ModelData) -> int:
    return model.parameters[model.days[-1]].bucket_units


def _record(
    symbol: SymbolData, model: ModelData, book: BookCells | None, scores: Mapping[str, Agreement]
) -> dict[str, Any]:
    row = int(model.rows[-1])
    price = float(symbol.candles.close[row])
    window = next((name for name in WINDOWS if name in scores), None)
    return {
        "symbol": symbol.name,
        "model": model.name,
        "quote": symbol.quote,
        "price": price,
        "as_of": iso(model.end),
        "change_24h_percent": _change(symbol, model.end, price),
        "sparkline": _sparkline(symbol, model.end),
        "nearest": _nearest(book, _units(model), price),
        "located_share": model.located_share,
        "score": None if window is None else {"window": window, **asdict(scores[window])},
        "simulated": symbol.simulated,
        **title_record(symbol),
        "provisional": model.days[-1] in model.provisional,
        "newest_day": None if model.newest_complete is None else model.newest_complete.isoformat(),
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
    }


def _change(symbol: SymbolData, end: int, price: float) -> float | None:
    """Return how much the price changed in the 24 hours before an instant, percent; None without a candle there."""
    candles = symbol.candles
    at = int(np.searchsorted(candles.open_time, end - DAY - candles.step))
    if at >= len(candles.open_time) or candles.open_time[at] != end - DAY - candles.step:
        return None
    return round(100 * (price / float(candles.close[at]) - 1), 4)


def _sparkline(symbol: SymbolData, end: int) -> dict[str, Any]:
    """Return the closes of the last days; an interval without a candle has None."""
    step = SPARK_SECONDS * MICROSECONDS
    last = -(-end // step) * step
    first = last - SPARK_DAYS * DAY
    bars = resample(symbol.candles, first, end, SPARK_SECONDS)
    closes: list[float | None] = [None] * ((last - first) // step)
    for time, close in zip(bars.open_time.tolist(), bars.close.tolist(), strict=True):
        closes[(time - first) // step] = close
    return {"start": iso(first), "interval_seconds": SPARK_SECONDS, "closes": closes}


def _nearest(book: BookCells | None, units: int, price: float) -> dict[str, dict[str, Any] | None]:
    """Return the nearest zone above and below the price, as /liquidations/map says it, but since when it stands."""
    if book is None:
        return {"above": None, "below": None}
    here = np.zeros(len(book.bucket), dtype=np.int64)
    edges = book.bucket * units
    zones = find_zones(here, edges, book.side.astype(np.int8), book.volume, np.array([price]), units)
    marks = landmarks(zones.of(0), 100 * NEAR)
    return {"above": _rounded(marks.nearest_above), "below": _rounded(marks.nearest_below)}


def _rounded(zone: Zone | None) -> dict[str, Any] | None:
    if zone is None:
        return None
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(zone).items()}
