"""Whether samples were taken hours away from what their labels say: told by price, where no value says it by volume."""

from __future__ import annotations

import numpy as np

from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.market.clock import MIN_CORRELATION, MIN_PAIRS, price_path, rank_correlation
from heatmap_pipeline.market.plausible.arrays import Floats, implied_prices, microseconds, path_of, traded_on
from heatmap_pipeline.market.tables import CleanDay

SMALLEST_LAG = 1800
"""Seconds that labels have to be off before they are called so: a step sooner or later is the clock's business."""

LAG_RATIO = 0.25
"""Labels are off where a lag leaves at most this part of the spread of implied prices around the candles' path."""

MIN_LAGGED = 24
"""Samples whose price is known at both instants that this takes."""

LAG_CORRELATION = 0.4
"""Without prices: rank correlation of changes and volume from which a lag is believed, if the labels' own is below 0.3.

On 48 whole real days that is 0.335 and more, and no lag's is above it.
"""

LAG_LEAD = 0.2
"""And by how much it has to be above that of the labels."""


def measure_lag(day: CleanDay, candles: CleanDay) -> int | None:
    """Return by how many seconds the samples were taken later than their labels say; None if the labels are right.

    For each lag of whole steps the spread (median absolute deviation) of log(implied price / path) is held against that
    at the label, over the samples whose path is known at both. A constant difference, as of a spot price, is none.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
    """
    instant, opened, first, last, interval = path_of(day, candles)
    with np.errstate(invalid="ignore"):
        implied = np.log(implied_prices(day.table))

    def apart(lag: int) -> Floats:
        return implied - np.log(price_path(instant + lag * MICROSECONDS, opened, first, last, interval))

    here = apart(0)
    # Labels half an hour off do worse than right ones: most days end here.
    stride = -(-SMALLEST_LAG // day.step) * day.step
    near = [_spreads(here, apart(lag)) for lag in (-stride, stride)]
    if all(spreads is not None and spreads[0] <= 0.5 * spreads[1] for spreads in near):
        return None
    best, best_ratio = None, LAG_RATIO
    for number in range(1, (86400 - MIN_LAGGED * day.step) // stride + 1):
        for lag in (number * stride, -number * stride):
            spreads = _spreads(here, apart(lag))
            if spreads is not None and spreads[0] > 0 and spreads[1] / spreads[0] <= best_ratio:
                best, best_ratio = lag, spreads[1] / spreads[0]
    return best


def _spreads(here: Floats, there: Floats) -> tuple[float, float] | None:
    """Return the median absolute deviations of two differences, over the samples that have both; None for too few."""
    both = np.isfinite(here) & np.isfinite(there)
    if both.sum() < MIN_LAGGED:
        return None
    first, second = (float(np.median(np.abs(each - np.median(each)))) for each in (here[both], there[both]))
    return first, second


def measure_lag_by_volume(day: CleanDay, candles: CleanDay) -> int | None:
    """Return what `measure_lag` does, told by the volume: open interest changes most where most is traded.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
    """
    taken, contracts = microseconds(day.table["snapshot_time"]), day.table["contracts"].to_numpy(np.float64)
    traded, change = traded_on(candles), np.abs(np.diff(contracts))

    def agreement(lag: int) -> float:
        start, end = taken[:-1] + lag * MICROSECONDS, taken[1:] + lag * MICROSECONDS
        volume, missing = traded.between(start, end)
        known = ~missing & (start >= traded.midnight) & (end <= traded.day_end) & (start % traded.interval == 0)
        correlation = rank_correlation(change[known], volume[known]) if known.sum() >= MIN_PAIRS else None
        return -1.0 if correlation is None else correlation

    here = agreement(0)
    if here >= MIN_CORRELATION:
        return None
    stride = -(-SMALLEST_LAG // day.step) * day.step
    lags = [sign * lag for lag in range(stride, 86400, stride) for sign in (1, -1)]
    agreements = {lag: agreement(lag) for lag in lags}
    best = max(agreements, key=lambda lag: agreements[lag])
    return best if agreements[best] >= LAG_CORRELATION and agreements[best] - here >= LAG_LEAD else None
