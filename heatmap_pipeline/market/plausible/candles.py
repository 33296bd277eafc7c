"""Whether candles can be of the market that they say they are of: held against themselves and the day before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.market.plausible.arrays import (
    HOUR,
    Before,
    Mask,
    microseconds,
    minute,
    repeats,
    with_counts,
    within,
)
from heatmap_pipeline.market.tables import CleanDay, MarketError

LARGEST_JUMP = 2.0
"""Most that a candle's open may be times, or part of, the close of the candle an hour or less before it."""

LARGEST_TRADE_RATIO = 100.0
"""Most that the contracts of an average trade, or their worth, may be times, or part of, those of the day before."""

LARGEST_VOLUME_RATIO = 300.0
"""The same of the volume of an average candle, where nobody counted the trades."""

QUOTE_TOLERANCE = 0.01
"""Part by which quote volume / volume may lie outside a candle's low and high."""

OTHER_QUOTE = 5.0
"""Times, or part of, a candle's prices from which quote volume / volume says that one of the three is another's."""


def judge_candles(day: CleanDay, before: Before, *, file: str, way_out: str) -> CleanDay:
    """Return the candles of a day, if they can be of the market that they say they are of.

    Repairs: `odd_quote_volumes` and `odd_taker_volumes` (unknown, 0, in these candles), `repeated_candles`.

    Args:
        day: clean candles.
        before: of which only the candles are looked at.
        file: named in errors.
        way_out: what to do, said at the end of errors.

    Raises:
        MarketError: for a price that jumps as no price does, an average trade, or volume, that is another market's,
            and a quote volume that is not of these prices.
    """
    table = day.table
    _refuse_jumps(table, day.step, before.candles, file, way_out)
    if before.candles is not None and len(before.candles):
        _refuse_other_volume(table, before.candles, file, way_out)
    quote, taker = odd_quote_volumes(table), odd_taker_volumes(table)
    _refuse_other_quote(table, file, way_out)
    counts = {"odd_quote_volumes": int(quote.sum()), "odd_taker_volumes": int(taker.sum())}
    if quote.any() or taker.any():
        table = table.copy()
        table.loc[quote, ["quote_volume", "taker_buy_quote_volume"]] = 0.0
        table.loc[taker, ["taker_buy_volume", "taker_buy_quote_volume"]] = 0.0
    if before.candles is not None and repeats(table, before.candles, ("open", "high", "low", "close", "volume")):
        counts["repeated_candles"] = len(table)
    return replace(day, table=table, repairs=with_counts(day.repairs, counts))


def _refuse_jumps(table: pd.DataFrame, step: int, before: pd.DataFrame | None, file: str, way_out: str) -> None:
    columns = [table] if before is None or not len(before) else [before.tail(1), table]
    opened = np.concatenate([microseconds(part["open_time"]) for part in columns])
    first, last = (np.concatenate([part[name].to_numpy(np.float64) for part in columns]) for name in ("open", "close"))
    jump = first[1:] / last[:-1]
    near = np.diff(opened) <= step * MICROSECONDS + HOUR
    wild = near & ~within(jump, LARGEST_JUMP)
    if wild.any():
        at = int(np.argmax(wild))
        raise MarketError(
            f"{file}: the candle of {minute(opened[at + 1])} UTC opens at {first[at + 1]:.10g} and the one before it "
            f"closed at {last[at]:.10g}, {jump[at]:.3g} times between two candles of one market is more than "
            f"{LARGEST_JUMP:g}: the one or the other is in another unit or another coin's; {way_out}"
        )


def _refuse_other_volume(table: pd.DataFrame, before: pd.DataFrame, file: str, way_out: str) -> None:
    volumes = [float(part["volume"].sum()) for part in (before, table)]
    trades = [float(part["trades"].sum()) for part in (before, table)]
    counted = min(trades) > 0
    per, limit = (trades, LARGEST_TRADE_RATIO) if counted else ([len(before), len(table)], LARGEST_VOLUME_RATIO)
    if min(volumes) <= 0:
        return
    ratio = volumes[1] / per[1] / (volumes[0] / per[0])
    # Where the price falls to a thousandth, the same money buys a thousand times the contracts.
    worth = ratio * _traded_at(table) / _traded_at(before)
    if not (limit >= ratio >= 1 / limit or limit >= worth >= 1 / limit):
        what = "trade" if counted else "candle"
        raise MarketError(
            f"{file}: an average {what} has {volumes[1] / per[1]:.4g} contracts in these {len(table)} candles and "
            f"{volumes[0] / per[0]:.4g} on the day before, {ratio:.3g} times (a market stays within {limit:g}): the "
            f"volumes of the one or the other are in another unit or another coin's; {way_out}"
        )


def _traded_at(table: pd.DataFrame) -> float:
    """Return the average price of candles, quote asset, weighted by their volume, which is not 0 in all of them."""
    low, high, volume = (table[name].to_numpy(np.float64) for name in ("low", "high", "volume"))
    return float(np.average(np.sqrt(low * high), weights=volume))


def _refuse_other_quote(table: pd.DataFrame, file: str, way_out: str) -> None:
    volume, quote = (table[name].to_numpy(np.float64) for name in ("volume", "quote_volume"))
    known = (volume > 0) & (quote > 0)
    if not known.any():
        return
    middle = np.sqrt(table["low"].to_numpy(np.float64) * table["high"].to_numpy(np.float64))[known]
    ratio = quote[known] / volume[known] / middle
    off = ~within(ratio, OTHER_QUOTE)
    if off.mean() > 0.5:
        first = minute(microseconds(table["open_time"])[known][int(np.argmax(off))])
        raise MarketError(
            f"{file}: quote_volume / volume is {np.median(ratio[off]):.3g} times the price in {int(off.sum())} of "
            f"{int(known.sum())} candles, the first {first} UTC: price, volume or quote volume is in another "
            f"unit; {way_out}"
        )


def odd_quote_volumes(table: pd.DataFrame) -> Mask:
    """Return which candles have a quote volume that does not lie between low and high times volume; 0 is unknown."""
    low, high, volume, quote = (table[name].to_numpy(np.float64) for name in ("low", "high", "volume", "quote_volume"))
    outside = (quote < (1 - QUOTE_TOLERANCE) * low * volume) | (quote > (1 + QUOTE_TOLERANCE) * high * volume)
    odd: Mask = (quote > 0) & outside
    return odd


def odd_taker_volumes(table: pd.DataFrame) -> Mask:
    """Return which candles have more bought by takers than was traded."""
    volume, taker = (table[name].to_numpy(np.float64) for name in ("volume", "taker_buy_volume"))
    return np.asarray(taker > volume * (1 + 1e-9), dtype=np.bool_)
