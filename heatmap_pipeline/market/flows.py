"""From samples of open interest to the flow of contracts of each candle, one day at a time.

The one place that knows how samples and candles on different grids meet: held where samples come at least as often as
candles, spread in proportion to volume where they come less often; samples that cannot be true are left out, and where
the level itself moved, the flow says by which factor. A day reads its own rows and what the day before carried over,
never a later day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.bound import Traded, judge_samples
from heatmap_pipeline.market.tables import MarketError

_ROUNDING = 1e-14
"""Part of the open interest that a product of a few factors may be off by: no flow is made of it."""


@dataclass(frozen=True)
class Carried:
    """What one day leaves to the next.

    The two levels differ where a change had no candle left to fall in; the difference falls in the next day's first.

    Attributes:
        open_interest: contracts after the last existing candle; before the first one, the level of the first sample.
        sample_time: instant of the last valid sample, microseconds UTC.
        sample_contracts: contracts of that sample.
        volume_since: contracts traded in the candles that end after that sample, up to the end of the day.
        missing_since: whether a candle of that time is missing, so that the next valid sample may be anything; also
            where nobody knows.
        factor: product of the level shifts that found no candle left to take effect in; they do in the next day's
            first candle.
    """

    open_interest: float
    sample_time: int
    sample_contracts: float
    volume_since: float = 0.0
    missing_since: bool = True
    factor: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return everything but `open_interest`, which is part of the model's state, JSON-able and exact."""
        return {
            "sample_time": self.sample_time,
            "sample_contracts": self.sample_contracts,
            "volume_since": self.volume_since,
            "missing_since": self.missing_since,
            "factor": self.factor,
        }

    @classmethod
    def from_json(cls, open_interest: float, record: Mapping[str, Any]) -> Self:
        """Return what `to_json` has written; a record of before a field existed has its default."""
        return cls(open_interest, **{each.name: record[each.name] for each in fields(cls)[1:] if each.name in record})


