"""The limits of the web client hold whatever a server sends, and every answer becomes data or a sentence."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from heatmap_pipeline.market.web import Patience, Reply, WebClient, WebError
from heatmap_pipeline_tests.market._hostile_server import HostileServer, says
from heatmap_pipeline_tests.market._socks import go_through, relay_to

OK = b"HTTP/1.1 200 OK\r\n"


def body(reply: Reply) -> bytes:
    return reply.body(1 << 20)


def ask(server: HostileServer, seconds: float, retries: int = 0) -> bytes:
    client = WebClient(server.url, setting="HEATMAP_REST_URL", timeout=1.0, retries=retries, backoff=0.01)
    with client:
        return client.get("a", body, patience=Patience(seconds))


@pytest.mark.parametrize(
    ("first", "again", "pause"),
    [
        pytest.param(OK + b"X-Long: ", b"x", 0.02, id="a head that drips"),
        pytest.param(b"HTTP/1", b".", 0.02, id="a status line that drips"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0, id="a flood of 100 Continue"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n", 0.02, id="a dripped flood of 100 Continue"),
        pytest.param(OK + b"Content-Length: 90000\r\n\r\n", b"x", 0.02, id="a body that drips"),
        pytest.param(OK + b"Connection: close\r\n\r\n", b"x", 0.02, id="a body that drips without a length"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x", 0.02, id="a chunk whose head drips"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", 0.02, id="trailers without an end"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 999, 0.0, id="a flood of trailers"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;a=b\r\nx\r\n", 0.02, id="chunks of one byte"),
        pytest.param(
            OK + b"Content-Encoding: gzip\r\nContent-Length: 900000\r\n\r\n",
            gzip.compress(b""),
            0.02,
            id="compressed nothing",
        ),
        pytest.param(b"HTTP/1.1 403 No\r\nContent-Length: 9000\r\n\r\n", b"x", 0.02, id="a refusal that drips"),
        pytest.param(b"HTTP/1.1 302 Go\r\nLocation: /", b"a", 0.02, id="a redirect that drips"),
    ],
)
def test_the_time_limit_holds_whatever_is_sent(first: bytes, again: bytes, pause: float) -> None:
    with HostileServer(says(first, again, pause)) as server:
        started = time.monotonic()
        with pytest.raises(WebError, match=r"the time limit of 0\.6 s is used up|the server answered 403") as refused:
            ask(server, 0.6, retries=3)
        assert time.monotonic() - started < 2.5
    assert refused.value.temporary


def test_an_answer_within_its_time_is_left_alone() -> None:
    """Also one after the deadline of an earlier request of the same client, on the same connection."""
    served = threading.Event()

    def talk(client: object, stopped: threading.Event) -> None:
        for _ in range(2):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi")  # type: ignore[attr-defined]
            served.wait(5)
            client.recv(4096)  # type: ignore[attr-defined]

    with HostileServer(talk) as server, WebClient(server.url, setting="HEATMAP_REST_URL", retries=0) as client:
        assert client.get("a", body, patience=Patience(0.3)) == b"hi"
        time.sleep(0.5)
        served.set()
        assert client.get("a", body, patience=Patience(5)) == b"hi"


def busy(count: int) -> Callable[[socket.socket, threading.Event], None]:
    """Answer 503 so often, on connections of their own, then with a body."""
    left = [count]

    def talk(client: socket.socket, _: threading.Event) -> None:
        left[0] -= 1
        none = left[0] < 0
        client.sendall((OK if none else b"HTTP/1.1 503 No\r\n") + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi")

    return talk


def test_what_lasts_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, words in (
        (60.0, []),
        (0.0, [f"the server answered 503; trying again in 0 s ({number} of 5)" for number in (2, 3, 4)]),
    ):
        monkeypatch.setattr("heatmap_pipeline.market.web.QUIET_SECONDS", quiet)
        caplog.clear()
        with HostileServer(busy(3)) as server:
            assert ask(server, 5, retries=4) == b"hi"
            where = server.url.removeprefix("http://").rstrip("/")
        assert caplog.messages == [f"{where}/a: {one}" for one in words]


def test_many_threads_that_wait_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """A pause that is longer than `QUIET_SECONDS` is said before it, for the others as well."""

    def talk(client: socket.socket, _: threading.Event) -> None:
        client.sendall(b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 11\r\n\r\n")

    def asked(client: WebClient) -> None:
        patience = Patience(12, lambda _: patience.stop())
        with suppress(WebError):
            client.get("a", body, patience=patience)

    with HostileServer(talk) as server, WebClient(server.url, setting="HEATMAP_REST_URL") as client:
        threads = [threading.Thread(target=asked, args=(client,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (words,) = caplog.messages
    assert words.endswith("/a: the server answered 503; trying again in 11 s (2 of 6)")


@pytest.mark.parametrize(
    "place",
    [
        b"http://[", b"http://[::1", b"http://a:b/", b"http://a:99999/", b"http://a:-1/", b"//", b"///", b"http:///x",
        b"http://\xff\xfe/", b"http://a b/", b"http://.a/", b"http://" + b"a" * 70 + b"/", b"http://a..b/",
        b"http://xn--/", b"http://%00/", b"http://*/", b"http://[v1.a]/", b"http://1.2.3.4.5:80:80/", b"\xe2\x80\xae",
        b"http://user@/", b"http://a\\b/", b"http://0x7f.0.0.0.1:0/",
    ],
)  # fmt: skip
def test_a_redirect_to_no_address_is_a_sentence(place: bytes) -> None:
    with (
        HostileServer(
            says(b"HTTP/1.1 302 Go\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n", b"", 1.0)
        ) as server,
        pytest.raises(WebError, match="HEATMAP_REST_URL") as refused,
    ):
        ask(server, 3.0)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\0" * 100, b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 9999 X\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 429 X\r\nRetry-After: \xff\r\n\r\n",
    ],
)  # fmt: skip
def test_no_answer_at_all_is_a_sentence(answer: bytes) -> None:
    def talk(client: object, stopped: threading.Event) -> None:
        client.sendall(answer)  # type: ignore[attr-defined]

    with HostileServer(talk) as server, pytest.raises(WebError, match=r"1 times; try again later|time limit"):
        ask(server, 3.0)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: \xb2", b"Content-Length: \xd9\xa3", b"Content-Length: -5", b"Content-Length: 5, 6",
        b"Content-Length: " + b"9" * 5000, b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length: 1e3",
        b"Content-Length: 9", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
        b"Content-Encoding: gzip", b"Content-Encoding: gzip, gzip, gzip, gzip, gzip, gzip, gzip",
        b"X: \0", b"\0: x", b": x", b"no colon", b"Content-Length: 2",
    ],
)  # fmt: skip
def test_a_head_that_lies_gives_a_body_or_a_sentence(head: bytes) -> None:
    """The body is `hello` and the end of the connection: all of it comes, or its promised beginning, or a sentence."""

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        client.sendall(OK + head + b"\r\n\r\nhello")

    with HostileServer(talk) as server:
        try:
            taken = ask(server, 3.0)
        except WebError as error:
            said = str(error)
            taken = b""
        else:
            said = ""
    if said:
        assert "1 times; try again later" in said or "check HEATMAP_REST_URL" in said
    else:
        assert taken in {b"hello", b"hell", b"he"}


@pytest.mark.parametrize("status", [101, 102, 103, 199])
def test_an_answer_that_is_announced_is_never_taken_for_another(status: int) -> None:
    """What comes after the announcement, late, is the answer to no later request of the client."""
    served: list[int] = []

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        served.append(len(served))
        if served[-1]:
            client.sendall(OK + b"Content-Length: 5\r\n\r\nright")
        else:
            client.sendall(b"HTTP/1.1 %d Soon\r\n\r\n" % status)
            stopped.wait(0.05)
            client.sendall(OK + b"Content-Length: 5\r\n\r\nwrong")

    with HostileServer(talk) as server, WebClient(server.url, setting="HEATMAP_REST_URL", retries=0) as client:
        with pytest.raises(WebError, match=rf"announced its answer \({status}\)"):
            client.get("a", body, patience=Patience(5))
        assert client.get("b", body, patience=Patience(5)) == b"right"


@pytest.mark.parametrize("codings", [1, 2, 3])
def test_what_is_compressed_is_unpacked_as_far_as_a_right_answer_goes(codings: int) -> None:
    """Zeros a hundred times the limit, compressed once or again and again: the limit holds, and so does memory."""
    packed = gzip.compress(bytes(100 << 20), 1)
    for _ in range(codings - 1):
        packed = gzip.compress(packed)

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        coding = b", ".join([b"gzip"] * codings)
        client.sendall(OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed)) + packed)

    tracemalloc.start()
    try:
        with HostileServer(talk) as server, pytest.raises(WebError, match="larger than 1048576 bytes"):
            ask(server, 20.0)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_redirects_from_host_to_host_come_to_an_end() -> None:
    ports: list[int] = []

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        ports.append(ports[-2])
        head = b"HTTP/1.1 307 Go\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:%d/\r\n\r\n"
        client.sendall(head % ports[-1])  # it closes then: a client that counts on more would meet a cut connection

    with HostileServer(talk) as one, HostileServer(talk) as other:
        ports += [one.port, other.port]
        with pytest.raises(WebError, match="redirects more than 5 times"):
            ask(one, 5.0)
    assert len(ports) == 2 + 6


# --- SOCKS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[HostileServer], None]:
    return lambda proxy: go_through(monkeypatch, proxy)


def test_a_socks_proxy_is_used(through: Callable[[HostileServer], None]) -> None:
    asked: list[str] = []
    answer = says(OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi", b"", 0.1)
    with HostileServer(answer) as server, HostileServer(relay_to(server.port, asked), head=False) as proxy:
        through(proxy)
        with WebClient("http://exchange.example", setting="HEATMAP_REST_URL", retries=0) as client:
            assert client.get("a", body, patience=Patience(5)) == b"hi"
    assert asked == ["exchange.example"]


def test_the_time_limit_holds_through_a_socks_proxy(through: Callable[[HostileServer], None]) -> None:
    drip = says(OK + b"X-Long: ", b"x", 0.02)
    with HostileServer(drip) as server, HostileServer(relay_to(server.port, []), head=False) as proxy:
        through(proxy)
        with WebClient("http://exchange.example", setting="HEATMAP_REST_URL", retries=0) as client:
            started = time.monotonic()
            with pytest.raises(WebError, match=r"time limit of 0\.6 s is used up"):
                client.get("a", body, patience=Patience(0.6))
            assert time.monotonic() - started < 3


def test_a_socks_proxy_that_is_not_there_is_named(through: Callable[[HostileServer], None]) -> None:
    with HostileServer(says(b"", b"", 0.1)) as proxy:
        through(proxy)
    client = WebClient("http://exchange.example", setting="HEATMAP_REST_URL", retries=0)
    with pytest.raises(WebError, match=r"the SOCKS proxy \(HTTPS_PROXY, ALL_PROXY\)"):
        client.get("a", body, patience=Patience(5))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("socks://ann:secret@127.0.0.1:9", "written socks://..., which is no address"),
        ("socks6://127.0.0.1:9", "written socks6://..., which"),
        ("socks5://", "written socks5://..., which"),
        ("http://[::1", "written ..., which"),
    ],
)
def test_a_proxy_that_is_written_wrong_is_said_to_be(written: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """GNOME sets the first one."""
    with HostileServer(says(b"", b"", 0.1)) as server:
        go_through(monkeypatch, server)
    monkeypatch.setenv("ALL_PROXY", written)
    client = WebClient("http://exchange.example", setting="HEATMAP_REST_URL", retries=3)
    with pytest.raises(WebError) as refused:
        client.get("a", body, patience=Patience(5))
    assert said in str(refused.value)
    assert "set HTTPS_PROXY or ALL_PROXY to socks5h://HOST:PORT" in str(refused.value)
    assert "secret" not in str(refused.value)
