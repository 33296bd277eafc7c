"""Real days of candles and of samples labelled when they were taken, from two exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pytest

from heatmap_pipeline.market.archive import ArchiveReader

RealDay: TypeAlias = tuple[date, pd.DataFrame, pd.DataFrame]
"""A day, its candles, and its samples as `label` and `contracts`."""


def bybit_days(market_dir: Path) -> Iterator[RealDay]:
    """Give the candles and samples of each whole day of real rows that have no value, labelled when taken."""
    folder = market_dir / "other_exchanges" / "bybit"
    if not folder.is_dir():
        pytest.skip(f"no real rows of another exchange at {folder}")
    candles = pd.read_csv(next(folder.glob("BTCUSDT-kline-5-*.csv.gz")))
    samples = pd.read_csv(next(folder.glob("BTCUSDT-open-interest-5min-*.csv.gz")))
    candles["open_time"] = pd.to_datetime(candles["startTime"], unit="ms")
    samples["contracts"] = samples["openInterest"] / 2
    samples["label"] = pd.to_datetime(samples["timestamp"], unit="ms")
    for day, of_day in candles.groupby(candles["open_time"].dt.date):
        assert isinstance(day, date)
        if len(of_day) == 288:
            yield day, of_day, samples[samples["label"].dt.date == day]


def binance_days(market_dir: Path, symbol: str, first: date, count: int, interval: int) -> Iterator[RealDay]:
    """Give the candles and samples of real days whose samples are labelled when taken."""
    reader = ArchiveReader(market_dir / "binance_vision")
    for number in range(count):
        day = first + timedelta(days=number)
        candles = reader.read_candles(symbol, day, interval).table
        clean = reader.read_open_interest(symbol, day, candles, interval)
        yield day, candles, clean.table.rename(columns={"snapshot_time": "label"})
