"""One side of each contract or both: told by odd and even values, on made numbers and on real ones."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heatmap_pipeline.market.sides import Counted, measure_sides
from heatmap_pipeline_tests.market._real import binance_days, bybit_days


def walk(seed: int, count: int = 288) -> list[int]:
    """Return open interest in lots that all differ."""
    steps = np.random.default_rng(seed).integers(1, 1000, count)
    return [int(lots) for lots in 1_000_000 + np.cumsum(steps)]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-8, 0.001, 0.1, 1.0, 100.0]))
def test_one_side_and_its_double_are_told_apart_at_any_lot(seed: int, lot: float) -> None:
    lots = np.array(walk(seed))
    assume((lots % 2).mean() >= 0.4)  # chance alone goes below once in three thousand days
    one, both = measure_sides(lots * lot), measure_sides(2 * lots * lot)
    assert (one.counted, both.counted) == (Counted.ONE, Counted.BOTH)
    assert (one.step, both.step) == pytest.approx((lot, lot))
    assert one.odd_share == (lots % 2).mean()
    assert both.odd_share == 0
    assert one.values == both.values == 288


@pytest.mark.parametrize(
    ("odd", "counted"),
    [
        (0, Counted.BOTH),
        (29, Counted.BOTH),
        (30, Counted.UNDECIDED),
        (119, Counted.UNDECIDED),
        (120, Counted.ONE),
        (300, Counted.ONE),
    ],
)
def test_the_share_of_odd_values_decides(odd: int, counted: Counted) -> None:
    lots = np.arange(2_000_002, 2_000_602, 2) + (np.arange(300) < odd)
    found = measure_sides(lots / 1000)
    assert (found.counted, found.odd_share) == (counted, odd / 300)
    assert found.in_words().startswith(f"{counted.value}: {odd / 300:.3f} of 300 distinct values")


@pytest.mark.parametrize(("count", "counted"), [(199, Counted.UNDECIDED), (200, Counted.ONE)])
def test_two_hundred_values_are_needed(count: int, counted: Counted) -> None:
    lots = walk(5, count)
    found = measure_sides(np.array(lots + lots + lots[:1]) / 1000)
    assert (found.counted, found.values) == (counted, count)
    assert ("it takes 200 values" in found.in_words()) == (count < 200)


def test_a_feed_that_stands_still_tells_nothing() -> None:
    assert measure_sides(np.full(288, 1234.568)).counted is Counted.UNDECIDED
    assert measure_sides(np.empty(0)).counted is Counted.UNDECIDED


def test_a_few_wrong_rows_do_not_make_the_others_even() -> None:
    lots = np.array(walk(7)) / 1000
    lots[5] = lots[5] * 0.5 + 1e-6
    lots[9] = 4711.12345
    found = measure_sides(lots)
    assert (found.counted, found.step, found.values) == (Counted.ONE, 0.001, 286)


def test_values_without_a_step_are_not_judged() -> None:
    found = measure_sides(np.random.default_rng(3).uniform(1e3, 2e3, 288) * np.pi)
    assert found.counted is Counted.UNDECIDED
    assert "no multiples of one step" in found.in_words()


def test_a_known_lot_tells_what_powers_of_ten_cannot() -> None:
    doubled = 2 * np.array(walk(8)) * 0.5
    assert measure_sides(doubled).counted is Counted.ONE
    assert measure_sides(doubled, lot=0.5).counted is Counted.BOTH
    for lot in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="give a positive number"):
            measure_sides(doubled, lot=lot)


@pytest.mark.market
def test_real_days_of_one_side(market_dir: Path) -> None:
    whole = [("BTCUSDT", date(2024, 9, 14), 4, 300, 0.001), ("DOGEUSDT", date(2024, 9, 14), 4, 300, 1.0)]
    for symbol, first, count, interval, lot in [*whole, ("BTCUSDT", date(2026, 3, 14), 19, 900, 0.001)]:
        for day, _, samples in binance_days(market_dir, symbol, first, count, interval):
            contracts = samples["contracts"].to_numpy()
            found = measure_sides(contracts)
            assert (found.counted, found.step) == (Counted.ONE, lot), f"{symbol} {day}"
            assert measure_sides(2 * contracts).counted is Counted.BOTH
            assert measure_sides(contracts, lot=lot) == found


@pytest.mark.market
def test_real_hours_are_too_few(market_dir: Path) -> None:
    for _, _, samples in binance_days(market_dir, "BTCUSDT", date(2024, 7, 1), 3, 300):
        assert measure_sides(samples["contracts"].to_numpy()).counted is Counted.UNDECIDED


@pytest.mark.market
def test_real_days_of_both_sides(market_dir: Path) -> None:
    told = {day: measure_sides(samples["openInterest"].to_numpy()) for day, _, samples in bybit_days(market_dir)}
    assert Counter(found.counted for found in told.values()) == {
        Counted.BOTH: 23,
        Counted.UNDECIDED: 16,
        Counted.ONE: 1,
    }
    # In a crash the two sides differ for a while: the sum of one day looks like one side. No other day does.
    assert told[date(2021, 1, 12)].counted is Counted.ONE
    # The days before the crash are clear.
    assert all(told[date(2021, 1, number)].counted is Counted.BOTH for number in range(1, 11))
