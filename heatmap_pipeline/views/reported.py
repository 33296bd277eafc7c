"""Real liquidations beside the modelled ones: what a source reported in each column of a window, and what it recorded.

A stretch without a record is missing and never 0; within one, what is not listed did not happen. Of several sources one
is shown, as their reports of the same liquidations would count twice. Instants are microseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heatmap_pipeline.bins import Candles, Floats, Ints
from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.market.liquidations.tables import exchange_of
from heatmap_pipeline.model.book import LONG, SHORT
from heatmap_pipeline.store.columns import Reports
from heatmap_pipeline.symbols import own_exchange
from heatmap_pipeline.views.window import Window

SIDES = {"long": LONG, "short": SHORT}


@dataclass(frozen=True, eq=False)
class ReportedSums:
    """What was reported of one side, by column, each column once, shape (n,) each.

    Attributes:
        column: the one in which the liquidations, or the interval that is summed, began.
        price: mean of what has a price, weighted by quantity, USDT; NaN = unknown.
        place: where it is drawn: `price`, else the lowest low (longs) or highest high (shorts) of its time, USDT.
        volume: as reported, USDT; what has none counts as quantity x `place`.
        quantity: contracts.
    """

    column: Ints
    price: Floats
    place: Floats
    volume: Floats
    quantity: Floats


@dataclass(frozen=True, eq=False)
class Reported:
    """Real liquidations of a window as one source reports them.

    Attributes:
        source: `exchange_kind`.
        exchange: whose liquidations they are.
        own_exchange: whether that is the market's own.
        complete: whether the source prints every liquidation; None where it has printed none.
        resolution_seconds: width of the sums it prints; 0 = single liquidations.
        recorded: the stretches of the window that it recorded, rising and disjoint, shape (n, 2).
        sums: by side.
        factor: volume reported / modelled, of columns recorded from start to end; None where nothing was modelled in
            them, where only some leverage tiers are shown, and for another exchange's record, which says nothing about
            the level.
    """

    source: str
    exchange: str
    own_exchange: bool
    complete: bool | None
    resolution_seconds: int
    recorded: Ints
    sums: Mapping[str, ReportedSums]
    factor: float | None

    def record(self) -> dict[str, Any]:
        """Return what the endpoint's `format=columns` says of it; who sends it encodes the arrays."""
        return {
            "source": self.source,
            "exchange": self.exchange,
            "own_exchange": self.own_exchange,
            "complete": self.complete,
            "resolution_seconds": self.resolution_seconds,
            "factor": self.factor,
            "recorded": {"from": self.recorded[:, 0] // 1000, "to": self.recorded[:, 1] // 1000},
            **{
                side: {
                    "time": sums.column,
                    "price": sums.price,
                    "place": sums.place,
                    "volume": sums.volume,
                    "quantity": sums.quantity,
                }
                for side, sums in self.sums.items()
            },
        }


def reported_in(
    symbol: str, reports: Sequence[Reports], window: Window, candles: Candles, modelled: Floats | None
) -> Reported | None:
    """Return what is shown of the real liquidations of a window; None where none of it was recorded.

    Shown is the market's own exchange rather than another, a source that prints everything rather than one that does
    not, and then the one with the longest record in the window.

    Args:
        symbol: whose they are.
        reports: of each source.
        window: its columns.
        candles: of the symbol.
        modelled: volume that the model liquidated in each column, USDT, shape (T,); None where only a part of its lots
            is shown, which what is reported cannot be held against.
    """
    if not reports:
        return None
    symbol_exchange = own_exchange(symbol)

    def worth(of_source: Reports) -> tuple[bool, bool, int]:
        return (
            exchange_of(of_source.source) == symbol_exchange,
            bool(of_source.complete),
            int(np.diff(of_source.recorded).sum()),
        )

    chosen = max(reports, key=worth)
    exchange = exchange_of(chosen.source)
    sums = {side: _side_sums(chosen, sign, window, candles) for side, sign in SIDES.items()}
    whole = _whole_columns(chosen.recorded, window)
    total = sum(float(part.volume[whole[part.column]].sum()) for part in sums.values())
    base = 0.0 if modelled is None else float(modelled[whole].sum())
    return Reported(
        source=chosen.source,
        exchange=exchange,
        own_exchange=exchange == symbol_exchange,
        complete=chosen.complete,
        resolution_seconds=chosen.resolution_seconds,
        recorded=chosen.recorded,
        sums=sums,
        factor=total / base if exchange == symbol_exchange and base > 0 else None,
    )


def _side_sums(reports: Reports, sign: int, window: Window, candles: Candles) -> ReportedSums:
    of_side = (reports.side == sign) & (reports.time >= window.first) & (reports.time < window.last)
    column = (reports.time[of_side] - window.first) // window.step
    price, quantity, volume = (part[of_side] for part in (reports.price, reports.quantity, reports.volume))

    def summed(amounts: Floats) -> Floats:
        return np.asarray(np.bincount(column, amounts, minlength=window.count), dtype=np.float64)

    total = summed(quantity)
    there = np.flatnonzero(total > 0)
    priced = np.isfinite(price)
    with np.errstate(invalid="ignore"):
        mean = summed(np.where(priced, price * quantity, 0.0)) / summed(np.where(priced, quantity, 0.0))
    place = np.where(np.isfinite(mean[there]), mean[there], _reached(reports, sign, there, window, candles))
    valued = np.isfinite(volume)
    volumes = summed(np.where(valued, volume, 0.0))[there] + summed(np.where(valued, 0.0, quantity))[there] * place
    return ReportedSums(there, mean[there].round(8), place.round(8), volumes.round(4), total[there].round(8))


def _reached(reports: Reports, sign: int, column: Ints, window: Window, candles: Candles) -> Floats:
    """Return how far price went against a side, USDT, in the time that the sum of each column is of."""
    start = window.first + column * window.step
    end = start + max(window.step, reports.resolution_seconds * MICROSECONDS)
    first, last = (np.searchsorted(candles.open_time, at) for at in (start, end))
    first = first.clip(max=len(candles.open_time) - 1)  # where candles are missing, the next one tells
    bounds = np.stack([first, np.maximum(last, first + 1)], axis=1).ravel()
    if sign == LONG:
        lows: Floats = np.minimum.reduceat(np.append(candles.low, np.inf), bounds)[::2]
        return lows
    highs: Floats = np.maximum.reduceat(np.append(candles.high, -np.inf), bounds)[::2]
    return highs


def _whole_columns(recorded: Ints, window: Window) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which columns lie within one recorded stretch, shape (T,)."""
    start = window.first + np.arange(window.count) * window.step
    stretch = np.searchsorted(recorded[:, 0], start, side="right") - 1
    whole: np.ndarray[Any, np.dtype[np.bool_]] = (stretch >= 0) & (start + window.step <= recorded[stretch, 1])
    return whole
