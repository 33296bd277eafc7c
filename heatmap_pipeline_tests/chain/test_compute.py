"""The numbers that are told of a computed day."""

from __future__ import annotations

import pytest

from heatmap_pipeline.chain import compute
from heatmap_pipeline_tests.views.test_replay import uneven_day


def test_the_located_share_told_of_a_day_is_of_the_open_interest() -> None:
    assert compute._numbers(uneven_day(), "usdc")["located_share"] == pytest.approx((30 + 2) / (2 * 50))
