"""Which samples of open interest can be true, given what was traded between them.

Every trade opens or closes at most its own quantity, so between two instants open interest changes by at most the
volume traded. On 8,185 real intervals of five symbols the change never passes 0.861 of it; a sample at half its value
passes it ninety-fold. Where the figure of an exchange lags behind its trades now and then, it is passed by what was
traded in the candle before: such a sample is late, no error. What either means for the flow is decided in `flows.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOLUME_TOLERANCE = 0.05
"""Part of the traded volume by which a change may pass it."""

LEVEL_TOLERANCE = 1e-4
"""Part of the earlier sample by which a change may pass the traded volume, besides."""

NEW_LEVEL = 3
"""Samples in a row that fit each other, but not the last valid one, which make a new level."""


@dataclass(frozen=True)
class Traded:
    """What a day's candles say about the volume between two instants.

    Attributes:
        open_time: int64[n], microseconds UTC, increasing, on the grid that begins at `midnight`.
        volume: float64[n], contracts.
        interval: step of the grid, microseconds; divides a day.
        midnight: start of the day, microseconds UTC.
        day_end: end of the day, microseconds UTC.
    """

    open_time: NDArray[np.int64]
    volume: NDArray[np.float64]
    interval: int
    midnight: int
    day_end: int

    def between(
        self, start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the whole volume of the day's candles that overlap each open interval, and whether one is missing.

        Args:
            start: int64[k], microseconds UTC; may lie before the day.
            end: int64[k], not before `start`.

        Returns:
            float64[k] contracts, bool[k].
        """
        first = np.searchsorted(self.open_time, start - self.interval, side="right")
        last = np.searchsorted(self.open_time, end, side="left")
        slots = (self.day_end - self.midnight) // self.interval
        first_slot = np.clip((start - self.midnight) // self.interval, 0, slots)
        last_slot = np.clip(-((self.midnight - end) // self.interval), 0, slots)
        return sum_slices(self.volume, first, last), last - first != last_slot - first_slot


def sum_slices(values: NDArray[np.float64], first: NDArray[np.intp], last: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sum of values[first:last] for each pair of bounds, int[k]; 0 for an empty slice.

    Not as differences of running sums, which round: the sum of one value is that value.
    """
    if not len(first):
        return np.empty(0)
    bounds = np.column_stack((first, last)).ravel()
    with np.errstate(over="ignore"):  # an endless volume bounds nothing
        sums: NDArray[np.float64] = np.add.reduceat(np.append(values, 0.0), bounds)[::2]
    return np.where(first < last, sums, 0.0)


@dataclass(frozen=True)
class Judged:
    """Which samples count.

    Attributes:
        valid: int[v], increasing positions among the samples; the first is 0.
        shifts: positions in `valid` of the first sample of each new level, increasing, from 1.
        impossible: samples that count as missing, as no trade explains them.
        late: samples that count as missing, as what was traded in the candle before explains them.
    """

    valid: NDArray[np.intp]
    shifts: tuple[int, ...]
    impossible: int
    late: int = 0


def judge_samples(
    time: NDArray[np.int64],
    contracts: NDArray[np.float64],
    traded: Traded,
    *,
    volume_before: float,
    missing_before: bool,
) -> Judged:
    """Hold each sample against the last valid one; what breaks the bound is set aside until later ones decide.

    If a later sample fits the last valid one, those set aside were wrong. If three set aside in a row fit each other,
    the level itself moved (another multiplier, unit or counting) and the three are valid. What is set aside at the end
    is wrong too, as far as this day knows. What is wrong is late where the day's candle before the last valid sample
    explains it, and else impossible.

    Args:
        time: int64[m], microseconds UTC, increasing, m >= 1.
        contracts: float64[m], positive. The first sample is believed.
        traded: the day's candles.
        volume_before: contracts traded between the first sample and the day, where it lies before the day.
        missing_before: whether a candle of that time is missing. An interval with a missing candle fits always.
    """

    def fits(earlier: NDArray[np.intp], later: NDArray[np.intp]) -> NDArray[np.bool_]:
        volume, missing = traded.between(time[earlier], time[later])
        from_before = earlier == 0
        volume = volume + np.where(from_before, volume_before, 0.0)
        change = np.abs(contracts[later] - contracts[earlier])
        within = change <= (1 + VOLUME_TOLERANCE) * volume + LEVEL_TOLERANCE * contracts[earlier]
        fitting: NDArray[np.bool_] = within | missing | (from_before & missing_before)
        return fitting

    def lags(earlier: int, later: int) -> bool:
        if earlier == 0 and time[0] < traded.midnight:
            return False  # what was traded before the day is known in sum only
        since = max(int(time[earlier]) - traded.interval, traded.midnight)
        volume, _ = traded.between(np.array([since]), time[later : later + 1])
        change = abs(contracts[later] - contracts[earlier])
        return bool(change <= (1 + VOLUME_TOLERANCE) * volume[0] + LEVEL_TOLERANCE * contracts[earlier])

    numbers = np.arange(len(time))
    follows = fits(numbers[:-1], numbers[1:])
    if follows.all():
        return Judged(numbers, (), 0)

    # Those set aside always stand next to each other, so `follows` tells whether they fit among themselves.
    broken = int(np.argmin(follows)) + 1
    valid, shifts, aside, wrong = list(range(broken)), list[int](), list[int](), list[bool]()
    lagging: list[bool] = []  # of each that is set aside
    for number in range(broken, len(time)):
        last = valid[-1]
        direct = last == number - 1
        if follows[number - 1] if direct else fits(numbers[last : last + 1], numbers[number : number + 1])[0]:
            wrong += lagging
            valid.append(number)
            aside, lagging = [], []
            continue
        aside.append(number)
        lagging.append(lags(last, number))
        if len(aside) >= NEW_LEVEL and follows[number - NEW_LEVEL + 1 : number].all():
            wrong += lagging[:-NEW_LEVEL]
            shifts.append(len(valid))
            valid += aside[-NEW_LEVEL:]
            aside, lagging = [], []
    wrong += lagging
    return Judged(np.array(valid, dtype=np.intp), tuple(shifts), wrong.count(False), wrong.count(True))
