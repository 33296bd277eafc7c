"""A local stand-in for the exchanges' streams: what each connection gets is a script, faults included.

Listens on 127.0.0.1 on a free port, remembers what was asked, and ends with its `async with`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

ACK = {"bybit": {"success": True, "ret_msg": "", "op": "subscribe"}, "binance": {"result": None, "id": 1}}


class Client:
    """One connection as its script sees it."""

    def __init__(self, socket: ServerConnection, number: int, exchange: str) -> None:
        self.socket, self.number, self.exchange = socket, number, exchange

    async def send(self, *messages: Any) -> None:
        for message in messages:
            await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def acknowledge(self) -> None:
        await self.send(ACK[self.exchange])

    async def cut(self) -> None:
        """Break the connection without a goodbye."""
        self.socket.transport.abort()

    async def close(self) -> None:
        await self.socket.close()

    async def stay(self) -> None:
        """Keep the connection until the other side leaves."""
        await self.socket.wait_closed()


Script = Callable[[Client], Awaitable[None]]


class StreamServer:
    """Plays one exchange; each connection runs the script, after the subscription came.

    Args:
        exchange: whose words are spoken.
        script: called with each connection.
        pongs: whether pings are answered.
    """

    def __init__(self, exchange: str, script: Script, *, pongs: bool = True, port: int = 0) -> None:
        self.exchange, self.script, self.pongs, self.port = exchange, script, pongs, port
        self.asked: list[Any] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/market/ws"

    async def __aenter__(self) -> StreamServer:
        self._server = await serve(self._serve, "127.0.0.1", self.port, ping_interval=None, close_timeout=0.2)
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, socket: ServerConnection) -> None:
        self.times.append(time.monotonic())
        client = Client(socket, len(self.times), self.exchange)
        assert socket.request is not None
        self.paths.append(socket.request.path)
        with contextlib.suppress(ConnectionClosed):
            self.asked.append(json.loads(await socket.recv()))
            answering = asyncio.create_task(self._answer(socket))
            try:
                await self.script(client)
            finally:
                answering.cancel()

    async def _answer(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                if self.pongs and json.loads(message) == {"op": "ping"}:
                    await socket.send('{"success":true,"ret_msg":"pong","op":"ping"}')


def bybit(*rows: dict[str, Any], symbol: str = "BTCUSDT") -> dict[str, Any]:
    """Return a message of `allLiquidation`."""
    return {"topic": f"allLiquidation.{symbol}", "type": "snapshot", "ts": now(), "data": list(rows)}


def row(at: int, side: str = "Buy", size: str = "0.015", price: str = "96250.5") -> dict[str, Any]:
    """Return a row of such a message."""
    return {"T": at, "s": "BTCUSDT", "S": side, "v": size, "p": price}


def force_order(at: int, side: str = "SELL", filled: str = "0.014", symbol: str = "BTCUSDT") -> dict[str, Any]:
    """Return a message of `forceOrder`."""
    order = {"s": symbol, "S": side, "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910", "ap": "9910.5"}
    return {"e": "forceOrder", "E": at + 3, "o": {**order, "X": "FILLED", "l": filled, "z": filled, "T": at}}


def mark_price() -> dict[str, Any]:
    return {"e": "markPriceUpdate", "E": now(), "s": "BTCUSDT", "p": "11794.15"}


def now() -> int:
    return time.time_ns() // 1_000_000
