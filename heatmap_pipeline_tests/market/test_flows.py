"""Flows of a day: each rule by example, and all of them against a slow literal reference on random chains of days."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from heatmap_pipeline.market.flows import Carried, DayFlow, compute_flow
from heatmap_pipeline.market.repair import step_of_labels
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.market._files import DAY, at
from heatmap_pipeline_tests.market._real import RealDay, binance_days, bybit_days

MINUTE, HOUR = 60, 3600


def flow_of(
    opens: list[int],
    samples: dict[int, float],
    *,
    step: int = 5 * MINUTE,
    volume: list[float] | None = None,
    carried: Carried | None = None,
    interval: int = 5 * MINUTE,
    day: date = DAY,
) -> DayFlow:
    """Compute the flow of candles opening, and samples taken, at these seconds of the day."""
    return compute_flow(
        np.array([at(second, day) for second in opens], dtype=np.int64),
        np.array(volume or [1e3] * len(opens)),
        interval,
        np.array([at(second, day) for second in samples], dtype=np.int64),
        np.array(list(samples.values()), dtype=np.float64),
        step,
        carried,
        day,
        "BTCUSDT",
    )


def carry(second: int, contracts: float, open_interest: float | None = None) -> Carried:
    """Return what a day leaves whose candles after its last sample nobody knows."""
    return Carried(contracts if open_interest is None else open_interest, at(second), contracts)


def known(contracts: float, second: int = 0) -> Carried:
    """Return what a day leaves that ends with a sample, all whose candles are there."""
    return Carried(contracts, at(second), contracts, 0.0, missing_since=False)


def level_of(carried: Carried) -> Carried:
    """Return only the levels that were carried."""
    return carry((carried.sample_time - at(0)) // 1_000_000, carried.sample_contracts, carried.open_interest)


GRID = list(range(0, HOUR, 300))
"""The first hour of 5m candles."""


def test_hold_on_the_grid_is_the_simple_difference() -> None:
    level = [100.0, 103, 101, 101, 108]
    found = flow_of(GRID[:4], dict(zip(range(0, 1500, 300), level, strict=True)))
    assert found.first == 0
    assert found.flow.tolist() == [3, -2, 0, 7]
    assert found.open_interest.tolist() == level[1:]
    assert found.start_open_interest == 100
    assert level_of(found.carried) == carry(1200, 108)
    assert not found.held


def test_hold_starts_from_the_carried_level() -> None:
    found = flow_of(GRID[:2], {300: 104, 600: 105}, carried=carry(-300, 100))
    assert found.flow.tolist() == [4, 1]
    assert found.start_open_interest is None


def test_after_a_hole_the_change_falls_where_the_end_is_known_again() -> None:
    found = flow_of(GRID[:6], {300: 100, 1500: 112, 1800: 113}, carried=carry(0, 99))
    assert found.flow.tolist() == [1, 0, 0, 0, 12, 1]


def test_a_sample_off_the_grid_counts_from_the_next_end_on() -> None:
    found = flow_of(GRID[:3], {301: 101, 899: 102, 900: 103}, carried=carry(0, 100))
    assert found.open_interest.tolist() == [100, 101, 103]


def test_finer_samples_are_held_at_the_ends() -> None:
    found = flow_of([0, 900], {300 * i: 100.0 + i for i in range(7)}, interval=900)
    assert found.flow.tolist() == [3, 3]


def test_a_missing_candles_flow_goes_to_the_next() -> None:
    found = flow_of([0, 900], {300 * i: 100.0 + i for i in range(5)})
    assert found.flow.tolist() == [1, 3]


def test_a_missing_last_candles_flow_goes_to_the_next_day() -> None:
    today = flow_of([85800], {86100: 100, 86400: 107}, carried=carry(0, 90))
    assert today.flow.tolist() == [10]
    assert level_of(today.carried) == carry(86400, 107, 100)
    tomorrow = DAY + timedelta(days=1)
    for samples in ({}, {300: 107.0}):
        later = flow_of(GRID[:2], samples, carried=today.carried, day=tomorrow)
        assert later.flow.tolist() == [7, 0]
        assert later.carried.open_interest == 107
    spread = flow_of(GRID[:2], {600: 117}, carried=today.carried, day=tomorrow, step=600)
    assert spread.flow.tolist() == [7 + 5, 5]


def test_a_day_without_samples_is_held() -> None:
    for step in (300, 3600):
        found = flow_of(GRID, {}, carried=carry(-300, 100), step=step)
        assert found.held
        assert found.flow.tolist() == [0] * 12
        assert level_of(found.carried) == carry(-300, 100)
        assert found.start_open_interest is None


def test_a_first_day_of_one_sample_is_not_held() -> None:
    found = flow_of(GRID, {0: 100})
    assert (found.held, found.flow.tolist()) == (False, [0] * 12)


def test_the_days_own_sample_of_midnight_wins() -> None:
    for step in (300, 3600):
        found = flow_of(GRID[:2], {0: 100.0078125}, carried=carry(0, 100), step=step)
        assert found.flow.tolist() == [0.0078125, 0]
        assert level_of(found.carried) == carry(0, 100.0078125)


def test_the_first_day_starts_at_its_first_sample() -> None:
    for step in (300, 3600):
        found = flow_of(GRID, {600: 100, 1200: 104}, step=step)
        assert found.first == 2
        assert len(found.flow) == len(found.open_interest) == 10
        assert found.start_open_interest == 100
        assert found.flow.sum() == 4
        assert flow_of(GRID, {599: 100}, step=step).first == 2
        assert flow_of(GRID, {601: 100}, step=step).first == 3


def test_the_first_sample_may_leave_no_candle() -> None:
    found = flow_of(GRID, {86100: 100, 86400: 103})
    assert found.first == len(GRID)
    assert len(found.flow) == len(found.open_interest) == 0
    assert found.start_open_interest == 100
    assert level_of(found.carried) == carry(86400, 103, 100)
    assert flow_of(GRID[:1], {}, carried=found.carried, day=DAY + timedelta(days=1)).flow.tolist() == [3]


def test_a_first_day_without_open_interest_is_refused() -> None:
    with pytest.raises(MarketError, match="BTCUSDT 2024-09-14: first day without any valid open interest"):
        flow_of(GRID, {})


def test_a_carried_sample_from_the_future_is_a_defect() -> None:
    with pytest.raises(ValueError, match="after the day began"):
        flow_of(GRID, {600: 100}, carried=carry(300, 100))


def test_spread_follows_the_volume() -> None:
    found = flow_of(GRID[:6], {0: 100, 900: 112, 1800: 106}, step=900, volume=[10, 20, 30, 0, 0, 50])
    assert found.flow == pytest.approx([2, 4, 6, 0, 0, -6])
    assert found.open_interest[2] == 112
    assert found.open_interest[3:5].tolist() == [112, 112]
    assert found.open_interest[5] == 106


def test_spread_without_volume_is_in_equal_parts() -> None:
    found = flow_of(GRID[:6], {0: 1e6, 900: 1e6 + 12, 1800: 1e6 + 6}, step=900, volume=[0, 0, 0, 1, 1, 2])
    assert found.flow == pytest.approx([4, 4, 4, -1.5, -1.5, -3], abs=1e-8)


def test_spread_from_before_midnight_uses_the_new_days_candles() -> None:
    found = flow_of(GRID[:3], {600: 112}, step=900, carried=carry(-1800, 100))
    assert found.flow.tolist() == [6, 6, 0]


def test_spread_from_before_midnight_without_a_candle_falls_in_the_first() -> None:
    assert flow_of(GRID[:3], {0: 112}, step=900, carried=carry(-1800, 100)).flow.tolist() == [12, 0, 0]
    assert flow_of([900, 1200], {600: 112}, step=900, carried=carry(-1800, 100)).flow.tolist() == [12, 0]


def test_spread_gives_nothing_after_the_last_sample() -> None:
    assert flow_of(GRID, {0: 100, 900: 112}, step=900).flow[3:].tolist() == [0] * 9


def test_spread_over_the_candles_that_exist() -> None:
    found = flow_of([0, 900, 1800, 2100], {0: 100, 900: 110, 1800: 130, 2700: 127}, step=900)
    assert found.flow == pytest.approx([10, 20, -1.5, -1.5])


def test_spread_without_any_candle_goes_to_the_next_that_exists() -> None:
    found = flow_of([0, 1800, 2100], {0: 100, 900: 110, 1800: 130, 2700: 127}, step=900)
    assert found.flow == pytest.approx([10, 20 - 1.5, -1.5])


def test_spread_without_any_candle_left_goes_to_the_next_day() -> None:
    found = flow_of([81900], {78000: 100, 82800: 110, 86400: 130}, step=3600, carried=carry(-300, 100))
    assert level_of(found.carried) == carry(86400, 130, 110)


def test_spread_to_a_sample_off_the_grid_is_complete_at_the_last_end_before_it() -> None:
    found = flow_of(GRID[:4], {0: 100, 400: 110, 1000: 130}, step=600)
    assert found.flow == pytest.approx([10, 10, 10, 0])


def test_candles_before_the_first_sample_take_no_part_in_spreading() -> None:
    found = flow_of(GRID[:4], {100: 100, 900: 112}, step=900)
    assert found.first == 1
    assert found.flow.tolist() == [6, 6, 0]


def test_huge_volumes_do_not_overflow() -> None:
    found = flow_of(GRID[:2], {0: 100, 600: 110}, step=600, volume=[1.5e308, 1.5e308])
    assert found.flow.tolist() == [5, 5]


def steady(count: int, level: float = 1000.0, step: int = 300, start: int = 300) -> dict[int, float]:
    """Return samples that rise by one each."""
    return {start + step * i: level + 1 + i for i in range(count)}


def test_a_sample_that_trades_cannot_explain_is_as_if_it_were_missing() -> None:
    samples = steady(12)
    for wrong in (0.5, 2, 1e-9, 1.2):
        for hit in ([5], [5, 6], [1], [10], [11], [10, 11], [3, 8], [4, 5, 8, 9]):
            dirty = {time: value * (wrong if i in hit else 1) for i, (time, value) in enumerate(samples.items())}
            clean = {time: value for i, (time, value) in enumerate(samples.items()) if i not in hit}
            found, wanted = (flow_of(GRID, each, volume=[10.0] * 12, carried=known(1000)) for each in (dirty, clean))
            assert found.flow.tolist() == wanted.flow.tolist()
            assert found.carried == wanted.carried
            assert (found.impossible_samples, found.level_shifts) == (len(hit), 0)
            assert (wanted.impossible_samples, wanted.level_shifts) == (0, 0)
            assert found.factor.tolist() == [1.0] * 12


@pytest.mark.parametrize(
    ("change", "volume", "late"),
    [
        (90.0, {4: 85.0}, True),  # the candle before has it
        (96.0, {4: 85.0}, False),  # and no more: 85 and 5 by 1.05, and 0.1 of tolerance
        (90.0, {3: 85.0}, False),  # not the one before that
        (90.0, {6: 85.0}, False),  # nor the one after: nobody knows beforehand
        (-90.0, {4: 85.0}, True),
    ],
)
def test_a_sample_is_late_where_the_candle_before_has_what_it_tells(
    change: float, volume: dict[int, float], late: bool
) -> None:
    """It is held like any other that cannot be true, and called something else."""
    samples = {300 * (at + 1): 1000.0 for at in range(12)} | {300 * 6: 1000.0 + change}
    found = flow_of(GRID, samples, volume=[volume.get(at, 5.0) for at in range(12)], carried=known(1000))
    assert found.flow.tolist() == [0.0] * 12
    assert found.repairs == {"late_samples" if late else "impossible_samples": 1}


def test_a_sample_is_late_also_on_a_day_that_goes_on_from_a_sample_of_yesterday() -> None:
    """What was traded before midnight is known in sum only: held against yesterday's sample, none is called late."""
    volume, yesterday = [85.0, 5.0, 5.0, 5.0], Carried(1000, at(-300), 1000, 0.0, missing_since=False)
    found = flow_of(GRID[:4], {300: 1000, 600: 1090, 900: 1000}, volume=volume, carried=yesterday)
    assert (found.late_samples, found.impossible_samples) == (1, 0)
    found = flow_of(GRID[:4], {300: 1095, 600: 1000}, volume=volume, carried=yesterday)
    assert (found.late_samples, found.impossible_samples) == (0, 1)


