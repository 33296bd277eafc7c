"""The clean shape: rows are checked, repeats told from twins, and an hour without a record is missing, never 0."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations.tables import (
    HOUR,
    LIQUIDATION_COLUMNS,
    Liquidations,
    clean_liquidations,
    clip_ranges,
    drop_redelivered,
    exchange_of,
    halve_doubled,
    hourly_sums,
    merge_ranges,
    raw_rows,
    recorded_share,
)
from heatmap_pipeline.market.tables import MarketError

NAN = float("nan")
START = day_start(date(2024, 7, 4))


def clean(
    times: list[int],
    sides: list[str],
    prices: list[float],
    quantities: list[float],
    *,
    volumes: list[float] | None = None,
    resolution: int = 0,
    recorded: list[tuple[int, int]] | None = None,
) -> Liquidations:
    raw = raw_rows(times, sides, prices, quantities, volumes or [NAN] * len(times))
    return clean_liquidations(
        raw,
        symbol="BTCUSDT",
        source="binance_file",
        place="some.csv",
        resolution_seconds=resolution,
        recorded=np.array(recorded or [(START, START + DAY)], dtype=np.int64),
    )


def test_rows_come_out_in_order_with_their_volume() -> None:
    made = clean([START + 2, START + 1], ["short", "long"], [50.0, NAN], [2.0, 3.0])
    assert list(made.table.columns) == list(LIQUIDATION_COLUMNS)
    assert made.table["side"].tolist() == ["long", "short"]
    assert made.table["timestamp"].dtype == "datetime64[us]"
    np.testing.assert_array_equal(made.table["volume"], [NAN, 100.0])
    assert made.repairs == {"sorted_rows": 1}
    assert made.exchange == exchange_of(made.source) == "binance"
    assert clean([START], ["long"], [50.0], [2.0], volumes=[99.0]).table["volume"].tolist() == [99.0]


@pytest.mark.parametrize(
    ("side", "price", "quantity", "volume", "words"),
    [
        ("buy", 1.0, 1.0, NAN, "neither long nor short"),
        ("long", 0.0, 1.0, NAN, "price is zero"),
        ("long", -5.0, 1.0, NAN, "price is zero"),
        ("long", 1e8, 1.0, NAN, "price is above"),
        ("long", float("inf"), 1.0, NAN, "price is above"),
        ("long", 1.0, NAN, NAN, "quantity is blank"),
        ("long", 1.0, -1.0, NAN, "quantity is blank, negative"),
        ("long", 1.0, float("inf"), NAN, "quantity is blank, negative or not finite"),
        ("long", 1.0, 1e19, NAN, "quantity is above"),
        ("long", 1.0, 1.0, -1.0, "volume is negative"),
        ("long", 1.0, 1.0, float("inf"), "volume is above"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_row(
    side: str, price: float, quantity: float, volume: float, words: str
) -> None:
    with pytest.raises(MarketError, match=rf"some\.csv, row 2: .*{words}"):
        clean([START, START], ["long", side], [1.0, price], [1.0, quantity], volumes=[NAN, volume])


def test_doubled_rows_are_halved_and_twins_stay_twins() -> None:
    rows = [START] * 4 + [START + 1] * 2
    doubled = raw_rows(rows, ["long"] * 6, [NAN] * 4 + [7.0] * 2, [1.0] * 6, [NAN] * 6)
    repairs: dict[str, int] = {}
    assert halve_doubled(doubled, repairs)["time"].tolist() == [START, START, START + 1]
    assert repairs == {"doubled_rows": 3}
    once: dict[str, int] = {}
    assert len(halve_doubled(doubled.iloc[:5], once)) == 5
    assert once == {}


def test_a_redelivery_is_dropped_and_two_equal_ones_of_one_delivery_stay() -> None:
    raw = raw_rows([1, 1, 1, 2, 1, 1], ["long"] * 6, [5.0] * 6, [1.0] * 6, [NAN] * 6)
    repairs: dict[str, int] = {}
    kept = drop_redelivered(raw, np.array([0, 0, 1, 1, 2, 2]), repairs)
    assert kept["time"].tolist() == [1, 1, 2]
    assert repairs == {"redelivered_rows": 3}


def test_two_sums_of_one_interval_and_side() -> None:
    same = clean([START, START, START], ["long", "long", "short"], [NAN] * 3, [1.0, 1.0, 2.0], resolution=3600)
    assert same.table["quantity"].tolist() == [1.0, 2.0]
    assert same.repairs == {"duplicate_sums": 1}
    with pytest.raises(MarketError, match=r"row 2: another sum of the interval and side of row 1"):
        clean([START, START], ["long", "long"], [NAN] * 2, [1.0, 3.0], resolution=3600)


def test_a_row_of_nothing_says_no_more_than_the_record() -> None:
    made = clean([START, START], ["long", "short"], [NAN, NAN], [0.0, 3.0], resolution=3600)
    assert made.table["side"].tolist() == ["short"]
    assert made.repairs == {"empty_rows": 1}


def test_an_hour_without_a_record_is_missing_and_not_0() -> None:
    made = clean(
        [START, START + HOUR + 5, START + HOUR + 6, START + 3 * HOUR],
        ["long", "short", "short", "long"],
        [10.0, 20.0, NAN, 5.0],
        [1.0, 2.0, 4.0, 8.0],
        recorded=[(START, START + 3 * HOUR), (START + 4 * HOUR, START + 5 * HOUR - 60_000_000)],
    )
    sums = hourly_sums(made.table, made.recorded, start=START - HOUR, hours=7)
    np.testing.assert_allclose(sums.recorded, [0, 1, 1, 1, 0, 59 / 60, 0])
    np.testing.assert_array_equal(sums.quantity, [[NAN, NAN], [1, 0], [0, 6], [0, 0], [NAN, NAN], [0, 0], [NAN, NAN]])
    np.testing.assert_array_equal(sums.volume[1:4], [[10, 0], [0, NAN], [0, 0]])
    strict = hourly_sums(made.table, made.recorded, start=START, hours=5, least_recorded=1.0)
    assert np.isnan(strict.quantity[4]).all()


def test_sums_that_no_hour_holds_are_refused() -> None:
    made = clean([START], ["long"], [NAN], [1.0], resolution=7200)
    with pytest.raises(MarketError, match="7200 s cannot be split into hours"):
        hourly_sums(made.table, made.recorded, start=START, hours=2)


def test_a_day_takes_its_rows_and_its_part_of_the_record() -> None:
    made = clean(
        [START - 1, START, START + DAY - 1, START + DAY],
        ["long"] * 4,
        [1.0] * 4,
        [1.0, 2.0, 3.0, 4.0],
        recorded=[(START - HOUR, START + HOUR), (START + DAY - HOUR, START + 2 * DAY)],
    )
    day = made.of_day(date(2024, 7, 4))
    assert day.table["quantity"].tolist() == [2.0, 3.0]
    assert (day.recorded - START).tolist() == [[0, HOUR], [DAY - HOUR, DAY]]
    assert made.of_day(date(2024, 7, 9)).recorded.shape == (0, 2)
    assert day.content_hash() != made.content_hash() == made.between(START - HOUR, START + 2 * DAY).content_hash()


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@given(ranges, st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_the_set_of_their_minutes(pairs: list[tuple[int, int]], start: int, end: int) -> None:
    minutes = {minute for low, high in pairs for minute in range(low, high)}
    merged = merge_ranges(pairs)
    assert {minute for low, high in merged.tolist() for minute in range(low, high)} == minutes
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    inside = {minute for minute in minutes if start <= minute < end}
    clipped = clip_ranges(merged, start, end)
    assert {minute for low, high in clipped.tolist() for minute in range(low, high)} == inside


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=6))
def test_the_share_of_each_hour_is_counted(pairs: list[tuple[int, int]]) -> None:
    recorded = merge_ranges(pairs) * 60_000_000
    hours = np.arange(-1, 6) * HOUR
    counted = [
        sum(max(0, min(high, hour + HOUR) - max(low, hour)) for low, high in recorded.tolist()) / HOUR
        for hour in hours.tolist()
    ]
    np.testing.assert_allclose(recorded_share(recorded, hours), counted)
