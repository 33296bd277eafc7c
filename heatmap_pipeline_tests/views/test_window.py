"""Heights of bins and buckets of windows and moments, to the last row and the last microsecond."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.views.base import candles_record
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.summed_map import bucket_of_moment
from heatmap_pipeline.views.symbol import ModelData
from heatmap_pipeline.views.window import MAX_ROWS, choose_bins

UNIT = 10**8
"""One of the quote asset."""


@pytest.mark.parametrize(
    ("low", "high", "bucket", "size"),
    [
        (0, 9, 1.0, 1),
        (0, 10, 1.0, 2),
        (5, 14, 1.0, 1),
        (5, 15, 1.0, 2),  # rows 2, 3, ..., 7
        (9, 29, 1.0, 5),  # 21 rows of 1, 11 of 2
        (7, 7, 1.0, 1),
        (0, 99, 5.0, 10),
        (0, 100, 5.0, 25),
    ],
)
def test_bins_are_as_low_as_the_rows_allow(low: int, high: int, bucket: float, size: int) -> None:
    assert choose_bins(low * UNIT, high * UNIT, bucket, None, 10) == size * UNIT


def test_bins_that_are_asked_for_may_yield_so_many_rows_and_no_more() -> None:
    assert choose_bins(0, (MAX_ROWS - 1) * UNIT, 1.0, UNIT, 10) == UNIT
    with pytest.raises(ViewError, match=r"price_bin_size = 1 yields 2001 rows, more than 2000; .* allowed here is 2$"):
        choose_bins(0, MAX_ROWS * UNIT, 1.0, UNIT, 10)


@pytest.mark.parametrize(
    ("first", "last", "bucket"),
    [
        (0, 3 * DAY, 100.0),
        (0, DAY, 50.0),
        (0, DAY + 1, 100.0),
        (2 * DAY, 3 * DAY, 10.0),
        (2 * DAY - 1, 3 * DAY, 100.0),
        (-DAY, 0, 10.0),  # no day: the newest one's
        (3 * DAY, 9 * DAY, 10.0),
    ],
)
def test_a_window_has_the_largest_bucket_of_its_days(first: int, last: int, bucket: float) -> None:
    days = [date(2024, 4, number) for number in (1, 2, 3)]
    buckets = dict(zip(days, (50.0, 100.0, 10.0), strict=True))
    model: Any = SimpleNamespace(
        days=days, parameters={day: SimpleNamespace(bucket=size) for day, size in buckets.items()}
    )
    begin = day_start(days[0])
    assert ModelData.bucket(model, begin + first, begin + last) == bucket


def part(present: bool, at: int | None, *times: int) -> Any:
    """Return what a market has of a moment: whether it is there, and its newest candle among some."""
    model = SimpleNamespace(times=times)
    return SimpleNamespace(
        at=at,
        present=[present],
        source=SimpleNamespace(model=model),
        record=lambda missing, *_: {"missing": missing, "bucket": 1.0, "share": 0.5},
    )


def test_the_bucket_of_a_moment_is_that_of_the_candles_of_all_markets_that_are_there() -> None:
    """Just after midnight the newest candle of one may be of the day before."""
    asked: Any = SimpleNamespace(bucket=lambda first, last: (first, last))
    parts = [part(True, 0, 500), part(True, 1, 0, 900), part(False, 0, 100), part(True, None)]
    stretch: Any = bucket_of_moment(asked, parts)
    assert stretch == (500, 901)


def test_of_candles_a_market_is_missing_that_is_not_there() -> None:
    assert [candles_record(part(there, 0, 0)) for there in (True, False)] == [{"missing": False}, {"missing": True}]
