"""The page in Chromium, for tests: how it is opened, what it drew, and a small server for the live page."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from heatmap_pipeline.api.encode import dump
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.render.page import live_page
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.scores import not_scored

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--font-render-hinting=none",
]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DARK = [0, 0, 0, 0]
"""What `colours_at` finds where nothing is drawn."""
NOW = "2024-07-11T00:30:00Z"
"""Half an hour after the end of ten days of the sample."""


@contextmanager
def opened(browser: Any, width: int = 1440, height: int = 900, now: str | None = NOW, **options: Any) -> Iterator[Any]:
    """Give a page at a fixed time that fails its test if anything goes to the console; `troubles` is what did.

    With `now` None the clock is the real one, which measuring needs.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
    page = context.new_page()
    if now is not None:
        page.clock.set_fixed_time(now)
    page.troubles = []
    page.requested = []
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    yield page
    context.close()
    assert page.troubles == []


def settle(page: Any) -> None:
    """Wait until what was asked for is drawn, also at the size that the words around the map leave it."""
    page.wait_for_function("() => window.heatmapPage && document.getElementById('message').hidden")
    page.evaluate(
        """async () => {
        const frames = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        await heatmapPage.settled();
        await frames();  // a size that has changed is noticed in a frame
        await heatmapPage.settled();
        await frames();
    }"""
    )


def visit(page: Any, folder: Path, fragment: str = "") -> None:
    """Open the page of a folder from disk; where it is open already, follow a link within it."""
    follow(page, (folder / "index.html").as_uri(), fragment)


def follow(page: Any, address: str, fragment: str = "") -> None:
    """Open a page by its address; where it is open already, follow a link within it, in a tenth of the time."""
    if page.url.split("#")[0] == address:
        page.mouse.move(0, 0)
        page.evaluate(
            "hash => { history.replaceState(null, '', hash || '#'); dispatchEvent(new Event('hashchange')); }", fragment
        )
    else:
        page.goto(f"{address}{fragment}")
    settle(page)


def press(page: Any, group: str, value: str) -> None:
    """Press a button of a group and wait for the drawing."""
    page.locator(f'#{group} [data-value="{value}"]').click()
    settle(page)


def state(page: Any) -> Any:
    """What is drawn: choice, limits of the colours, view, and the map's shape and sums."""
    return page.evaluate(
        """() => {
        const { choice, map, scale, version } = heatmapPage.state();
        const sum = cells => cells.reduce((total, one) => total + one, 0);
        return { choice, version, view: heatmapPage.view(), low: scale.low, high: scale.high, log: scale.log,
            map: { rows: map.rows, columns: map.columns, bin: map.bin, low: map.low, start: map.start, end: map.end,
                width: map.width, price: map.price, long: sum(map.long), short: sum(map.short), symbol: map.symbol,
                model: map.model, consumed: map.bubbles.reduce((total, one) => total + one.volume, 0) } };
    }"""
    )


def trace(page: Any, name: str) -> Any:
    """A Plotly trace by its name: whether it is there and visible, and its points."""
    return page.evaluate(
        """name => {
        const trace = document.getElementById('chart').data.find(one => one.name === name);
        return trace && { visible: trace.visible !== false, points: trace.x.length, x: Array.from(trace.x) };
    }""",
        name,
    )


def colours_at(page: Any, places: list[tuple[float, float]]) -> list[list[int]]:
    """The colours (red, green, blue, opacity) of the map at (time in ms, price), as the screen has them."""
    colours: list[list[int]] = page.evaluate(
        """places => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const canvas = document.getElementById('density');
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
        const ratio = window.devicePixelRatio;
        return places.map(([time, price]) => {
            const x = Math.floor((xaxis._offset + xaxis.l2p(time)) * ratio);
            const y = Math.floor((yaxis._offset + yaxis.l2p(price)) * ratio);
            return Array.from(data.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 4));
        });
    }""",
        [list(place) for place in places],
    )
    return colours


def unpack(array: dict[str, Any]) -> np.ndarray:
    """A packed array as numbers."""
    if "runs" in array:
        runs = unpack(array["runs"])
        return np.repeat(np.arange(len(runs)), runs)
    return np.frombuffer(base64.b64decode(array["data"]), array["type"].replace("u1", "|u1"))


def milliseconds(data: Columns) -> np.ndarray:
    """Start of each column."""
    return data.times // 1000


def in_view(data: Columns, view: Any) -> tuple[slice, slice]:
    """Rows and columns of which any part is in view."""
    times, width = milliseconds(data), data.seconds * 1000
    columns = np.flatnonzero((times + width > view["x"][0]) & (times < view["x"][1]))
    rows = np.flatnonzero((data.edges[1:] > view["y"][0]) & (data.edges[:-1] < view["y"][1]))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def no_lots(given: dict[str, str]) -> dict[str, Any]:
    """The answer of /liquidations/lots where nothing is open."""
    columns: dict[str, list[float]] = {"price": [], "leverage": [], "volume": [], "opened_at": []}
    zones = {"clusters": {"above": [], "below": []}, "nearest": {"above": None, "below": None}}
    bin_size = float(given["price_bin_size"])
    return {"time": given["time"], "price_bin_size": bin_size, "long": columns, "short": columns, **zones}


