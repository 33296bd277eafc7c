"""`heatmap serve` without a process of its own: the same server over the same sockets, in a thread, started at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from heatmap_pipeline.api import server
from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.api.connections import Crowd
from heatmap_pipeline.api.service import Service
from heatmap_pipeline.api.traffic import Listener
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._load import HOST


@dataclass(frozen=True)
class Running:
    """A server that runs: its port, and what a test may look at."""

    port: int
    service: Service
    crowd: Crowd

    def opened(self, sent: bytes = b"", *, source: str = HOST) -> closing[socket.socket]:
        """Connect from an address, and send something."""
        connection = socket.create_connection((HOST, self.port), 10, (source, 0))
        connection.sendall(sent)
        return closing(connection)

    def said(self, sent: bytes, *, source: str = HOST) -> bytes:
        """Return all that the server says to something until it ends the connection."""
        with self.opened(sent, source=source) as connection:
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the other side ends a connection."""
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@contextmanager
def serving_here(settings: Settings, most: int = 1000, log: Listener | None = None) -> Iterator[Running]:
    """Serve a home in a thread."""
    app = create_app(settings, tell=lambda _: None, log=log)
    bound = server.listen(HOST, 0)
    serving = server.make_server(app, most)
    protocol: Any = serving.config.http
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not serving.started:
            assert thread.is_alive(), "the server does not start"
            assert time.monotonic() < end, "the server does not start in time"
            time.sleep(0.01)
        made = Running(bound.getsockname()[1], app.state.service, protocol.crowd)
        # The first answer waits for the data to be read and for everything to be compiled.
        httpx.get(f"http://{HOST}:{made.port}/symbols", timeout=120).raise_for_status()
        yield made
    finally:
        serving.should_exit = True
        thread.join(30)
        bound.close()
    assert not thread.is_alive(), "the server does not stop"
