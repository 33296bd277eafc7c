"""What a replay says of books whose totals differ; how it equals the stored tables is held in api/test_numbers.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heatmap_pipeline.model.book import DayResult, Lots, ModelState, located_share
from heatmap_pipeline.views.replay import shares_located


def uneven_day() -> DayResult:
    """Return a day of two candles, open interest 50.

    It has a book of 40 contracts, 30 of them located, and one of 10, 2 of them located. After the first candle it was
    5 of 40 and 1 of 10.
    """
    times = np.repeat(np.array([0, 300_000_000]), 2)
    located = np.array([5.0, 1.0, 30.0, 2.0])
    zeros = np.zeros(4)
    ledger = {"timestamp": times, "book": np.array([0, 1, 0, 1]), "located": located}
    ledger["unlocated"] = np.array([40.0, 10.0, 40.0, 10.0]) - located
    ledger["open_interest"] = np.full(4, 50.0)
    ledger |= dict.fromkeys(("active_volume", "consumed_volume", "liquidated", "liquidated_at_once"), zeros)
    sides = {"side": np.zeros(0, dtype=np.int8)}
    state = ModelState(Lots.empty(), (10.0, 8.0), 50.0)
    return DayResult(state, ledger, sides, sides, {"book": np.zeros(0, dtype=np.int64)})


def test_the_located_share_is_of_the_open_interest_in_each_book() -> None:
    """Not of what the books hold; before the first candle it is what it was."""
    ends = np.array([0, 1, 300_000_000, 300_000_001, 10**12])
    found = shares_located(uneven_day(), ends, np.full(5, 0.25))
    assert found.tolist() == pytest.approx([0.25, 6 / 100, 6 / 100, 32 / 100, 32 / 100])
    assert found[-1] == located_share([30.0, 2.0], 50.0)


def test_a_day_without_candles_changes_no_share() -> None:
    empty = replace(uneven_day(), ledger={name: column[:0] for name, column in uneven_day().ledger.items()})
    assert shares_located(empty, np.array([0, 1]), np.array([0.1, 0.2])).tolist() == [0.1, 0.2]
