"""What opens the source of a home: the addresses that are asked, and which of several settings counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market.rest_market import RestMarket
from heatmap_pipeline.market.sources import EXCHANGES
from heatmap_pipeline.settings import load_settings


def rest_market(home: Path, name: str, **options: Any) -> RestMarket:
    market = EXCHANGES[name](load_settings(home=home, source="exchange", **options), None)
    assert isinstance(market, RestMarket)
    return market


@pytest.mark.parametrize(("name", "server"), [("bybit", "api.bybit.com"), ("gate", "api.gateio.ws")])
def test_an_exchange_is_asked_at_its_own_address_unless_another_is_set(tmp_path: Path, name: str, server: str) -> None:
    assert rest_market(tmp_path, name).place("/path", "a market") == f"{server}/path (a market)"
    mirror = rest_market(tmp_path, name, **{f"{name}_url": "https://mirror.example"})
    assert mirror.place("/path", "a market") == "mirror.example/path (a market)"


@pytest.mark.parametrize(
    ("common", "own", "seconds"), [(None, None, 300), ("15m", None, 900), (None, "1m", 60), ("15m", "1m", 60)]
)
@pytest.mark.parametrize(
    ("name", "symbol"), [("binance", "BTCUSDT"), ("bybit", "BYBIT_BTCUSDT"), ("gate", "GATE_BTC_USDT")]
)
def test_candles_are_of_the_markets_own_interval_else_of_the_common_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    symbol: str,
    common: str | None,
    own: str | None,
    seconds: int,
) -> None:
    if own is not None:
        monkeypatch.setenv(f"HEATMAP_CANDLE_INTERVAL_{symbol}", own)
        monkeypatch.setenv(f"HEATMAP_CANDLE_INTERVAL_{symbol.replace('BTC', 'ETH')}", "5m")
    settings = load_settings(home=tmp_path, source="exchange", candle_interval=common)
    assert EXCHANGES[name](settings, None).interval(settings, symbol, []) == seconds
