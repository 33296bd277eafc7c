"""The numbers that are told of a computed day."""

from __future__ import annotations

import pytest

from heatmap_pipeline.chain import compute
from heatmap_pipeline_tests.views.test_replay import uneven_day


def test_the_coverage_told_of_a_day_is_of_all_its_contracts() -> None:
    assert compute._numbers(uneven_day())["coverage"] == pytest.approx((30 + 2) / (40 + 10))
