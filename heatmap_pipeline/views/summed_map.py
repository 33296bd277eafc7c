"""The book of a base at one moment: the sum of its markets' maps, or their lots put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatmap_pipeline.instants import iso
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Lots
from heatmap_pipeline.model.zones import NEAR, Zone
from heatmap_pipeline.views.adding import Book, cells_of_sum, volumes_between
from heatmap_pipeline.views.base import Base, Part, added, day_is_provisional, leading, provenance
from heatmap_pipeline.views.book_map import book_after, buckets_record, lots_by_bin, pain_record, zones_record
from heatmap_pipeline.views.grid import DECIMALS
from heatmap_pipeline.views.heatmap import units_of
from heatmap_pipeline.views.summed import joined_lots
from heatmap_pipeline.views.window import MAX_ROWS, choose_bins
from heatmap_pipeline.views.zones import lots_after


def price_of(parts: Sequence[Part]) -> float:
    """Return the price at a moment: that of the market whose candles are shown."""
    part = leading(parts)[0]
    return float(part.source.symbol.candles.close[part.source.model.rows[part.at]])


def bucket_of_moment(base: Base, parts: Sequence[Part]) -> float:
    """Return the largest bucket of the markets that are there at a moment.

    Raises:
        ViewError: as `Base.bucket`.
    """
    starts = [int(part.source.model.times[part.at]) for part in parts if part.at is not None and part.present[0]]
    return base.bucket(min(starts), max(starts) + 1)


class _State:
    """The books of the markets that are there at a moment; the others are missing."""

    def __init__(self, base: Base, parts: Sequence[Part]) -> None:
        self.base, self.parts = base, parts
        self.price = price_of(parts)
        self.units = round(bucket_of_moment(base, parts) * 1e8)
        self.shares: list[float | None] = []
        books: list[Book | None] = []
        for part in parts:
            if part.at is None:
                books.append(None)
                self.shares.append(None)
                continue
            prices, sides, volumes, share = book_after(part.source, int(part.source.model.times[part.at]), part.at)
            self.shares.append(share)
            books.append((np.zeros(len(prices), dtype=np.int64), prices, sides, volumes) if part.present[0] else None)
        self.books = books
        self.cells = cells_of_sum(books, np.array([self.units]))
        self.lots: Lots = joined_lots(
            [lots_after(part.source, part.at) for part in parts if part.at is not None and part.present[0]]
        )

    def zones(self, within: float) -> dict[str, Any]:
        """Return the zones of the sum, each with what the markets have in it."""

        def parts_of(zones: Sequence[Zone]) -> list[Mapping[str, Any]]:
            low, high = (
                np.array([round(getattr(zone, edge) * 1e8) for zone in zones], dtype=np.int64)
                for edge in ("low", "high")
            )
            side = np.array([LONG if zone.side == "long" else SHORT for zone in zones], dtype=np.int8)
            book = np.zeros(len(zones), dtype=np.int64)
            volumes = volumes_between(self.books, book, side, low, high)
            names = [(row, part.source.symbol.name) for row, part in enumerate(self.parts) if part.present[0]]
            return [
                {"parts": {name: round(float(volumes[row, number]), DECIMALS) for row, name in names}}
                for number in range(len(zones))
            ]

        return zones_record(self.units, self.lots, self.cells[1:], self.price, within, parts_of)

    def height(self, asked: int | None, low: int, high: int) -> int:
        """Return the height of a bin, 1e-8 of the quote asset, for prices from `low` to `high`."""
        return choose_bins(low, high, self.units / 1e8, asked, MAX_ROWS)

    def head(self, size: float) -> dict[str, Any]:
        """Return what an answer begins with; `size` is the height of a bin, quote asset."""
        return {
            "symbol": self.base.name,
            "model": self.base.model,
            "time": iso(self.parts[0].newest),
            "price": self.price,
            "price_bin_size": size,
        }

    def located_share(self) -> float:
        """Return the located contracts of the markets that are there / their open interest."""
        there = [
            (share * part.open_interest, part.open_interest)
            for part, share in zip(self.parts, self.shares, strict=True)
            if part.present[0] and share is not None and part.open_interest is not None
        ]
        whole = sum(level for _, level in there)
        return sum(located for located, _ in there) / whole if whole > 0 else 0.0

    def provenance(self, totals: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """Return what an answer says of itself; `totals` are the long and the short volume of each market."""
        base, newest = self.base, self.parts[0].newest
        whole = sum(sum(total) for total, part in zip(totals, self.parts, strict=True) if part.present[0])
        records = [
            part.record(not part.present[0], *total, whole, share)
            for part, total, share in zip(self.parts, totals, self.shares, strict=True)
        ]
        return {
            "as_of": iso(newest),
            "simulated": base.simulated,
            "exchange": None,
            "title": base.title,
            "provisional": day_is_provisional(self.parts, newest - 1, newest),
            "leverage_weights": None if base.weights is None else [list(row) for row in base.weights],
            "tiers": list(base.all_tiers),
            "leverage_tiers": None if base.shown_tiers is None else list(base.shown_tiers),
            "units": {name: unit for name, unit in units_of(base.quote).items() if name != "density"},
            **provenance(base, self.parts, records),
        }

    def totals(self) -> list[tuple[float, float]]:
        """Return the long and the short volume of each market, rounded as it answers alone."""
        none: Book = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0))
        books = [book or none for book in self.books]
        return [(_total(volumes[sides == LONG]), _total(volumes[sides == SHORT])) for _, _, sides, volumes in books]


def _total(volumes: Floats) -> float:
    return round(float(volumes.sum()), DECIMALS)


def summed_map_record(base: Base, parts: Sequence[Part], units: int | None, within: float) -> dict[str, Any]:
    """Return the map of a base at a moment: as `map_record`, with what each market has of each bin and zone.

    Args:
        base: the markets.
        parts: what each has of the moment.
        units: height of a bin, 1e-8 of the quote asset; None = as fits.
        within: how far from the price zones are listed, percent.
    """
    state = _State(base, parts)
    prices = state.cells[1]
    low, high = (int(prices.min()), int(prices.max())) if len(prices) else (round(state.price * 1e8),) * 2
    height = state.height(units, low, high)
    first, bins = low // height, high // height - low // height + 1
    binned = {
        side: [
            np.zeros(bins) if book is None else _binned(book, side, height, first, bins).round(DECIMALS)
            for book in state.books
        ]
        for side in (LONG, SHORT)
    }
    long, short = added(np.array(binned[LONG])), added(np.array(binned[SHORT]))
    edges, size = (first + np.arange(bins)) * height / 1e8, height / 1e8
    buckets = buckets_record(edges, long, short, state.price)
    names = [part.source.symbol.name for part in parts]
    for bucket, row in zip(buckets, np.flatnonzero((long > 0) | (short > 0)).tolist(), strict=True):
        volumes = zip(
            names, (of_side[row] for of_side in binned[LONG]), (of_side[row] for of_side in binned[SHORT]), strict=True
        )
        bucket["parts"] = {
            name: {"long": float(in_long), "short": float(in_short)}
            for name, in_long, in_short in volumes
            if in_long > 0 or in_short > 0
        }
    totals = state.totals()
    share = state.located_share()
    return {
        **state.head(size),
        "within_percent": within,
        "buckets": buckets,
        **state.zones(within),
        "max_pain": pain_record(edges, size, long, short, state.price, within),
        "total_long_volume": round(sum(total for total, _ in totals), DECIMALS),
        "total_short_volume": round(sum(total for _, total in totals), DECIMALS),
        "located_share": share,
        "coverage": share,
        **state.provenance(totals),
    }


def summed_lots_record(base: Base, parts: Sequence[Part], units: int | None) -> dict[str, Any]:
    """Return the lots of a base at a moment, put together by price bin and leverage; as `lots_record`."""
    state = _State(base, parts)
    prices = state.lots.liq_price
    low, high = (int(prices.min()), int(prices.max())) if len(prices) else (round(state.price * 1e8),) * 2
    height = state.height(units, low, high)
    return {
        **state.head(height / 1e8),
        **{name: lots_by_bin(state.lots, side, height) for side, name in SIDE_NAMES.items()},
        **state.zones(100 * NEAR),
        **state.provenance(state.totals()),
    }


def _binned(book: Book, side: int, height: int, first: int, bins: int) -> Floats:
    """Return the volume of a side in each bin."""
    _, prices, sides, volumes = book
    of_side = sides == side
    binned: Floats = np.bincount(prices[of_side] // height - first, volumes[of_side], bins).astype(np.float64)
    return binned
