"""Modelled liquidations: of each column of a window and each side one sum, at the price where its lots died.

What the page and the picture draw as filled circles. It is told by the lots themselves and not by the cells of a map,
so it is the same whatever the height of a price bin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from heatmap_pipeline.bins import Candles, Floats, Ints
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES
from heatmap_pipeline.model.book import Columns as Events

_PARTS = ("column", "price", "volume", "lots", "entry_low", "entry_high")


@dataclass(frozen=True, eq=False)
class ModelledSums:
    """What the model liquidated of one side, by column, each column once, rising, shape (n,) each.

    Attributes:
        column: in which the lots died.
        price: mean of where they died, weighted by volume, quote asset. A lot dies at its liquidation price, and where
            price jumped beyond that, at the end of the candle's range that is nearest to it.
        volume: quote asset at entry.
        lots: how many lots died.
        entry_low: lowest entry price of a lot, quote asset; that of a lot is its mean.
        entry_high: the highest.
    """

    column: Ints
    price: Floats
    volume: Floats
    lots: Ints
    entry_low: Floats
    entry_high: Floats

    def record(self) -> dict[str, Any]:
        """Return it as the endpoint's `format=columns` has it; who sends it encodes the arrays."""
        return {
            "time": self.column,
            "price": self.price.round(8),
            "volume": self.volume.round(4),
            "lots": self.lots,
            "entry_low": self.entry_low.round(8),
            "entry_high": self.entry_high.round(8),
        }


Modelled: TypeAlias = Mapping[str, ModelledSums]
"""Modelled liquidations of both sides by the side's name."""


def modelled_of_day(
    liquidations: Events, candles: Candles, tiers: Collection[float] | None, first: int, step: int, count: int
) -> Modelled:
    """Return what was liquidated on a day, by column of a window.

    Args:
        liquidations: the events of the day, by time (`model.book.DayResult`).
        candles: of the symbol, which the events happened in.
        tiers: leverages whose lots count; None means all.
        first: start of the window, microseconds.
        step: width of a column, microseconds.
        count: number of columns; what happened outside of them is left out.
    """
    column = (liquidations["timestamp"] - first) // step
    shown = (column >= 0) & (column < count)
    if tiers is not None:
        shown &= np.isin(liquidations["leverage"], list(tiers))
    row = np.searchsorted(candles.open_time, liquidations["timestamp"])
    price = np.clip(liquidations["liq_price"] / 1e8, candles.low[row], candles.high[row])
    volume, entry = liquidations["volume"], liquidations["entry_price"]
    parts = {side: shown & (liquidations["side"] == side) for side in (LONG, SHORT)}
    return {
        SIDE_NAMES[side]: _sums(*(values[mask] for values in (column, price, volume, entry)))
        for side, mask in parts.items()
    }


def later(modelled: Modelled, columns: int) -> Modelled:
    """Return what was liquidated, in a window that begins so many columns earlier."""
    return {side: replace(sums, column=sums.column + columns) for side, sums in modelled.items()}


def joined(days: Sequence[Modelled]) -> Modelled:
    """Return what was liquidated on days one after the other, whose columns do not overlap."""
    return {
        side: ModelledSums(*(np.concatenate([getattr(day[side], part) for day in days]) for part in _PARTS))
        for side in SIDE_NAMES.values()
    }


def together(markets: Sequence[Modelled]) -> Modelled:
    """Return what was liquidated of several markets, in the columns of one window; none without any.

    A column has the sums of all: its price is weighted by volume.
    """
    added: dict[str, ModelledSums] = {}
    for side in SIDE_NAMES.values():
        sums = [market[side] for market in markets if len(market[side].column)]
        if not sums:
            none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
            added[side] = ModelledSums(whole, none, none, whole, none, none)
            continue
        every = {part: np.concatenate([getattr(market_sums, part) for market_sums in sums]) for part in _PARTS}
        order = np.argsort(every["column"], kind="stable")
        every = {part: values[order] for part, values in every.items()}
        column, begins = np.unique(every["column"], return_index=True)
        volume = np.add.reduceat(every["volume"], begins)
        added[side] = ModelledSums(
            column,
            np.add.reduceat(every["volume"] * every["price"], begins) / volume,
            volume,
            np.add.reduceat(every["lots"], begins),
            np.minimum.reduceat(every["entry_low"], begins),
            np.maximum.reduceat(every["entry_high"], begins),
        )
    return added


def _sums(column: Ints, price: Floats, volume: Floats, entry: Floats) -> ModelledSums:
    """Return the sums of lots that died, by their columns, which rise."""
    there, begins, lots = np.unique(column, return_index=True, return_counts=True)
    if not len(there):
        return ModelledSums(there, price, volume, lots, entry, entry)
    total = np.add.reduceat(volume, begins)
    return ModelledSums(
        there,
        np.add.reduceat(volume * price, begins) / total,
        total,
        lots,
        np.minimum.reduceat(entry, begins),
        np.maximum.reduceat(entry, begins),
    )
