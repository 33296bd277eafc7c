"""The books do not grow with age: what a history holds after a year is what it held after some weeks."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from heatmap_pipeline.market.demo import DEMO_EPOCH, simulate_day, simulate_plan
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS, ModelParameters

DAYS, STEP = 400, 3600
MOST_LOTS = {"delta": 12_000, "turnover": 25_000}
"""More than a book of BTCUSDT ever held on any day of three simulated years at 5 minutes: 6,436 and 18,428."""


def day_of_candles(number: int) -> DayCandles:
    """Return a day of the demo market in candles of an hour."""
    day: date = DEMO_EPOCH + timedelta(days=number)
    made = simulate_day("BTCUSDT", PLAN, day)
    hours = made.candles.reshape(9, 24, STEP // 300)
    midnight = (datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    level = made.contracts.reshape(24, -1)[:, -1]
    before = float(simulate_day("BTCUSDT", PLAN, day - timedelta(days=1)).contracts[-1]) if number else level[0]
    return DayCandles(
        open_time=midnight + STEP * 1_000_000 * np.arange(24),
        open=hours[0, :, 0].copy(),
        high=hours[1].max(axis=1),
        low=hours[2].min(axis=1),
        close=hours[3, :, -1].copy(),
        volume=hours[4].sum(axis=1),
        flow=np.diff(level, prepend=before),
        open_interest=level,
    )


PLAN = simulate_plan("BTCUSDT", DAYS)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_books_and_state_do_not_grow_with_age(model: str) -> None:
    """Medians over a quarter early on and over the last one; lots that nothing reaches fade away to dust."""
    parameters = ModelParameters(MODELS[model], 100.0, STEP)
    first = day_of_candles(0)
    state = start_state(parameters, float(first.open_interest[0]))
    lots, cells = [], []
    for number in range(DAYS):
        result = run_day(parameters, state, day_of_candles(number), STEP)
        state = result.state
        lots.append(len(state.lots))
        cells.append(len(result.cells["side"]))
    early, late = slice(60, 150), slice(DAYS - 90, DAYS)
    assert np.median(lots[early]) > 100
    assert max(lots) <= MOST_LOTS[model]
    for sizes in (lots, cells):
        # The market itself differs by a third from quarter to quarter; growth by age would be a factor of three here.
        assert np.median(sizes[late]) < 1.8 * np.median(sizes[early])