def test_wrong_samples_that_do_not_fit_each_other_make_no_level() -> None:
    samples = steady(12) | {1500: 500.0, 1800: 2000.0, 2100: 500.0, 2400: 250.0}
    found = flow_of(GRID, samples, volume=[10.0] * 12, carried=known(1000))
    assert (found.impossible_samples, found.level_shifts) == (4, 0)
    assert found.flow.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 5, 1, 1, 1]


@pytest.mark.parametrize("factor", [1000, 0.001, 2, 1 / 3, 1.1])
@pytest.mark.parametrize("first", [0, 4, 9])
def test_a_level_that_moves_for_good_is_no_flow(factor: float, first: int) -> None:
    samples = {300 * (i + 1): 1000.7 if i < first else 1000.7 * factor for i in range(12)}
    found = flow_of(GRID, samples, volume=[10.0] * 12, carried=known(1000.7))
    assert found.flow.tolist() == [0.0] * 12
    assert found.factor.tolist() == [1000.7 * factor / 1000.7 if i == first else 1.0 for i in range(12)]
    assert found.open_interest.tolist() == list(samples.values())
    assert (found.impossible_samples, found.level_shifts) == (0, 1)
    assert found.repairs["level_shifts"] == 1


def test_what_was_wrong_before_a_new_level_stays_wrong() -> None:
    samples = steady(12) | {900: 3e3, 1200: 7e3}
    samples |= {time: value * 100 for time, value in samples.items() if time > 1200}
    found = flow_of(GRID, samples, volume=[500.0] * 12, carried=known(1000))
    assert (found.impossible_samples, found.level_shifts) == (2, 1)
    assert found.factor[4] == 1005 * 100 / 1002
    assert found.flow.tolist() == [1, 1, 0, 0, 0, *[100] * 7]


