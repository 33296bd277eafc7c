"""Local stand-ins for the REST of Gate and Bitget: rows that a test plans, pages and limits as the exchanges have them.

The clock of both is this machine's, as the Date header of their answers says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from heatmap_pipeline_tests.market._exchange_server import ExchangeServer

STEP = 300
NOW = int(time.time())


class GateServer(ExchangeServer):
    """Gate: five-minute sums of 180 days and single orders of `kept` days.

    Attributes:
        sums: by start of the interval in seconds, what a row says of liquidations; intervals without are zeros.
        orders: rows of `liq_orders`, in any order.
        missing: intervals that are not listed.
        scale: 1000 where times are in milliseconds.
    """

    def __init__(self, *, kept: int = 90, scale: int = 1) -> None:
        super().__init__(Path(), datetime.min)
        self.answers_at = NOW
        self.sums: dict[int, dict[str, Any]] = {}
        self.orders: list[dict[str, Any]] = []
        self.missing: set[int] = set()
        self.kept, self.scale = kept, scale

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        contract = query.get("contract", path.rpartition("/")[2])
        if contract not in ("BTC_USDT", "ETH_USDT"):
            return 400, {"label": "CONTRACT_NOT_FOUND", "message": f"contract {contract} not found"}
        if "/contracts/" in path:
            return 200, {"name": contract, "type": "direct", "quanto_multiplier": "0.0001", "mark_price": "60000"}
        if path.endswith("/contract_stats"):
            return self._stats(int(query["from"]), int(query["limit"]))
        return self._orders(contract, int(query["from"]), int(query["to"]), int(query["limit"]))

    def _stats(self, start: int, limit: int) -> tuple[int, Any]:
        if limit > 2000:
            return 400, {"label": "INVALID_PARAM_VALUE", "message": "limit"}
        if start < NOW - 180 * 86400:
            return 400, {"label": "INVALID_PARAM_VALUE", "message": "from time exceeds 180-day limit"}
        first = -(-start // STEP) * STEP
        times = [at for at in range(first, NOW + 1, STEP) if at not in self.missing]
        return 200, [self._row(at) for at in times[: limit + 2]]

    def _orders(self, contract: str, start: int, end: int, limit: int) -> tuple[int, Any]:
        if end - start >= 3600:
            return 400, {"label": "INVALID_PARAM_VALUE", "message": "window"}
        kept = [row for row in self.orders if row["time"] >= NOW - self.kept * 86400]
        rows = [row for row in kept if start <= row["time"] <= end and row["contract"] == contract]
        return 200, rows[: min(limit, 1000)]

    def _row(self, at: int) -> dict[str, Any]:
        zeros = {"long_liq_size": "0", "short_liq_size": "0", "long_liq_usd": "0", "short_liq_usd": 0}
        common = {"time": at * self.scale, "mark_price": 60000.5, "open_interest": "2851725", "lsr_taker": "9.3"}
        return common | zeros | self.sums.get(at, {})


def gate_order(at: int, size: int = 100, price: str = "60000", **changes: Any) -> dict[str, Any]:
    """Return a row of `liq_orders`."""
    row = {"time": at, "contract": "BTC_USDT", "size": size, "order_size": -size, "left": 0}
    return {**row, "order_price": "59900", "fill_price": price, **changes}


class BitgetServer(ExchangeServer):
    """Bitget: three days of liquidations, newest first, in pages; a cursor is the place of the next row."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__(Path(), datetime.min)
        self.answers_at = NOW
        self.rows = sorted(rows, key=lambda row: -int(row["ts"]))
        self.endless = False

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path != "/api/v3/market/liquidations" or query.get("category") != "USDT-FUTURES":
            return 400, {"code": "40034", "msg": "Parameter does not exist", "requestTime": NOW * 1000, "data": None}
        if query["symbol"] not in ("BTCUSDT", "ETHUSDT"):
            return 400, {"code": "25100", "msg": "The symbol does not exist", "requestTime": NOW * 1000, "data": None}
        rows = [row for row in self.rows if row["symbol"] == query["symbol"]]
        rows = [row for row in rows if int(row["ts"]) >= (NOW - 3 * 86400) * 1000]
        at, limit = int(query.get("cursor", "0")), min(int(query["limit"]), 100)
        page = rows[at : at + limit]
        more = self.endless or at + limit < len(rows)
        data = {"list": page, "cursor": str(0 if self.endless else at + limit) if more else ""}
        return 200, {"code": "00000", "msg": "success", "requestTime": NOW * 1000, "data": data}


def bitget_row(at: float, side: str = "buy", amount: str = "0.5", price: str = "60000") -> dict[str, Any]:
    """Return a row of Bitget's list, `at` seconds."""
    return {"symbol": "BTCUSDT", "side": side, "price": price, "amount": amount, "ts": str(round(at * 1000))}
