"""What the label of an open-interest sample means, measured per file because the archive changed its mind once.

A label was the time the sample was taken; since 2026-06-25 it is the start of the step that ends when it was taken
(binance-public-data issue 491). The price implied by a sample, value / contracts, is the mark price at the instant it
was taken, so the candles tell which of the two a file means. Where they cannot, the published convention decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LABEL_IS_START_FROM = date(2026, 6, 25)
"""From this day on, by the published convention, a label is the start of the step that ends when it was taken."""

MIN_SAMPLES = 12
"""Samples with a known path at both offsets that a measurement needs."""

MAX_RATIO = 0.7
"""A measurement decides when the smaller mean difference is at most this part of the larger."""

MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Clock:
    """How labels become instants.

    Attributes:
        rule: whether the prices decided ('measured') or the convention published for the file's date.
        offset: seconds to add to a label to get the instant the sample was taken: 0 or one step.
        samples: samples that could be compared at both offsets.
        at_label: mean absolute difference of implied price and path at the label, USDT; None without such samples.
        step_later: the same one step after the label.
    """

    rule: Literal["measured", "convention"]
    offset: int
    samples: int
    at_label: float | None = None
    step_later: float | None = None

    def to_facts(self) -> dict[str, Any]:
        """Return what is stored with the day, JSON-able."""
        return {
            "rule": self.rule,
            "offset_seconds": self.offset,
            "samples": self.samples,
            "mean_difference_at_label": self.at_label,
            "mean_difference_step_later": self.step_later,
        }


def measure_clock(
    label: NDArray[np.int64],
    implied_price: NDArray[np.float64],
    open_time: NDArray[np.int64],
    open_price: NDArray[np.float64],
    close_price: NDArray[np.float64],
    *,
    interval: int,
    step: int,
    day: date,
    convention: int | None = None,
) -> Clock:
    """Decide which instant the labels of one file mean.

    Args:
        label: int64[m], microseconds UTC, one per valid sample.
        implied_price: float64[m], value / contracts in USDT; NaN where the value is unknown.
        open_time: int64[n], microseconds UTC, increasing: the candles of the file's day.
        open_price: float64[n], USDT.
        close_price: float64[n], USDT.
        interval: step of the candles, seconds.
        step: step of the samples, seconds.
        day: the file's date.
        convention: offset in seconds where the prices do not decide; None = what the archive published for the date.
    """
    candles = open_time, open_price, close_price, interval * MICROSECONDS
    here = np.abs(implied_price - _path(label, *candles))
    later = np.abs(implied_price - _path(label + step * MICROSECONDS, *candles))
    comparable = np.isfinite(here) & np.isfinite(later)
    samples = int(comparable.sum())
    at_label = float(here[comparable].mean()) if samples else None
    step_later = float(later[comparable].mean()) if samples else None
    if convention is None:
        convention = step if day >= LABEL_IS_START_FROM else 0
    if at_label is None or step_later is None or samples < MIN_SAMPLES:
        return Clock("convention", convention, samples, at_label, step_later)
    # A price that never moves fits both offsets equally well and decides nothing.
    larger = max(at_label, step_later)
    if larger > 0 and min(at_label, step_later) <= MAX_RATIO * larger:
        return Clock("measured", 0 if at_label < step_later else step, samples, at_label, step_later)
    return Clock("convention", convention, samples, at_label, step_later)


def _path(
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
            found = open_time[position] == start
            price[found] = known[position[found]]
    return price
