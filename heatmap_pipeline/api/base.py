"""The answers about a base: which requests are of one, and the bodies that are made of its markets."""

from __future__ import annotations

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.parameters import (
    HeatmapQuery,
    KlinesQuery,
    LotsQuery,
    MapQuery,
    read_tiers,
    read_weights,
)
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.instants import SECONDS, iso
from heatmap_pipeline.views.base import Base, base_window, find_base, is_base, parts_of_moment, without_ended
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.replay import Books
from heatmap_pipeline.views.summed import Summed, check_levels, summed_columns, summed_in
from heatmap_pipeline.views.summed_map import bucket_of_moment, price_of, summed_lots_record, summed_map_record
from heatmap_pipeline.views.window import bin_units

MAX_CELLS = 1_500_000
"""Cells of all markets of an answer."""


def asks_for_base(version: Version, query: HeatmapQuery | LotsQuery | KlinesQuery) -> bool:
    """Whether a request is of a base; a name that is a market as well is the market."""
    return query.symbol is None or is_base(version, query.market)


def base_of(version: Version, books: Books, query: HeatmapQuery | LotsQuery) -> Base:
    """Return what a request for a base adds up.

    Raises:
        ViewError: as `find_base`.
    """
    asked = query.markets or query.market
    weights, tiers = read_weights(query.leverage_weights), read_tiers(query.leverage_tiers)
    return find_base(version, books, asked, query.model, weights, tiers)


def plan_base_heatmap(version: Version, books: Books, query: HeatmapQuery, most: int) -> Plan:
    """Find out what a request for the heatmap of a base means.

    Args:
        version: what is served.
        books: kept between answers.
        query: the request.
        most: levels of an answer.

    Raises:
        ViewError: of any kind, naming the parameter and what is allowed.
    """
    base = base_of(version, books, query)
    seconds = SECONDS[query.interval]
    window = base_window(base, seconds, query.interval, query.start_time, query.end_time)
    base = without_ended(base, window.first)
    units = bin_units(query.price_bin_size, base.bucket(window.first, window.last), base.quote)
    rows = 0 if units is not None else query.max_rows

    def make() -> encode.Body:
        is_nested = query.format == "nested"
        summed = summed_in(base, window, query.interval, units, rows, MAX_CELLS)
        check_levels(len(summed.grid.interval), most)
        return _nested(summed) if is_nested else encode.Dump(summed_columns(summed).record())

    key = ("heatmap", base.key, window, units, rows, query.format)
    return Plan(key, base.fingerprint, make, window.last >= base.end)


def _nested(summed: Summed) -> encode.Body:
    window, grid = summed.window, summed.grid
    present = np.flatnonzero(summed.there)
    keep = (grid.long > 0) | (grid.short > 0)
    interval = grid.interval[keep]
    played = [heatmap.played for heatmap in summed.heatmaps if heatmap is not None]
    created, liquidated = [replay.created for replay in played], [replay.liquidated for replay in played]
    missing = [encode.dump(summed.missing_in(int(number))).decode() for number in present]
    return encode.nested(
        stamps=[iso(window.first + int(number) * window.step) for number in present],
        starts=np.append(np.searchsorted(interval, present), len(interval)).astype(np.int64),
        price_texts=encode.dump(grid.prices)[1:-1].decode().split(","),
        bins=grid.bin[keep],
        long=grid.long[keep],
        short=grid.short[keep],
        counts=np.stack([np.sum(each, axis=0)[present] for each in (created, liquidated)], axis=1),
        consumed=np.stack((grid.dead_long[present], grid.dead_short[present]), axis=1),
        meta=encode.dump(summed.meta()),
        more=[f'"missing":{names},' for names in missing],
    )


def plan_base_map(version: Version, books: Books, query: LotsQuery) -> Plan:
    """Find out which state of a base a request for its map, or its lots, means.

    Raises:
        ViewError: not found or invalid, naming the parameter and what is allowed.
    """
    base = base_of(version, books, query)
    parts = parts_of_moment(base, query.time)
    base = without_ended(base, parts[0].newest - 1)
    parts = parts_of_moment(base, query.time)
    units = bin_units(query.price_bin_size, bucket_of_moment(base, parts), base.quote)
    price = price_of(parts)
    if units is not None and units / 1e8 > price:
        raise ViewError(
            "invalid",
            f"price_bin_size = {units / 1e8:g} is more than the price, {price:g} {base.quote}; ask for a smaller one",
        )
    within = query.within_percent if isinstance(query, MapQuery) else None

    def make() -> bytes:
        return encode.dump(
            summed_lots_record(base, parts, units) if within is None else summed_map_record(base, parts, units, within)
        )

    key = ("map", base.key, within, tuple(part.at for part in parts), parts[0].newest, units)
    newest = all(part.at == len(part.source.model.times) - 1 for part in parts)
    return Plan(key, base.fingerprint, make, newest)
