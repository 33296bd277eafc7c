"""Which hours a score is of, without a home: what counts as recorded, and what its windows are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heatmap_pipeline.chain import scoring
from heatmap_pipeline_tests.model.score._worlds import make_hours


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        ([(0, 3600)], True),
        ([(0, 3528)], True),  # 98 %
        ([(0, 3527)], False),
        ([(-900, 1000), (1072, 7000)], True),
        ([(-900, 1000), (1073, 7000)], False),
        ([(0, 2000), (1000, 3000), (2900, 3600)], True),
        ([(0, 2000), (0, 2000)], False),  # what was recorded twice is no longer for it
        ([(3600, 7200)], False),
    ],
)
def test_an_hour_counts_as_recorded_but_for_some_seconds(seconds: list[tuple[int, int]], counts: bool) -> None:
    recorded = np.array(seconds, dtype=np.int64) * 1_000_000
    assert scoring.watched_hours(recorded, np.array([0], dtype=np.int64)).tolist() == ([0] if counts else [])


def test_the_windows_of_a_score_are_named_by_their_first_and_last_day() -> None:
    def windows(*recorded: slice) -> dict[str, list[str]]:
        hours = make_hours(30)
        known = np.zeros(len(hours.recorded), dtype=np.bool_)
        for part in recorded:
            known[part] = True
        return scoring._windows(replace(hours, recorded=known), 7)

    assert windows(slice(0, None)) == {"7d": ["1970-01-24", "1970-01-30"], "all": ["1970-01-01", "1970-01-30"]}
    assert windows(slice(29, 241)) == {"7d": ["1970-01-05", "1970-01-11"], "all": ["1970-01-02", "1970-01-11"]}
    assert windows(slice(0, 5), slice(200, 216)) == {
        "7d": ["1970-01-09", "1970-01-09"],
        "all": ["1970-01-01", "1970-01-09"],
    }
    assert windows() == {}
