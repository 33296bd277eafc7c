"""Flows of a day: each rule by example, and all of them against a slow literal reference on random chains of days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.flows import Carried, DayFlow, compute_flow
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.market._files import DAY, at

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
        np.array(volume or [1.0] * len(opens)),
        interval,
        np.array([at(second, day) for second in samples], dtype=np.int64),
        np.array(list(samples.values()), dtype=np.float64),
        step,
        carried,
        day,
        "BTCUSDT",
    )


def carry(second: int, contracts: float, open_interest: float | None = None) -> Carried:
    return Carried(contracts if open_interest is None else open_interest, at(second), contracts)


GRID = list(range(0, HOUR, 300))
"""The first hour of 5m candles."""


def test_hold_on_the_grid_is_the_simple_difference() -> None:
    level = [100.0, 103, 101, 101, 108]
    found = flow_of(GRID[:4], dict(zip(range(0, 1500, 300), level, strict=True)))
    assert found.first == 0
    assert found.flow.tolist() == [3, -2, 0, 7]
    assert found.open_interest.tolist() == level[1:]
    assert found.start_open_interest == 100
    assert found.carried == carry(1200, 108)
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
    assert today.carried == carry(86400, 107, 100)
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
        assert found.carried == carry(-300, 100)
        assert found.start_open_interest is None


def test_the_days_own_sample_of_midnight_wins() -> None:
    for step in (300, 3600):
        found = flow_of(GRID[:2], {0: 110}, carried=carry(0, 100), step=step)
        assert found.flow.tolist() == [10, 0]
        assert found.carried == carry(0, 110)


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
    assert found.carried == carry(86400, 103, 100)
    assert flow_of(GRID[:1], {}, carried=found.carried, day=DAY + timedelta(days=1)).flow.tolist() == [3]


def test_a_first_day_without_open_interest_is_refused() -> None:
    with pytest.raises(MarketError, match="BTCUSDT 2024-09-14: first day without any valid open interest"):
        flow_of(GRID, {})


def test_a_carried_sample_from_the_future_is_a_defect() -> None:
    with pytest.raises(ValueError, match="after the day began"):
        flow_of(GRID, {600: 100}, carried=carry(300, 100))


def test_spread_follows_the_volume() -> None:
    found = flow_of(GRID[:6], {0: 100, 900: 112, 1800: 106}, step=900, volume=[1, 2, 3, 0, 0, 5])
    assert found.flow == pytest.approx([2, 4, 6, 0, 0, -6])
    assert found.open_interest[2] == 112
    assert found.open_interest[3:5].tolist() == [112, 112]
    assert found.open_interest[5] == 106


def test_spread_without_volume_is_in_equal_parts() -> None:
    found = flow_of(GRID[:6], {0: 100, 900: 112, 1800: 106}, step=900, volume=[0, 0, 0, 1, 1, 2])
    assert found.flow == pytest.approx([4, 4, 4, -1.5, -1.5, -3])


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
    assert found.carried == carry(86400, 130, 110)


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


@dataclass(frozen=True)
class RandomDay:
    opens: list[int]
    volume: list[float]
    samples: dict[int, float]
    step: int


@st.composite
def random_days(draw: st.DrawFn) -> tuple[int, list[RandomDay]]:
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


class Reference:
    """MODEL.md section 1, word for word: each change of level is dealt out on its own, in exact fractions."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.last: tuple[int, Fraction] | None = None
        self.pending = Fraction(0)
        self.level = Fraction(0)

    def day(self, number: int, day: RandomDay) -> tuple[int, list[Fraction]]:
        """Return the first candle of the model and the flow of it and those after it."""
        midnight = number * 24 * HOUR
        samples = [(midnight + second, Fraction(contracts)) for second, contracts in day.samples.items()]
        first = 0
        if self.last is None:
            self.last = samples.pop(0)
            self.level = self.last[1]
            while first < len(day.opens) and midnight + day.opens[first] < self.last[0]:
                first += 1
        ends = [midnight + second + self.interval for second in day.opens[first:]]
        volume = [Fraction(amount) for amount in day.volume[first:]]
        flow = [Fraction(0) for _ in ends]
        if ends:
            flow[0] += self.pending
            self.pending = Fraction(0)
        for instant, contracts in samples:
            self._deal(ends, volume, flow, (instant, contracts), spread=day.step > self.interval)
            self.last = (instant, contracts)
        self.level += sum(flow)
        return first, flow

    def _deal(
        self,
        ends: list[int],
        volume: list[Fraction],
        flow: list[Fraction],
        sample: tuple[int, Fraction],
        *,
        spread: bool,
    ) -> None:
        assert self.last is not None
        change = sample[1] - self.last[1]
        among = [i for i, end in enumerate(ends) if self.last[0] < end <= sample[0]] if spread else []
        if among:
            total = sum(volume[i] for i in among)
            for i in among:
                flow[i] += change * (volume[i] / total if total else Fraction(1, len(among)))
            return
        following = [i for i, end in enumerate(ends) if end >= sample[0]]
        if following:
            flow[following[0]] += change
        else:
            self.pending += change


