"""A deadline over a whole exchange with a server: its connections are shut when the time is over, whatever they send.

A timeout of a socket bounds each silence only. A head that drips, a flood of `100 Continue`, chunks of an endless line
and compressed nothing all reset it; here the time as a whole counts.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

_current = threading.local()


class Watchdog:
    """Shuts the connections of one request, from another thread, when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._fired = False
        self._sockets: list[Any] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    def watch(self, connection: Any) -> None:
        """Take a connection into care, at once if it is too late already."""
        with self._lock:
            self._sockets.append(connection)
            late = self._fired
        if late:
            _shut(connection)

    def _fire(self) -> None:
        with self._lock:
            self._fired = True
            connections = list(self._sockets)
        for connection in connections:
            _shut(connection)

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


@contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Shut whatever `WatchedAdapter` opens or uses in this thread, once the seconds are over."""
    with Watchdog(seconds) as dog:
        _current.dog = dog
        try:
            yield
        finally:
            _current.dog = None


class WatchedAdapter(HTTPAdapter):
    """The adapter of requests, whose connections are those that `watched` watches, through any kind of proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **options)
        _watch_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Return the pools of one proxy."""
        manager = super().proxy_manager_for(*args, **options)
        _watch_pools(manager)
        return manager


class _Watched:
    """What is added to every class of connections."""

    sock: Any

    def _new_conn(self) -> Any:
        opened = super()._new_conn()  # type: ignore[misc]
        _watch(opened)
        return opened

    def getresponse(self) -> Any:
        # Again: the connection may be an old one, or have become another object with its encryption.
        _watch(self.sock)
        return super().getresponse()  # type: ignore[misc]


def _watch(connection: Any) -> None:
    dog: Watchdog | None = getattr(_current, "dog", None)
    if dog is not None:
        dog.watch(connection)


def _watch_pools(manager: urllib3.PoolManager) -> None:
    classes: dict[str, Any] = dict(manager.pool_classes_by_scheme)
    for scheme, pool in classes.items():
        if not issubclass(pool.ConnectionCls, _Watched):
            connection = type(f"Watched{pool.ConnectionCls.__name__}", (_Watched, pool.ConnectionCls), {})
            classes[scheme] = type("WatchedPool", (pool,), {"ConnectionCls": connection})
    manager.pool_classes_by_scheme = classes


def _shut(connection: Any) -> None:
    """Make every read and write of a socket end now; the thread that uses it closes it."""
    inner = getattr(connection, "socket", connection)  # encryption within encryption, of a proxy, wraps a socket
    with suppress(OSError):
        # Not the method of an encrypted socket, which would take the encryption off under the reader's hands.
        socket.socket.shutdown(inner, socket.SHUT_RDWR)