def test_the_level_may_move_several_times_a_day_and_twice_in_a_candle() -> None:
    samples = {300 * i: 512.0 * (1 if i < 3 else 2 if i < 6 else 8 if i < 9 else 1) for i in range(1, 13)}
    found = flow_of(GRID, samples, volume=[0.5] * 12, carried=known(512))
    assert found.factor.tolist() == [1, 1, 2, 1, 1, 4, 1, 1, 0.125, 1, 1, 1]
    assert found.flow.tolist() == [0] * 12
    assert found.level_shifts == 3
    finer = {60 * i: 512.0 * (1 if i < 6 else 2 if i < 9 else 8) for i in range(1, 13)}
    found = flow_of(GRID[:3], finer, step=60, volume=[0.5] * 3, carried=known(512))
    assert found.factor.tolist() == [1, 16 / 2, 1]
    assert found.flow.tolist() == [0, 0, 0]
    assert found.level_shifts == 2


def test_a_change_that_had_no_candle_of_its_own_moves_with_the_level() -> None:
    samples = {360: 510.0, 420: 1020.0, 480: 1020.0, 540: 1020.0, 600: 1028.0}
    found = flow_of(GRID[:2], samples, step=60, volume=[50.0] * 2, carried=known(500))
    assert found.factor.tolist() == [1, 2]
    assert found.flow.tolist() == [0, 1028 - 2 * 500]


