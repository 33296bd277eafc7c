"""What is usually liquidated in an hour of the day, which alerts of cascades are held against."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from heatmap_pipeline.chain.alerts import _Hours

NAN = float("nan")


def days(*each: float, otherwise: float = 0.0) -> NDArray[np.float64]:
    """Return hourly sums: of the longs these amounts at 00:00 of days in a row, and `otherwise` at all other hours."""
    sums = np.full((24 * len(each), 2), otherwise)
    sums[::24, 0] = each
    sums[:, 1] = -1.0  # of the other side, which nobody asks for
    return sums


def usual(sums: NDArray[np.float64], *, number: int | None = None, unknown: float = 0.0) -> float | None:
    """Return what is usual in the hour after all of these, or in another one."""
    return _Hours._usual(sums, len(sums) if number is None else number, 0, unknown)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([5.0] * 6, None),  # fewer days than seven
        ([1, 2, 3, 4, 5, 6, 7], 4.0),
        ([1, 2, 3, 4, 5, 6, 7, 8], 4.5),
        ([100] * 20 + [1] * 28, 1.0),  # only the newest 28 days
        ([100] + [1] * 14 + [3] * 14, 2.0),
        ([1, 2, 3, 4, 5, 6, NAN], None),  # a day without a record is none of the seven
        ([NAN, 1, 2, 3, NAN, 4, 5, 6, 7], 4.0),
    ],
)
def test_usual_is_the_median_of_the_same_hour_on_the_days_before(amounts: list[float], expected: float | None) -> None:
    assert usual(days(*amounts)) == expected


def test_in_a_quiet_hour_usual_is_the_median_of_all_hours() -> None:
    assert usual(days(*[1.0] * 10, otherwise=6.0)) == 6.0
    assert usual(days(*[9.0] * 10, otherwise=6.0)) == 9.0


def test_hours_after_the_last_one_that_is_known_had_nothing_or_nobody_knows() -> None:
    sums = days(*[4.0] * 8)
    assert usual(sums, number=24 * 12) == 4.0, "8 of 12 days"
    assert usual(sums, number=24 * 17) == 0.0, "8 of 17 days had something"
    assert usual(sums, number=24 * 17, unknown=NAN) == 4.0, "the others are not known"
    assert usual(sums, number=24 * 31, unknown=NAN) is None, "of the newest 28 days only five"
    assert usual(sums, number=24 * 8 + 1) == 0.0, "at 01:00 nothing ever was"
