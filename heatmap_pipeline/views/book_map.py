"""The book after one candle: as a map by price with what stands out in it, and as its lots by price and leverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_of, iso
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Ints, Lots, Sides
from heatmap_pipeline.model.zones import NEAR, Move, Zone, find_zones, landmarks, max_pain, standing_since
from heatmap_pipeline.views.grid import DECIMALS
from heatmap_pipeline.views.heatmap import tiers_record, title_record, units_of
from heatmap_pipeline.views.replay import Source, shares_located
from heatmap_pipeline.views.window import MAX_ROWS, choose_bins
from heatmap_pipeline.views.zones import lots_after


def map_record(source: Source, at: int, units: int | None, within: float) -> dict[str, Any]:
    """Return the map after the model candle number `at`; `units` is the height of a bin (1e-8 USDT), None = as fits."""
    symbol, model = source.symbol, source.model
    row = int(model.rows[at])
    start, price = int(symbol.candles.open_time[row]), float(symbol.candles.close[row])
    prices, sides, volumes, located_share = book_after(source, start, at)
    low, high = (int(prices.min()), int(prices.max())) if len(prices) else (round(price * 1e8),) * 2
    height = choose_bins(low, high, model.bucket(start, start + 1), units, MAX_ROWS)
    first, bins = low // height, high // height - low // height + 1
    long, short = (
        np.bincount(prices[sides == side] // height - first, volumes[sides == side], bins).astype(np.float64)
        for side in (LONG, SHORT)
    )
    size = height / 1e8
    edges = (first + np.arange(bins)) * height / 1e8
    return {
        "symbol": symbol.name,
        "model": model.name,
        "time": iso(start + symbol.candles.step),
        "price": price,
        "price_bin_size": size,
        "within_percent": within,
        "buckets": buckets_record(edges, long, short, price),
        **zones_record(own_units(source, at), lots_after(source, at), (prices, sides, volumes), price, within),
        "max_pain": pain_record(edges, size, long, short, price, within),
        "total_long_volume": round(float(long.sum()), DECIMALS),
        "total_short_volume": round(float(short.sum()), DECIMALS),
        "located_share": located_share,
        "coverage": located_share,
        **_provenance(source, start),
    }


def lots_record(source: Source, at: int, units: int | None) -> dict[str, Any]:
    """Return the lots after the model candle number `at`, by price bin and leverage, and the zones of that book.

    `units` is the height of a bin (1e-8 of the quote asset), None = as fits.
    """
    symbol, model = source.symbol, source.model
    row = int(model.rows[at])
    start, price = int(symbol.candles.open_time[row]), float(symbol.candles.close[row])
    lots = lots_after(source, at)
    low, high = (int(lots.liq_price.min()), int(lots.liq_price.max())) if len(lots) else (round(price * 1e8),) * 2
    height = choose_bins(low, high, model.bucket(start, start + 1), units, MAX_ROWS)
    cells = book_after(source, start, at)[:3]
    return {
        "symbol": symbol.name,
        "model": model.name,
        "time": iso(start + symbol.candles.step),
        "price": price,
        "price_bin_size": height / 1e8,
        **{name: lots_by_bin(lots, side, height) for side, name in SIDE_NAMES.items()},
        **zones_record(own_units(source, at), lots, cells, price, 100 * NEAR),
        **_provenance(source, start),
    }


def lots_by_bin(lots: Lots, side: int, height: int) -> dict[str, Any]:
    """Return the volume of each bin and leverage of a side, and when the oldest part opened, by price, then leverage.

    `height` is that of a bin, 1e-8 of the quote asset; what is returned is as /liquidations/lots has it.
    """
    of_side = lots.side == side
    bins, leverage = lots.liq_price[of_side] // height, lots.leverage[of_side]
    volume, opened_at = lots.volume[of_side], lots.opened_at[of_side]
    order = np.lexsort((leverage, bins))
    bins, leverage, volume, opened_at = (column[order] for column in (bins, leverage, volume, opened_at))
    begins = np.flatnonzero((np.diff(bins, prepend=-1) != 0) | (np.diff(leverage, prepend=0.0) != 0))
    return {
        "price": bins[begins] * height / 1e8,
        "leverage": leverage[begins],
        "volume": np.add.reduceat(volume, begins).round(DECIMALS) if len(begins) else volume,
        "opened_at": (np.minimum.reduceat(opened_at, begins) if len(begins) else opened_at) // 1000,
    }


def _provenance(source: Source, start: int) -> dict[str, Any]:
    """Return what a state says of itself; `start` is that of its candle, microseconds."""
    symbol = source.symbol
    return {
        "as_of": iso(start + symbol.candles.step),
        "simulated": symbol.simulated,
        **title_record(symbol),
        "provisional": day_of(start) in source.model.provisional,
        "leverage_weights": None if source.weights is None else [list(row) for row in source.weights],
        **tiers_record(source),
        "units": {name: unit for name, unit in units_of(symbol.quote).items() if name != "density"},
    }


def own_units(source: Source, at: int) -> int:
    """Return the height of a market's buckets on the day of the model candle number `at`, 1e-8 of the quote asset."""
    return source.parameters(day_of(int(source.model.times[at]))).bucket_units


