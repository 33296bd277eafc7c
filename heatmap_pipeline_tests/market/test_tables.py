"""What every source hands over: the hash that tells a day's rows from any others, and contracts that are computed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.market.repair import clean_candles
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, CleanDay
from heatmap_pipeline_tests.market._files import DAY, raw_candles


@pytest.fixture(scope="module")
def clean() -> CleanDay:
    return clean_candles(raw_candles(), symbol="BTCUSDT", day=DAY, interval=300, file="f.zip")


@pytest.mark.parametrize("column", CANDLE_COLUMNS)
@pytest.mark.parametrize("row", [0, -1])
def test_another_number_anywhere_is_another_hash(clean: CleanDay, column: str, row: int) -> None:
    """By it a corrected file is told from the one that was read, and what follows is computed anew."""
    values = clean.table[column].to_numpy().copy()
    values[row] += np.timedelta64(1, "us") if column == "open_time" else 1
    changed = replace(clean, table=clean.table.assign(**{column: values}))
    assert changed.content_hash() != clean.content_hash()


@pytest.mark.parametrize("other", [{"symbol": "ETHUSDT"}, {"day": DAY + timedelta(days=1)}, {"step": 60}])
def test_the_same_numbers_of_something_else_are_another_hash(clean: CleanDay, other: dict[str, Any]) -> None:
    assert replace(clean, **other).content_hash() != clean.content_hash()


def test_the_hash_is_of_the_rows_and_not_of_how_they_came(clean: CleanDay) -> None:
    told = replace(clean, table=clean.table.copy(), repairs={"sorted_rows": 1}, facts={"file": "another.zip"})
    assert told.content_hash() == clean.content_hash()
    assert replace(clean, table=clean.table[1:]).content_hash() != clean.content_hash()
