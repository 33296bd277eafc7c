"""The simple rules by hand, and where they know nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heatmap_pipeline.model.score.baselines import VOLUME_ONLY, baseline_series, predicted
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours


def test_rules_by_hand() -> None:
    market = HourlyMarket(
        start=np.array([0, 1, 3, 4]) * HOUR,  # hour 2 is not in the table
        open=np.array([100.0, 200.0, 100.0, 100.0]),
        high=np.array([101.0, 210.0, 100.0, 104.0]),
        low=np.array([98.0, 200.0, 99.0, 95.0]),
        volume=np.array([10.0, 20.0, 30.0, 40.0]),
        extreme=np.array([[np.nan, 0.0, np.nan, 0.5], [np.nan, 0.1, np.nan, 0.0]]),
    )
    reported = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    hours = ScoreHours(market, 2 * reported, reported, reported, np.ones(4, dtype=np.bool_))
    rules = baseline_series(hours, "nowcast")
    np.testing.assert_allclose(rules["move"], [[0.02, 0, 0.01, 0.05], [0.01, 0.05, 0, 0.04]])
    np.testing.assert_allclose(rules["move x volume"], [[0.2, 0, 0.3, 2.0], [0.1, 1.0, 0, 1.6]])
    np.testing.assert_array_equal(rules["new extreme"], market.extreme)
    np.testing.assert_allclose(rules["new extreme x volume"][:, [1, 3]], [[0, 20], [2, 0]])
    np.testing.assert_array_equal(rules["reported the hour before"], [[np.nan, 1, np.nan, 3], [np.nan, 5, np.nan, 7]])
    assert VOLUME_ONLY not in rules
    unrecorded = replace(hours, recorded=np.array([True, True, False, True]))
    before = baseline_series(unrecorded, "nowcast")["reported the hour before"]
    np.testing.assert_array_equal(before, [[np.nan, 1, np.nan, np.nan], [np.nan, 5, np.nan, np.nan]])


def test_each_horizon_has_its_own_maps() -> None:
    one = np.ones(2)
    market = HourlyMarket(np.arange(2) * HOUR, one, one, one, one, np.ones((2, 2)))
    series = [np.full((2, 2), value) for value in (1.0, 2.0, 3.0, 4.0)]
    hours = ScoreHours(market, series[0], series[1], series[0], np.ones(2, dtype=np.bool_), series[2], series[3])
    assert predicted(hours, "nowcast") is hours.predicted
    assert predicted(hours, "at_start") is hours.predicted_at_start
    assert baseline_series(hours, "nowcast")[VOLUME_ONLY] is hours.volume_only
    assert baseline_series(hours, "at_start")[VOLUME_ONLY] is hours.volume_only_at_start
