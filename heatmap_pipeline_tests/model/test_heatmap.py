"""One call for candles of one's own: what it returns, and what it says about arguments it cannot use."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.model.heatmap import calculate_time_evolving_heatmap
from heatmap_pipeline.model.parameters import MODELS, ModelError, ModelParameters
from heatmap_pipeline_tests.model.test_engine import make_market, run_oracle, same, starting


def frame(market: Any) -> pd.DataFrame:
    columns = {name: getattr(market, name) for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame({"open_time": market.open_time.astype("datetime64[us]"), **columns})


@pytest.mark.parametrize("model", ["delta", "turnover"])
def test_it_is_the_step_by_step_model_a_snapshot_per_candle(model: str) -> None:
    parameters = ModelParameters(MODELS[model], 1.0)
    market = make_market(random.Random(4), parameters, days=3, per_day=80, shifts=False)
    snapshots = calculate_time_evolving_heatmap(
        frame(market), market.flow, symbol="X", model=model, start_open_interest=starting(market), bucket=1.0
    )
    oracle = run_oracle(parameters, market).snapshots
    assert [one.timestamp for one in snapshots] == market.open_time.tolist() == [one.timestamp for one in oracle]
    for mine, theirs in zip(snapshots, oracle, strict=True):
        for name in ("active_volume", "consumed_volume"):
            same(
                {(cell.price_bucket, cell.side): getattr(cell, name) for cell in mine.cells},
                {(cell.price_bucket, cell.side): getattr(cell, name) for cell in theirs.cells},
                f"{name} at {mine.timestamp}",
            )
        assert (mine.positions_created, mine.positions_consumed) == (
            theirs.positions_created,
            theirs.positions_consumed,
        )
        assert mine.total_long_volume == pytest.approx(theirs.total_long_volume, rel=1e-9, abs=1e-3)


def test_the_level_of_open_interest_does_not_matter_to_a_model_of_changes() -> None:
    market = make_market(random.Random(4), ModelParameters(MODELS["delta"], 1.0), days=1, per_day=50, shifts=False)
    one = calculate_time_evolving_heatmap(frame(market), market.flow, symbol="X", bucket=1.0)
    two = calculate_time_evolving_heatmap(frame(market), market.flow, symbol="X", bucket=1.0, start_open_interest=1e7)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.price_buckets, b.price_buckets)
        assert np.allclose(a.active_volumes, b.active_volumes, rtol=1e-9, atol=1e-3)


def test_weights_and_bucket_are_the_callers() -> None:
    market = make_market(random.Random(4), ModelParameters(MODELS["delta"], 1.0), days=1, per_day=5, shifts=False)
    candles = frame(market)
    snapshots = calculate_time_evolving_heatmap(
        candles, [10.0, 0, 0, 0, 0], symbol="X", leverage_weights={10: 1.0}, bucket=0.3
    )
    (cell,) = snapshots[0].cells
    assert cell.active_volume == pytest.approx(10.0 * candles["close"][0])
    assert cell.price_bucket == pytest.approx(round(cell.price_bucket / 0.3) * 0.3)
    assert calculate_time_evolving_heatmap(candles.iloc[:0], []) == []
    assert len(calculate_time_evolving_heatmap(candles.iloc[:1], [1.0])) == 1


def test_a_price_of_a_millionth_has_levels_apart_from_each_other_and_from_it() -> None:
    """Where the finest bucket was 1e-7, the three nearest levels were in the bucket of the price itself."""
    candle = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-01"]), "volume": 1e9})
    candle[["open", "low", "high", "close"]] = [[1.58e-6, 1.57e-6, 1.61e-6, 1.6e-6]]
    (snapshot,) = calculate_time_evolving_heatmap(candle, [1e9], symbol="X")
    expected = [math.floor(160 * (1 - 1 / leverage) / 0.996 + 0.5) for leverage in (5, 10, 25, 50, 100)]
    assert [round(cell.price_bucket * 1e8) for cell in snapshot.cells] == expected == [129, 145, 154, 157, 159]
    assert [cell.price_bucket for cell in snapshot.cells] == pytest.approx([number / 1e8 for number in expected])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "gamma"}, "model = 'gamma'"),
        ({"oi_deltas": [1.0]}, "oi_deltas has shape"),
        ({"oi_deltas": [1.0, np.nan, 0.0]}, r"oi_deltas\[1\]"),
        ({"model": "turnover"}, "start_open_interest is missing"),
        ({"start_open_interest": 1.0, "oi_deltas": [0.0, -5.0, 0.0]}, "falls to -4"),
        ({"leverage_weights": {1: 1.0}}, "leverage 1 is not above 1"),
        ({"leverage_weights": {500: 1.0}}, "max_leverage"),
        ({"bucket": 0.0}, "bucket"),
        ({"candles": pd.DataFrame({"open_time": []})}, "no column close"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(change: dict[str, Any], said: str) -> None:
    candles = pd.DataFrame({"open_time": pd.date_range("2024-01-01", periods=3, freq="5min")})
    candles[["open", "high", "low", "close", "volume"]] = 100.0
    given: dict[str, Any] = {"candles": candles, "oi_deltas": [0.0, 0.0, 0.0]} | change
    with pytest.raises(ModelError, match=said):
        calculate_time_evolving_heatmap(**given)


def test_missing_candles_do_not_matter_and_split_seconds_are_refused() -> None:
    candles = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-01 00:10", "2024-01-01 23:55", "2024-01-03 00:00"])})
    candles[["open", "high", "low", "close", "volume"]] = 100.0
    snapshots = calculate_time_evolving_heatmap(candles, [1.0, 0.0, 0.0])
    assert [one.timestamp for one in snapshots] == candles["open_time"].astype("datetime64[us]").astype(int).tolist()
    candles["open_time"] += pd.Timedelta(milliseconds=1)
    with pytest.raises(ModelError, match="whole second"):
        calculate_time_evolving_heatmap(candles, [0.0, 0.0, 0.0])
