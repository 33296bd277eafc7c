"""A local stand-in for Gate's public REST: rows that a test plans, windows, reach and labels as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from heatmap_pipeline_tests.market._bybit_server import made_rows
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer

STEP = 300
SECONDS = {"1m": 60, "5m": 300, "15m": 900}
SIZE = 0.001
"""Units of the base in a contract of the made market."""


class GateMarketServer(ExchangeServer):
    """Serves one perpetual margined in USDT.

    Args:
        candles: rows of `/futures/usdt/candlesticks`, oldest first.
        stats: rows of `/futures/usdt/contract_stats`, oldest first.
        now: what the exchange's clock says, UTC without zone; it stands still.
        contract: what it is called.
        listed: day of its launch.
    """

    def __init__(
        self,
        candles: Sequence[dict[str, Any]],
        stats: Sequence[dict[str, Any]],
        now: datetime,
        *,
        contract: str = "BTC_USDT",
        listed: date = date(2020, 3, 25),
    ) -> None:
        super().__init__(Path(), now, listed=listed)
        self.candles, self.stats, self.name, self.rows_per_page = list(candles), list(stats), contract, 2000
        self.contract: dict[str, Any] = {
            "name": contract,
            "type": "direct",
            "quanto_multiplier": str(SIZE),
            "maintenance_rate": "0.004",
            "leverage_max": "125",
            "order_size_min": 1,
            "in_delisting": False,
            "status": "trading",
            "position_size": 5_223_816,
            "create_time": 1609899548,
            "launch_time": round(datetime(listed.year, listed.month, listed.day, tzinfo=UTC).timestamp()),
        }
        self.tiers: list[dict[str, Any]] = [
            {"tier": 1, "risk_limit": "1000000", "initial_rate": "0.008", "maintenance_rate": "0.004",
             "leverage_max": "125", "contract": contract, "deduction": "0"},
            {"tier": 2, "risk_limit": "2000000", "initial_rate": "0.01", "maintenance_rate": "0.005",
             "leverage_max": "100", "contract": contract, "deduction": "1000"},
        ]  # fmt: skip

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path == "/spot/time":
            return 200, {"server_time": self.now_ms}
        asked = query.get("contract", path.rpartition("/")[2])
        if asked != self.name:
            return 404, {"label": "CONTRACT_NOT_FOUND", "message": f"contract {asked} not found"}
        known = {"contracts": self.contract, "risk_limit_tiers": self.tiers}
        if (kind := path.split("/")[3]) in known:
            return 200, known[kind]
        if path == "/futures/usdt/candlesticks":
            return self._candles(SECONDS[query["interval"]], int(query["from"]), int(query["to"]), "limit" in query)
        return self._stats(int(query["from"]), int(query["limit"]))

    def _candles(self, step: int, start: int, end: int, limited: bool) -> tuple[int, Any]:
        now = self.now_ms // 1000
        if limited or (end - start) // step + 1 > 2000:
            return 400, {"label": "INVALID_PARAM_VALUE", "message": "Too many points requested"}
        if start < now - 10_000 * step:
            words = "Candlestick too long ago. Maximum 10000 points recently are allowed"
            return 400, {"label": "INVALID_PARAM_VALUE", "message": words}
        return 200, [row for row in self.candles if start <= row["t"] <= min(end, now)]

    def _stats(self, start: int, limit: int) -> tuple[int, Any]:
        now = self.now_ms // 1000
        if start < now - 180 * 86400:
            return 400, {"label": "INVALID_PARAM_VALUE", "message": "from time exceeds 180-day limit"}
        rows = [row for row in self.stats if start <= row["time"] <= now]
        return 200, rows[: min(limit, self.rows_per_page)]


def gate_rows(
    days: int, *, sides: int = 1, seed: int = 3, names_the_start: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the made market of `_bybit_server.made_rows` in Gate's shape, in contracts of `SIZE`.

    Args:
        days: how many.
        sides: 2 adds both sides of each contract, 1 counts one.
        seed: of chance.
        names_the_start: whether a row of the statistics is named by the start of the five minutes at whose end it
            was taken, else by their end.
    """
    rows, samples = made_rows(days, sides=sides, seed=seed)
    candles = [
        {"t": int(at) // 1000, "o": o, "h": h, "l": low, "c": c, "v": round(float(volume) / SIZE), "sum": turnover}
        for at, o, h, low, c, volume, turnover in rows
    ]
    stats = []
    for row, sample in zip(rows, samples, strict=True):
        contracts = round(float(sample["openInterest"]) / SIZE)
        taken = int(sample["timestamp"]) // 1000
        worth = round(contracts * SIZE * float(row[4]), 4)
        stats.append(
            {
                "time": taken - STEP * names_the_start,
                "open_interest": contracts,
                "open_interest_usd": worth,
                "mark_price": float(row[4]),
                "lsr_taker": 1.2,
                "long_liq_size": 0,
                "short_liq_size": 0,
                "long_liq_usd": 0,
                "short_liq_usd": 0,
            }
        )
    return candles, stats
