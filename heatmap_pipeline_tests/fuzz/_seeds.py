"""What is mutated: small slices of days, real or simulated, as files, as REST answers and as leverage brackets."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline_tests.market._files import candles_path, metrics_path

FIRST, CANDLES, SAMPLES = 100, 24, 30


@dataclass(frozen=True)
class Seed:
    """A slice of one day.

    Attributes:
        symbol: as the exchange writes it.
        day: UTC.
        interval: of the candles, as the exchange writes it.
        candles: CSV of a few candles, with the header if the file had one.
        samples: CSV of the open interest around the same time.
        brackets: the leverage brackets of a few symbols, as JSON.
    """

    symbol: str
    day: date
    interval: str
    candles: bytes
    samples: bytes
    brackets: bytes

    @property
    def seconds(self) -> int:
        return SECONDS[self.interval]

    def klines(self) -> list[list[Any]]:
        """Return the candles as the exchange answers /fapi/v1/klines: milliseconds, numbers as text."""
        rows = []
        for row in _rows(self.candles):
            opened = int(row[0]) // (1000 if len(row[0]) > 14 else 1)
            closed = opened + self.seconds * 1000 - 1
            rows.append([opened, *row[1:6], closed, row[7], int(row[8]), row[9], row[10], "0"])
        return rows

    def open_interest(self) -> list[dict[str, Any]]:
        """Return the samples as the exchange answers /futures/data/openInterestHist."""
        return [
            {
                "symbol": self.symbol,
                "sumOpenInterest": row[2],
                "sumOpenInterestValue": row[3],
                "timestamp": int(datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() * 1000),
            }
            for row in _rows(self.samples)
        ]

    def exchange_info(self) -> dict[str, Any]:
        """Return two symbols as the exchange answers /fapi/v1/exchangeInfo."""
        one = {
            "status": "TRADING",
            "contractType": "PERPETUAL",
            "onboardDate": 1569398400000,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.10", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "stepSize": "0.001"},
            ],
        }
        known = [{"symbol": name, "pair": name, **one} for name in ("AAAUSDT", self.symbol)]
        return {"timezone": "UTC", "serverTime": 1565613908500, "rateLimits": [], "symbols": known}


def demo_seeds(root: Path) -> list[Seed]:
    """Return slices of simulated days, before and after the archive changed what its labels mean."""
    seeds = []
    for symbol, day in (("BTCUSDT", date(2024, 9, 14)), ("ETHUSDT", date(2026, 7, 1))):
        write_demo_days(root, symbol, [day])
        files = candles_path(root, symbol, "5m", day), metrics_path(root, symbol, day)
        seeds.append(_slice(symbol, day, "5m", *files, _invented_brackets(symbol)))
    return seeds


def real_seeds(market: Path) -> list[Seed]:
    """Return slices of real days: three symbols, three intervals, with and without header, ms and us."""
    root, spot = market / "binance_vision", market / "binance_vision/spot/daily/klines/BTCUSDT/5m"
    entries = json.loads((market / "leverage_brackets/binance_um_leverage_brackets_2024-09-12.json").read_bytes())
    seeds = []
    for symbol, day, interval in (
        ("BTCUSDT", date(2024, 9, 16), "5m"),
        ("DOGEUSDT", date(2024, 9, 17), "5m"),
        ("ETHUSDT", date(2024, 7, 4), "15m"),
        ("BTCUSDT", date(2026, 3, 17), "15m"),
        ("BTCUSDT", date(2026, 3, 15), "spot"),
    ):
        few = [one for one in entries if one["symbol"] in (symbol, "SOLUSDT", "ETHUSDT", "BTCUSDT")]
        candles = spot / f"BTCUSDT-5m-{day}.zip" if interval == "spot" else candles_path(root, symbol, interval, day)
        name = "5m" if interval == "spot" else interval
        samples = metrics_path(root, symbol, day)
        seeds.append(_slice(symbol, day, name, candles, samples, json.dumps(few).encode()))
    return seeds


def _slice(symbol: str, day: date, interval: str, candles: Path, samples: Path, brackets: bytes) -> Seed:
    """Cut the same hours out of both files."""
    lines = _text(candles).splitlines()
    header = lines[:1] if lines[0][:1].isalpha() else []
    first = min(FIRST, 86400 // SECONDS[interval] - CANDLES)
    rows = lines[len(header) :][first : first + CANDLES]
    opened = datetime.fromtimestamp(int(rows[0].split(",")[0][:10]), UTC).replace(tzinfo=None)
    names, *taken = _text(samples).splitlines()
    later = [line for line in taken if datetime.fromisoformat(line.split(",")[0]) >= opened]
    return Seed(
        symbol, day, interval, _joined(header + rows), _joined([names, *later[:SAMPLES]]), brackets
    )  # fmt: skip


def _invented_brackets(symbol: str) -> bytes:
    def bracket(number: int) -> dict[str, Any]:
        floor, cap = 50_000 * (10 ** (number - 1) if number > 1 else 0), 50_000 * 10**number
        shared = {"bracket": number, "initialLeverage": 125 // number, "maintMarginRatio": 0.004 * number}
        return {**shared, "notionalFloor": floor, "notionalCap": cap, "cum": 0.0}

    names = (symbol, "SOLUSDT", "XRPUSDT")
    return json.dumps([{"symbol": name, "brackets": [bracket(n) for n in (1, 2, 3)]} for name in names]).encode()


def _text(path: Path) -> str:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        return archive.read(archive.namelist()[0]).decode()


def _joined(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def _rows(data: bytes) -> list[list[str]]:
    return [line.split(",") for line in data.decode().splitlines() if not line[:1].isalpha()]
