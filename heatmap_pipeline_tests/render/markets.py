"""Made-up answers of /markets, and the page of all markets served over one, under the policy of the real server."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from heatmap_pipeline.render.overview import overview_page
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline_tests.render.browser import POLICY

NAMES = (
    "BTCUSDT",
    "ETHUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "DOGEUSDC",
    "1000PEPEUSDT",
    "BYBIT_BTCUSDT",
    "币安人生USDT",
    "OLDUSDT",
)


def zone(price: float, away: float, volume: float) -> dict[str, Any]:
    """A zone at a distance from a price, percent."""
    side = "short" if away > 0 else "long"
    return {"price": price * (1 + away / 100), "volume": volume, "distance_percent": away, "side": side}


def market(number: int, **changes: Any) -> dict[str, Any]:
    """One of `NAMES`, as of half past midnight; odd numbers are scored, by another exchange's record from 5 on."""
    symbol = NAMES[number]
    price = 64_000.0 / 7**number
    closes: list[float | None] = [price * (1 + 0.03 * math.sin(one / (5 + number))) for one in range(83)] + [price]
    score = {
        "window": "28d",
        "long": 0.9 - number / 20,
        "short": 0.88 - number / 20,
        "hours": 640 - number,
        "source": "binance_file" if number < 5 else "bybit_stream",
        "own_exchange": number < 5,
    }
    return {
        "symbol": symbol,
        "market": typed_name(symbol),
        "model": "turnover",
        "quote": "USDC" if symbol.endswith("USDC") else "USDT",
        "price": price,
        "as_of": "2024-07-11T00:00:00Z",
        "change_24h_percent": round(4 - 1.3 * number, 2),
        "sparkline": {"start": "2024-07-04T00:00:00Z", "interval_seconds": 7200, "closes": closes},
        "nearest": {
            "above": zone(price, 0.4 + (number * 7) % 5, 3e9 / 5**number),
            "below": zone(price, -0.3 - (number * 3) % 7, 2e6 * (number + 1)),
        },
        "located_share": 0.03,
        "score": score if number % 2 else None,
        "simulated": False,
        "exchange": "binance",
        "title": "Binance USDT-M perpetual",
        "provisional": False,
        "newest_day": "2024-07-10",
        "ended": None,
        "stale": False,
        "reason": None,
        **changes,
    }


def markets() -> dict[str, Any]:
    """An answer with everything that there is to say."""
    reason = "the newest complete day is 2024-07-02, 192 h old, which is more than 36 h; run `heatmap refresh SOLUSDT`"
    nothing = {"above": None, "below": None}
    gap = {"start": "2024-07-04T00:00:00Z", "interval_seconds": 7200, "closes": [1.0, 1.1, None, None, 1.3, 1.2]}
    found = [market(number) for number in range(len(NAMES))]
    found[1] |= {"provisional": True}
    found[2] |= {"stale": True, "reason": reason, "as_of": "2024-07-03T00:00:00Z"}
    found[4] |= {"simulated": True, "score": None, "nearest": nothing, "change_24h_percent": None}
    found[5] |= {"sparkline": gap}
    found[8] |= {"ended": "2024-05-01", "as_of": "2024-05-02T00:00:00Z"}
    return {"markets": found, "version": "1"}


class OverviewServer:
    """Serves the page and an answer.

    Attributes:
        body: the answer to /markets.
        broken: the status with which /markets is refused, 0 for none.
    """

    def __init__(self) -> None:
        self.body: dict[str, Any] = markets()
        self.broken = 0
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                status, kind = 200, "application/json"
                if path == "/markets" and served.broken:
                    status, content = served.broken, b'{"detail": "nothing is published yet; run `heatmap demo`"}'
                elif path == "/markets":
                    content = json.dumps(served.body).encode()
                elif path == "/map":
                    content, kind = b"<!doctype html><title>the map</title><link rel=icon href=data:,>", "text/html"
                else:
                    content, kind = overview_page()["/overview" if path == "/" else path]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def overview_server() -> Iterator[OverviewServer]:
    """Give a server for as long as it is needed."""
    server = OverviewServer()
    try:
        yield server
    finally:
        server.close()
