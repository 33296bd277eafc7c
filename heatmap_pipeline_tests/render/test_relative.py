"""relative.js, run by node, tells of the same map the same as model/distance.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatmap_pipeline.model.distance import EDGES_PERCENT, band_rows
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.node import of_node
from heatmap_pipeline_tests.render.sample import cells, draw, source, walk

_ASKED = """
(() => {
  const typed = ({ long, short, ...map }) => (
    { ...map, long: Float32Array.from(long), short: Float32Array.from(short) }
  );
  const plain = values => Array.from(values, value => (Number.isNaN(value) ? null : value));
  return {
    edges: DISTANCE_EDGES,
    rows: given.prices.map(([price, bin, side]) => bandRows(price, bin, side)),
    maps: given.maps.map(typed).map(map => ({
      closes: plain(columnCloses(map)), usual: usualOf(map), long: plain(relativeCells(map, "long")),
      short: plain(relativeCells(map, "short")),
    })),
  };
})()
"""


def as_map(data: Columns) -> dict[str, Any]:
    """Return what map.js makes of a payload, as far as these functions look at it."""
    return {
        "columns": len(data.times),
        "rows": len(data.prices),
        "low": float(data.prices[0]),
        "bin": data.bin_size,
        "start": int(data.times[0]) // 1000,
        "width": data.seconds * 1000,
        "candles": [
            {"time": time // 1000, "close": close}
            for time, close in zip(data.candles.open_time.tolist(), data.candles.close.tolist(), strict=True)
        ],
        "long": data.long.T.ravel().tolist(),
        "short": data.short.T.ravel().tolist(),
    }


def test_page_and_endpoint_hold_the_same_map_against_the_same_usual() -> None:
    candles = walk(4)
    holed = candles.drop(index=range(100, 130))  # columns without a candle
    drawn = [
        draw(source(candles), **cells(candles)),
        draw(source(holed), **cells(holed), max_rows=60),
        draw(source(candles), "4h", **{name: column[:0] for name, column in cells(candles).items()}),
    ]
    random = np.random.default_rng(5)
    prices = [
        (float(price), float(size), side)
        for price, size in zip(random.lognormal(3, 4, 200), random.lognormal(-1, 3, 200), strict=True)
        for side in ("long", "short")
    ] + [(1000.0, 1.0, "long"), (1000.0, 1.0, "short"), (60_000.0, 100.0, "short"), (0.00025, 1e-7, "long")]
    answer = of_node("relative.js", _ASKED, {"maps": [as_map(one) for one in drawn], "prices": prices})

    assert answer["edges"] == list(EDGES_PERCENT)
    for (price, size, side), rows in zip(prices, answer["rows"], strict=True):
        assert rows == band_rows(np.array([price]), size, "long" if side == "long" else "short")[0].tolist()
    for data, told in zip(drawn, answer["maps"], strict=True):
        closes = [None if np.isnan(close) else close for close in data.closes.tolist()]
        assert told["closes"] == closes
        record = data.usual.record()
        for side in ("long", "short"):
            mine, its = (np.array(one[side], dtype=float) for one in (told["usual"], record))
            assert np.allclose(mine, its, rtol=1e-6, equal_nan=True)
            held = np.array([np.nan if value is None else value for value in told[side]]).reshape(len(data.times), -1)
            assert np.allclose(held.T, by_hand(data, side), rtol=1e-5, equal_nan=True)
    assert sum(value is not None for value in drawn[0].usual.record()["short"]) > 20


def by_hand(data: Columns, side: str) -> np.ndarray:
    """Each cell by the usual volume at its distance, shape (P, T): NaN where nobody knows, 0 where nothing is."""
    usual = data.usual.long if side == "long" else data.usual.short
    dense = (data.long if side == "long" else data.short).astype(float)
    for column, price in enumerate(data.closes.tolist()):
        for row, edge in enumerate(data.prices.tolist()):
            if dense[row, column] == 0 or np.isnan(price):
                continue
            away = 100 * ((edge + data.bin_size / 2) / price - 1) * (1 if side == "short" else -1)
            holding = edge <= price < edge + data.bin_size
            band = 0 if holding else max(int(np.searchsorted(EDGES_PERCENT, away, side="right")) - 1, 0)
            dense[row, column] /= usual[band] if band < len(usual) else np.nan
    return dense