def test_the_old_level_is_held_until_the_first_candle_that_ends_with_the_new_one() -> None:
    samples = {0: 1000.0, 900: 1006.0, 2000: 2012.0, 2900: 2024.0, 3600: 2024.0}
    found = flow_of(GRID, samples, step=900, volume=[20.0] * 12)
    assert found.open_interest.tolist()[:6] == [1002, 1004, 1006, 1006, 1006, 1006]
    # 2000 s lies in the seventh candle; from there the change of 12 is spread over the three that end by 2900 s.
    assert found.flow.tolist() == [2, 2, 2, 0, 0, 0, 4, 4, 4, 0, 0, 0]
    assert found.factor.tolist() == [1] * 6 + [2012 / 1006] + [1] * 5


def test_over_a_missing_candle_a_new_level_cannot_be_told_from_trades() -> None:
    opens = [second for second in GRID if second not in (1200, 1500)]
    for first in (4, 5, 6):  # the first sample of the new level: before the hole, in it, at its end
        samples = {300 * i: 1000.0 if i < first else 3000.0 for i in range(1, 13)}
        found = flow_of(opens, samples, carried=known(1000), volume=[1.0] * 10)
        assert (found.level_shifts, found.impossible_samples) == (0, int(first == 4))
        assert found.flow.tolist() == [0, 0, 0, 0, 2000, 0, 0, 0, 0, 0]


def evening(samples: dict[int, float], carried: Carried, *, until: int = 86400, step: int = 300) -> DayFlow:
    """Compute a day whose candles all trade 10, but those that open from `until` on, which are missing."""
    opens = list(range(0, until, 300))
    return flow_of(opens, samples, volume=[10.0] * len(opens), carried=carried, step=step)


TOMORROW = DAY + timedelta(days=1)


def test_a_carried_factor_takes_effect_in_the_days_first_candle() -> None:
    before = Carried(700.1, at(86400), 2100.3, 0.0, missing_since=False, factor=2100.3 / 700.1)
    found = flow_of(GRID, {300: 2100.3, 600: 2101.3}, carried=before, day=TOMORROW)
    assert found.factor.tolist() == [2100.3 / 700.1] + [1] * 11
    assert found.flow[0] == 0
    assert found.flow[1:].tolist() == pytest.approx([1] + [0] * 10)
    assert (found.level_shifts, found.carried.factor) == (0, 1.0)


def test_a_shift_that_finds_no_candle_is_carried_over() -> None:
    # The first sample leaves no candle of its day to the model, and the level moves before midnight.
    samples = {86220: 512.0, 86280: 1024.0, 86340: 1024.0, 86400: 1024.0}
    found = flow_of(list(range(0, 86400, 300)), samples, step=60, volume=[0.01] * 288)
    assert (found.first, found.level_shifts, found.start_open_interest) == (288, 1, 512)
    assert found.carried == Carried(512, at(86400), 1024, 0.0, missing_since=False, factor=2.0)
    later = flow_of(GRID[:2], {300: 1025}, carried=found.carried, day=TOMORROW)
    assert later.factor.tolist() == [2, 1]
    assert later.flow.tolist() == [1, 0]


def test_what_is_set_aside_at_midnight_is_decided_anew() -> None:
    samples = {300 * i: 1000.0 if i < 287 else 500.0 for i in range(1, 289)}
    today = evening(samples, carry(0, 1000))
    assert (today.impossible_samples, today.level_shifts) == (2, 0)
    assert today.open_interest[-1] == 1000
    assert today.carried == Carried(1000, at(286 * 300), 1000, 20.0, missing_since=False)
    back = flow_of(GRID, {300: 1000.0, 600: 1001}, volume=[10.0] * 12, carried=today.carried, day=TOMORROW)
    assert (back.impossible_samples, back.level_shifts) == (0, 0)
    stays = flow_of(
        GRID, {300 * i: 500.0 for i in range(1, 13)}, volume=[10.0] * 12, carried=today.carried, day=TOMORROW
    )
    assert (stays.impossible_samples, stays.level_shifts) == (0, 1)
    assert stays.factor.tolist() == [0.5] + [1] * 11
    assert stays.flow.tolist() == [0] * 12


def test_the_volume_of_the_day_before_counts() -> None:
    today = evening({300 * i: 1000.0 for i in range(1, 280)}, carry(0, 1000))
    assert today.carried == Carried(1000, at(279 * 300), 1000, 90.0, missing_since=False)
    for change, impossible in ((105.0, 0), (106.0, 1)):  # 1.05 times 90 and the first candle's 10, and 0.1
        found = flow_of(GRID, {300: 1000 + change}, volume=[10.0] * 12, carried=today.carried, day=TOMORROW)
        assert found.impossible_samples == impossible
    held = evening({}, Carried(1000, at(-600), 1000, 5.0, missing_since=False))
    assert held.carried == Carried(1000, at(-600), 1000, 5.0 + 2880, missing_since=False)
    hole = evening({86000: 1000.0}, carry(0, 1000), until=86100)
    assert hole.carried == Carried(1000, at(86000), 1000, 10.0, missing_since=True)
    assert flow_of(GRID, {300: 9e9}, carried=hole.carried, day=TOMORROW).impossible_samples == 0


def test_the_earlier_sample_gives_the_tolerance() -> None:
    for later, impossible in ((1e6 + 100, 0), (1e6 + 100.005, 1), (1e6 - 100, 0), (1e6 - 100.005, 1)):
        found = flow_of(GRID, {300: later}, volume=[0.0] * 12, carried=known(1e6))
        assert found.impossible_samples == impossible


