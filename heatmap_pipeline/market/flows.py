"""From samples of open interest to the flow of contracts of each candle, one day at a time.

The one place that knows how samples and candles on different grids meet: held where samples come at least as often as
candles, spread in proportion to volume where they come less often. A day reads its own rows and what the day before
carried over, never a later day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from heatmap_pipeline.instants import MICROSECONDS, day_start
from heatmap_pipeline.market.tables import MarketError


@dataclass(frozen=True)
class Carried:
    """What one day leaves to the next.

    The two levels differ where a change had no candle left to fall in; the difference falls in the next day's first.

    Attributes:
        open_interest: contracts after the last existing candle; before the first one, the level of the first sample.
        sample_time: instant of the last valid sample, microseconds UTC.
        sample_contracts: contracts of that sample.
    """

    open_interest: float
    sample_time: int
    sample_contracts: float


@dataclass(frozen=True)
class DayFlow:
    """The flows of one day.

    Attributes:
        first: index of the day's first candle that the model uses; the number of candles if there is none.
        flow: float64[n - first], contracts: what each candle added to the open interest of the one before.
        open_interest: float64[n - first], contracts at the end of each candle.
        carried: for the next day.
        held: whether the day has no valid sample, so that the open interest stands still.
        start_open_interest: contracts of the first sample of a history, on its first day; None on later days.
    """

    first: int
    flow: NDArray[np.float64]
    open_interest: NDArray[np.float64]
    carried: Carried
    held: bool
    start_open_interest: float | None


def compute_flow(
    open_time_us: NDArray[np.int64],
    volume: NDArray[np.float64],
    interval: int,
    sample_time_us: NDArray[np.int64],
    sample_contracts: NDArray[np.float64],
    sample_step: int,
    carried: Carried | None,
    day: date,
    symbol: str,
) -> DayFlow:
    """Compute the open interest at the end of every candle of a day, and its change from candle to candle.

    The flows of a day sum to the difference of the last and the carried open interest; a missing candle's flow falls in
    the next one that exists. On a first day candles before the first sample have no part, also not in spreading.

    Args:
        open_time_us: int64[n], microseconds UTC, increasing: the day's existing candles.
        volume: float64[n], contracts, finite and not negative.
        interval: step of the candles, seconds.
        sample_time_us: int64[m], microseconds UTC, increasing: when the day's valid samples were taken.
        sample_contracts: float64[m], positive.
        sample_step: step of the samples, seconds; above `interval` their changes are spread, else held.
        carried: what the day before left; None on the first day of a history.
        day: named in errors.
        symbol: named in errors.

    Raises:
        MarketError: on a first day without any valid sample.
        ValueError: if the carried sample was taken after this day began, which no chain of days can produce.
    """
    held = len(sample_time_us) == 0
    times, contracts, previous, first = sample_time_us, sample_contracts, 0.0, 0
    if carried is None:
        if held:
            raise MarketError(
                f"{symbol} {day}: first day without any valid open interest: no level to start from; "
                "start on a day that has open interest"
            )
        previous = float(contracts[0])
        first = int(np.searchsorted(open_time_us, times[0], side="left"))
    else:
        if carried.sample_time > day_start(day):
            raise ValueError(f"{symbol} {day}: the carried sample was taken after the day began")
        previous = carried.open_interest
        # A sample of midnight may stand in both days' files; of equal times the later one, the day's own, counts.
        times = np.concatenate([np.array([carried.sample_time], dtype=np.int64), times])
        contracts = np.concatenate([np.array([carried.sample_contracts]), contracts])

    ends = open_time_us[first:] + interval * MICROSECONDS
    level = _hold(ends, times, contracts)
    if sample_step > interval:
        _spread(level, ends, volume[first:], times, contracts)
    flow = np.diff(level, prepend=previous)
    return DayFlow(
        first=first,
        flow=flow,
        open_interest=level,
        carried=Carried(float(level[-1]) if len(level) else previous, int(times[-1]), float(contracts[-1])),
        held=held,
        start_open_interest=previous if carried is None else None,
    )


def _hold(ends: NDArray[np.int64], times: NDArray[np.int64], contracts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the latest sample taken at or before each candle's end; every end lies after the first sample."""
    return contracts[np.searchsorted(times, ends, side="right") - 1]


def _spread(
    level: NDArray[np.float64],
    ends: NDArray[np.int64],
    volume: NDArray[np.float64],
    times: NDArray[np.int64],
    contracts: NDArray[np.float64],
) -> None:
    """Replace the held level inside each pair of samples by the part of the change that its volume has seen.

    Levels are set, not accumulated, so that a complete change is the sample itself. For the same reason a change
    without a candle between its samples needs no work: the next candle starts from the later one, and so takes all.
    """
    bounds = np.searchsorted(ends, times, side="right")
    for later in np.flatnonzero(np.diff(bounds)) + 1:
        low, high = int(bounds[later - 1]), int(bounds[later])
        part = volume[low:high]
        largest = part.max()
        # Divided by the largest so that no sum of finite volumes overflows.
        seen = np.cumsum(part / largest) if largest > 0 else np.arange(1.0, high - low + 1)
        share = seen / seen[-1]
        before, after = contracts[later - 1], contracts[later]
        level[low:high] = np.where(share < 1, before + (after - before) * share, after)
