"""Sampling in time, merging and cropping in price, and the profile of the newest book."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.render.data import HeatmapData, RenderError, colour_limit, make_heatmap_data, profile
from heatmap_pipeline_tests.render.sample import BUCKET, cells, sample, walk

START = np.datetime64("2024-07-01T00:00:00", "us")
QUARTER = np.timedelta64(900, "s")


def bars(number: int, price: float = 60_000.0, step: int = 900) -> pd.DataFrame:
    stamps = START + np.arange(number) * np.timedelta64(step, "s")
    flat = dict.fromkeys(("open", "close"), price)
    return pd.DataFrame({"open_time": stamps, **flat, "high": price + 50, "low": price - 50, "volume": 1.0})


def draw(rows: list[tuple[int, int, int, float, float]], number: int, **changes: Any) -> HeatmapData:
    """Rows are (snapshot, bucket, side, active, consumed)."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    arguments: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "model": "turnover",
        "bucket": BUCKET,
        "interval_seconds": 900,
        "timestamps": START + table[:, 0].astype(int) * QUARTER,
        "buckets": table[:, 1].astype(int),
        "sides": table[:, 2].astype(int),
        "active": table[:, 3],
        "consumed": table[:, 4],
        "candles": bars(number),
        "coverage": 0.5,
        "simulated": False,
    }
    return make_heatmap_data(**{**arguments, **changes})


def at(data: HeatmapData, bucket: int) -> int:
    return int(np.flatnonzero(data.buckets == bucket)[0])


def test_cells_stand_where_their_time_and_price_say() -> None:
    data = draw([(0, 590, 1, 5.0, 0.0), (2, 590, 1, 7.0, 0.0), (2, 610, -1, 3.0, 0.0)], 4)
    assert data.long.shape == data.short.shape == (len(data.buckets), 4)
    assert data.long[at(data, 590)].tolist() == [5.0, 0.0, 7.0, 0.0]
    assert data.short[at(data, 610)].tolist() == [0.0, 0.0, 3.0, 0.0]
    assert data.long.sum() == 12
    assert data.times[0] == START
    assert np.all(np.diff(data.times) == QUARTER)
    assert data.long.dtype == data.short.dtype == np.float32


def test_facts_come_from_the_candles() -> None:
    data = sample(days=2, simulated=True, provisional=True)
    candles = walk(2)
    assert data.price == candles["close"].iloc[-1]
    assert data.as_of == np.datetime64("2024-07-03T00:00", "us")
    assert (data.first_day, data.last_day) == (date(2024, 7, 1), date(2024, 7, 2))
    assert data.simulated
    assert data.provisional


def test_a_wide_column_shows_its_last_state_and_all_that_was_consumed() -> None:
    data = draw(
        [(0, 590, 1, 5.0, 0.0), (1, 590, 1, 6.0, 2.0), (2, 590, 1, 0.0, 4.0), (3, 590, 1, 1.0, 0.5)], 4, max_columns=2
    )
    assert data.interval_seconds == 1800
    assert data.long[at(data, 590)].tolist() == [6.0, 1.0]
    assert data.consumed["volume"].tolist() == [2.0, 4.5]
    assert data.consumed["timestamp"].tolist() == [pd.Timestamp(START), pd.Timestamp(START + 2 * QUARTER)]


def test_an_empty_book_at_the_end_of_a_column_is_its_state() -> None:
    data = draw([(0, 590, 1, 5.0, 0.0)], 4, max_columns=2)
    assert data.long.sum() == 0, "the second snapshot of the column exists, as its candle shows, and is empty"


def test_a_hole_in_the_candles_leaves_the_last_existing_state() -> None:
    candles = bars(4).drop(index=[1])
    data = draw([(0, 590, 1, 5.0, 0.0), (2, 590, 1, 7.0, 0.0)], 4, candles=candles, max_columns=2)
    assert data.long[at(data, 590)].tolist() == [5.0, 0.0]


def test_columns_never_exceed_the_limit_and_keep_to_the_clock() -> None:
    for days, limit in ((3, 100), (30, 2000), (7, 5), (2, 1)):
        data = draw([(0, 590, 1, 5.0, 0.0)], days * 96, max_columns=limit)
        assert len(data.times) <= limit
        first = data.times[0].astype("datetime64[s]").astype(int)
        assert first % data.interval_seconds == 0
        assert data.interval_seconds % 900 == 0


def test_consumed_is_summed_and_priced_per_column_and_side() -> None:
    data = draw([(1, 599, 1, 0.0, 10.0), (1, 597, 1, 0.0, 30.0), (1, 603, -1, 0.0, 5.0)], 2)
    assert data.consumed["side"].tolist() == ["long", "short"]
    assert data.consumed["volume"].tolist() == [40.0, 5.0]
    assert data.consumed["price"].tolist() == [(59_950 * 10 + 59_750 * 30) / 40, 60_350]


