"""Endpoints that refuse, break, hang or are none: one sentence each, with the server's own words where it has any."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from heatmap_pipeline.api import server as api_server
from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.client import ClientError, Heatmap
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._load import HOST
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.homes import BTC, settings_of

TOKEN = "a-secret-token"  # noqa: S105 - of a test


class Answering(ThreadingHTTPServer):
    """A server that answers everything with what a test says; `asked` are the requests it has had."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        self.status, self.body, self.headers = status, body, {"Content-Type": "application/json", **headers}
        self.asked: list[tuple[str, str | None]] = []
        super().__init__((HOST, 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[Answering]:
    server = Answering(status, body, **headers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(heatmap: Heatmap, symbol: str = BTC) -> ClientError:
    with heatmap, pytest.raises(ClientError) as refusal:
        heatmap.map(symbol)
    return refusal.value


def test_the_token_is_asked_for_given_and_never_said(published: Settings) -> None:
    with serving_here(settings_of(published.home)) as running:
        open_to_all = f"http://{HOST}:{running.port}"
        assert Heatmap(open_to_all, token="not-needed").markets()  # noqa: S106
    with guarded(published) as address:
        missing, wrong = refused(Heatmap(address)), refused(Heatmap(address, token="another-token"))  # noqa: S106
        assert missing.status == wrong.status == 401
        assert "asks for a token" in str(missing)
        assert str(missing).endswith("give it with token=")
        assert str(wrong).endswith("the token is not the one it wants")
        assert "another-token" not in str(wrong)
        with Heatmap(address, token=TOKEN) as heatmap:
            assert heatmap.map(BTC).provenance.where == address
        within = address.replace("://", f"://somebody:{TOKEN}@")
        with Heatmap(within) as heatmap:
            assert heatmap.map(BTC).price == heatmap.markets()[0].price
            assert TOKEN not in repr(heatmap)


@contextmanager
def guarded(published: Settings) -> Iterator[str]:
    """Serve with a token; `serving_here` waits for an answer that needs none."""
    settings = published.model_copy(update={"api_token": SecretStr(TOKEN)})
    bound = api_server.listen(HOST, 0)
    serving = api_server.make_server(create_app(settings, tell=lambda _: None), 100)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{bound.getsockname()[1]}"
    finally:
        serving.should_exit = True
        thread.join(30)
        bound.close()


@pytest.mark.parametrize("status", [404, 413, 422])
def test_a_refusal_is_in_the_words_of_the_server(status: int) -> None:
    with answering(status, b'{"detail": "symbol X1 is not published; there are Y"}') as server:
        error = refused(Heatmap(server.address))
    assert (str(error), error.status) == ("symbol X1 is not published; there are Y", status)
    assert len(server.asked) == 1


def test_a_failing_server_is_named_with_its_words() -> None:
    with answering(500, b'{"detail": "a defect of this server\\n(KeyError)"}') as server:
        error = refused(Heatmap(server.address))
    assert str(error) == f"{server.address} answers 500: a defect of this server?(KeyError)"
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", pauses.append)
    with answering(503, b'{"detail": "too many are waiting"}', Retry_After="3600") as server:
        error = refused(Heatmap(server.address))
    assert (str(error), error.status) == (f"{server.address} answers 503: too many are waiting", 503)
    assert len(server.asked) == 4
    assert 0 < sum(pauses) < 10


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>a page</html>", "text/html"),
        (200, b"{", "application/json"),
        (200, b"[]", "application/json"),
        (200, b'{"symbols": [], "time": 3}', "application/json"),
        (404, b"not here", "text/plain"),
        (404, b'{"detail": [1]}', "application/json"),
        (418, b"null", "application/json"),
    ],
)
def test_what_is_no_endpoint_is_said_to_be_none(status: int, body: bytes, kind: str) -> None:
    with answering(status, body, Content_Type=kind) as server:
        error = refused(Heatmap(server.address))
    assert server.address in str(error)
    assert "check the address" in str(error)


def test_a_server_of_an_earlier_version_is_said_to_be_of_another(file: Heatmap) -> None:
    listing = orjson.loads(file._access.ask("/symbols", {}))
    del listing["symbols"][0]["source"]
    words = r"does not answer as .* \(KeyError: 'source'\); .* the same version"
    with (
        answering(200, orjson.dumps(listing)) as server,
        Heatmap(server.address) as heatmap,
        pytest.raises(ClientError, match=words),
    ):
        heatmap.markets()


def test_nobody_there_is_said() -> None:
    with socket.create_server((HOST, 0)) as bound:
        port = bound.getsockname()[1]
    error = refused(Heatmap(f"http://{HOST}:{port}/"))
    assert (
        str(error)
        == f"http://{HOST}:{port} cannot be reached (Connection refused); is a server of this program running there?"
    )
    error = refused(Heatmap("http://nobody.invalid"))
    assert str(error).startswith("http://nobody.invalid cannot be reached (")
    assert "object at 0x" not in str(error)
    assert error.status is None
    assert str(refused(Heatmap("http://two..dots"))).startswith("http://two..dots cannot be reached (")


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server((HOST, 0)) as bound:
        address = f"http://{HOST}:{bound.getsockname()[1]}"
        begun = time.monotonic()
        error = refused(Heatmap(address, timeout=0.2))
    assert str(error) == f"{address} does not answer within 0.2 s; try again later"
    assert time.monotonic() - begun < 5


def test_a_cut_answer_is_no_answer() -> None:
    with answering(200, b"", Content_Encoding="gzip") as server:
        server.body = b"\x1f\x8bdamaged"
        assert "cannot be reached" in str(refused(Heatmap(server.address)))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[", "http://host:port", "file:///etc/passwd", "://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ClientError, match=r"is no address of an endpoint; write http://127\.0\.0\.1:8888"):
        Heatmap(url)


@pytest.mark.parametrize("token", ["two words", "line\n", "schlüssel", "\x00"])
def test_a_token_that_can_be_none_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ClientError, match=r"^the token holds a blank, or a letter that is not ASCII") as refusal:
        Heatmap("http://127.0.0.1:1", token=token)
    assert token not in str(refusal.value)


def test_an_address_may_have_a_path_and_a_netrc_takes_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Heatmap
) -> None:
    """Behind a proxy everything lies below a path; a .netrc must not take the token's place."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with answering(200, file._access.ask("/symbols", {})) as server:
        with Heatmap(f"{server.address}/heatmap/", token=TOKEN) as heatmap:
            assert heatmap.markets() == file.markets()
        assert server.asked == [("/heatmap/symbols", f"Bearer {TOKEN}")]
