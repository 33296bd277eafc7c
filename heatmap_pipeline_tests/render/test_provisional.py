"""Today so far, from the exchange to everything people look at: provisional until the finished day replaces it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import as_if_yesterday_were, done, draw_only_the_page
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.light import run_lightly

BTC = "BTCUSDT"
YESTERDAY, TODAY = date(2024, 9, 16), date(2024, 9, 17)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExchangeServer]:
    """The exchange at noon; yesterday is in its archive."""
    write_demo_days(tmp_path / "market", BTC, [YESTERDAY, TODAY])
    as_if_yesterday_were(monkeypatch, YESTERDAY)
    run_lightly(monkeypatch)
    draw_only_the_page(monkeypatch)
    with ExchangeServer(tmp_path / "market", datetime.combine(TODAY, time(12, 2, 30))) as running:
        running.hide(str(TODAY))
        values = {"SOURCE": "binance", "ARCHIVE_URL": running.url, "REST_URL": running.url, "MODELS": "delta"}
        for name, value in {**values, "HOME": str(tmp_path / "home"), "SNAPSHOT_INTERVAL": "1h"}.items():
            monkeypatch.setenv(f"HEATMAP_{name}", value)
        yield running


def days(home: Path) -> list[tuple[Any, ...]]:
    with Warehouse(home).read() as con:
        return con.execute("SELECT day, provisional FROM heatmap_days ORDER BY day").fetchall()


def in_page(home: Path) -> dict[str, Any]:
    """Return the numbers of the page as its script gets them."""
    script = (home / "renders" / BTC / "delta.js").read_text()
    payload: dict[str, Any] = json.loads(script.removeprefix("heatmapData(").rstrip().removesuffix(");"))
    return payload


def newest(home: Path) -> Columns:
    with Warehouse(home).read() as con:
        return newest_days(con, BTC, ("delta",), 3600)["delta"]


@pytest.mark.slow
def test_today_so_far_is_marked_everywhere_until_it_is_over(server: ExchangeServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    picture = home / "renders" / BTC / "heatmap.png"
    done("run", BTC, "--start", YESTERDAY, "--end", TODAY)
    assert days(home) == [(YESTERDAY, False), (TODAY, True)]
    assert in_page(home)["meta"]["provisional"] is True
    data = newest(home)
    assert data.meta["provisional"] is True, "what the endpoint gives the page"
    write_png(data, tmp_path / "again.png")
    assert picture.read_bytes() == (tmp_path / "again.png").read_bytes()
    write_png(replace(data, meta={**data.meta, "provisional": False}), tmp_path / "unmarked.png")
    assert picture.read_bytes() != (tmp_path / "unmarked.png").read_bytes(), "the mark can be seen"
    status = done("status").stdout
    (row,) = [line for line in status.splitlines() if line.startswith(BTC)]
    assert row.endswith(f"{TODAY} 11:55 provisional")
    former = picture.read_bytes()
    # The day is over, and the archive has its file.
    server.now = datetime.combine(TODAY + timedelta(days=1), time(9))
    server.hidden.clear()
    done("run", BTC, "--start", TODAY, "--end", TODAY)
    assert days(home) == [(YESTERDAY, False), (TODAY, False)]
    assert in_page(home)["meta"]["provisional"] is False
    assert not newest(home).meta["provisional"]
    assert picture.read_bytes() != former
    status = done("status").stdout
    assert "provisional" not in status
    assert f"{TODAY} 23:55" in status
