"""A chat's webhook on this machine that keeps what it is sent, and refuses as often as a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Webhook:
    """What was sent; `answers` are the statuses of the next answers, then it is 204 as Discord's."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        """Of the notices that were taken."""
        self.answers: list[int] = []
        self.asked = 0
        self.url = ""

    def kinds(self) -> list[str]:
        return [body["kind"] for body in self.bodies]


@contextmanager
def listening() -> Iterator[Webhook]:
    """Listen on a free port of 127.0.0.1."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/json"
            hook.asked += 1
            status = hook.answers.pop(0) if hook.answers else 204
            if status < 300:
                hook.bodies.append(body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status == 429:
                self.send_header("Retry-After", "3600")
            if status == 302:
                self.send_header("Location", hook.url)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}/services/s3cret"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
