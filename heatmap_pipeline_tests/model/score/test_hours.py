"""From events, records and candles to hours: sums, what is missing, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.book import LONG, SHORT, Floats
from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.model.score.hours import (
    HOUR,
    HourlyMarket,
    ScoreHours,
    hourly_market,
    hourly_predicted,
    hourly_reported,
    recorded_hours,
)

MINUTE = HOUR // 60


def _sides(*sides: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    return np.array(sides, dtype=np.int8)


def test_predicted_by_hand() -> None:
    start = np.array([10, 11, 13]) * HOUR
    timestamp = np.array([10 * HOUR, 11 * HOUR - 5 * MINUTE, 11 * HOUR, 11 * HOUR, 12 * HOUR, 13 * HOUR, 14 * HOUR])
    opened = np.array([9 * HOUR, 10 * HOUR, 11 * HOUR - 1, 11 * HOUR, 9 * HOUR, 13 * HOUR - 5 * MINUTE, 0])
    side = _sides(LONG, LONG, SHORT, SHORT, LONG, LONG, LONG)
    quantity = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    whole, before = hourly_predicted(start, timestamp, side, quantity, opened)
    np.testing.assert_array_equal(whole, [[3, 0, 32], [0, 12, 0]])
    np.testing.assert_array_equal(before, [[1, 0, 32], [0, 4, 0]])


def test_reported_is_zero_where_recorded_and_missing_elsewhere() -> None:
    start = np.arange(4) * HOUR
    timestamp = np.array([0, 2 * HOUR + 7, 2 * HOUR + 9, 3 * HOUR])
    reported, recorded = hourly_reported(
        start,
        timestamp,
        _sides(LONG, SHORT, SHORT, LONG),
        np.array([5.0, 1.0, 2.0, 9.0]),
        np.array([0]),
        np.array([3 * HOUR + 30 * MINUTE]),
    )
    assert recorded.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(reported, [[5, 0, 0, np.nan], [0, 0, 3, np.nan]])


def test_nothing_recorded_nothing_there() -> None:
    none, no_sides, no_quantity = np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0)
    reported, recorded = hourly_reported(np.arange(3) * HOUR, none, no_sides, no_quantity, none, none)
    assert not recorded.any()
    assert np.isnan(reported).all()
    assert hourly_predicted(none, none, no_sides, no_quantity, none)[0].shape == (2, 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=8), st.integers(1, 4))
def test_recorded_hours_are_those_whose_every_part_is(ranges: list[tuple[int, int]], parts: int) -> None:
    part = HOUR // parts
    seen = np.zeros(60, dtype=bool)
    for begin, length in ranges:
        seen[begin : begin + length] = True
    expected = seen[: 60 // parts * parts].reshape(-1, parts).all(axis=1)
    begins = np.array([begin for begin, _ in ranges], dtype=np.int64) * part
    ends = begins + np.array([length for _, length in ranges], dtype=np.int64) * part
    np.testing.assert_array_equal(recorded_hours(np.arange(60 // parts) * HOUR, begins, ends), expected)


@given(st.integers(0, 2**32 - 1))
def test_sums_lose_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(0, 60))
    timestamp = generator.integers(0, 8 * HOUR, n)
    opened = timestamp - generator.integers(0, 3 * HOUR, n)
    side = generator.choice(_sides(LONG, SHORT), n)
    quantity = generator.random(n)
    start = np.arange(8) * HOUR
    whole, before = hourly_predicted(start, timestamp, side, quantity, opened)
    assert whole.sum(axis=1) == pytest.approx([quantity[side == LONG].sum(), quantity[side == SHORT].sum()])
    assert (before <= whole).all()


def _candles(n: int, seed: int = 0) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.003, n)))
    opened = np.append(100.0, close[:-1])
    high = np.maximum(opened, close) * (1 + generator.random(n) * 0.002)
    low = np.minimum(opened, close) * (1 - generator.random(n) * 0.002)
    return {"open": opened, "high": high, "low": low, "volume": generator.random(n)}


def test_market_hours_are_their_candles() -> None:
    columns = _candles(12 * 6)
    open_time = 5 * HOUR + np.arange(72) * 5 * MINUTE
    market = hourly_market(open_time, **columns, interval=300)
    np.testing.assert_array_equal(market.start, np.arange(5, 11) * HOUR)
    for hour in range(6):
        part = slice(hour * 12, hour * 12 + 12)
        assert market.open[hour] == columns["open"][part.start]
        assert market.high[hour] == columns["high"][part].max()
        assert market.low[hour] == columns["low"][part].min()
        assert market.volume[hour] == pytest.approx(columns["volume"][part].sum())
        if hour:
            down = up = 0.0
            for candle in range(part.start, part.stop):
                before = slice(candle - 12, candle)
                down += max(0, columns["low"][before].min() - columns["low"][candle]) / columns["open"][candle]
                up += max(0, columns["high"][candle] - columns["high"][before].max()) / columns["open"][candle]
            assert market.extreme[:, hour] == pytest.approx([down, up])
    assert np.isnan(market.extreme[:, 0]).all()
    assert market.extreme[:, 1:].max() > 0
    np.testing.assert_allclose(market.move.sum(axis=0), market.range)


def test_an_hour_without_all_its_candles_is_missing() -> None:
    columns = _candles(4 * 5)
    open_time = np.arange(20) * 15 * MINUTE
    kept = np.delete(np.arange(20), [5, 8, 9, 10, 11])  # one candle of hour 1, all of hour 2
    market = hourly_market(open_time[kept], **{name: column[kept] for name, column in columns.items()}, interval=900)
    np.testing.assert_array_equal(market.start, np.arange(5) * HOUR)
    for column in (market.open, market.high, market.low, market.volume):
        assert np.isfinite(column).tolist() == [True, False, False, True, True]
    # Hour 3 lacks the hour before its first candles; hour 4 has all of hour 3.
    assert np.isfinite(market.extreme[0]).tolist() == [False, False, False, False, True]


def test_hourly_candles_and_none() -> None:
    columns = _candles(3)
    market = hourly_market(np.arange(3) * HOUR, **columns, interval=3600)
    np.testing.assert_array_equal(market.low, columns["low"])
    expected = max(0.0, columns["low"][0] - columns["low"][1]) / columns["open"][1]
    assert market.extreme[0, 1] == pytest.approx(expected)
    nothing = hourly_market(np.empty(0, np.int64), **{name: np.empty(0) for name in columns}, interval=300)
    assert nothing.move.shape == (2, 0)


@pytest.mark.parametrize(("interval", "times"), [(7, [0]), (0, [0]), (7200, [0]), (300, [0, 0]), (300, [1])])
def test_candles_off_the_grid_are_refused(interval: int, times: list[int]) -> None:
    columns = _candles(len(times))
    with pytest.raises(ModelError, match=f"{interval} s"):
        hourly_market(np.array(times), **columns, interval=interval)


@pytest.fixture
def hours() -> ScoreHours:
    one = np.ones(3)
    market = HourlyMarket(np.arange(3) * HOUR, one, one, one, one, np.ones((2, 3)))
    return ScoreHours(market, np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), np.array([True, True, False]))


def test_scored_hours_are_known_to_all(hours: ScoreHours) -> None:
    assert hours.scored.tolist() == [True, True, False]
    known = np.array([1.0, np.nan, 1.0])
    assert replace(hours, market=replace(hours.market, low=known)).scored.tolist() == [True, False, False]
    assert replace(hours, predicted=np.stack([np.ones(3), known])).scored.tolist() == [True, False, False]


def test_wrong_hours_are_refused(hours: ScoreHours) -> None:
    with pytest.raises(ModelError, match=r"predicted has shape \(3,\), expected \(2, 3\)"):
        replace(hours, predicted=np.ones(3))
    with pytest.raises(ModelError, match=r"volume_only has shape \(2, 2\)"):
        replace(hours, volume_only=np.ones((2, 2)))
    with pytest.raises(ModelError, match="recorded has shape"):
        replace(hours, recorded=np.array([True]))
    missing = np.ones((2, 3))
    missing[1, 0] = np.nan
    with pytest.raises(ModelError, match=r"reported\[:, 0\] = \[1.0, nan\] in a recorded hour"):
        replace(hours, reported=missing)
    with pytest.raises(ModelError, match="not a whole hour"):
        replace(hours, market=replace(hours.market, start=np.array([0, 1, 2]) * MINUTE))
    with pytest.raises(ModelError, match="does not come after"):
        recorded_hours(np.array([HOUR, HOUR]), np.array([0]), np.array([HOUR]))
