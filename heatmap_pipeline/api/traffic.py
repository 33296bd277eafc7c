"""Each request as it passed: who asked for what, what came of it, how long it took; told to whoever listens.

Plain ASGI, outside of everything else, so that refusals are seen as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Passed:
    """A request and its answer.

    Attributes:
        began: seconds since 1970-01-01 UTC.
        seconds: until the last byte was handed to the connection.
        client: the address of who asks, or what a trusted proxy says in its place; '' where there is none.
        method: as it was sent.
        path: as it was sent, percent-encoded.
        query: as it was sent, without the question mark.
        status: of the answer; 500 where there was a defect instead of one.
        size: bytes of the body.
    """

    began: float
    seconds: float
    client: str
    method: str
    path: str
    query: str
    status: int
    size: int


Listener: TypeAlias = Callable[[Passed], None]


class Traffic:
    """Tells `listeners` of each request once it is answered."""

    def __init__(self, app: ASGIApp, listeners: Sequence[Listener]) -> None:
        self.app, self._listeners = app, listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, clock = time.time(), time.perf_counter()
        status, size = 500, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            below = scope.get("extensions", {}).get("heatmap.connection")
            address = below["address"] if below else (scope.get("client") or ("",))[0]
            passed = Passed(
                began,
                time.perf_counter() - clock,
                address or "",
                scope["method"],
                scope.get("raw_path", scope["path"].encode()).decode("latin-1"),
                scope["query_string"].decode("latin-1"),
                status,
                size,
            )
            for listener in self._listeners:
                listener(passed)
