"""From single events, records and candles to the hours that a score is computed from.

Everything per side has shape (2, n): row 0 longs, row 1 shorts, in the order of `SIDES`; n hours. Instants are
microseconds since 1970 UTC, an hour is named by its start, quantities are contracts. What is not known is nan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.model.book import LONG, SHORT, Floats, Ints, Sides
from heatmap_pipeline.model.parameters import ModelError

HOUR = 3_600_000_000
SIDES = (LONG, SHORT)
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HourlyMarket:
    """What the candles say of each hour; nan where a candle of the hour is missing.

    Attributes:
        start: shape (n,), strictly rising, whole hours; hours may be missing.
        open: shape (n,), quote asset per contract.
        high: shape (n,).
        low: shape (n,).
        volume: shape (n,), contracts.
        extreme: shape (2, n). How far the candles of the hour went beyond all of the hour before each of them, down
            (row 0, what hits longs) and up (row 1), added up, as a share of the price: for a candle that opens at o,
            max(0, lowest low of the 60 minutes before it - its low) / o. Nan where one of those candles is missing.
    """

    start: Ints
    open: Floats
    high: Floats
    low: Floats
    volume: Floats
    extreme: Floats

    @property
    def move(self) -> Floats:
        """How far price went against each side, as a share of the open: (open - low) and (high - open); (2, n)."""
        return np.stack([self.open - self.low, self.high - self.open]) / self.open

    @property
    def range(self) -> Floats:
        """(high - low) / open, shape (n,)."""
        return (self.high - self.low) / self.open


@dataclass(frozen=True)
class ScoreHours:
    """All that a score of one symbol, model and source is computed from, hour by hour.

    Attributes:
        market: the hours and their candles.
        predicted: shape (2, n), what the model liquidated in the hour, all lots.
        predicted_at_start: shape (2, n), of that only lots opened before the hour.
        reported: shape (2, n), what was really liquidated; read only where `recorded`.
        recorded: shape (n,), whether the source recorded all of the hour.
        volume_only: shape (2, n), `predicted` of the map from volume alone (flow 0), None if there is none.
        volume_only_at_start: shape (2, n), its `predicted_at_start`.
        simulated: whether prices or liquidations are made up; such hours are refused by `score`.

    Raises:
        ModelError: for arrays that do not fit, hours out of order, or a recorded hour whose report is not a quantity.
    """

    market: HourlyMarket
    predicted: Floats
    predicted_at_start: Floats
    reported: Floats
    recorded: Flags
    volume_only: Floats | None = None
    volume_only_at_start: Floats | None = None
    simulated: bool = False

    def __post_init__(self) -> None:
        n = len(self.market.start)
        _check_hours(self.market.start)
        for name in ("predicted", "predicted_at_start", "reported", "volume_only", "volume_only_at_start"):
            column = getattr(self, name)
            if column is not None and column.shape != (2, n):
                raise ModelError(f"{name} has shape {column.shape}, expected (2, {n}): longs and shorts, hour by hour")
        if self.recorded.shape != (n,):
            raise ModelError(f"recorded has shape {self.recorded.shape}, expected ({n},)")
        wrong = self.recorded & ~((self.reported >= 0) & np.isfinite(self.reported)).all(axis=0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ModelError(
                f"reported[:, {row}] = {self.reported[:, row].tolist()} in a recorded hour is not a quantity per side; "
                "an hour without a record is not recorded, a recorded hour without a report is 0"
            )

    @property
    def scored(self) -> Flags:
        """Shape (n,): the hours that were recorded and that market and model know whole. All others are missing."""
        known = [self.market.open, self.market.high, self.market.low, self.market.volume]
        known += [*self.predicted, *self.predicted_at_start]
        return self.recorded & np.isfinite(np.stack(known)).all(axis=0)


def hourly_market(
    open_time: Ints,
    *,
    open: Floats,
    high: Floats,
    low: Floats,
    volume: Floats,
    interval: int,
) -> HourlyMarket:
    """Sum candles up to hours, from the hour of the first to that of the last, whole grid.

    Args:
        open_time: shape (m,), strictly rising, on the grid of the interval.
        open: shape (m,).
        high: shape (m,).
        low: shape (m,).
        volume: shape (m,), contracts.
        interval: seconds between candles, a divisor of 3600.

    Raises:
        ModelError: for an interval that does not divide the hour, or candles that do not stand on its grid.
    """
    step = interval * 1_000_000
    if interval <= 0 or HOUR % step:
        raise ModelError(f"interval = {interval} s does not divide an hour; give candles of 1 hour or a part of it")
    if len(open_time) == 0:
        nothing = np.empty(0)
        return HourlyMarket(np.empty(0, np.int64), nothing, nothing, nothing, nothing, np.empty((2, 0)))
    if (np.diff(open_time) <= 0).any() or (open_time % step).any():
        raise ModelError(f"open_time is not strictly rising on a grid of {interval} s")
    each = HOUR // step
    first, last = open_time[0] // HOUR, open_time[-1] // HOUR
    place = (open_time - first * HOUR) // step
    grid = np.full((4, (last - first + 1) * each), np.nan)
    grid[:, place] = open, high, low, volume
    o, h, low_, v = (row.reshape(-1, each) for row in grid)  # a missing candle makes its hour nan by itself
    before = np.full((2, each), np.nan)
    padded = np.concatenate([before, grid[1:3]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded[:, :-1], each, axis=1)
    beyond = np.stack([windows[1].min(axis=1) - grid[2], grid[1] - windows[0].max(axis=1)])
    return HourlyMarket(
        start=np.arange(first, last + 1) * HOUR,
        open=np.where(np.isfinite(v.sum(axis=1)), o[:, 0], np.nan),
        high=h.max(axis=1),
        low=low_.min(axis=1),
        volume=v.sum(axis=1),
        extreme=(np.maximum(beyond, 0.0) / grid[0]).reshape(2, -1, each).sum(axis=2),
    )


def hourly_predicted(
    start: Ints, timestamp: Ints, side: Sides, quantity: Floats, opened_at: Ints
) -> tuple[Floats, Floats]:
    """Return what a model liquidated per side and hour: of all lots, and of lots opened before the hour.

    Hours without an event are 0: whether the model knows an hour at all is told by the market's hours.
    A lot that was topped up within the hour counts with its earliest opening, so the second is a little too much.

    Args:
        start: the hours, strictly rising, shape (n,).
        timestamp: of `liquidate` events: starts of their candles, shape (m,). Events of other hours are left out.
        side: +1 long, -1 short, shape (m,).
        quantity: contracts, shape (m,).
        opened_at: shape (m,).

    Returns:
        Two arrays of shape (2, n), contracts.
    """
    before = opened_at < timestamp // HOUR * HOUR
    return _sums(start, timestamp, side, quantity), _sums(start, timestamp[before], side[before], quantity[before])


def hourly_reported(
    start: Ints, timestamp: Ints, side: Sides, quantity: Floats, recorded_from: Ints, recorded_to: Ints
) -> tuple[Floats, Flags]:
    """Return what was really liquidated per side and hour, and which hours were recorded.

    A recorded hour for which the source lists nothing is 0; an hour without a record is missing: nan, never 0.

    Args:
        start: the hours, strictly rising, shape (n,).
        timestamp: of the reports of one source, each once; of sums the start of what they sum, at most an hour.
        side: of the position, +1 long, -1 short.
        quantity: contracts.
        recorded_from: starts of the recorded ranges, shape (k,), any order, they may overlap.
        recorded_to: their ends, exclusive.

    Returns:
        Reported, shape (2, n), and recorded, shape (n,).
    """
    recorded = recorded_hours(start, recorded_from, recorded_to)
    return np.where(recorded, _sums(start, timestamp, side, quantity), np.nan), recorded


def recorded_hours(start: Ints, recorded_from: Ints, recorded_to: Ints) -> Flags:
    """Return whether each hour lies wholly inside the recorded ranges; ranges that touch or overlap are one.

    Example:
        >>> hours = np.arange(4) * HOUR
        >>> recorded_hours(hours, np.array([1, HOUR, 2 * HOUR]), np.array([HOUR, 2 * HOUR, 3 * HOUR])).tolist()
        [False, True, True, False]
    """
    _check_hours(start)
    if len(recorded_from) == 0:
        return np.zeros(len(start), dtype=np.bool_)
    order = np.argsort(recorded_from, kind="stable")
    begins, reach = recorded_from[order], np.maximum.accumulate(recorded_to[order])
    first = np.append(True, begins[1:] > reach[:-1])
    begins, ends = begins[first], reach[np.append(first[1:], True)]
    row = np.searchsorted(begins, start, side="right") - 1
    return np.asarray((row >= 0) & (start + HOUR <= ends[np.maximum(row, 0)]))


def _check_hours(start: Ints) -> None:
    if (start % HOUR).any() or (np.diff(start) <= 0).any():
        raise ModelError("start holds an instant that is not a whole hour, or one that does not come after the last")


def _sums(start: Ints, timestamp: Ints, side: Sides, quantity: Floats) -> Floats:
    _check_hours(start)
    total = np.zeros((2, len(start)))
    if len(start) == 0:
        return total
    hour = timestamp // HOUR * HOUR
    column = np.minimum(np.searchsorted(start, hour), len(start) - 1)
    inside = start[column] == hour
    for row, which in enumerate(SIDES):
        taken = inside & (side == which)
        total[row] = np.bincount(column[taken], weights=quantity[taken], minlength=len(start))
    return total
