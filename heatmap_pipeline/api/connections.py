"""How long a connection may keep the server waiting, and how many there may be: what stands before HTTP.

What belongs here: sockets, deadlines, counts. What does not: anything that needs a whole request (`security.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from heatmap_pipeline.api.clients import Proxies, client_of

REQUEST_SECONDS = 10.0
"""From the opening of a connection, or the first byte of a further request, to its last byte."""

SEND_SECONDS, SEND_BYTES = 10.0, 320 << 10
"""A client takes at least so many bytes of an answer in so many seconds, or all that is left."""

SPARED_SECONDS = 1.0
"""A client that took nothing for so long is cut as soon as there are too many connections or bytes."""

LONGEST_REQUEST = 64 << 10
"""Bytes of a request: its line and headers, and a body that nobody here reads."""

MOST_HEADERS = 100
"""Headers of a request, those behind its body included."""

MOST_WAITING = 100
"""Requests of one connection that wait for the answers to those before them."""

_LOOK_SECONDS = 1.0
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
)


class Crowd:
    """The connections of one server; all methods belong to its event loop.

    Args:
        most: connections there may be.
        most_each: connections a client may have, but for a trusted proxy.
        proxies: those that are trusted.
    """

    def __init__(self, most: int, most_each: int, proxies: Proxies | None = None) -> None:
        self.most, self.most_each = most, most_each
        self.proxies = proxies or Proxies()
        self.cut = 0
        self.refused = 0
        self._open: dict[str, dict[Connection, None]] = {}  # of each client, its oldest first
        self._number = 0
        self._look: asyncio.TimerHandle | None = None
        self._ready: dict[str, deque[Callable[[], None]]] = {}  # the client whose turn is next first

    def __len__(self) -> int:
        return self._number

    def enter(self, connection: Connection) -> bool:
        """Return whether there is room for a connection; one that only waits makes room."""
        theirs = self._open.get(connection.whose, {})
        if len(theirs) >= self.most_each and not connection.of_proxy and not self._make_room(theirs):
            return self._refuse()
        if self._number >= self.most and not self._make_room(max(self._open.values(), key=len)):
            return self._refuse()
        self._open.setdefault(connection.whose, {})[connection] = None
        self._number += 1
        if self._look is None:
            self._look = connection.loop.call_later(_LOOK_SECONDS, self._look_around, connection.loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        theirs = self._open.get(connection.whose, {})
        if connection in theirs:
            del theirs[connection]
            self._number -= 1
            if not theirs:
                del self._open[connection.whose]

    def end(self, connection: Connection) -> None:
        """End a connection at once, and count it no longer."""
        self.cut += 1
        self.leave(connection)
        connection.give_up()
        connection.transport.abort()

    def _refuse(self) -> bool:
        self.refused += 1
        return False

    def begin(self, client: str, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        """Have a request answered when it is the turn of its client: one request each time the loop comes round.

        What takes a moment only (an answer that is kept, a refusal) is not worth a place to work at (`turns.py`), but a
        thousand such moments of one client are a long wait for another.
        """
        if not self._ready:
            loop.call_soon(self._begin_next, loop)
        self._ready.setdefault(client, deque()).append(answer)

    def _begin_next(self, loop: asyncio.AbstractEventLoop) -> None:
        client = next(iter(self._ready))
        waiting = self._ready.pop(client)
        answer = waiting.popleft()
        if waiting:  # the others come first now
            self._ready[client] = waiting
        if self._ready:
            loop.call_soon(self._begin_next, loop)
        answer()

    def _make_room(self, theirs: Collection[Connection]) -> bool:
        """End the oldest of some connections that asks for nothing or takes nothing; return whether there was one."""
        now = time.monotonic()
        for dispensable in (Connection.silent, Connection.idle, Connection.stalled):
            for connection in theirs:
                if dispensable(connection, now):
                    self.end(connection)
                    return True
        return False

    def _look_around(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in [connection for theirs in self._open.values() for connection in theirs]:
            if connection.late(now):
                self.end(connection)
        self._look = loop.call_later(_LOOK_SECONDS, self._look_around, loop) if self._open else None


class Connection(HttpToolsProtocol):
    """Ends a connection whose request does not end or whose answer is not taken, and refuses one too many.

    A request is limited because the parser joins the pieces of a header again and again, so megabytes of one would keep
    everyone waiting. The body of an answer is never copied for a connection: the transport keeps the bytes it is given.
    """

    crowd: Crowd
    whose = ""
    of_proxy = False
    _refused = False
    _reading = False
    _read = 0
    _since: float | None = None
    """When the server began to wait for the rest of a request."""
    _window: tuple[float, int] | None = None
    """When it was last seen that enough of an answer is taken, and the bytes that were left then."""
    taken_at = 0.0
    _left = 0

    # -- what is asked of a connection

    def silent(self, _: float) -> bool:
        """Return whether it has not asked for anything yet, or only for half of it."""
        return self._since is not None and not self._answering() and not self.flow.read_paused

    def idle(self, _: float) -> bool:
        """Return whether its answers are given and taken."""
        return not self._answering() and not self.transport.get_write_buffer_size()

    def stalled(self, now: float) -> bool:
        """Return whether it has taken nothing of its answer for a while."""
        return self._window is not None and now - self.taken_at >= SPARED_SECONDS

    def takes_nothing(self) -> bool:
        """Return whether it is stalled now."""
        return self.stalled(time.monotonic())

    def end(self) -> None:
        """End it at once."""
        self.crowd.end(self)

    def late(self, now: float) -> bool:
        """Return whether it has missed a deadline; called again and again, as it also measures what is taken."""
        if self.flow.read_paused:  # it is the server that does not read
            self._since = None if self._since is None else now
        elif self._since is not None and now - self._since > REQUEST_SECONDS:
            return True
        left = self.transport.get_write_buffer_size()
        if not left:
            self._window = None
        elif self._window is None or left > self._left:  # another answer follows
            self._window, self.taken_at = (now, left), now
        elif left < self._left:
            self.taken_at = now
        self._left = left
        if self._window is None or now - self._window[0] < SEND_SECONDS:
            return False
        if self._window[1] - left < SEND_BYTES:
            return True
        self._window = (now, left)
        return False

    def hold(self, release: Callable[[], None]) -> None:
        """Have `release` called once the answer that is being given is taken, or nobody is there to take it."""
        if self.gone.done():
            release()
        else:
            self._unwritten.append(release)

    def _release_written(self) -> None:
        while self._written:
            self._written.pop()()

    def give_up(self) -> None:
        """Have none of its answers written any more; uvicorn itself says this only to that of the newest request."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._written += self._unwritten
        self._unwritten.clear()
        self._release_written()
        self.pipeline.clear()
        for cycle in self._cycles:
            cycle.disconnected = True

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # -- what the transport and the parser call

    def connection_made(self, transport: Any) -> None:
        """Let it in, or tell it that it is one too many."""
        super().connection_made(transport)
        address = self.client[0] if self.client else None
        self.whose, self.of_proxy = client_of(address), self.crowd.proxies.trusts(address)
        self._since = time.monotonic()
        self.gone: asyncio.Future[None] = self.loop.create_future()  # done when nobody is there any more
        self._written: list[Callable[[], None]] = []
        self._unwritten: list[Callable[[], None]] = []
        self._cycles: deque[RequestResponseCycle] = deque()  # in the order in which they are answered
        if not self.crowd.enter(self):
            self._refused = True
            detail = b'{"detail":"too many connections are open; close some, or try again soon"}'
            transport.write(_REFUSAL + b"content-length: %d\r\n\r\n" % len(detail) + detail)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        self.crowd.leave(self)
        self.give_up()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the request has become too long."""
        if self._refused or self.transport.is_closing():
            return
        if self._since is None and not self._answering():
            self._since = time.monotonic()
        if self._reading:
            self._read += len(data)
            if self._read > LONGEST_REQUEST:
                self.crowd.end(self)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._reading, self._read = True, 0
        if self._since is None:
            self._since = time.monotonic()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, of a number that a request may have."""
        if len(self.headers) >= MOST_HEADERS:
            raise httptools.HttpParserError(f"more than {MOST_HEADERS} headers")
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, but not in the middle of an answer."""
        due = [cycle for cycle in self._cycles if not cycle.response_complete]
        if len(due) > 1 or any(cycle.response_started for cycle in due):
            self.crowd.end(self)
        elif not self.transport.is_closing():
            self.give_up()  # the answer to a head whose body is no HTTP
            super().send_400_response(msg)

    def resume_writing(self) -> None:
        """Most of an answer is taken."""
        super().resume_writing()
        self._release_written()

    def on_response_complete(self) -> None:
        """Hand an answer to the transport, which may be all of it."""
        self._written += self._unwritten
        self._unwritten.clear()
        if not self.flow.write_paused:
            self._release_written()
        super().on_response_complete()

    def on_headers_complete(self) -> None:
        """End of the head."""
        if len(self.pipeline) >= MOST_WAITING:
            raise httptools.HttpParserError(f"more than {MOST_WAITING} requests at once")
        asker, address = self.whose, self.client[0] if self.client else None
        if self.of_proxy:
            address = self.crowd.proxies.speaker(address, self.headers)
            asker = client_of(address)
        self.scope["extensions"] = {"heatmap.connection": {"connection": self, "client": asker, "address": address}}
        super().on_headers_complete()
        if self.parser.should_upgrade():  # the parser reads nothing that comes after it
            self.cycle.keep_alive = False
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        self._cycles.append(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        def answer() -> None:
            if not cycle.disconnected:
                super(Connection, self)._start_asgi_task(cycle, app)

        below: Any = cycle.scope["extensions"]
        self.crowd.begin(below["heatmap.connection"]["client"], self.loop, answer)

    def on_body(self, body: bytes) -> None:
        """Throw away what no route reads."""

    def on_message_complete(self) -> None:
        """End of the request."""
        self._since, self._reading = None, False
        super().on_message_complete()
