"""What `heatmap serve` prints: notices and a line for each request, for people or as JSON; never a secret.

The token is a header, and headers are not logged. Somebody may still put it into the address by mistake: whatever
holds it, in any percent-encoding, is left out, and so are the values of parameters that there are not.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from pydantic import SecretStr

from heatmap_pipeline.api.security import MAX_ADDRESS
from heatmap_pipeline.api.traffic import Listener, Passed
from heatmap_pipeline.errors import printable

Line = Callable[[str], None]
"""Prints one line."""

_HIDDEN = "***"
_ROOM = 20_000
"""Lines that may wait to be printed, some megabytes."""

_LAST_SECONDS = 2.0
"""How long the end waits for the last lines to be read."""

_LONGEST = 500
"""Letters of a path or a query that are printed."""

_DECODINGS = 3
"""How often a text may be percent-encoded; one that is more often is meant to hide something."""


@contextmanager
def printer(tell: Line, form: str, room: int = _ROOM) -> Iterator[Line]:
    """Give what prints lines from a thread of its own, so that nobody waits for who reads them.

    Args:
        tell: prints a line; where that fails, as with a pipe that nobody has open any more, the line is lost.
        form: of HEATMAP_LOG_FORMAT.
        room: lines that may wait; beyond it they are lost, and their number is said instead.
    """
    waiting: deque[str] = deque()
    lost, ended, changed = 0, False, threading.Condition()

    def put(line: str) -> None:
        nonlocal lost
        with changed:
            if len(waiting) < room:
                waiting.append(line)
                changed.notify()
            else:
                lost += 1

    def run() -> None:
        nonlocal lost
        while True:
            with changed:
                changed.wait_for(lambda: waiting or ended)
                if not waiting:
                    return
                lines, missing, lost = list(waiting), lost, 0
                waiting.clear()
            if missing:
                notices(lines.append, form)(f"{missing} lines were lost, as nobody read them in time")
            for line in lines:
                with suppress(OSError, ValueError):
                    tell(line)

    thread = threading.Thread(target=run, name="log", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        with changed:
            ended = True
            changed.notify()
        thread.join(_LAST_SECONDS)


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
        tell: prints a line.
        form: text, json or off.
        token: must not stand in a line.
        parameters: names of those there are, whose values may.
    """
    secret = token.get_secret_value() if token is not None else None

    def line(passed: Passed) -> str:
        path, query = shown(passed.path, secret), shown(_known(passed.query, parameters), secret)
        milliseconds = round(passed.seconds * 1000, 3)
        method, client = printable(passed.method, 20), _name(passed.client)
        if form == "json":
            return json.dumps(
                {
                    "time": _instant(passed.began),
                    "event": "request",
                    "client": client,
                    "method": method,
                    "path": path,
                    "query": query,
                    "status": passed.status,
                    "bytes": passed.size,
                    "milliseconds": milliseconds,
                }
            )
        address = f"{path}?{query}" if query else path
        asked = f"{_instant(passed.began)} {client or '-'} {method} {address}"
        return f"{asked} {passed.status} {passed.size} bytes {milliseconds:g} ms"

    def listen(passed: Passed) -> None:
        if form != "off":
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


def _name(client: str) -> str:
    """Return an address as one word; what a trusted proxy hands on as one may be any text of a stranger."""
    return printable(client, 100).replace(" ", "?")


def _known(query: str, parameters: Collection[str]) -> str:
    """Leave the values of unknown parameters out: nobody knows what they are."""
    parts = (part.partition("=") for part in query[: MAX_ADDRESS + 1].split("&") if part)
    return "&".join(
        f"{name}{equals}{value if name in parameters or unquote_plus(name) in parameters else _HIDDEN if value else ''}"
        for name, equals, value in parts
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
