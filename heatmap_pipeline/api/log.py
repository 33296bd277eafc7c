"""What `heatmap serve` prints: notices and a line for each request, for people or as JSON; never a secret.

The token is a header, and headers are not logged. Somebody may still put it into the address by mistake: whatever
holds it, in any percent-encoding, is left out, and so are the values of parameters that there are not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from pydantic import SecretStr

from heatmap_pipeline.api.security import MAX_ADDRESS
from heatmap_pipeline.api.traffic import Listener, Passed
from heatmap_pipeline.errors import printable

Line = Callable[[str], None]
"""Prints one line."""

_HIDDEN = "***"
_LONGEST = 500
"""Letters of a path or a query that are printed."""

_DECODINGS = 3
"""How often a text may be percent-encoded; one that is more often is meant to hide something."""


def notices(tell: Line, form: str) -> Line:
    """Return what prints a notice in the form of HEATMAP_LOG_FORMAT."""
    if form != "json":
        return tell

    def as_json(words: str) -> None:
        tell(json.dumps({"time": _instant(time.time()), "event": "notice", "message": words}, ensure_ascii=False))

    return as_json


def requests(tell: Line, form: str, token: SecretStr | None, parameters: Collection[str]) -> Listener:
    """Return what prints a line for each request, in the form of HEATMAP_LOG_FORMAT.

    Args:
        tell: prints a line; where that fails, as with a pipe that nobody reads any more, the line is lost.
        form: text, json or off.
        token: must not stand in a line.
        parameters: names of those there are, whose values may.
    """
    secret = token.get_secret_value() if token is not None else None

    def line(passed: Passed) -> str:
        path, query = shown(passed.path, secret), shown(_known(passed.query, parameters), secret)
        milliseconds = round(passed.seconds * 1000, 3)
        method = printable(passed.method, 20)
        if form == "json":
            return json.dumps(
                {
                    "time": _instant(passed.began),
                    "event": "request",
                    "client": passed.client,
                    "method": method,
                    "path": path,
                    "query": query,
                    "status": passed.status,
                    "bytes": passed.size,
                    "milliseconds": milliseconds,
                }
            )
        address = f"{path}?{query}" if query else path
        who = passed.client or "-"
        return (
            f"{_instant(passed.began)} {who} {method} {address} {passed.status} {passed.size} bytes {milliseconds:g} ms"
        )

    def listen(passed: Passed) -> None:
        if form != "off":
            with suppress(OSError):
                tell(line(passed))

    return listen


def shown(text: str, secret: str | None) -> str:
    """Return a path or a query as it may stand in a log.

    Example:
        >>> shown("/symbols", "12345678"), shown("/%31234567%38", "12345678"), shown("/12345678", None)
        ('/symbols', '***', '/12345678')
    """
    if len(text) > MAX_ADDRESS or (secret is not None and _may_hold(text, secret)):
        return _HIDDEN
    return printable(text, _LONGEST)


def _may_hold(text: str, secret: str) -> bool:
    for _ in range(_DECODINGS):
        if secret in text:
            return True
        meant = unquote_plus(text, "latin-1")
        if meant == text:
            return False
        text = meant
    return True


def _known(query: str, parameters: Collection[str]) -> str:
    """Leave the values of unknown parameters out: nobody knows what they are."""
    parts = (part.partition("=") for part in query[: MAX_ADDRESS + 1].split("&") if part)
    return "&".join(
        f"{name}{equals}{value if name in parameters or unquote_plus(name) in parameters else _HIDDEN if value else ''}"
        for name, equals, value in parts
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
