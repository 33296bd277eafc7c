"""A small made-up book to draw: a random walk, levels that are born near it and die where it crosses them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from heatmap_pipeline.render.data import HeatmapData, make_heatmap_data

BUCKET = 100.0


def walk(days: int = 3, seed: int = 1, step: int = 900, start: str = "2024-07-01") -> pd.DataFrame:
    """Candles of `step` seconds around 60,000 USDT."""
    random = np.random.default_rng(seed)
    number = days * 86400 // step
    close = 60_000 * np.exp(np.cumsum(random.normal(0, 0.003, number)))
    opens = np.concatenate([[60_000.0], close[:-1]])
    wick = np.abs(random.normal(0, 60, (2, number)))
    return pd.DataFrame(
        {
            "open_time": pd.date_range(start, periods=number, freq=f"{step}s").astype("datetime64[us]"),
            "open": opens,
            "high": np.maximum(opens, close) + wick[0],
            "low": np.minimum(opens, close) - wick[1],
            "close": close,
            "volume": random.uniform(10, 100, number),
        }
    )


def cells(candles: pd.DataFrame, seed: int = 1) -> dict[str, Any]:
    """Sparse cells, one snapshot per candle: each candle opens a long 2 to 12 % below and a short as far above."""
    random = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    book: dict[tuple[int, int], float] = {}
    bar: Any  # pandas does not say what is in a row
    for bar in candles.itertuples():
        dead: dict[tuple[int, int], float] = {}
        for key in list(book):
            side, index = key
            price = (index + 0.5) * BUCKET
            if (side > 0 and bar.low <= price) or (side < 0 and bar.high >= price):
                dead[key] = book.pop(key)
        for side in (1, -1):
            key = (side, int(bar.close * (1 - side * random.uniform(0.02, 0.12)) // BUCKET))
            book[key] = book.get(key, 0.0) + float(random.lognormal(14, 1))
        for key in sorted(book.keys() | dead.keys(), key=lambda key: (key[1], key[0])):
            rows.append((bar.open_time, key[1], key[0], book.get(key, 0.0), dead.get(key, 0.0)))
    names = ("timestamps", "buckets", "sides", "active", "consumed")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def sample(
    symbol: str = "BTCUSDT", model: str = "turnover", days: int = 3, seed: int = 1, **changes: Any
) -> HeatmapData:
    """What `make_heatmap_data` makes of the small book; `changes` are other arguments of it."""
    candles = walk(days, seed)
    arguments: dict[str, Any] = {
        "symbol": symbol,
        "model": model,
        "bucket": BUCKET,
        "interval_seconds": 900,
        "candles": candles,
        "coverage": 0.9,
        "simulated": False,
        **cells(candles, seed),
    }
    return make_heatmap_data(**{**arguments, **changes})


@cache
def ten_days(model: str = "turnover") -> HeatmapData:
    """Ten days of the small book, another one per model; made once, so leave it as it is."""
    return sample(model=model, days=10, seed=1 if model == "turnover" else 2)