@examples(300)
@given(random_days())
def test_a_chain_of_days_equals_the_reference(case: tuple[int, list[RandomDay]]) -> None:
    interval, days = case
    reference = Reference(interval)
    carried: Carried | None = None
    start, total = 0.0, Fraction(0)
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
        first, flow = reference.day(number, day)
        assert found.first == first
        assert found.flow == pytest.approx([float(value) for value in flow], rel=1e-9, abs=1e-6)
        assert found.held == (not day.samples)
        start = found.start_open_interest if found.start_open_interest is not None else start
        assert (found.start_open_interest is None) == (carried is not None)
        previous = start if carried is None else carried.open_interest
        assert np.array_equal(found.flow, np.diff(found.open_interest, prepend=previous))
        assert (found.open_interest > 0).all()
        carried = found.carried
        total += sum(flow)
        assert carried.open_interest == pytest.approx(float(Fraction(start) + total), rel=1e-9)
        assert carried.sample_contracts == pytest.approx(float(Fraction(start) + total + reference.pending), rel=1e-9)
        if reference.pending == 0:  # every change is complete: no rounding is left of it
            assert carried.open_interest == carried.sample_contracts
        assert found.flow.sum() == pytest.approx(carried.open_interest - previous, rel=1e-9, abs=1e-6)


@pytest.mark.market
@pytest.mark.parametrize(
    ("symbol", "start", "count", "interval"),
    [
        ("BTCUSDT", date(2024, 6, 19), 40, 300),  # hourly: spread
        ("ETHUSDT", date(2024, 6, 19), 40, 900),
        ("DOGEUSDT", date(2024, 9, 13), 6, 300),  # every candle: held
        ("BTCUSDT", date(2026, 3, 14), 19, 900),  # finer than the candles
    ],
)
def test_real_days_add_up(market_dir: Path, symbol: str, start: date, count: int, interval: int) -> None:
    reader = ArchiveReader(market_dir / "binance_vision")
    carried: Carried | None = None
    flows, level = [], 0.0
    for number in range(count):
        day = start + timedelta(days=number)
        candles = reader.read_candles(symbol, day, interval).table
        clean = reader.read_open_interest(symbol, day, candles, interval)
        times = [table.to_numpy().astype(np.int64) for table in (candles["open_time"], clean.table["snapshot_time"])]
        found = compute_flow(
            times[0],
            candles["volume"].to_numpy(),
            interval,
            times[1],
            clean.table["contracts"].to_numpy(),
            clean.step,
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
        carried = found.carried
        assert carried.open_interest == carried.sample_contracts == clean.table["contracts"].iloc[-1]
        flows.append(found.flow)
    assert carried is not None
    assert np.concatenate(flows).sum() == pytest.approx(carried.open_interest - level, rel=1e-9)
    assert (np.concatenate(flows) != 0).mean() > 0.9
