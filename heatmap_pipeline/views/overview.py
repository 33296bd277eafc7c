"""All markets at a glance: price, its last days, the nearest zones, the score.

Four questions to the database however many there are, nothing kept in memory, and no replay: the books are the stored
ones at the end of each market's newest day, so the zones are those of the newest map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heatmap_pipeline.instants import DAY, MICROSECONDS, iso
from heatmap_pipeline.model.zones import NEAR, Zone, find_zones, landmarks
from heatmap_pipeline.store.columns import BookCells
from heatmap_pipeline.store.scores import Agreement
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline.views.data import ModelSummary, SymbolSummary, Version
from heatmap_pipeline.views.heatmap import title_record

SPARK_DAYS = 7
SPARK_SECONDS = 7200
_SPARK_STEP = SPARK_SECONDS * MICROSECONDS
WINDOWS = ("28d", "all")
"""Windows of the score, the first that there is counts."""


def market_records(version: Version) -> list[dict[str, Any]]:
    """Return one record per symbol and its first model, in the order of symbols; what is not known is None.

    Keys: `symbol`, `market` (how it is typed), `model`, `quote`, `price`, `as_of`, `change_24h_percent`, `sparkline`
    (`start`, `interval_seconds`, `closes`), `nearest` (`above`, `below`: a zone each), `located_share`, `score`
    (`long`, `short`, `window`, `hours`, `source`, `own_exchange`), `simulated`, `provisional`, `newest_day` (the
    newest complete one), `ended`.
    """
    markets = [(symbol, next(iter(symbol.models.values()))) for symbol in version.symbols.values()]
    books = version.newest_books(
        [(symbol.name, model.name, model.last_day, _units(model)) for symbol, model in markets]
    )
    week = [(symbol.name, _spark_start(model.end), model.end) for symbol, model in markets]
    past = version.recent_closes(week, SPARK_SECONDS)
    yesterday = version.closes_at({(symbol.name, _day_before(symbol, model.end)) for symbol, model in markets})
    scores = version.agreements()
    return [
        {
            **_record(symbol, model, scores.get((symbol.name, model.name), {})),
            "change_24h_percent": _change(model.price, yesterday.get((symbol.name, _day_before(symbol, model.end)))),
            "sparkline": _sparkline(past.get(symbol.name, ()), model.end),
            "nearest": _nearest(books.get(symbol.name), _units(model), model.price),
        }
        for symbol, model in markets
    ]


def _units(model: ModelSummary) -> int:
    return model.newest_parameters.bucket_units


def _record(symbol: SymbolSummary, model: ModelSummary, scores: Mapping[str, Agreement]) -> dict[str, Any]:
    """Return a record whose keys stand in their order; what is asked of the database comes into its places."""
    window = next((name for name in WINDOWS if name in scores), None)
    return {
        "symbol": symbol.name,
        "market": typed_name(symbol.name),
        "model": model.name,
        "quote": symbol.quote,
        "price": model.price,
        "as_of": iso(model.end),
        "change_24h_percent": None,
        "sparkline": None,
        "nearest": None,
        "located_share": model.located_share,
        "score": None if window is None else {"window": window, **asdict(scores[window])},
        "simulated": symbol.simulated,
        **title_record(symbol),
        "provisional": model.last_day in model.provisional,
        "newest_day": None if model.newest_complete is None else model.newest_complete.isoformat(),
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
    }


def _day_before(symbol: SymbolSummary, end: int) -> int:
    """Return the start of the candle that ended 24 hours before an instant."""
    return end - DAY - symbol.candle_seconds * MICROSECONDS


def _change(price: float, before: float | None) -> float | None:
    """Return how much the price changed, percent; None where it is not known what it was before."""
    return None if before is None else round(100 * (price / before - 1), 4)


def _spark_end(end: int) -> int:
    return -(-end // _SPARK_STEP) * _SPARK_STEP


def _spark_start(end: int) -> int:
    return _spark_end(end) - SPARK_DAYS * DAY


def _sparkline(past: Sequence[tuple[int, float]], end: int) -> dict[str, Any]:
    """Return the closes of the last days; an interval without a candle has None."""
    first = _spark_start(end)
    closes: list[float | None] = [None] * ((_spark_end(end) - first) // _SPARK_STEP)
    for time, close in past:
        closes[(time - first) // _SPARK_STEP] = close
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