def test_a_missing_candle_is_not_forgotten_over_a_day_without_samples() -> None:
    held = evening({}, carry(-600, 1000))
    assert held.carried.missing_since
    assert flow_of(GRID, {300: 9e9}, carried=held.carried, day=TOMORROW).impossible_samples == 0


def test_two_shifts_that_find_no_candle_are_both_carried_over() -> None:
    seconds = range(85980, 86401, 60)
    levels = [512.0, 1024, 1024, 1024, 4096, 4096, 4096, 4096]
    opens = list(range(0, 86400, 900))
    found = flow_of(opens, dict(zip(seconds, levels, strict=True)), step=60, volume=[0.01] * 96, interval=900)
    assert (found.first, found.level_shifts, found.carried.factor) == (96, 2, 8.0)
    later = flow_of([0, 900], {900: 4097}, carried=found.carried, day=TOMORROW, interval=900)
    assert (later.factor.tolist(), later.flow.tolist()) == ([8, 1], [1, 0])


def test_a_day_of_nothing_but_impossible_samples_is_held() -> None:
    found = flow_of(
        GRID, {300: 10.0, 600: 20.0}, volume=[1.0] * 12, carried=Carried(1e3, at(0), 1e3, 0, missing_since=False)
    )
    assert found.held
    assert (found.impossible_samples, found.flow.tolist()) == (2, [0] * 12)


def test_a_wrong_first_sample_of_a_history_is_believed_and_left_by_a_shift() -> None:
    found = flow_of(GRID, {0: 10.0} | steady(11), volume=[10.0] * 12)
    assert (found.start_open_interest, found.impossible_samples, found.level_shifts) == (10, 0, 1)
    assert found.factor[0] == 1001 / 10
    assert found.flow.tolist() == [0, *[1] * 10, 0]


@pytest.mark.parametrize(
    ("samples", "step", "until", "missing"),
    [
        ({300 * i: 1.0 for i in range(288)}, 300, 86400, 0),
        ({300 * i: 1.0 for i in range(1, 289)}, 300, 86400, 0),
        ({300 * i: 1.0 for i in range(289)}, 300, 86400, 0),
        ({300 * i: 1.0 for i in range(1, 288)}, 300, 86400, 1),
        ({300 * i: 1.0 for i in range(289) if i != 7}, 300, 86400, 1),
        ({300 * i + 70: 1.0 for i in range(288)}, 300, 86400, 0),  # late, but one for each
        ({3600 * i: 1.0 for i in range(24)}, 3600, 86400, 0),
        ({3600 * i: 1.0 for i in range(21, 24)}, 3600, 86400, 21),
        ({300 * i: 1.0 for i in range(1, 101)}, 300, 30000, 0),  # today so far
        ({300 * i: 1.0 for i in range(1, 101)}, 300, 30900, 2),
        ({300 * i: 1.0 for i in range(100)}, 300, 30000, 0),
        ({60 * i: 1.0 for i in range(1440)}, 60, 86400, 0),
        ({60 * i: 1.0 for i in range(1438)}, 60, 86400, 2),
        ({}, 300, 86400, 288),
        ({43200: 1.0}, 43200, 86400, 1),
        ({420 * i: 1.0 for i in range(206)}, 420, 86400, 0),
    ],
)
def test_samples_that_the_grid_lacks_are_counted(
    samples: dict[int, float], step: int, until: int, missing: int
) -> None:
    found = evening(samples, carry(-300, 1.0), until=until, step=step)
    assert found.missing_samples == missing
    assert found.repairs == ({"missing_samples": missing} if missing else {})


def test_a_carried_record_of_before_the_bound_makes_no_alarm() -> None:
    old = Carried.from_json(5.0, {"sample_time": 7, "sample_contracts": 6.0, "unlocated": [1.0], "open_interest": 5.0})
    assert old == Carried(5.0, 7, 6.0, 0.0, missing_since=True, factor=1.0)


@dataclass(frozen=True)
class RandomDay:
    opens: list[int]
    volume: list[float]
    samples: dict[int, float]
    step: int


Chain: TypeAlias = tuple[int, list[RandomDay]]
"""The step of the candles in seconds, and days that follow each other."""


@st.composite
def random_days(draw: st.DrawFn) -> Chain:
    """A chain of up to four days of few candles: missing candles, samples on and off the grid, changing steps."""
    interval = draw(st.sampled_from([2 * HOUR, 4 * HOUR, 8 * HOUR]))
    instants = st.one_of(
        st.integers(0, 24).map(lambda hour: hour * HOUR), st.integers(0, 24 * 60).map(lambda minute: minute * MINUTE)
    )
    volumes = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))
    days = []
    for number in range(draw(st.integers(1, 4))):
        opens = draw(st.sets(st.sampled_from(range(0, 24 * HOUR, interval)), min_size=1))
        level = st.floats(1e-3, 1e6)
        samples = draw(st.dictionaries(instants, level, min_size=number == 0, max_size=8))
        volume = draw(st.lists(volumes, min_size=len(opens), max_size=len(opens)))
        step = draw(st.sampled_from([5 * MINUTE, interval, interval + 1, 12 * HOUR]))
        days.append(RandomDay(sorted(opens), volume, dict(sorted(samples.items())), step))
    return interval, days


