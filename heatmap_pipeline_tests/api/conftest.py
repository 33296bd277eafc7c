"""The published homes and the client for all tests that change nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from heatmap_pipeline.market.demo import DEMO_SYMBOLS
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._once import copied_once
from heatmap_pipeline_tests.api.homes import BTC, ETH, TestClient, client, compute, day, publish_all, settings_of


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """BTCUSDT days 1 to 5; ETHUSDT days 1 to 2 and, after a gap, a new history of days 4 to 5. Nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEATMAP_")]:
            patch.delenv(name)
        return settings_of(copied_once(tmp_path_factory, "published", _publish))


def _publish(home: Path) -> None:
    settings = settings_of(home)
    compute(settings, BTC, [day(number) for number in range(1, 6)])
    compute(settings, ETH, [day(1), day(2)])
    compute(settings, ETH, [day(4), day(5)], restart=True)
    publish_all(settings, BTC, ETH)


@pytest.fixture(scope="session")
def served(published: Settings) -> Iterator[TestClient]:
    """The endpoint over the published home."""
    with client(published) as one:
        yield one


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three markets of BTC: BTCUSDC of day 2, BTCUSDT of days 1 and 2, BYBIT_BTCUSDT of day 1, in half the bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEATMAP_")]:
            patch.delenv(name)
        return settings_of(copied_once(tmp_path_factory, "several", _publish_several), models="turnover")


def _publish_several(home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        like = DEMO_SYMBOLS[BTC]
        patch.setitem(DEMO_SYMBOLS, "BTCUSDC", replace(like, volume=60, open_interest=9_000))
        patch.setitem(DEMO_SYMBOLS, "BYBIT_BTCUSDT", replace(like, volume=300, open_interest=40_000))
        patch.setenv("HEATMAP_BUCKET_BYBIT_BTCUSDT", "50")
        settings = settings_of(home, models="turnover")
        compute(settings, "BTCUSDC", [day(2)])
        compute(settings, BTC, [day(1), day(2)])
        compute(settings, "BYBIT_BTCUSDT", [day(1)])
        publish_all(settings, "BTCUSDC", BTC, "BYBIT_BTCUSDT")
