"""An S3 server on this machine, and a thin one before it that fails when it is told to."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias
from urllib.request import Request, urlopen

import pytest

BUCKET = "markets"

Fault: TypeAlias = Literal["", "500", "503", "403", "slow", "lost", "deaf"]
"""What happens to a request: nothing, an answer of that number instead, a second's wait, its answer gets lost, or its
conditions do."""

Plan: TypeAlias = Callable[[str, str], Fault]
"""Says what happens to a request, by its method and path."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server with an empty bucket; give its address."""
    from moto.server import ThreadedMotoServer  # takes a second to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        with urlopen(Request(f"{address}/{BUCKET}", method="PUT")):  # noqa: S310 - our own server
            pass
        yield address
    finally:
        server.stop()


def use(patch: pytest.MonkeyPatch, address: str) -> None:
    """Let this process, and those it starts, ask that server."""
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_REGION", "us-east-1")


class Proxy:
    """A server before another one that fails by a plan, and counts how often.

    Attributes:
        plan: what happens to a request.
        faults: how many requests failed.
        requests: how many came.
    """

    def __init__(self, behind: str) -> None:
        self.plan: Plan = lambda method, path: ""
        self.faults = self.requests = 0
        proxy, host = self, behind.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.requests += 1
                fault = proxy.plan(self.command, self.path)
                proxy.faults += fault != ""
                if fault == "slow":
                    time.sleep(1.0)
                if fault in ("500", "503", "403"):
                    self._send(int(fault), {}, b"<Error><Code>Planned</Code></Error>")
                    return
                headers = {name: value for name, value in self.headers.items() if fault != "deaf" or name[:3] != "if-"}
                to = http.client.HTTPConnection(host, timeout=30)
                try:
                    to.request(self.command, self.path, body, headers)
                    got = to.getresponse()
                    content = got.read()
                finally:
                    to.close()
                if fault == "lost":
                    self._send(500, {}, b"<Error><Code>Planned</Code></Error>")
                    return
                self._send(got.status, dict(got.getheaders()), content)

            def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