class LiveServer:
    """Serves the live page and canned answers, under the policy that the real server sends.

    Attributes:
        symbols: the answer to /symbols.
        payloads: bodies of /liquidations/heatmap-timeseries by (symbol, model); of markets of a base, (symbols, model).
        scores: answers of /score by (symbol, model); where there is none, that the symbol is not scored.
        alerts: what /alerts lists, by symbol.
        health: status and body of /health.
        broken: status with which everything but the page itself is answered, 0 for none.
        slow: while it is clear, answers with numbers wait.
        asked: parameters of every request for numbers.
    """

    def __init__(self) -> None:
        self.reset()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self, poll_seconds: float = 3600) -> None:
        """Forget everything; the page looks for news at that pace."""
        self.symbols: dict[str, Any] = {"symbols": [], "version": "1"}
        self.payloads: dict[tuple[str, str], bytes] = {}
        self.scores: dict[tuple[str, str], dict[str, Any]] = {}
        self.alerts: dict[str, list[dict[str, Any]]] = {}
        self.health: tuple[int, Any] = (200, {"status": "ok", "symbols": []})
        self.broken = 0
        self.slow = threading.Event()
        self.slow.set()
        self.asked: list[dict[str, str]] = []
        self.files = live_page()
        index, kind = self.files["/"]
        manifest = json.dumps({"live": True, "poll_seconds": poll_seconds}).encode()
        self.files["/"] = index.replace(b'{"live": true}', manifest), kind

    def show(self, *data: Columns, version: str = "1") -> None:
        """Publish maps."""
        rows: dict[str, Any] = {}
        for one in data:
            symbol = one.meta["symbol"]
            row = rows.setdefault(symbol, {"symbol": symbol, "models": [], "roles": {}})
            row["models"].append(one.meta["model"])
            row["roles"][one.meta["model"]] = MODELS[one.meta["model"]].role
            row.update(
                {
                    key: one.meta[key]
                    for key in ("bucket", "first_day", "last_day", "as_of", "price", "simulated", "provisional")
                }
            )
            self.payloads[symbol, one.meta["model"]] = dump(one.record())
        self.symbols = {"symbols": list(rows.values()), "version": version}

    def show_base(self, base: Columns, alone: Columns) -> None:
        """Publish the map of a base; of its markets `alone` says how long and as of when they are."""
        parts = base.meta["parts"]
        said = {name: alone.meta[name] for name in ("bucket", "first_day", "as_of", "simulated", "provisional")}
        said |= {"models": [base.meta["model"]], "roles": {}, "candle_interval_seconds": alone.candles.seconds}
        rows = [{**said, **{name: part[name] for name in ("symbol", "title", "exchange", "quote")}} for part in parts]
        name = base.meta["symbol"]
        self.payloads[name, base.meta["model"]] = dump(base.record())
        bases = [{"base": name, "markets": [part["symbol"] for part in parts]}]
        self.symbols = {"symbols": rows, "version": "1", "bases": bases}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        address = urlsplit(request.path)
        if address.path in self.files:
            content, kind = self.files[address.path]
            return self.send(request, 200, content, kind)
        given = {key: one[0] for key, one in parse_qs(address.query).items()}
        is_lots = address.path == "/liquidations/lots" and not self.broken
        status, body = (200, no_lots(given)) if is_lots else self.numbers(address.path, given)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(request, status, content, "application/json")

    def numbers(self, path: str, given: dict[str, str]) -> tuple[int, Any]:
        """Return status and body of what is not a file."""
        if self.broken:
            return self.broken, {"detail": "the database is being replaced; ask again"}
        if path in {"/symbols", "/alerts"}:
            return 200, self.symbols if path == "/symbols" else {"alerts": self.alerts.get(given["symbol"], [])}
        if path == "/health":
            return self.health
        if path == "/score":
            name = given["symbol"], given["model"]
            return 200, self.scores.get(name) or not_scored(*name)
        self.asked.append(given)
        self.slow.wait(10)
        if "price_bin_size" in given and float(given["price_bin_size"]) == 200:
            return 422, {"detail": "price_bin_size = 200 makes 2,310 rows; the smallest allowed is 500"}
        return 200, self.payloads[given.get("symbols") or given["symbol"], given["model"]]

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, content: bytes, kind: str) -> None:
        """Send an answer with the headers of the real server; a page that has gone away is no error."""
        try:
            request.send_response(status)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(content)))
            request.send_header("Content-Security-Policy", POLICY)
            request.send_header("X-Content-Type-Options", "nosniff")
            request.send_header("Cache-Control", "max-age=31536000, immutable" if "?v=" in request.path else "no-cache")
            request.end_headers()
            request.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def close(self) -> None:
        """Stop serving."""
        self.slow.set()
        self.http.shutdown()
        self.http.server_close()
