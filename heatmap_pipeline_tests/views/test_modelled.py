"""Modelled liquidations of columns against plain sums over the events of the engine, which test_engine.py checks."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.views.modelled import modelled_of_day
from heatmap_pipeline.views.replay import replay
from heatmap_pipeline.views.window import make_window, only_tiers
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.model.test_engine import SPECS, make_market, starting
from heatmap_pipeline_tests.views.histories import history_of


@examples(40)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SPECS)), st.sampled_from([300, 3600, 86_400]))
def test_circles_are_the_sums_of_what_died(random_: random.Random, name: str, seconds: int) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, random_.randint(1, 3), random_.randint(1, 40))
    source = history_of(parameters, market, starting(market))
    if random_.random() < 0.3:
        source = only_tiers(source, tuple(sorted(random_.sample(source.all_tiers, 2))))
    model = source.model
    cut = (int(market.open_time[len(market.open_time) // 3]), None) if random_.random() < 0.3 else (model.begin, None)
    window = make_window("", model.begin, model.end, seconds, *cut)
    played = replay(source, window.first, window.last, seconds)

    deaths: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
    ranges: dict[int, tuple[float, float]] = {}
    for low, high, time in zip(market.low, market.high, market.open_time, strict=True):
        column = int(time - window.first) // window.step
        known = ranges.get(column, (np.inf, -np.inf))
        ranges[column] = min(known[0], float(low)), max(known[1], float(high))
    for day in model.days:
        table = source.run(day, source.before(day), None).liquidations
        for row in range(len(table["timestamp"])):
            time = int(table["timestamp"][row])
            if time < window.first or (source.tiers is not None and table["leverage"][row] not in source.tiers):
                continue
            candle = int(np.searchsorted(market.open_time, time))
            price = min(max(table["liq_price"][row] / 1e8, market.low[candle]), market.high[candle])
            key = SIDE_NAMES[int(table["side"][row])], (time - window.first) // window.step
            deaths[key].append((price, float(table["volume"][row]), float(table["entry_price"][row])))

    found = {
        (side, int(column)): row
        for side, sums in played.modelled.items()
        for column, *row in zip(*vars(sums).values(), strict=True)
    }
    assert found.keys() == deaths.keys()
    for key, lots in deaths.items():
        price, volume, count, entry_low, entry_high = found[key]
        total = sum(lot[1] for lot in lots)
        assert volume == pytest.approx(total, rel=1e-9)
        assert price == pytest.approx(sum(lot[0] * lot[1] for lot in lots) / total, rel=1e-9)
        assert (count, entry_low, entry_high) == (
            len(lots),
            pytest.approx(min(lot[2] for lot in lots), rel=1e-12),
            pytest.approx(max(lot[2] for lot in lots), rel=1e-12),
        )
        low, high = ranges[key[1]]
        assert low * (1 - 1e-12) <= price <= high * (1 + 1e-12), "price was there"
    assert played.liquidated.sum() == sum(len(lots) for lots in deaths.values())
    for sums in played.modelled.values():
        assert (np.diff(sums.column) > 0).all()
    for side, value in SIDE_NAMES.items():
        consumed = played.consumed[played.side == side].sum()
        assert played.modelled[value].volume.sum() == pytest.approx(consumed, rel=1e-9)


def test_a_gap_kills_at_the_end_of_the_candle_that_is_nearest() -> None:
    """Two candles of a day, 90 to 95 and 110 to 120, and lots that the jumps to them left behind."""
    times = np.array([0, 300_000_000])
    bars = {"open": [91.0, 111.0], "high": [95.0, 120.0], "low": [90.0, 110.0], "close": [94.0, 119.0]}
    prices = {name: np.array(column) for name, column in bars.items()}
    candles = Candles(300, times, **prices, volume=np.ones(2), quote_volume=np.ones(2))
    rows = [  # candle, side, price, volume, entry
        (0, LONG, 98.0, 3.0, 100.0),  # above the first candle: its high
        (0, LONG, 92.0, 1.0, 104.0),  # within it
        (1, SHORT, 105.0, 2.0, 99.0),  # below the second: its low
    ]
    candle, side, price, volume, entry = (np.array(column) for column in zip(*rows, strict=True))
    events = {
        "timestamp": times[candle],
        "side": side,
        "leverage": np.full(3, 10.0),
        "liq_price": np.round(price * 1e8).astype(np.int64),
        "volume": volume,
        "entry_price": entry,
    }
    found = modelled_of_day(events, candles, None, 0, 300_000_000, 2)
    long, short = (found[name] for name in ("long", "short"))
    assert long.record() | {"time": long.column.tolist()} == {
        "time": [0],
        "price": pytest.approx([(3 * 95 + 92) / 4]),
        "volume": [4.0],
        "lots": [2],
        "entry_low": [100.0],
        "entry_high": [104.0],
    }
    assert (short.column.tolist(), short.price.tolist(), short.lots.tolist()) == ([1], [110.0], [1])
    assert not len(modelled_of_day(events, candles, (25.0,), 0, 300_000_000, 2)["long"].column)