def pain_record(edges: Floats, size: float, long: Floats, short: Floats, price: float, within: float) -> dict[str, Any]:
    """Return the deprecated max pain of bins of a height within a distance, percent."""
    near = np.flatnonzero((edges >= price * (1 - within / 100)) & (edges + size <= price * (1 + within / 100)))
    seen = slice(near[0], near[-1] + 1) if len(near) else slice(0, 0)
    first = float(edges[seen][0]) if len(near) else price
    above, below = max_pain(first, size, long[seen], short[seen], price)
    return {"above": _rounded(above), "below": _rounded(below)}


def book_after(source: Source, start: int, at: int) -> tuple[Ints, Sides, Floats, float]:
    """Return price (1e-8 of the quote asset), side and volume of the buckets after a candle; and the located share.

    `start` is that of the candle, microseconds, `at` its number in the model.
    """
    day = day_of(start)
    last_of_day = at == source.model.bounds[day][1] - 1
    # Within a day the state is that of the candle's own snapshot: a day cut short would end, and sweep its dust, there.
    step = DAY // MICROSECONDS if last_of_day else source.symbol.candles.seconds
    result = source.run(day, source.before(day), step)
    cells = result.cells
    stamp = start // (step * MICROSECONDS) * (step * MICROSECONDS)
    here = (cells["timestamp"] == stamp) & (cells["active_volume"] > 0)
    prices = cells["price_bucket"][here] * source.parameters(day).bucket_units
    share = float(shares_located(result, np.array([start + 1]), np.zeros(1))[0])
    return prices, cells["side"][here], cells["active_volume"][here], share


def buckets_record(edges: Floats, long: Floats, short: Floats, price: float) -> list[dict[str, Any]]:
    """Return the bins that hold anything, with what stands from the price outward."""
    there = np.flatnonzero((long > 0) | (short > 0))
    columns = {
        "price": edges,
        "long": long.round(DECIMALS),
        "short": short.round(DECIMALS),
        "cumulative_long": np.cumsum(long[::-1])[::-1].round(DECIMALS),
        "cumulative_short": np.cumsum(short).round(DECIMALS),
        "distance_percent": (100 * (edges / price - 1)).round(6),
    }
    rows = zip(*(column[there].tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def zones_record(
    units: int,
    lots: Lots,
    cells: tuple[Ints, Sides, Floats],
    price: float,
    within: float,
    more: Callable[[Sequence[Zone]], Sequence[Mapping[str, Any]]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the zones of a book: the largest within a distance as `clusters`, and the nearest ones.

    Args:
        units: height of its buckets, 1e-8 of the quote asset.
        lots: the book.
        cells: the same as buckets (lower edge, 1e-8 of the quote asset, rising), sides and volumes.
        price: of the moment.
        within: percent.
        more: what is said of each zone besides.
    """
    bucket, sides, volumes = cells
    book = np.zeros(len(bucket), dtype=np.int64)
    marks = landmarks(find_zones(book, bucket, sides, volumes, np.array([price]), units).of(0), within)
    shown = [*marks.above, *marks.below, *filter(None, (marks.nearest_above, marks.nearest_below))]
    since = dict(zip(shown, standing_since(lots, shown), strict=True))
    besides = dict(zip(shown, more(shown), strict=True)) if more is not None else {}

    def body(zone: Zone) -> dict[str, Any]:
        instant = since[zone]
        return {**_rounded(zone), "since": None if instant is None else iso(instant), **besides.get(zone, {})}

    return {
        "clusters": {"above": [body(zone) for zone in marks.above], "below": [body(zone) for zone in marks.below]},
        "nearest": {
            "above": marks.nearest_above and body(marks.nearest_above),
            "below": marks.nearest_below and body(marks.nearest_below),
        },
    }


def _rounded(landmark: Zone | Move | None) -> Any:
    if landmark is None:
        return None
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(landmark).items()}