@dataclass(frozen=True)
class DayFlow:
    """The flows of one day.

    Attributes:
        first: index of the day's first candle that the model uses; the number of candles if there is none.
        flow: float64[n - first], contracts: what each candle added to `factor` times the open interest of the one
            before.
        open_interest: float64[n - first], contracts at the end of each candle.
        factor: float64[n - first]: what all quantities of before are multiplied by before the candle begins; 1 but
            where a level shift takes effect.
        carried: for the next day.
        held: whether the day has no valid sample, so that the open interest stands still.
        start_open_interest: contracts of the first sample of a history, on its first day; None on later days.
        impossible_samples: samples that what was traded cannot explain, left out as if they were missing.
        late_samples: samples that only what was traded in the candle before explains, left out all the same.
        level_shifts: times that the level of the samples moved for good, by nothing that was traded.
        missing_samples: samples that the grid of the file's step lacks, as far as the day's rows reach.
    """

    first: int
    flow: NDArray[np.float64]
    open_interest: NDArray[np.float64]
    factor: NDArray[np.float64]
    carried: Carried
    held: bool
    start_open_interest: float | None
    impossible_samples: int
    late_samples: int
    level_shifts: int
    missing_samples: int

    @property
    def repairs(self) -> dict[str, int]:
        """Count of each repair made here; only those above 0."""
        counts = {
            "impossible_samples": self.impossible_samples,
            "late_samples": self.late_samples,
            "level_shifts": self.level_shifts,
            "missing_samples": self.missing_samples,
        }
        return {name: count for name, count in counts.items() if count}


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

    `flow(T) = OI(T) - factor(T) * OI(previous candle)`: without a level shift the flows of a day sum to the difference
    of the last and the carried open interest; a shift alone is a flow of exactly 0. A missing candle's flow falls in
    the next one that exists. On a first day candles before the first sample have no part, also not in spreading.

    Args:
        open_time_us: int64[n], microseconds UTC, increasing, on the grid of `interval`: the day's existing candles.
        volume: float64[n], contracts, finite and not negative.
        interval: step of the candles, seconds; divides a day.
        sample_time_us: int64[m], microseconds UTC, increasing: when the day's clean samples were taken.
        sample_contracts: float64[m], positive.
        sample_step: step of the samples, seconds; above `interval` their changes are spread, else held.
        carried: what the day before left; None on the first day of a history.
        day: named in errors.
        symbol: named in errors.

    Raises:
        MarketError: on a first day without any valid sample.
        ValueError: if the carried sample was taken after this day began, which no chain of days can produce.
    """
    midnight = day_start(day)
    times, contracts, before, first = sample_time_us, sample_contracts, carried, 0
    if before is None:
        if not len(times):
            raise MarketError(
                f"{symbol} {day}: first day without any valid open interest: no level to start from; "
                "start on a day that has open interest"
            )
        before = Carried(float(contracts[0]), int(times[0]), float(contracts[0]), missing_since=False)
        first = int(np.searchsorted(open_time_us, times[0], side="left"))
    else:
        if before.sample_time > midnight:
            raise ValueError(f"{symbol} {day}: the carried sample was taken after the day began")
        # A sample of midnight may stand in both days' files; of equal times the later one, the day's own, counts.
        times = np.concatenate([np.array([before.sample_time], dtype=np.int64), times])
        contracts = np.concatenate([np.array([before.sample_contracts]), contracts])

    traded = Traded(open_time_us, volume, interval * MICROSECONDS, midnight, midnight + DAY)
    judged = judge_samples(
        times, contracts, traded, volume_before=before.volume_since, missing_before=before.missing_since
    )
    valid_times, valid_contracts = times[judged.valid], contracts[judged.valid]
    ends = open_time_us[first:] + interval * MICROSECONDS
    level = _hold(ends, valid_times, valid_contracts)
    if sample_step > interval:
        _spread(level, ends, volume[first:], valid_times, valid_contracts, judged.shifts)
    factor, pending = _factors(ends, valid_times, valid_contracts, judged.shifts, before.factor)
    return DayFlow(
        first=first,
        flow=level_changes(level, factor, before.open_interest),
        open_interest=level,
        factor=factor,
        carried=_carry(level, pending, valid_times, valid_contracts, traded, before),
        held=carried is not None and len(judged.valid) == 1,
        start_open_interest=before.open_interest if carried is None else None,
        impossible_samples=judged.impossible,
        late_samples=judged.late,
        level_shifts=len(judged.shifts),
        missing_samples=_missing(sample_time_us, sample_step * MICROSECONDS, traded),
    )


def _factors(
    ends: NDArray[np.int64],
    times: NDArray[np.int64],
    contracts: NDArray[np.float64],
    shifts: Sequence[int],
    pending: float,
) -> tuple[NDArray[np.float64], float]:
    """Return the factor of each candle, and the product of the shifts that no candle is left for.

    A shift belongs to the first candle that ends at or after the first sample of the new level.
    """
    factor = np.ones(len(ends))
    if len(ends):
        factor[0], pending = pending, 1.0
    for position in shifts:
        ratio = float(contracts[position] / contracts[position - 1])
        candle = int(np.searchsorted(ends, times[position], side="left"))
        if candle < len(ends):
            factor[candle] *= ratio
        else:
            pending *= ratio
    return factor, pending


def level_changes(level: NDArray[np.float64], factor: NDArray[np.float64], previous: float) -> NDArray[np.float64]:
    """Return what each candle added to the open interest of the one before, in units of its own level.

    Args:
        level: float64[n], contracts at the end of each candle.
        factor: float64[n], as `DayFlow.factor`.
        previous: contracts before the first candle.
    """
    before = np.concatenate([np.array([previous]), level])[: len(level)]
    flow: NDArray[np.float64] = level - factor * before
    # In floating point the product of a level and its factor need not be the new level; a shift alone must be 0.
    flow[(factor != 1) & (np.abs(flow) <= _ROUNDING * level)] = 0.0
    return flow


def _carry(
    level: NDArray[np.float64],
    pending: float,
    times: NDArray[np.int64],
    contracts: NDArray[np.float64],
    traded: Traded,
    before: Carried,
) -> Carried:
    """Return what the next day starts from."""
    volume, missing = (part[0] for part in traded.between(times[-1:], np.array([traded.day_end])))
    if len(times) == 1:  # still the sample of before
        volume, missing = volume + before.volume_since, missing or before.missing_since
    return Carried(
        open_interest=float(level[-1]) if len(level) else before.open_interest,
        sample_time=int(times[-1]),
        sample_contracts=float(contracts[-1]),
        volume_since=float(volume),
        missing_since=bool(missing),
        factor=pending,
    )


def _missing(times: NDArray[np.int64], step: int, traded: Traded) -> int:
    """Return how many samples the day's grid lacks; a sample fills the instant of the grid that it is nearest to.

    Where the day's last candle is not there, the grid reaches as far as the rows, so that today so far lacks nothing of
    the future. One of the two midnights is enough: files label their samples from the one on or up to the other.
    """
    newest = max([traded.midnight, *traded.open_time[-1:].tolist(), *times[-1:].tolist()])
    over = newest >= traded.day_end - traded.interval
    inner = ((traded.day_end - 1 if over else newest) - traded.midnight) // step
    nearest = np.unique((times - traded.midnight + step // 2) // step)
    is_inner = (nearest > 0) & (nearest <= inner)
    no_midnight = over and bool(is_inner.all())
    return inner - int(is_inner.sum()) + int(no_midnight)


def _hold(ends: NDArray[np.int64], times: NDArray[np.int64], contracts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the latest sample taken at or before each candle's end; every end lies after the first sample."""
    return contracts[np.searchsorted(times, ends, side="right") - 1]


def _spread(
    level: NDArray[np.float64],
    ends: NDArray[np.int64],
    volume: NDArray[np.float64],
    times: NDArray[np.int64],
    contracts: NDArray[np.float64],
    shifts: Sequence[int],
) -> None:
    """Replace the held level inside each pair of samples by the part of the change that its volume has seen.

    Levels are set, not accumulated, so that a complete change is the sample itself. For the same reason a change
    without a candle between its samples needs no work: the next candle starts from the later one, and so takes all.
    A shift of the level is no change: until it takes effect the old level is held.
    """
    bounds = np.searchsorted(ends, times, side="right")
    for later in np.setdiff1d(np.flatnonzero(np.diff(bounds)) + 1, shifts):
        low, high = int(bounds[later - 1]), int(bounds[later])
        part = volume[low:high]
        largest = part.max()
        # Divided by the largest so that no sum of finite volumes overflows.
        seen = np.cumsum(part / largest) if largest > 0 else np.arange(1.0, high - low + 1)
        share = seen / seen[-1]
        before, after = contracts[later - 1], contracts[later]
        level[low:high] = np.where(share < 1, before + (after - before) * share, after)
