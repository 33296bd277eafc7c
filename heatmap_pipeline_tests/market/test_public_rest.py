"""Times in the answers of exchanges: seconds or milliseconds, as numbers or as digits, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from heatmap_pipeline.market.public_rest import as_instant
from heatmap_pipeline.market.rest_market import as_milliseconds
from heatmap_pipeline.market.tables import MarketError


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        (10**9, 10**15),
        (10**11 - 1, (10**11 - 1) * 10**6),
        (10**12, 10**15),
        (10**14 - 1, (10**14 - 1) * 1000),
        ("1709251200", 1709251200 * 10**6),
        ("1709251200123", 1709251200123 * 1000),
    ],
)
def test_the_magnitude_tells_seconds_from_milliseconds(written: Any, microseconds: int) -> None:
    assert as_instant(written, "place", 1, "t") == microseconds


@pytest.mark.parametrize(
    ("written", "unit", "milliseconds"),
    [
        (1709251200123, 1, 1709251200123),
        ("1709251200123", 1, 1709251200123),
        ("1709251200", 1000, 1709251200000),
        (10**12, 1, 10**12),
        (10**14 - 1, 1, 10**14 - 1),
    ],
)
def test_a_time_of_a_known_unit_is_made_milliseconds(written: Any, unit: int, milliseconds: int) -> None:
    assert as_milliseconds(written, "place", 1, "t", unit=unit) == milliseconds


@pytest.mark.parametrize(
    "written",
    [10**9 - 1, 10**11, 10**12 - 1, 10**14, 10**300, -1709251200, 1709251200.0, True, None, "", "soon", " 1709251200",
     "-1709251200", "1709251200.5", "17_09251200", "١٧٠٩٢٥١٢٠٠", "1" * 15, "0" * 5 + "1709251200", [1709251200]],
)  # fmt: skip
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(MarketError, match=r"place, row 7: t .* is not in seconds or milliseconds since 1970"):
        as_instant(written, "place", 7, "t")
    with pytest.raises(MarketError, match=r"place, row 7: t .* is no time since 1970"):
        as_milliseconds(written, "place", 7, "t")
