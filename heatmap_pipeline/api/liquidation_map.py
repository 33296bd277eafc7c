"""The book after one candle as the endpoint answers it: the map, its lots, and the deprecated list of levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.base import asks_for_base, plan_base_map
from heatmap_pipeline.api.parameters import LotsQuery, MapQuery, read_tiers, read_weights
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.instants import iso
from heatmap_pipeline.views.book_map import lots_record, map_record
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.window import bin_units, find_model, find_symbol, only_tiers, own_or_other


def plan_map(version: Version, books: Books, query: MapQuery, *, levels: bool = False) -> Plan:
    """Find out which state a request means; `levels` asks for the deprecated shape.

    Raises:
        ViewError: not found or invalid, naming the parameter and what is allowed.
    """
    if asks_for_base(version, query) and not levels:
        return plan_base_map(version, books, query)
    source, at, units = _asked(version, books, query)

    def make() -> bytes:
        record = map_record(source, at, units, query.within_percent)
        return encode.dump(_levels(record) if levels else record)

    return _plan(("map", levels, query.within_percent), source, at, units, make)


def plan_lots(version: Version, books: Books, query: LotsQuery) -> Plan:
    """Find out which state a request for lots means.

    Raises:
        ViewError: as `plan_map`.
    """
    if asks_for_base(version, query):
        return plan_base_map(version, books, query)
    source, at, units = _asked(version, books, query)
    return _plan(("lots",), source, at, units, lambda: encode.dump(lots_record(source, at, units)))


def _plan(kind: tuple[object, ...], source: Source, at: int, units: int | None, make: Callable[[], bytes]) -> Plan:
    symbol, model = source.symbol, source.model
    key = (*kind, symbol.name, model.name, source.weights, source.tiers, at, units)
    return Plan(key, symbol.fingerprint, make, at == len(model.times) - 1)


def _asked(version: Version, books: Books, query: LotsQuery) -> tuple[Source, int, int | None]:
    """Return what is asked of, the number of the candle after which, and the height of a bin (None = as fits)."""
    symbol = find_symbol(version, query.market)
    model = find_model(symbol, query.model)
    weights = own_or_other(model, read_weights(query.leverage_weights))
    source = only_tiers(Source(version, symbol, model, weights, books), read_tiers(query.leverage_tiers))
    times, step = model.times, symbol.candles.step
    at = len(times) - 1 if query.time is None else int(np.searchsorted(times, query.time - step, side="right")) - 1
    if at < 0:
        raise ViewError(
            "not_found",
            f"{symbol.name} {model.name} has states from {iso(model.begin + step)} to {iso(model.end)}; time asks for "
            "an earlier one",
        )
    state_time = int(times[at])
    units = bin_units(query.price_bin_size, model.bucket(state_time, state_time + 1), symbol.quote)
    newest = float(symbol.candles.close[-1])
    if units is not None and units / 1e8 > newest:
        raise ViewError(
            "invalid",
            f"price_bin_size = {units / 1e8:g} is more than the price, {newest:g} {symbol.quote}; ask for a "
            "smaller one",
        )
    return source, at, units


def _levels(record: dict[str, Any]) -> dict[str, Any]:
    """Return a map as the deprecated list: one entry per bucket and side, by price."""
    return {
        **{name: record[name] for name in ("symbol", "model", "time", "price", "price_bin_size")},
        "levels": [
            {
                "price": bucket["price"],
                "side": side,
                "volume": bucket[side],
                "distance_percent": bucket["distance_percent"],
            }
            for bucket in record["buckets"]
            for side in ("long", "short")
            if bucket[side] > 0
        ],
        **{name: record[name] for name in ("located_share", "coverage", "as_of", "simulated", "units")},
    }
