"""Which days are drawn, in columns of which width."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.newest import DAYS_DRAWN, MAX_COLUMNS, newest_days, newest_window
from heatmap_pipeline_tests.render.sample import source, walk

DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("days", "step", "seconds", "interval", "columns"),
    [
        (3, 300, 300, "5m", 864),
        (3, 300, 900, "15m", 288),
        (30, 300, 900, "30m", 1440),
        (60, 60, 60, "30m", 1440),
        (60, 300, 300, "30m", 1440),
        (60, 900, 300, "30m", 1440),
        (60, 900, 14400, "4h", 180),
        (60, 900, 86400, "1d", 30),
    ],
)
def test_columns_are_as_narrow_as_a_screen_allows(
    days: int, step: int, seconds: int, interval: str, columns: int
) -> None:
    past = source(walk(days, step=step))
    name, window = newest_window(past, seconds)
    assert (name, window.count) == (interval, columns)
    assert window.count <= MAX_COLUMNS
    assert window.last == past.model.end
    assert window.last - window.first == min(days, DAYS_DRAWN) * DAY
    assert window.clipped == ()


def test_only_days_after_the_last_gap_are_drawn() -> None:
    candles = walk(9)
    gap = candles["open_time"].dt.day == 5
    past = source(candles[~gap])
    _, window = newest_window(past, 900)
    assert window.first == pd.Timestamp("2024-07-06").value // 1000
    assert window.last == past.model.end


def test_a_day_that_began_late_or_is_not_over_ends_the_window() -> None:
    candles = walk(3, step=300)[10:-100]
    past = source(candles)
    _, window = newest_window(past, 3600)
    assert window.first == pd.Timestamp("2024-07-01").value // 1000
    assert past.model.end <= window.last < past.model.end + 3_600_000_000
    assert window.first % 3_600_000_000 == window.last % 3_600_000_000 == 0


def test_a_symbol_without_days_is_named(tmp_path: Path) -> None:
    with Warehouse(tmp_path).connect("BTCUSDT") as con, pytest.raises(HeatmapError, match="NOSUCH: nothing is stored"):
        newest_days(con, "NOSUCH", ("turnover",), 900)