@st.composite
def spoiled_days(draw: st.DrawFn, steps: list[tuple[int, int]], most_days: int) -> Chain:
    """A chain of days of a likely market, with candles and samples missing, wrong samples and levels that move."""
    interval, step = draw(st.sampled_from(steps))
    count = draw(st.integers(1, most_days))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    total = count * 24 * HOUR
    volume = np.exp(random.normal(4, 1, total // interval)) * (random.random(total // interval) > 0.05)
    per_second = np.concatenate([[0.0], np.cumsum(volume / interval)])
    instants = np.arange(0, total + 1, step) + (random.random(total // step + 1) < 0.1) * random.integers(0, step, 1)
    traded = np.diff(np.interp(instants, np.arange(0, total + 1, interval), per_second * interval))
    level = 5e3 + np.concatenate([[0.0], np.cumsum(traded * random.uniform(-0.8, 0.8, len(traded)))]).clip(-4e3)
    factors = st.sampled_from([0.001, 0.5, 0.97, 1.02, 2.0, 3.0, 1000.0])
    events = st.tuples(st.integers(0, len(instants) - 1), factors, st.sampled_from([1, 2, 3, 5, len(instants)]))
    for place, factor, length in draw(st.lists(events, max_size=6)):
        level[place : place + length] *= factor
    has_candle = random.random(len(volume)) >= draw(st.sampled_from([0, 0.02, 0.2]))
    has_sample = random.random(len(instants)) >= draw(st.sampled_from([0, 0.02, 0.2]))
    begin = draw(st.sampled_from([0, 0, 24 * HOUR // step - 5]))  # of the history: its first day may leave no candle
    at_end = draw(st.booleans())  # whether the sample of midnight belongs to the day that it ends
    days = []
    for start in range(0, total, 24 * HOUR):
        of_day = range(start // interval, (start + 24 * HOUR) // interval)
        there = [i for i in of_day if has_candle[i]] or [of_day[0]]
        mine = (instants > start) if at_end else (instants >= start)
        mine &= (instants <= start + 24 * HOUR) if at_end else (instants < start + 24 * HOUR)
        chosen = np.flatnonzero(mine & (has_sample | (start == 0)))
        chosen = chosen[chosen >= begin]
        days.append(
            RandomDay(
                [i * interval - start for i in there],
                volume[there].tolist(),
                {int(instants[i]) - start: float(level[i]) for i in chosen},
                step,
            )
        )
    return interval, days


@dataclass(frozen=True)
class Sample:
    time: int
    contracts: Fraction
    new_level: bool = False


@dataclass
class Expected:
    first: int = 0
    flow: list[Fraction] = field(default_factory=list)
    level: list[Fraction] = field(default_factory=list)
    factor: list[Fraction] = field(default_factory=list)
    impossible: int = 0
    late: int = 0
    shifts: int = 0


class Reference:
    """The rules in plain loops and exact fractions; it knows the whole past, and so needs nothing carried over."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.volume: dict[int, Fraction] = {}
        self.valid: list[Sample] = []
        self.level = Fraction(0)
        self.to_come: list[tuple[int, Fraction]] = []

    def fits(self, earlier: Sample, later: Sample) -> bool:
        """Whether what was traded between the two explains their difference."""
        if earlier.time >= later.time:
            return self.explains(earlier, later, Fraction(0))
        traded = Fraction(0)
        opened = earlier.time // self.interval * self.interval
        while opened < later.time:
            if opened not in self.volume:
                return True
            traded += self.volume[opened]
            opened += self.interval
        return self.explains(earlier, later, traded)

    def explains(self, earlier: Sample, later: Sample, traded: Fraction) -> bool:
        """Whether so much that was traded explains the difference of the two."""
        change = abs(later.contracts - earlier.contracts)
        return change <= traded * Fraction(105, 100) + earlier.contracts / 10000

    def count(self, aside: list[Sample], midnight: int, expected: Expected) -> None:
        """Count those set aside after the last valid sample: late where the day's candle before it explains them."""
        for sample in aside:
            last = self.valid[-1]
            since = max(last.time - self.interval, midnight)
            touched = range(since // self.interval * self.interval, sample.time, self.interval)
            traded = sum((self.volume.get(opened, Fraction(0)) for opened in touched), Fraction(0))
            late = last.time >= midnight and self.explains(last, sample, traded)
            expected.late += late
            expected.impossible += not late

    def judge(self, samples: list[Sample], midnight: int, expected: Expected) -> None:
        """Add the valid samples of a day to those of before."""
        aside: list[Sample] = []
        for sample in samples:
            if not self.valid or self.fits(self.valid[-1], sample):
                self.count(aside, midnight, expected)
                aside = []
                self.valid.append(sample)
                continue
            aside.append(sample)
            if len(aside) < 3:
                continue
            first, second, third = aside[-3:]
            if self.fits(first, second) and self.fits(second, third):
                self.count(aside[:-3], midnight, expected)
                self.to_come.append((first.time, first.contracts / self.valid[-1].contracts))
                self.valid += [Sample(first.time, first.contracts, new_level=True), second, third]
                expected.shifts += 1
                aside = []
        self.count(aside, midnight, expected)

    def spread(self, before: Sample, after: Sample, end: int, candles: list[tuple[int, Fraction]]) -> Fraction:
        """Return the level at a candle's end between two samples, of which it is not after the second."""
        if after.new_level:
            return after.contracts if end == after.time else before.contracts
        among = [(each, volume) for each, volume in candles if before.time < each <= after.time]
        total = sum(volume for _, volume in among)
        seen = Fraction(0)
        for each, volume in among:
            if each <= end:
                seen += volume / total if total else Fraction(1, len(among))
        return before.contracts + (after.contracts - before.contracts) * seen

    def day(self, number: int, day: RandomDay) -> Expected:
        """Return what a day must give."""
        midnight, expected = number * 24 * HOUR, Expected()
        for opened, volume in zip(day.opens, day.volume, strict=True):
            self.volume[midnight + opened] = Fraction(volume)
        samples = [Sample(midnight + second, Fraction(contracts)) for second, contracts in day.samples.items()]
        begins = not self.valid
        self.judge(samples, midnight, expected)
        if begins:
            self.level = self.valid[0].contracts
            expected.first = sum(midnight + opened < self.valid[0].time for opened in day.opens)
        opens = [midnight + opened for opened in day.opens[expected.first :]]
        candles = [(opened + self.interval, self.volume[opened]) for opened in opens]
        for end, _ in candles:
            position = max(i for i, sample in enumerate(self.valid) if sample.time <= end)
            level = self.valid[position].contracts
            if day.step > self.interval:
                if self.valid[position].time < end and position + 1 < len(self.valid):
                    level = self.spread(self.valid[position], self.valid[position + 1], end, candles)
                elif self.valid[position].time == end and position:
                    level = self.spread(self.valid[position - 1], self.valid[position], end, candles)
            factor = Fraction(1)
            while self.to_come and end >= self.to_come[0][0]:
                factor *= self.to_come.pop(0)[1]
            expected.flow.append(level - factor * self.level)
            expected.level.append(level)
            expected.factor.append(factor)
            self.level = level
        return expected


def lacking(interval: int, day: RandomDay) -> int:
    """Return how many instants of the grid are nearest to no sample of the day."""
    newest = max([day.opens[-1], *day.samples])
    over = newest + interval >= 24 * HOUR
    grid = [instant for instant in range(day.step, 24 * HOUR, day.step) if over or instant <= newest]
    filled = [(second + day.step // 2) // day.step * day.step for second in day.samples]
    midnight = any(second <= 0 or second > max(grid, default=0) for second in filled)
    return sum(instant not in filled for instant in grid) + (over and not midnight)


def hold_to_the_reference(case: Chain) -> None:
    """Compute the days one by one, what is carried going through JSON, and require what the reference says."""
    interval, days = case
    reference = Reference(interval)
    carried: Carried | None = None
    for number, day in enumerate(days):
        found = flow_of(
            day.opens,
            day.samples,
            step=day.step,
            volume=day.volume,
            carried=carried,
            interval=interval,
            day=DAY + timedelta(days=number),
        )
        expected = reference.day(number, day)
        assert found.first == expected.first
        assert (found.impossible_samples, found.level_shifts) == (expected.impossible, expected.shifts)
        assert found.late_samples == expected.late
        assert found.missing_samples == lacking(interval, day)
        assert found.open_interest == pytest.approx([float(value) for value in expected.level], rel=1e-9)
        assert found.factor == pytest.approx([float(value) for value in expected.factor], rel=1e-12)
        for flow, exact, level in zip(found.flow, expected.flow, expected.level, strict=True):
            assert flow == pytest.approx(float(exact), rel=1e-9, abs=1e-9 * max(1.0, float(level), 1e6))
            if exact == 0:
                assert flow == 0.0, "nothing opens, nothing closes"
        assert (found.start_open_interest is None) == (carried is not None)
        previous = found.start_open_interest if carried is None else carried.open_interest
        assert previous is not None
        steady_level = found.factor == 1.0
        plain = np.diff(found.open_interest, prepend=previous)
        assert np.array_equal(found.flow[steady_level], plain[steady_level])
        assert (found.open_interest > 0).all()
        last = reference.valid[-1]
        assert found.held == (carried is not None and found.carried.sample_time == carried.sample_time)
        assert (found.carried.sample_time, found.carried.sample_contracts) == (at(last.time), float(last.contracts))
        assert found.carried.open_interest == pytest.approx(float(reference.level), rel=1e-9)
        carried = Carried.from_json(found.carried.open_interest, json.loads(json.dumps(found.carried.to_json())))
        assert carried == found.carried


@examples(100)
@given(random_days())
def test_any_chain_of_days_equals_the_reference(case: Chain) -> None:
    hold_to_the_reference(case)


COARSE = [(HOUR, HOUR), (2 * HOUR, HOUR), (HOUR, 2 * HOUR), (2 * HOUR, 30 * MINUTE), (2 * HOUR, 6 * HOUR)]
FINE = [(5 * MINUTE, 5 * MINUTE), (5 * MINUTE, HOUR), (15 * MINUTE, 5 * MINUTE)]


@examples(150)
@given(spoiled_days(COARSE, 3))
def test_spoiled_days_equal_the_reference(case: Chain) -> None:
    hold_to_the_reference(case)


@pytest.mark.slow
@examples(60)
@given(spoiled_days(FINE, 2))
def test_spoiled_days_of_real_size_equal_the_reference(case: Chain) -> None:
    hold_to_the_reference(case)


@examples(50)
@given(spoiled_days(COARSE, 3), st.sampled_from([2.0**-20, 0.5, 2.0**30]))
def test_nothing_depends_on_the_unit_of_a_contract(case: Chain, unit: float) -> None:
    interval, days = case
    carried: list[Carried | None] = [None, None]
    for number, day in enumerate(days):
        plain, scaled = (
            flow_of(
                day.opens,
                {time: value * times for time, value in day.samples.items()},
                step=day.step,
                volume=[value * times for value in day.volume],
                carried=before,
                interval=interval,
                day=DAY + timedelta(days=number),
            )
            for times, before in zip((1.0, unit), carried, strict=True)
        )
        assert (plain.flow * unit).tolist() == scaled.flow.tolist()
        assert plain.factor.tolist() == scaled.factor.tolist()
        assert plain.repairs == scaled.repairs
        carried = [plain.carried, scaled.carried]


REAL = [
    ("BTCUSDT", date(2024, 6, 19), 40, 300),  # hourly: spread
    ("ETHUSDT", date(2024, 6, 19), 40, 900),
    ("BTCUSDT", date(2024, 9, 13), 6, 300),  # every candle: held
    ("DOGEUSDT", date(2024, 9, 13), 6, 300),
    ("BTCUSDT", date(2026, 3, 14), 19, 900),  # finer than the candles
    ("BYBIT", date(2021, 1, 1), 40, 300),
]
"""Real days: whose, from when, how many, and the step of their candles."""

MOST_OF_THE_VOLUME = 0.861
"""Part of the volume traded between two real samples of Binance that no change of open interest passes."""

LATE_ON_BYBIT = 10
"""Of 11,515 real changes on Bybit these pass the bound, single samples between two that fit each other.

The candle before explains each of them: there the figure lags behind the trades. All that comes of it is a sample held.
"""


def real_days(market_dir: Path, symbol: str, first: date, count: int, interval: int) -> Iterator[RealDay]:
    if symbol == "BYBIT":
        return bybit_days(market_dir)
    return binance_days(market_dir, symbol, first, count, interval)


def microseconds(column: pd.Series[Any]) -> NDArray[np.int64]:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


@pytest.mark.market
@pytest.mark.parametrize(("symbol", "first", "count", "interval"), REAL)
def test_real_days_add_up_and_raise_no_alarm(
    market_dir: Path, symbol: str, first: date, count: int, interval: int
) -> None:
    carried: Carried | None = None
    flows, level, days, lacked, late = [], 0.0, 0, 0, 0
    for day, candles, samples in real_days(market_dir, symbol, first, count, interval):
        label = microseconds(samples["label"])
        found = compute_flow(
            microseconds(candles["open_time"]),
            candles["volume"].to_numpy(),
            interval,
            label,
            samples["contracts"].to_numpy(),
            step_of_labels(label, interval),
            carried,
            day,
            symbol,
        )
        assert not found.held
        if carried is None:
            assert found.start_open_interest is not None
            level = found.start_open_interest
        else:
            assert found.first == 0
            lacked += found.missing_samples
        late += found.late_samples
        assert (found.level_shifts, found.impossible_samples) == (0, 0), f"{symbol} {day}"
        assert (found.factor == 1).all()
        carried = found.carried
        assert found.late_samples or carried.sample_contracts == samples["contracts"].iloc[-1]
        assert not carried.missing_since or symbol != "BYBIT"
        flows.append(found.flow)
        days += 1
    assert carried is not None
    assert days == count
    assert lacked == (4 if symbol == "BYBIT" else 0)
    assert late == (LATE_ON_BYBIT if symbol == "BYBIT" else 0)
    assert np.concatenate(flows).sum() == pytest.approx(carried.open_interest - level, rel=1e-9)
    assert (np.concatenate(flows) != 0).mean() > 0.9


@pytest.mark.market
@pytest.mark.parametrize(("symbol", "first", "count", "interval"), REAL)
def test_real_changes_stay_below_what_was_traded(
    market_dir: Path, symbol: str, first: date, count: int, interval: int
) -> None:
    volume: dict[int, float] = {}
    samples: dict[int, float] = {}
    for _, candles, of_day in real_days(market_dir, symbol, first, count, interval):
        volume |= dict(zip(microseconds(candles["open_time"]).tolist(), candles["volume"], strict=True))
        samples |= dict(zip(microseconds(of_day["label"]).tolist(), of_day["contracts"], strict=True))
    step, ratios = interval * 1_000_000, []
    for (earlier, before), (later, after) in pairwise(sorted(samples.items())):
        overlapping = range(earlier // step * step, later, step)
        if all(opened in volume for opened in overlapping):
            ratios.append(abs(after - before) / sum(volume[opened] for opened in overlapping))
    assert len(ratios) > 900
    if symbol == "BYBIT":
        assert sum(ratio > MOST_OF_THE_VOLUME for ratio in ratios) < 0.002 * len(ratios)
    else:
        assert max(ratios) < MOST_OF_THE_VOLUME
    assert 0.01 < np.median(ratios) < 0.12
