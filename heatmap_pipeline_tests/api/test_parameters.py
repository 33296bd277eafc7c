"""What a request may ask, up to its limits and not beyond: each as it is documented, without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from heatmap_pipeline.api.parameters import (
    AlertsQuery,
    HeatmapQuery,
    KlinesQuery,
    MapQuery,
    read_markets,
    read_moment,
    read_tiers,
    read_weights,
)

HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("query", "name", "least", "most", "below", "above"),
    [
        (HeatmapQuery, "max_rows", 10, 2000, 9, 2001),
        (HeatmapQuery, "price_bin_size", 1e-300, 1e7, 0, 10_000_001),
        (MapQuery, "within_percent", 0.1, 1000, 0.0999, 1000.1),
        (KlinesQuery, "limit", 10, 1500, 9, 1501),
        (AlertsQuery, "limit", 1, 500, 0, 501),
    ],
)
def test_numbers_are_taken_up_to_their_limits(
    query: type[BaseModel], name: str, least: float, most: float, below: float, above: float
) -> None:
    for taken in (least, most):
        assert getattr(query.model_validate({"symbol": "BTCUSDT", name: str(taken)}), name) == taken
    for refused in (below, above):
        with pytest.raises(ValidationError):
            query.model_validate({"symbol": "BTCUSDT", name: str(refused)})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1000:1", ((1000.0, 1.0),)),
        ("1.001:0.000001", ((1.001, 1.0),)),
        ("50: 1e9", ((50.0, 1.0),)),
        ("100:0,25:3,10:1", ((10.0, 0.25), (25.0, 0.75))),
        (",".join(f"{leverage}:1" for leverage in range(2, 34)), tuple((float(n), 1 / 32) for n in range(2, 34))),
    ],
)
def test_weights_are_taken_up_to_their_limits(written: str, read: Any) -> None:
    assert read_weights(written) == read


@pytest.mark.parametrize(
    "written",
    ["1000.001:1", "10:0.0000009", "10:1000000001", "10:1:1", ",".join(f"{leverage}:1" for leverage in range(2, 35))],
)
def test_weights_beyond_their_limits_are_refused(written: str) -> None:
    with pytest.raises(
        ValueError, match=r"not above 1 and at most 1000|neither 0 nor|not leverage:weight|more than 32"
    ):
        read_weights(written)


def test_tiers_and_markets_are_taken_up_to_their_limits() -> None:
    assert read_tiers("1000, 1.001") == (1.001, 1000.0)
    assert len(read_tiers(",".join(map(str, range(2, 34))))) == 32
    markets = [f"{letter}USDT" for letter in "ABCDEFGHIJKLMNOP"]
    assert read_markets(",".join(reversed(markets))) == tuple(markets)
    refused: list[tuple[Callable[[str], Any], str, str]] = [
        (read_tiers, "1000.001", "at most 1000"),
        (read_tiers, ",".join(map(str, range(2, 35))), "33 leverages are more than 32"),
        (read_markets, ",".join([*markets, "QUSDT"]), "17 markets are more than 16"),
    ]
    for read, written, words in refused:
        with pytest.raises(ValueError, match=words):
            read(written)


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T01:00", HOUR),
        (" 1970-01-01t01:00:00.000001z ", HOUR + 1),
        ("1970-01-01T01:00+02:00", -HOUR),
        ("1970-01-01T01:00 02:00", -HOUR),
        ("1970-01-01T01:00-02:30", 3 * HOUR + HOUR // 2),
        ("1970-01-01 01:00", HOUR),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00+14:00", -62_135_596_800_000_000 - 14 * HOUR),
        ("9999-12-31T23:59:59.999999-14:00", 253_402_300_799_999_999 + 14 * HOUR),
    ],
)
def test_a_moment_is_counted_from_1970_in_utc(written: str, microseconds: int) -> None:
    assert read_moment(written) == microseconds
