"""A base through the client and as assistants see it: which markets are added up, and which are missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from heatmap_pipeline.client import ClientError, Heatmap
from heatmap_pipeline.client.answers import VOLUMES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._load import HOST
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.conftest import several

__all__ = ["several"]

BASE, BYBIT = "BTC", "BYBIT_BTCUSDT"


@pytest.fixture(scope="module")
def heatmap(several: Settings) -> Iterator[Heatmap]:
    with Heatmap(several.home) as opened:
        yield opened


def test_the_parts_of_a_map_are_told(heatmap: Heatmap) -> None:
    assert heatmap.bases() == {BASE: ("BTCUSDC", "BTCUSDT", BYBIT)}
    found = heatmap.map(BASE)
    about = found.provenance
    assert (about.symbol, about.exchange, about.candles_of, about.units["volume"]) == (BASE, None, "BTCUSDT", "USD")
    assert [(part.symbol, part.missing, part.late) for part in about.parts] == [
        ("BTCUSDC", False, False),
        ("BTCUSDT", False, False),
        (BYBIT, True, True),
    ]
    assert about.parts[2].as_of == datetime(2024, 1, 4, tzinfo=UTC)
    assert "the sum of 2 of 3 markets (BTCUSDC, BTCUSDT; bybit:BTCUSDT is missing)" in about.words
    singles = [heatmap.map(name, price_bin_size=found.price_bin_size) for name in ("BTCUSDC", "BTCUSDT")]
    assert found.total_long == pytest.approx(sum(single.total_long for single in singles), abs=1e-3)
    zone = heatmap.zones(BASE).nearest_below
    assert zone is not None
    assert sum(zone.more["parts"].values()) == pytest.approx(zone.volume, abs=1e-3)
    assert found.to_pandas().attrs["parts"][2]["missing"] is True


def test_a_series_has_what_each_market_has_of_its_cells(heatmap: Heatmap) -> None:
    series = heatmap.series(BASE, "2024-01-03", "2024-01-05", interval="1h")
    for name in VOLUMES:
        time, _, volume = series.cells[name]
        parts = np.array([market[name] for market in series.by_market.values()])
        np.testing.assert_allclose(np.nansum(parts, axis=0), volume, atol=1e-6)
        np.testing.assert_array_equal(np.isnan(series.by_market[BYBIT][name]), time >= 24)
    assert series.to_xarray().attrs["symbol"] == BASE


def test_a_market_alone_says_nothing_of_parts(heatmap: Heatmap) -> None:
    about = heatmap.map("BTCUSDT").provenance
    assert (about.parts, about.candles_of, dict(about.not_shown)) == ((), None, {})
    assert not {"parts", "candles_of", "not_shown"} & set(about.record())
    with pytest.raises(ClientError, match="symbol BTC is a base, and this is of one market"):
        heatmap.score(BASE)


def test_the_endpoint_answers_alike(several: Settings, heatmap: Heatmap) -> None:
    with serving_here(several) as running, Heatmap(f"http://{HOST}:{running.port}") as remote:
        here, there = heatmap.map(BASE), remote.map(BASE)
    np.testing.assert_array_equal(here.long, there.long)
    assert here.provenance.parts == there.provenance.parts


def test_an_assistant_is_told_of_bases_and_of_who_is_missing(several: Settings) -> None:
    pytest.importorskip("mcp")
    from heatmap_pipeline.mcp_server.server import Tools

    tools = Tools(several.home)
    assert tools.markets("bybit")["bases"] == {BASE: ["BTCUSDC", "BTCUSDT", BYBIT]}
    for answer in (tools.liquidation_map(BASE), tools.nearest_zones(BASE), tools.heatmap_summary(BASE)):
        assert "bybit:BTCUSDT is missing" in answer["provenance"]["words"]
        assert [part["missing"] for part in answer["provenance"]["parts"]] == [False, False, True]
    assert tools.nearest_zones(BASE)["nearest"]["below"]["parts"].keys() == {"BTCUSDC", "BTCUSDT"}
