"""A local stand-in for Bybit's public REST: rows that a test plans, pages, order, cursors and limits as published."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline_tests.market._exchange_server import ExchangeServer

STEP_MS = 300_000
Row = TypeVar("Row")
FIRST = date(2024, 3, 1)


class BybitServer(ExchangeServer):
    """Serves one linear perpetual.

    Args:
        candles: rows of `/v5/market/kline`, oldest first, as text.
        samples: rows of `/v5/market/open-interest`, oldest first.
        now: what the exchange's clock says, UTC without zone; it stands still.
        symbol: what the contract is called.
        listed: day of its launch.
    """

    def __init__(
        self,
        candles: Sequence[list[str]],
        samples: Sequence[dict[str, str]],
        now: datetime,
        *,
        symbol: str = "BTCUSDT",
        listed: date = date(2020, 3, 25),
    ) -> None:
        super().__init__(Path(), now, listed=listed)
        self.candles, self.samples, self.symbol = list(candles), list(samples), symbol
        self.samples_per_page, self.cursor = 200, ""
        self.instrument: dict[str, Any] = {
            "symbol": symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "baseCoin": symbol.removesuffix("USDT"),
            "quoteCoin": "USDT",
            "settleCoin": "USDT",
            "launchTime": str(round(datetime(listed.year, listed.month, listed.day, tzinfo=UTC).timestamp() * 1000)),
            "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
            "lotSizeFilter": {"minOrderQty": "0.001", "qtyStep": "0.001"},
        }
        self.tiers: list[dict[str, Any]] = [
            tier(symbol, 1, "2000000", "0.005", "0.01", "100.00"),
            tier(symbol, 2, "2600000", "0.0056", "0.0111", "90.00"),
        ]

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path == "/v5/market/time":
            return 200, self._answer({"timeSecond": str(self.now_ms // 1000), "timeNano": f"{self.now_ms}000000"})
        if query.get("category") != "linear":
            return 200, self._refuse(10001, "params error: category invalid")
        if path == "/v5/market/instruments-info":
            ended = self.instrument["status"] == "Closed"
            here = query["symbol"] == self.symbol and ended == (query.get("status") == "Closed")
            return 200, self._answer({"list": [self.instrument] if here else [], "nextPageCursor": ""})
        if query.get("symbol") != self.symbol:
            return 200, self._refuse(10001, "params error: symbol invalid")
        if path == "/v5/market/risk-limit":
            return 200, self._answer({"category": "linear", "list": self.tiers, "nextPageCursor": ""})
        return 200, self._answer(self._candles(query) if path == "/v5/market/kline" else self._samples(query))

    def _candles(self, query: Mapping[str, str]) -> dict[str, Any]:
        start, end, limit = (int(query[name]) for name in ("start", "end", "limit"))
        rows = _between(self.candles, start, min(end, self.now_ms), lambda row: int(row[0]))
        return {"list": rows[::-1][: min(limit, 1000)]}

    def _samples(self, query: Mapping[str, str]) -> dict[str, Any]:
        start, end, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        there = _between(self.samples, start, min(end, self.now_ms), lambda row: int(row["timestamp"]))[::-1]
        skipped = int(query["cursor"]) if query.get("cursor", "").isdigit() else 0
        page = there[skipped : skipped + min(limit, self.samples_per_page)]
        # As the exchange does, a cursor also stands behind the last row.
        cursor = self.cursor or (str(skipped + len(page)) if page else "")
        return {"list": page, "nextPageCursor": cursor}

    def _answer(self, result: dict[str, Any]) -> dict[str, Any]:
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.now_ms}

    def _refuse(self, code: int, words: str) -> dict[str, Any]:
        return {"retCode": code, "retMsg": words, "result": {}, "retExtInfo": {}, "time": self.now_ms}


def _between(rows: list[Row], first: int, last: int, time: Callable[[Row], int]) -> list[Row]:
    return rows[bisect_left(rows, first, key=time) : bisect_right(rows, last, key=time)]


def tier(symbol: str, number: int, cap: str, rate: str, initial: str, leverage: str) -> dict[str, Any]:
    """Return a row of `/v5/market/risk-limit`."""
    return {
        "id": number,
        "symbol": symbol,
        "riskLimitValue": cap,
        "maintenanceMargin": rate,
        "initialMargin": initial,
        "isLowestRisk": int(number == 1),
        "maxLeverage": leverage,
        "mmDeduction": "",
    }


def made_rows(days: int, *, sides: int = 2, seed: int = 3) -> tuple[list[list[str]], list[dict[str, str]]]:
    """Return a made market from `FIRST` on, whose open interest changes with what is traded.

    Args:
        days: how many.
        sides: 2 adds both sides of each contract, 1 counts one.
        seed: of chance.
    """
    chance = np.random.default_rng(seed)
    start = round(datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC).timestamp() * 1000)
    volume = chance.gamma(1.2, 200, days * 288).round(3)
    close = (60_000 * np.exp(np.cumsum(chance.normal(0, 8e-4, len(volume))))).round(1)
    opened = np.concatenate([[60_000.0], close[:-1]])
    high = (np.maximum(opened, close) + chance.uniform(0, 40, len(volume))).round(1)
    low = (np.minimum(opened, close) - chance.uniform(0, 40, len(volume))).round(1)
    lots = 40_000_000 + np.cumsum(np.rint(chance.choice([-1, 1], len(volume)) * volume * 1000 * 0.3)).astype(np.int64)
    turnover = (volume * close).round(4)
    columns = (opened, high, low, close, volume, turnover)
    candles = [[str(start + at * STEP_MS), *(str(each[at]) for each in columns)] for at in range(len(volume))]
    samples = [
        {"openInterest": f"{lot * sides / 1000:.3f}", "timestamp": str(start + (at + 1) * STEP_MS)}
        for at, lot in enumerate(lots)
    ]
    return candles, samples


def real_rows(
    market_dir: Path, sample: Callable[[str], dict[str, str]] | None = None
) -> tuple[list[list[str]], list[dict[str, str]]]:
    """Return the real rows of 2021-01-01 .. 02-10 in the exchange's shape; `sample` makes one of an amount."""
    folder = market_dir / "other_exchanges" / "bybit"
    if not folder.is_dir():
        pytest.skip(f"no real rows of another exchange at {folder}")
    candles = pd.read_csv(next(folder.glob("BTCUSDT-kline-5-*.csv.gz")), dtype=str)
    samples = pd.read_csv(next(folder.glob("BTCUSDT-open-interest-5min-*.csv.gz")), dtype=str)
    fields = ["startTime", "open", "high", "low", "close", "volume", "turnover"]
    amounts = zip(samples["timestamp"], samples["openInterest"], strict=True)
    make = sample or (lambda amount: {"openInterest": amount})
    return candles[fields].to_numpy().tolist(), [{**make(amount), "timestamp": at} for at, amount in amounts]


def day(number: int) -> date:
    """Return a day of the made market, from 1."""
    return FIRST + timedelta(days=number - 1)
