"""The simple rules on real liquidations: the figures that are published, and what counting missing hours would do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.instants import day_start
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.model.book import LONG, SHORT, Ints
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours, hourly_market, hourly_reported
from heatmap_pipeline.model.score.table import ScoreRow, score

pytestmark = pytest.mark.market

SET_A = (date(2024, 6, 19), date(2024, 7, 28))
SET_B = (date(2024, 9, 13), date(2024, 9, 18))
INTERVALS = {"BTCUSDT": 300, "ETHUSDT": 900}


def _times(column: pd.Series) -> Ints:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


def _market(folder: Path, symbol: str, *sets: tuple[date, date]) -> HourlyMarket:
    reader = ArchiveReader(folder / "binance_vision")

    def days() -> Iterator[date]:
        for first, last in sets:
            yield from (first + timedelta(number) for number in range((last - first).days + 1))

    candles = pd.concat([reader.read_candles(symbol, day, INTERVALS[symbol]).table for day in days()])
    columns = {name: candles[name].to_numpy(np.float64) for name in ("open", "high", "low", "volume")}
    return hourly_market(_times(candles["open_time"]), **columns, interval=INTERVALS[symbol])


def _hours(folder: Path, symbol: str, market: HourlyMarket) -> ScoreHours:
    """Return the recorded hours of set A, with move x volume in the model's place."""
    file = folder / "liquidations" / f"{symbol}-liquidations-1h-20240619-20240728.csv.gz"
    reports = pd.read_csv(file, parse_dates=["time"])
    timestamp = _times(reports["time"].dt.tz_localize(None))
    side = np.where(reports["side"] == "LONG", LONG, SHORT).astype(np.int8)
    reported, recorded = hourly_reported(
        market.start,
        timestamp,
        side,
        reports["quantity"].to_numpy(),
        np.array([timestamp.min()]),
        np.array([timestamp.max() + HOUR]),
    )
    assert np.nansum(reported) == pytest.approx(reports["quantity"].sum())
    rule = market.move * market.volume
    return ScoreHours(market, rule, market.move, reported, recorded)


def _values(rows: list[ScoreRow], baseline: str) -> list[float]:
    """Return the agreement of a rule over all hours, longs and shorts."""
    wanted = [("all", side, "nowcast", "spearman", baseline) for side in ("long", "short")]
    table = {(row.window, row.side, row.horizon, row.measure, row.baseline): row.value for row in rows}
    return [table[key] for key in wanted]


@pytest.mark.parametrize(
    ("symbol", "baseline", "published"),
    [
        ("BTCUSDT", "move x volume", [0.787, 0.771]),
        ("ETHUSDT", "move x volume", [0.779, 0.747]),
        ("BTCUSDT", "move", [0.749, 0.717]),
        ("ETHUSDT", "move", [0.762, 0.700]),
    ],
)
def test_published_figures_of_the_simple_rules(
    market_dir: Path, symbol: str, baseline: str, published: list[float]
) -> None:
    hours = _hours(market_dir, symbol, _market(market_dir, symbol, SET_A))
    rows = score(hours, own_exchange=True, first=day_start(date(2024, 6, 24)), resamples=20)
    assert {row.hours for row in rows if row.window == "all" and row.measure == "spearman"} == {840}
    assert [round(value, 3) for value in _values(rows, baseline)] == published


def test_hours_that_nobody_recorded_are_not_scored(market_dir: Path) -> None:
    first = day_start(date(2024, 6, 24))
    alone = _hours(market_dir, "BTCUSDT", _market(market_dir, "BTCUSDT", SET_A))
    only = score(alone, own_exchange=True, first=first, resamples=20)
    market = _market(market_dir, "BTCUSDT", SET_A, SET_B)
    hours = _hours(market_dir, "BTCUSDT", market)
    both = score(hours, own_exchange=True, first=first, resamples=20)
    assert _values(both, "move x volume") == pytest.approx(_values(only, "move x volume"), abs=1e-12)
    # The mistake this guards against: the five days of set B, which have no record, as days without liquidations.
    later = np.isfinite(market.volume) & (market.start >= day_start(SET_B[0]))
    assert later.sum() == 120
    counted = ScoreHours(
        market,
        hours.predicted,
        hours.predicted_at_start,
        np.where(hours.recorded, hours.reported, 0.0),
        hours.recorded | later,
    )
    wrong = _values(score(counted, own_exchange=True, first=first, resamples=20), "move x volume")
    assert max(wrong) < 0.66