def test_the_view_reaches_beyond_the_candles() -> None:
    data = draw([(0, 590, 1, 5.0, 0.0)], 2)
    low, high = data.edges[0], data.edges[-1]
    assert low <= 59_950 - 0.12 * 60_000 < low + 2 * data.bucket
    assert high - 2 * data.bucket < 60_050 + 0.12 * 60_000 <= high
    wide = bars(2)
    wide["low"] = 20_000.0
    assert draw([], 2, candles=wide).edges[0] == 0, "60 % below the range would be below zero"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 250), columns=st.integers(1, 40))
def test_merging_rows_keeps_every_total_inside_the_view(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    number, count = 30, 300
    table = cells(bars(number)) | {
        "timestamps": START + random.integers(0, number, count) * QUARTER,
        "buckets": random.integers(400, 800, count),
        "sides": random.choice([1, -1], count),
        "active": random.lognormal(10, 2, count),
        "consumed": random.lognormal(8, 2, count),
    }
    data = draw([], number, **table, max_rows=rows, max_columns=columns)
    assert data.long.shape[0] <= rows
    merged = round(data.bucket / BUCKET)
    row = table["buckets"] // merged
    width = data.interval_seconds // 900
    offset = int((START - data.times[0]) / QUARTER)
    snapshot = ((table["timestamps"] - START) / QUARTER).astype(int)
    last = np.minimum((snapshot + offset) // width * width + width - 1 - offset, number - 1)
    kept = (row >= data.buckets[0]) & (row <= data.buckets[-1]) & (snapshot == last)
    for side, grid in ((1, data.long), (-1, data.short)):
        assert grid.sum(dtype=float) == pytest.approx(table["active"][kept & (table["sides"] == side)].sum(), rel=1e-5)
    assert data.consumed["volume"].sum() == pytest.approx(table["consumed"].sum())


def test_candles_are_merged_to_the_columns_or_finer() -> None:
    candles = walk(days=8, step=300)
    table = {name: column[:0] for name, column in cells(walk(1)).items()}
    data = draw([], 0, candles=candles, **table)
    assert data.candle_seconds == 300
    month = draw([], 0, candles=walk(days=40, step=300), **table)
    assert month.interval_seconds == 1800
    assert month.candle_seconds == 1800
    assert month.candles["volume"].sum() == pytest.approx(walk(days=40, step=300)["volume"].sum())
    assert month.candles["high"].max() == walk(days=40, step=300)["high"].max()
    first = walk(days=40, step=300).iloc[:6]
    assert month.candles.iloc[0][["open", "close"]].tolist() == [first["open"].iloc[0], first["close"].iloc[-1]]


def test_profile_sums_outward_from_the_price() -> None:
    data = draw([(1, 590, 1, 5.0, 0.0), (1, 580, 1, 7.0, 0.0), (1, 610, -1, 3.0, 0.0), (1, 620, -1, 4.0, 0.0)], 2)
    book: Any = profile(data).set_index("bucket")
    assert book.loc[[595, 590, 585, 580, 570], "long_cumulative"].tolist() == [0, 5, 5, 12, 12]
    assert book.loc[[605, 610, 615, 620, 630], "short_cumulative"].tolist() == [0, 3, 3, 7, 7]
    assert book.loc[590, ["price_low", "price_high"]].tolist() == [59_000, 59_100]
    assert book["long"].sum() == 12


def test_the_colours_end_where_few_cells_are_above() -> None:
    assert colour_limit(draw([], 2)) == 1
    rows = [(0, 500 + i, 1, float(i), 0.0) for i in range(40, 200)] + [(1, 590, 1, 1e9, 0.0)]
    assert colour_limit(draw(rows, 2)) < 1e9


def test_no_levels_make_an_empty_map() -> None:
    data = draw([], 3)
    assert data.long.sum() == data.short.sum() == 0
    assert data.consumed.empty


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"candles": bars(0)}, "no candles"),
        ({"candles": bars(2).drop(columns="low")}, "no column low"),
        ({"active": np.zeros(3)}, "active has shape"),
        ({"sides": np.zeros(1)}, "sides holds values"),
        ({"sides": np.array(["long"])}, "sides holds values"),
        ({"coverage": 1.5}, "coverage = 1.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RenderError, match=words) as caught:
        draw([(0, 590, 1, 5.0, 0.0)], 2, **changes)
    assert isinstance(caught.value, HeatmapError)


def test_times_from_a_database_are_read_in_any_unit() -> None:
    candles = bars(2).astype({"open_time": "datetime64[ns]"})
    stamps = np.array([START], dtype="datetime64[ms]")
    one = {"buckets": [590], "sides": [1], "active": [5.0], "consumed": [0.0]}
    data = draw([], 2, candles=candles, timestamps=stamps, **one)
    assert data.times.dtype == np.dtype("datetime64[us]")
    assert data.long.sum() == 5
