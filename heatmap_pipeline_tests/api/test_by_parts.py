"""The endpoint over a home whose large tables are views over parts: the same bytes, and words where parts are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.api.homes import BTC, ETH, HEATMAP, TestClient, client, day, settings_of

PATHS = (
    f"{HEATMAP}?symbol={BTC}&interval=1h&start_time={day(2)}",
    f"{HEATMAP}?symbol={BTC}&interval=5m&start_time={day(5)}&model=delta&format=columns",
    f"{HEATMAP}?symbol={ETH}&interval=4h&start_time={day(4)}",
    f"/liquidations/map?symbol={BTC}",
    f"/liquidations/map?symbol={BTC}&time={day(3)}T11:00:00Z&model=delta",
    f"/liquidations/lots?symbol={BTC}&time={day(2)}T12:00:00Z",
    f"/liquidations/levels?symbol={ETH}",
    f"/prices/klines?symbol={BTC}&interval=15m&start_time={day(4)}",
    f"/score?symbol={BTC}",
    "/alerts",
    "/symbols",
    "/markets",
)


@pytest.fixture
def in_views(published: Settings, tmp_path: Path) -> Settings:
    """The same home with views over parts."""
    home = tmp_path / "views"
    shutil.copytree(published.home, home)
    assert publish(Warehouse(home), [BTC, ETH], tables_up_to=0).changed
    return settings_of(home)


def test_the_same_bytes_are_served(in_views: Settings, published: Settings, served: TestClient) -> None:
    with client(in_views) as one:
        answers = [one.get(path) for path in PATHS]
        wanted = [served.get(path) for path in PATHS]
    for path, answer, other in zip(PATHS, answers, wanted, strict=True):
        assert (path, answer.status_code) == (path, other.status_code)
        home = str(published.home).encode()  # which commands name
        assert answer.content.replace(str(in_views.home).encode(), home) == other.content, path
    assert {answer.status_code for answer in answers[:7]} == {200}


def test_where_parts_are_gone_it_is_said_what_to_type(in_views: Settings) -> None:
    with TestClient(create_app(in_views), raise_server_exceptions=False) as one:
        shutil.rmtree(in_views.home / "parts")
        answer = one.get(PATHS[0])
    assert answer.status_code == 503
    assert f"`heatmap refresh --home {in_views.home}` makes them anew" in answer.json()["detail"]
