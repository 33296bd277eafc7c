"""What the label of an open-interest sample means, measured per file because the archive changed its mind once.

A label was the time the sample was taken; since 2026-06-25 it is the start of the step that ends when it was taken
(binance-public-data issue 491). Two things tell which of the two a file means. The price implied by a sample,
value / contracts, is the mark price at the instant it was taken, and the candles know that price. Where no value says
it, the volume does: open interest changes most where most is traded. Where neither is clear, the published convention
decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.market.bound import sum_slices

LABEL_IS_START_FROM = date(2026, 6, 25)
"""From this day on, by the published convention, a label is the start of the step that ends when it was taken."""

MIN_SAMPLES = 12
"""Samples with a known path at both offsets that the prices need to decide."""

MAX_RATIO = 0.7
"""Prices decide when the smaller median difference is at most this part of the larger."""

MIN_PAIRS = 100
"""Pairs of consecutive samples with a known volume at both offsets that the volume needs to decide."""

MIN_CORRELATION = 0.3
"""The volume decides when the larger correlation is at least this.

On 15 whole real days the right offset has .49 to .64, the wrong one .20 to .49.
"""

MIN_LEAD = 0.1
"""The volume decides when the larger correlation is above the other by at least this."""


@dataclass(frozen=True)
class Clock:
    """How labels become instants.

    Attributes:
        rule: what decided: the 'price' implied by the values, the 'volume', or the published 'convention'.
        offset: seconds to add to a label to get the instant the sample was taken: 0 or one step.
        samples: samples whose implied price could be compared at both offsets.
        at_label: median absolute difference of implied price and path at the label, USDT; None without such samples.
        step_later: the same one step after the label.
        pairs: pairs of consecutive samples whose volume is known at both offsets; 0 where the price decided.
        volume_at_label: Spearman correlation of their |change| with the volume traded between the labels; None where
            the price decided or there is none (no pair, or one of the two never varies).
        volume_step_later: the same one step after the labels.
    """

    rule: Literal["price", "volume", "convention"]
    offset: int
    samples: int
    at_label: float | None = None
    step_later: float | None = None
    pairs: int = 0
    volume_at_label: float | None = None
    volume_step_later: float | None = None

    def to_facts(self) -> dict[str, Any]:
        """Return what is stored with the day, JSON-able."""
        return {
            "rule": self.rule,
            "offset_seconds": self.offset,
            "samples": self.samples,
            "median_difference_at_label": self.at_label,
            "median_difference_step_later": self.step_later,
            "pairs": self.pairs,
            "volume_correlation_at_label": self.volume_at_label,
            "volume_correlation_step_later": self.volume_step_later,
        }


def measure_clock(
    label: NDArray[np.int64],
    contracts: NDArray[np.float64],
    implied_price: NDArray[np.float64],
    open_time: NDArray[np.int64],
    open_price: NDArray[np.float64],
    close_price: NDArray[np.float64],
    volume: NDArray[np.float64],
    *,
    interval: int,
    step: int,
    day: date,
    convention: int | None = None,
) -> Clock:
    """Decide which instant the labels of one file mean.

    Args:
        label: int64[m], microseconds UTC, increasing, one per valid sample.
        contracts: float64[m], positive.
        implied_price: float64[m], value / contracts in USDT; NaN where the value is unknown.
        open_time: int64[n], microseconds UTC, increasing, on the grid of `interval`: the candles of the file's day.
        open_price: float64[n], USDT.
        close_price: float64[n], USDT.
        volume: float64[n], contracts.
        interval: step of the candles, seconds.
        step: step of the samples, seconds.
        day: the file's date.
        convention: offset in seconds where nothing else decides; None = what the archive published for the date.
    """
    candles = open_time, open_price, close_price, interval * MICROSECONDS
    here = np.abs(implied_price - price_path(label, *candles))
    later = np.abs(implied_price - price_path(label + step * MICROSECONDS, *candles))
    comparable = np.isfinite(here) & np.isfinite(later)
    samples = int(comparable.sum())
    # Medians: a mean is blinded by one bad sample.
    at_label = float(np.median(here[comparable])) if samples else None
    step_later = float(np.median(later[comparable])) if samples else None
    if at_label is not None and step_later is not None and samples >= MIN_SAMPLES:
        larger = max(at_label, step_later)
        # A price that never moves fits both offsets equally well and decides nothing.
        if larger > 0 and min(at_label, step_later) <= MAX_RATIO * larger:
            return Clock("price", 0 if at_label < step_later else step, samples, at_label, step_later)

    if convention is None:
        convention = step if day >= LABEL_IS_START_FROM else 0
    by_volume = _ask_volume(label, contracts, open_time, volume, interval=interval, step=step)
    clock = Clock("convention", convention, samples, at_label, step_later, *by_volume)
    pairs, here_told, later_told = by_volume
    if pairs < MIN_PAIRS or here_told is None or later_told is None:
        return clock
    if max(here_told, later_told) >= MIN_CORRELATION and abs(here_told - later_told) >= MIN_LEAD:
        return replace(clock, rule="volume", offset=0 if here_told > later_told else step)
    return clock


def _ask_volume(
    label: NDArray[np.int64],
    contracts: NDArray[np.float64],
    open_time: NDArray[np.int64],
    volume: NDArray[np.float64],
    *,
    interval: int,
    step: int,
) -> tuple[int, float | None, float | None]:
    """Return the usable pairs of consecutive samples, and how their changes go with the volume at either offset."""
    candle, later = interval * MICROSECONDS, step * MICROSECONDS
    start, end = label[:-1], label[1:]
    usable = (start % candle == 0) & (end % candle == 0) & (later % candle == 0)
    traded = []
    for offset in (0, later):
        first, last = (np.searchsorted(open_time, instant + offset) for instant in (start, end))
        usable &= (last - first) * candle == end - start
        traded.append(sum_slices(volume, first, last))
    pairs = int(usable.sum())
    change = np.abs(np.diff(contracts))[usable]
    here, one_step_later = (rank_correlation(change, amount[usable]) for amount in traded)
    return pairs, here, one_step_later


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Return the rank correlation, equal values at their average rank; None where one of the two never varies."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])


def price_path(
    instant: NDArray[np.int64],
    open_time: NDArray[np.int64],
    open_price: NDArray[np.float64],
    close_price: NDArray[np.float64],
    interval: int,
) -> NDArray[np.float64]:
    """Return the open of the candle starting at each instant, else the close of the one ending there, else NaN."""
    price = np.full(instant.shape, np.nan)
    if len(open_time):
        for start, known in ((instant - interval, close_price), (instant, open_price)):
            position = np.minimum(np.searchsorted(open_time, start), len(open_time) - 1)
            starts_there = open_time[position] == start
            price[starts_there] = known[position[starts_there]]
    return price
