"""A heatmap as it is drawn: cells where their time and price say, bins that lose nothing, facts about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.views.columns import MAX_CANDLES, VOLUMES, Columns
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.render.sample import BUCKET, cells, draw, sample, source, walk

START = np.datetime64("2024-07-01T00:00:00", "us")
QUARTER = np.timedelta64(900, "s")


def bars(number: int, price: float = 60_000.0, step: int = 900) -> pd.DataFrame:
    stamps = START + np.arange(number) * np.timedelta64(step, "s")
    flat = dict.fromkeys(("open", "close"), price)
    return pd.DataFrame({"open_time": stamps, **flat, "high": price + 50, "low": price - 50, "volume": 1.0})


def drawn(rows: list[tuple[int, int, int, float, float]], number: int, **more: Any) -> Columns:
    """Rows are (column, bucket, side, active, consumed)."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return draw(
        source(more.pop("candles", bars(number))),
        timestamps=START + table[:, 0].astype(int) * QUARTER,
        buckets=table[:, 1].astype(int),
        sides=table[:, 2].astype(int),
        active=table[:, 3],
        consumed=table[:, 4],
        **more,
    )


def at(data: Columns, bucket: int) -> int:
    return int(np.flatnonzero(data.prices == bucket * BUCKET)[0])


def test_cells_stand_where_their_time_and_price_say() -> None:
    data = drawn([(0, 590, 1, 5.0, 0.0), (2, 590, 1, 7.0, 0.0), (2, 610, -1, 3.0, 1.0)], 4)
    assert data.long.shape == data.short.shape == (len(data.prices), 4) == (21, 4)
    assert data.long[at(data, 590)].tolist() == [5.0, 0.0, 7.0, 0.0]
    assert data.short[at(data, 610)].tolist() == [0.0, 0.0, 3.0, 0.0]
    assert data.long.sum() == 12
    assert vars(data.cells["consumed_short"]) == {"column": [2], "row": [20], "volume": [1.0]}
    assert data.times.tolist() == (START + np.arange(4) * QUARTER).astype(np.int64).tolist()
    assert data.edges.tolist() == [*data.prices, 61_100.0]


def test_a_bucket_that_does_not_fit_the_price_is_said() -> None:
    said = {price: drawn([(0, 30, 1, 5.0, 0.0)], 4, candles=bars(4, price)).meta for price in (4_000.0, 5_000.0)}
    assert {meta["bucket"] for meta in said.values()} == {BUCKET}
    assert said[4_000.0]["bucket_misfit"] == "a bucket of 100 is 2.5 % of the price 4000, where 0.02 to 2 % fits"
    assert said[5_000.0]["bucket_misfit"] is None


def test_facts_come_from_the_candles() -> None:
    meta = sample(days=2, simulated=True, provisional=True).meta
    assert meta["price"] == walk(2)["close"].iloc[-1]
    assert (meta["start_time"], meta["end_time"]) == ("2024-07-01T00:00:00Z", "2024-07-03T00:00:00Z")
    assert meta["as_of"] == "2024-07-03T00:00:00Z"
    assert (meta["first_day"], meta["last_day"]) == ("2024-07-01", "2024-07-02")
    assert meta["simulated"] is meta["provisional"] is True
    assert (meta["exchange"], meta["title"]) == (None, "Simulated USDT-M perpetual")
    real = sample("ETHUSDC").meta
    assert real["provisional"] is False
    assert (real["exchange"], real["title"]) == ("binance", "Binance USDC-M perpetual")


def test_no_levels_make_one_empty_row_at_the_price() -> None:
    data = drawn([], 3)
    assert data.prices.tolist() == [60_000.0]
    assert all(not len(data.cells[name].row) for name in VOLUMES)
    assert data.long.tolist() == [[0.0, 0.0, 0.0]]


@examples(40)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 250))
def test_bins_keep_every_total_and_the_columns_of_their_cells(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    number, count = 30, 300
    # One cell per column, bucket and side, as the engine gives them.
    place = random.choice(number * 400 * 2, count, replace=False)
    column, bucket, side = place // 800, 400 + place // 2 % 400, 1 - 2 * (place % 2)
    active, consumed = random.lognormal(10, 2, count), random.lognormal(8, 2, count)
    data = drawn(list(zip(column, bucket, side, active, consumed, strict=True)), number, max_rows=rows)
    assert len(data.prices) <= rows
    assert data.bin_size % BUCKET == 0
    first = round(data.prices[0] / data.bin_size)
    row = bucket * BUCKET // data.bin_size - first
    for sign, name in ((1, "long"), (-1, "short")):
        for volume, cells_ in ((active, data.cells[name]), (consumed, data.cells[f"consumed_{name}"])):
            expected = np.zeros((number, len(data.prices)))
            np.add.at(expected, (column[side == sign], row[side == sign].astype(int)), volume[side == sign])
            merged = np.zeros_like(expected)
            merged[cells_.column, cells_.row] = cells_.volume
            np.testing.assert_allclose(merged, expected, atol=1e-4)
            assert (np.diff(cells_.column * len(data.prices) + cells_.row) > 0).all()


def test_candles_are_as_wide_as_the_columns_or_finer() -> None:
    table = {name: column[:0] for name, column in cells(walk(1)).items()}
    assert draw(source(walk(days=8, step=300)), "1h", **table).candles.seconds == 300
    narrow = walk(days=40, step=300)
    month = draw(source(narrow), "1h", **table).candles
    assert month.seconds == 1800
    assert len(month.open_time) == 40 * 48 <= MAX_CANDLES
    assert month.volume.sum() == pytest.approx(narrow["volume"].sum())
    assert month.high.max() == narrow["high"].max()
    assert month.low.min() == narrow["low"].min()
    first = narrow.iloc[:6]
    assert (month.open[0], month.close[0]) == (first["open"].iloc[0], first["close"].iloc[-1])


def test_the_record_is_what_the_endpoint_says_of_columns() -> None:
    data = sample()
    record = data.record()
    names = [
        "format",
        "timestamps",
        "prices",
        "located_shares",
        *VOLUMES,
        "candles",
        "modelled",
        "reported",
        "usual",
        "zones",
        "meta",
    ]
    assert list(record) == names
    assert list(record["candles"]) == ["interval_seconds", "open_time", "open", "high", "low", "close", "volume"]
    assert record["timestamps"].tolist() == (data.times // 1000).tolist()
    assert record["candles"]["open_time"].tolist() == (data.candles.open_time // 1000).tolist()
