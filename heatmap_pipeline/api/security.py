"""What every request passes and every answer carries: limits of the address, the token, and headers for browsers.

Plain ASGI, as it stands in the way of every request.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_ADDRESS = 4096
"""Bytes of path and query."""

MAX_PARAMETERS = 50

API_POLICY = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may do: its own scripts and data, and pictures it draws itself. Nothing from anywhere else."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": API_POLICY,
}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that says in a sentence why there is no other."""
    all_headers = {"cache-control": "no-store", **(headers or {})}
    return Response(orjson.dumps({"detail": detail}), status, all_headers, "application/json")


class Shield:
    """Limits on the way in, headers on the way out; HEAD is answered as GET without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            elif head:
                message = {**message, "body": b""}
            await send(message)

        refused = _refusal(scope)
        if refused is not None:
            await refused(scope, receive, answer)
        else:
            await self.app({**scope, "method": "GET"} if head else scope, receive, answer)


def _refusal(scope: Scope) -> Response | None:
    if len(scope["path"]) + len(scope["query_string"]) > MAX_ADDRESS:
        return problem(414, f"the address is longer than {MAX_ADDRESS} bytes; ask for less")
    names = [name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)]
    if len(names) > MAX_PARAMETERS:
        return problem(422, f"{len(names)} parameters are more than there are; ask for less")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return problem(422, f"parameter {ascii(twice)[:80]} is given more than once; give it once")
    return None


class TokenGate:
    """Only who knows the token comes in, but for the paths that are open.

    It is given as `Authorization: Bearer TOKEN`, or as the password of Basic, which browsers ask for by themselves.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Iterable[str]) -> None:
        self.app, self._token, self._open = app, token.encode(), frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"] not in self._open and not self._knows(Headers(scope=scope)):
            refused = problem(
                401,
                "this server asks for a token: send Authorization: Bearer TOKEN, or it as the password of Basic",
            )
            # One line each: Chromium reads only the first scheme of a line.
            refused.headers.append("www-authenticate", 'Bearer realm="heatmap"')
            refused.headers.append("www-authenticate", 'Basic realm="heatmap", charset="UTF-8"')
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        token = value.strip().encode("latin-1", "replace")
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(token, self._token)
