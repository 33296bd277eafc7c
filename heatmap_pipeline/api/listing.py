"""The small answers: the symbols there are, candles, scores, and alerts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.base import asks_for_base
from heatmap_pipeline.api.parameters import AlertsQuery, KlinesQuery, ScoreQuery
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.bins import resample
from heatmap_pipeline.instants import MICROSECONDS, SECONDS, iso
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.symbols import own_exchange
from heatmap_pipeline.views.base import bases, candles_record, find_base, leading, parts_of_moment, provenance
from heatmap_pipeline.views.data import SymbolData, SymbolSummary, Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.heatmap import title_record
from heatmap_pipeline.views.replay import Books
from heatmap_pipeline.views.window import check_interval, find_summary, find_symbol, model_name

_KLINE = ("open", "high", "low", "close", "volume", "quote_volume")


def plan_symbols(version: Version) -> Plan:
    """Plan the list of symbols."""

    def make() -> bytes:
        return encode.dump(
            {
                "symbols": [_entry(symbol) for symbol in version.symbols.values()],
                "bases": [_base(name, markets) for name, markets in bases(version).items()],
                "version": version.name,
                "schema_version": version.schema_version,
            }
        )

    # In which order models are listed is a setting, and no part of the data.
    order = tuple((name, *symbol.models) for name, symbol in version.symbols.items())
    return Plan(("symbols", order), version.name, make, live=True)


def _base(name: str, markets: Sequence[str]) -> dict[str, Any]:
    return {"base": name, "markets": list(markets), "exchanges": list(dict.fromkeys(map(own_exchange, markets)))}


def _entry(symbol: SymbolSummary) -> dict[str, Any]:
    first = next(iter(symbol.models.values()))
    return {
        "symbol": symbol.name,
        "models": list(symbol.models),
        "roles": {name: MODELS[name].role for name in symbol.models if name in MODELS},
        "quote": symbol.quote,
        "bucket": symbol.bucket,
        "first_day": first.first_day.isoformat(),
        "last_day": first.last_day.isoformat(),
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
        "as_of": iso(first.end),
        "price": first.price,
        "simulated": symbol.simulated,
        **title_record(symbol),
        "source": symbol.source,
        "provisional": first.last_day in first.provisional,
        "located_share": {name: model.located_share for name, model in symbol.models.items()},
        "coverage": {name: model.located_share for name, model in symbol.models.items()},
        "snapshot_interval_seconds": first.snapshot_seconds,
        "candle_interval_seconds": symbol.candle_seconds,
        "parameters": {name: json.loads(model.newest_parameters.to_json()) for name, model in symbol.models.items()},
    }


def plan_klines(version: Version, books: Books, query: KlinesQuery) -> Plan:
    """Find out which candles a request means; of a base those of the market with the largest open interest.

    Raises:
        ViewError: not found or invalid, naming the parameter and what is allowed.
    """
    if not asks_for_base(version, query):
        return _plan_candles(find_symbol(version, query.market), query, {})
    base = find_base(version, books, query.markets or query.market, None)
    parts = parts_of_moment(base, query.end_time)
    said = {**provenance(base, parts, [candles_record(part) for part in parts]), "symbol": base.name}
    return _plan_candles(leading(parts)[0].source.symbol, query, said)


def _plan_candles(symbol: SymbolData, query: KlinesQuery, said: Mapping[str, Any]) -> Plan:
    """Find out which candles of a symbol a request means; `said` is what the answer says of itself besides."""
    candles = symbol.candles
    seconds = SECONDS[query.interval]
    check_interval(seconds, query.interval, candles)
    step = seconds * MICROSECONDS
    begin, end = int(candles.open_time[0]), int(candles.open_time[-1]) + candles.step
    low, high = begin // step * step, -(-end // step) * step
    start = low if query.start_time is None else query.start_time // step * step
    stop = high if query.end_time is None else -(-query.end_time // step) * step
    if query.start_time is not None and query.end_time is not None and query.start_time >= query.end_time:
        raise ViewError("invalid", "start_time is not before end_time; give an earlier start_time or a later end_time")
    if stop <= low or start >= high:
        raise ViewError(
            "not_found",
            f"{symbol.name} has candles from {iso(begin)} to {iso(end)}; start_time and end_time ask for none of them",
        )
    first, last = max(start, low), min(stop, high)
    low, high = np.searchsorted(candles.open_time, (first, last))
    starts = candles.open_time[low:high] // step * step
    starts = starts[np.diff(starts, prepend=-1) != 0]
    starts = starts[: query.limit] if query.start_time is not None else starts[-query.limit :]
    if not len(starts):
        raise ViewError(
            "not_found",
            f"{symbol.name} has no candle from {iso(first)} to {iso(last)}; ask for more with start_time, end_time",
        )
    first, last = int(starts[0]), int(starts[-1]) + step

    def make() -> bytes:
        return _klines(symbol, query.interval, seconds, first, last, said)

    key = ("klines", symbol.name, seconds, first, last, *([repr(said)] if said else []))
    return Plan(key, symbol.fingerprint, make, last >= end)


def _klines(symbol: SymbolData, interval: str, seconds: int, first: int, last: int, said: Mapping[str, Any]) -> bytes:
    bars = resample(symbol.candles, first, last, seconds)
    columns = [getattr(bars, name).tolist() for name in _KLINE]
    times = [iso(time) for time in bars.open_time.tolist()]
    after = int(np.searchsorted(symbol.candles.open_time, last))
    return encode.dump(
        {
            "data": [dict(zip(("open_time", *_KLINE), row, strict=True)) for row in zip(times, *columns, strict=True)],
            "meta": {
                "symbol": symbol.name,
                "interval": interval,
                "start_time": iso(first),
                "end_time": iso(last),
                "total_candles": len(times),
                "as_of": iso(int(symbol.candles.open_time[after - 1]) + symbol.candles.step),
                "simulated": symbol.simulated,
                "units": {"time": "UTC", "price": symbol.quote, "volume": "contracts", "quote_volume": symbol.quote},
                **said,
            },
        }
    )


def plan_score(version: Version, query: ScoreQuery) -> Plan:
    """Find out which score a request means.

    Raises:
        ViewError: not found, naming the symbols or models there are.
    """
    symbol = find_summary(version, query.symbol)
    model = model_name(symbol, query.model)

    def make() -> bytes:
        return encode.dump(version.score(symbol.name, model))

    return Plan(("score", symbol.name, model), symbol.fingerprint, make, live=True)


def plan_alerts(version: Version, query: AlertsQuery) -> Plan:
    """Find out which alerts a request means.

    Raises:
        ViewError: not found, naming the symbols there are.
    """
    symbol = None if query.symbol is None else find_summary(version, query.symbol).name

    def make() -> bytes:
        alerts = [{**asdict(alert), "at": iso(alert.at)} for alert in version.alerts(symbol, query.limit)]
        return encode.dump({"alerts": alerts})

    return Plan(("alerts", symbol, query.limit), version.name, make, live=True)
