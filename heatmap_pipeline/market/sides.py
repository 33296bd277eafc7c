"""Whether open interest counts each contract once or twice, told by its numbers alone.

Every contract has a long and a short. Some exchanges publish the one side, some the sum of both, and a factor of two is
noticed by no other check. A sum of two equal numbers is even, in multiples of the smallest amount that can be traded;
of one side every other number is odd. Measured: Binance 0.49 to 0.51 odd; Bybit's sum 0 to 0.04 on calm days and up to
0.5 in crashes, when its two sides differ for a while; Hyperliquid's sum 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 200
"""Distinct values that a measurement needs."""

BOTH_BELOW = 0.1
"""Below this share of odd values both sides are added."""

ONE_FROM = 0.4
"""From this share of odd values on, one side is counted."""

_MOST_OFF = 0.01
"""Share of values that may be no multiple of the step: one wrong row must not make all others even."""

_ROUNDING = 1e-3
"""Part of the step that a value may be off a multiple of it, by the arithmetic of a source (9594.69199999)."""

_LARGEST_MULTIPLE = 1e12
"""Beyond this a float and such arithmetic blur odd and even."""


class Counted(Enum):
    """Which sides of a contract open interest counts."""

    ONE = "one side"
    BOTH = "both sides added"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Sides:
    """What the numbers of one file say.

    Attributes:
        counted: the verdict.
        values: distinct multiples of the step among the values.
        step: contracts; None if the values have no step in common.
        odd_share: share of those values that are odd multiples; None without any.
    """

    counted: Counted
    values: int
    step: float | None = None
    odd_share: float | None = None

    @property
    def measured(self) -> bool:
        """Whether there was enough to tell, also if it told neither."""
        return self.odd_share is not None and self.values >= MIN_VALUES

    def in_words(self) -> str:
        """Return the verdict and what it rests on, for a report or a refusal."""
        if self.step is None or self.odd_share is None:
            return f"{self.counted.value}: the values are no multiples of one step"
        share = f"{self.odd_share:.3f} of {self.values} distinct values are odd multiples of {self.step:g} contracts"
        if self.values < MIN_VALUES:
            return f"{self.counted.value}: {share}, and it takes {MIN_VALUES} values to tell"
        return f"{self.counted.value}: {share} (both sides below {BOTH_BELOW:g}, one side from {ONE_FROM:g})"


def measure_sides(contracts: NDArray[np.float64], lot: float | None = None) -> Sides:
    """Tell whether a file's open interest counts one side of each contract or both.

    Args:
        contracts: float64[m], positive, in any order. A value that repeats tells nothing new and counts once.
        lot: smallest amount that can be traded, contracts, as the exchange says; a smaller number makes everything
            even. None = the largest power of ten of which the values are multiples, which is wrong where a lot is 2 or
            5 of something.

    Returns:
        `UNDECIDED` for fewer than 200 distinct values, for values without a common step, and for a share of odd values
        from 0.1 to below 0.4: then a neighbouring day has to tell, or the source. `BOTH` is never chance; `ONE` may be
        the worst day of a crash (one of 40 days of Bybit's sum has 0.507), so a neighbour that says `BOTH` is right.

    Raises:
        ValueError: for a lot that is not positive.

    Example:
        >>> both_sides = 2 * np.arange(40_000, 40_300) / 1000
        >>> measure_sides(both_sides).in_words()
        'both sides added: 0.000 of 300 distinct values are odd multiples of 0.001 contracts ...'
    """
    if lot is not None and not lot > 0:
        raise ValueError(f"a lot of {lot} contracts is none; give a positive number")
    distinct = np.unique(contracts)
    if not len(distinct):
        return Sides(Counted.UNDECIDED, 0)
    for step in _steps(distinct) if lot is None else [lot]:
        multiple = distinct / step
        nearest = np.rint(multiple)
        on_step = (np.abs(multiple - nearest) <= _ROUNDING) & (nearest <= _LARGEST_MULTIPLE)
        multiples = np.unique(nearest[on_step])
        # Values that lie close together are near one multiple of any step that is much too large.
        if on_step.mean() >= 1 - _MOST_OFF and len(multiples) > len(distinct) / 2:
            odd_share = float((multiples % 2).mean())
            return Sides(_verdict(len(multiples), odd_share), len(multiples), step, odd_share)
    return Sides(Counted.UNDECIDED, 0)


def odd_share_of_halves(contracts: NDArray[np.float64], step: float) -> float:
    """Return how many halves of the even multiples of a step are odd: about 0.5 where both equal sides were added.

    Args:
        contracts: float64[m], with at least one even multiple.
        step: as measured, contracts.
    """
    multiples = np.unique(np.rint(contracts / step))
    return float((multiples[multiples % 2 == 0] / 2 % 2).mean())


def _steps(values: NDArray[np.float64]) -> list[float]:
    """Return the powers of ten that may be the step, the largest first."""
    largest = math.floor(math.log10(float(values[-1])))
    return [float(f"1e{power}") for power in range(largest, -13, -1)]


def _verdict(values: int, odd_share: float) -> Counted:
    if values < MIN_VALUES or BOTH_BELOW <= odd_share < ONE_FROM:
        return Counted.UNDECIDED
    return Counted.BOTH if odd_share < BOTH_BELOW else Counted.ONE
