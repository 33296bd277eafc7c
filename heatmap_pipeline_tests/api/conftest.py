"""One published home and one client for all tests that change nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
