"""Small published homes of the demo market, made without Dagster, and the endpoint over them as a test asks it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the name of the library below it
    from starlette.testclient import TestClient

__all__ = [
    "BTC",
    "ETH",
    "FIRST",
    "HEATMAP",
    "MAP",
    "TestClient",
    "ask",
    "client",
    "compute",
    "day",
    "publish_all",
    "refused",
    "rows",
    "settings_of",
]

BTC, ETH = "BTCUSDT", "ETHUSDT"
FIRST = date(2024, 1, 3)
HEATMAP = "/liquidations/heatmap-timeseries"
MAP = "/liquidations/map"


def day(number: int) -> date:
    """Return a day of the small history; the first is day 1."""
    return FIRST + timedelta(days=number - 1)


def settings_of(home: Path, **more: Any) -> Settings:
    """Return settings of a home with snapshots as fine as candles, so that SQL knows every interval."""
    return load_settings(home=home, source="demo", **{"snapshot_interval": "5m", **more})


def compute(settings: Settings, symbol: str, days: Sequence[date], *, restart: bool = False) -> None:
    """Ingest and compute days of a symbol into the private database."""
    warehouse, market = Warehouse(settings.home), open_market(settings)
    list(ingest_candles(partial(warehouse.connect, symbol), market, settings, symbol, days))
    list(ingest_open_interest(partial(warehouse.connect, symbol), market, settings, symbol, days))
    list(advance(partial(warehouse.connect, symbol), settings, symbol, days, restart=restart))
    list(sample(partial(warehouse.connect, symbol), settings, symbol, days))


def publish_all(settings: Settings, *symbols: str) -> None:
    """Publish symbols."""
    assert publish(Warehouse(settings.home), symbols).changed


@contextmanager
def client(settings: Settings) -> Iterator[TestClient]:
    """Serve a home within this process."""
    with TestClient(create_app(settings), raise_server_exceptions=True) as one:
        yield one


def ask(one: TestClient, path: str = HEATMAP, symbol: str | None = BTC, **query: Any) -> Any:
    """Return the body of an answer that must be given."""
    answer = one.get(path, params={**({"symbol": symbol} if symbol else {}), **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(one: TestClient, status: int, path: str = HEATMAP, **query: Any) -> str:
    """Return the sentence of a refusal."""
    answer = one.get(path, params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


def rows(settings: Settings, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query to what is published."""
    with Warehouse(settings.home).read() as con:
        found: list[tuple[Any, ...]] = con.execute(query, parameters).fetchall()
    return found
