"""How long a connection may keep the server waiting, and how many there may be: what stands before HTTP.

What belongs here: sockets, deadlines, counts. What does not: anything that needs a whole request (`security.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

REQUEST_SECONDS = 10.0
"""From the opening of a connection, or the first byte of a further request, to its last byte."""

SEND_SECONDS, SEND_BYTES = 10.0, 320 << 10
"""A client takes at least so many bytes of an answer in so many seconds, or all that is left."""

SPARED_SECONDS = 1.0
"""A client that took nothing for so long is cut as soon as there are too many connections or bytes."""

LONGEST_HEAD = 64 << 10
"""Bytes of a request's line and headers."""

_LOOK_SECONDS = 1.0
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
)


def client_of(address: str | None) -> str:
    """Return whom an address counts for: itself, or its network of 64 bits, which one machine has to itself in IPv6.

    Example:
        >>> client_of("192.0.2.7"), client_of("2001:db8::7:7"), client_of(None)
        ('192.0.2.7', '2001:db8::', '')
    """
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(ip) >> 64 << 64))
    return str(ip)


class Crowd:
    """The connections of one server; all methods belong to its event loop.

    Args:
        most: connections there may be.
        most_each: connections a client may have.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self.cut = 0
        self.refused = 0
        self._open: dict[Connection, None] = {}  # the oldest first
        self._each: Counter[str] = Counter()
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Return whether there is room for a connection; one that only waits makes room."""
        if self._each[connection.whose] >= self.most_each and not self._make_room(connection.whose):
            return self._refuse()
        if len(self._open) >= self.most and not self._make_room(None):
            return self._refuse()
        self._open[connection] = None
        self._each[connection.whose] += 1
        if self._look is None:
            self._look = connection.loop.call_later(_LOOK_SECONDS, self._look_around, connection.loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._open:
            del self._open[connection]
            self._each[connection.whose] -= 1
            if not self._each[connection.whose]:
                del self._each[connection.whose]

    def end(self, connection: Connection) -> None:
        """End a connection at once, and count it no longer."""
        self.cut += 1
        self.leave(connection)
        connection.give_up()
        connection.transport.abort()

    def _refuse(self) -> bool:
        self.refused += 1
        return False

    def cut_stalled(self) -> bool:
        """End the connection that has taken nothing of its answer for longest, if there is one; return whether."""
        now = time.monotonic()
        stalled = [connection for connection in self._open if connection.stalled(now)]
        if stalled:
            self.end(min(stalled, key=lambda connection: connection.taken_at))
        return bool(stalled)

    def _make_room(self, whose: str | None) -> bool:
        """End the oldest connection that asks for nothing or takes nothing; of the client with most, if of no one."""
        if whose is None:
            whose = self._each.most_common(1)[0][0]
        now = time.monotonic()
        theirs = [connection for connection in self._open if connection.whose == whose]
        for dispensable in (Connection.silent, Connection.idle, Connection.stalled):
            for connection in theirs:
                if dispensable(connection, now):
                    self.end(connection)
                    return True
        return False

    def _look_around(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            if connection.late(now):
                self.end(connection)
        self._look = loop.call_later(_LOOK_SECONDS, self._look_around, loop) if self._open else None


class Connection(HttpToolsProtocol):
    """Ends a connection whose request does not end or whose answer is not taken, and refuses one too many.

    A head is limited because the parser joins the pieces of a header again and again, so megabytes of one would keep
    everyone waiting. A body is never copied for a connection: the transport keeps the bytes it is given.
    """

    crowd: Crowd
    whose = ""
    _refused = False
    _reading_head = False
    _head = 0
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
        self._unwritten.append(release)

    def _release_written(self) -> None:
        while self._written:
            self._written.pop()()

    def give_up(self) -> None:
        """Have none of its answers written any more; uvicorn itself says this only to that of the newest request."""
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
        self.whose, self._since = client_of(self.client[0] if self.client else None), time.monotonic()
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
        """Read on, unless the head has become too long."""
        if self._refused:
            return
        if self._since is None and not self._answering():
            self._since = time.monotonic()
        if self._reading_head:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self.crowd.end(self)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._reading_head, self._head = True, 0
        if self._since is None:
            self._since = time.monotonic()
        super().on_message_begin()

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
        self.scope["extensions"] = {"heatmap.connection": {"connection": self}}
        self._reading_head = False
        super().on_headers_complete()
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        self._cycles.append(self.cycle)

    def on_message_complete(self) -> None:
        """End of the request."""
        self._since = None
        super().on_message_complete()
