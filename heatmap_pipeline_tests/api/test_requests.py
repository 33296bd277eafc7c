"""Requests that no browser sends, over real sockets: each is answered, refused or ended, and nobody else waits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from heatmap_pipeline.api import connections
from heatmap_pipeline.api.connections import LONGEST_REQUEST, MOST_HEADERS, MOST_WAITING, Crowd
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._load import HOST
from heatmap_pipeline_tests.api._threaded import Running, everything, serving_here
from heatmap_pipeline_tests.api.homes import BTC, HEATMAP

GET = b"GET /symbols HTTP/1.1\r\nHost: h\r\n"
CLOSE = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def server(published: Settings) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "REQUEST_SECONDS", 0.6)
        patch.setattr(connections, "_LOOK_SECONDS", 0.1)
        with serving_here(published) as one:
            yield one


def status(answer: bytes) -> int:
    return int(answer[9:12]) if answer else 0


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(GET + CLOSE, 200, id="the usual"),
        pytest.param(b"GET /symbols HTTP/1.0\r\n\r\n", 200, id="HTTP/1.0 without a host"),
        pytest.param(b"HEAD /symbols HTTP/1.0\r\n\r\n", 200, id="HEAD"),
        pytest.param(b"OPTIONS /symbols HTTP/1.1\r\nHost: h\r\n" + CLOSE, 405, id="OPTIONS"),
        pytest.param(b"GET http://h/symbols HTTP/1.1\r\nHost: h\r\n" + CLOSE, 200, id="a whole address"),
        pytest.param(GET + CHUNKED + CLOSE + b"1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", 200, id="chunks"),
        pytest.param(GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 200, id="a websocket"),
        pytest.param(GET + b"Upgrade: h2c\r\nHTTP2-Settings: A\r\nConnection: Upgrade\r\n\r\n", 200, id="HTTP/2"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2 unasked"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n" + CLOSE, 404, id="OPTIONS of everything"),
        pytest.param(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 400, id="CONNECT"),
        pytest.param(b"GET http://[::1 HTTP/1.1\r\nHost: h\r\n" + CLOSE, 400, id="half an address"),
        pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n" + CLOSE, 400, id="bytes beyond ASCII"),
        pytest.param(b"GET /%00%ff%2e%2e HTTP/1.1\r\nHost: h\r\n" + CLOSE, 404, id="escaped nonsense"),
        pytest.param(b"GET /symbols\0 HTTP/1.1\r\nHost: h\r\n" + CLOSE, 400, id="a byte of 0"),
        pytest.param(GET + b"X: \0\r\n" + CLOSE, 400, id="a byte of 0 in a header"),
        pytest.param(GET + b"Content-Length: 5\r\nContent-Length: 6\r\n" + CLOSE, 400, id="two lengths"),
        pytest.param(GET + b"Content-Length: 5\r\n" + CHUNKED + CLOSE, 400, id="length and chunks"),
        pytest.param(GET + b"Content-Length: -1\r\n" + CLOSE, 400, id="a length below 0"),
        pytest.param(GET + b"Content-Length: " + b"9" * 30 + b"\r\n" + CLOSE, 400, id="a length beyond 64 bits"),
        pytest.param(GET + b"A: b\r\n" * MOST_HEADERS + CLOSE, 400, id="too many headers"),
        pytest.param(GET + b"A: b\r\n" * (MOST_HEADERS - 2) + CLOSE, 200, id="many headers"),
        pytest.param(b"GET /symbols?" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE, 414, id="2,000"),
        pytest.param(b"GET /symbols?" + b"a&" * 60 + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE, 422, id="60 parameters"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
    ],
)  # fmt: skip
def test_a_request_gets_one_answer_and_the_connection_ends(server: Running, request_: bytes, expected: int) -> None:
    answer = server.said(request_)
    assert status(answer) == expected, answer[:300]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        pytest.param(b"GET /symbols HTTP/1.1\r\nX: ", b"x" * 1000, id="a header without an end"),
        pytest.param(b"GET /symbols?", b"a=b&" * 100, id="an address without an end"),
        pytest.param(GET + CHUNKED + b"\r\n", b"ff\r\n" + b"x" * 255 + b"\r\n", id="chunks"),
        pytest.param(GET + CHUNKED + b"\r\n1", b";a=b" * 100, id="extensions of a chunk"),
        pytest.param(GET + CHUNKED + b"\r\n0\r\nA: ", b"b" * 1000, id="a trailer without an end"),
        pytest.param(GET + CHUNKED + b"\r\n0\r\n", b"A: b\r\n", id="trailers"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n", b"x" * 1000, id="a body"),
        pytest.param(b"", b"\r\n", id="empty lines"),
    ],
)  # fmt: skip
def test_a_request_without_an_end_is_ended(server: Running, begin: bytes, again: bytes) -> None:
    """By what it has sent, or by its time; it never gets more than an answer, and others get theirs meanwhile."""
    sent, started = len(begin), time.monotonic()
    with server.opened(begin) as connection:
        connection.settimeout(5)
        try:
            while time.monotonic() - started < 5:
                connection.sendall(again)
                sent += len(again)
                if sent > LONGEST_REQUEST // 2:
                    time.sleep(0.005)
        except ConnectionError:
            pass
    assert time.monotonic() - started < 4
    assert sent < 8 * LONGEST_REQUEST, "more was taken than a request may have, and what the system holds"
    assert httpx.get(f"http://{HOST}:{server.port}/symbols").status_code == 200


def test_a_body_that_nobody_reads_is_passed_over(server: Running) -> None:
    chunked = GET + CHUNKED + b"\r\n4\r\nGET \r\n0\r\n\r\n"
    sized = b"POST /symbols HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nGET / "
    answers = server.said(chunked + sized + GET + CLOSE)
    assert [status(answers[at:]) for at in places(answers, b"HTTP/1.1 ")] == [200, 405, 200]


def places(text: bytes, part: bytes) -> list[int]:
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def test_requests_that_come_together_are_answered_in_order(server: Running) -> None:
    paths = [b"/symbols", b"/nothing", b"/prices/klines?symbol=BTCUSDT&limit=10"] * (MOST_WAITING // 4)
    asked = b"".join(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n" for path in paths)
    answers = server.said(asked + GET + CLOSE)
    found = [status(answers[at:]) for at in places(answers, b"HTTP/1.1 ")]
    assert found == [200, 404, 200] * (MOST_WAITING // 4) + [200]


def test_too_many_requests_that_come_together_end_the_connection(server: Running) -> None:
    before = server.crowd.cut
    answers = server.said((GET + b"\r\n") * 20_000)
    assert answers.count(b"HTTP/1.1 ") <= MOST_WAITING + 1
    assert server.crowd.cut == before + 1


def test_who_sends_half_a_request_again_and_again_gets_no_more_time(server: Running) -> None:
    """Also on a connection that was answered before, and byte by byte."""
    with server.opened(GET + b"\r\n") as connection:
        connection.recv(1 << 16)
        started = time.monotonic()
        connection.settimeout(5)
        try:
            while time.monotonic() - started < 5:
                connection.sendall(b"\r\n")
                time.sleep(0.02)
        except ConnectionError:
            pass
        assert 0.3 < time.monotonic() - started < 2.5


def test_head_is_get_without_the_body(server: Running) -> None:
    path = f"{HEATMAP}?symbol={BTC}&interval=1h"
    with httpx.Client(base_url=f"http://{HOST}:{server.port}") as asks:
        get, head = asks.get(path), asks.head(path)
    assert (get.status_code, head.status_code) == (200, 200)
    assert (head.content, head.headers["content-length"]) == (b"", get.headers["content-length"])
    assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS"])
def test_a_flood_of_what_costs_little_leaves_room_for_others(server: Running, method: bytes) -> None:
    asked = method + b" /symbols HTTP/1.1\r\nHost: h\r\n\r\n"
    flood = [socket.create_connection((HOST, server.port), 10) for _ in range(20)]
    try:
        for connection in flood:
            connection.sendall(asked * 50)
        started = time.monotonic()
        assert httpx.get(f"http://{HOST}:{server.port}/health", timeout=10).status_code in {200, 503}
        assert time.monotonic() - started < 3
    finally:
        for connection in flood:
            connection.close()


def test_clients_take_turns_at_what_takes_a_moment() -> None:
    order: list[str] = []

    async def test() -> None:
        loop, crowd = asyncio.get_running_loop(), Crowd(10, 5)
        for _ in range(100):
            crowd.begin("greedy", loop, lambda: order.append("greedy"))
        for _ in range(3):
            crowd.begin("modest", loop, lambda: order.append("modest"))
        await asyncio.sleep(0)
        assert len(order) == 1, "one at a time, so that others can be heard meanwhile"
        while len(order) < 103:
            await asyncio.sleep(0)

    asyncio.run(test())
    assert order[:7] == ["greedy", "modest"] * 3 + ["greedy"]
    assert order.count("greedy") == 100


# -- proxies


def asked_by(published: Settings, monkeypatch: pytest.MonkeyPatch, proxies: tuple[str, ...], forwarded: str) -> str:
    """Return whom a question counts for that is passed on with X-Forwarded-For."""
    clients: list[str] = []
    with serving_here(published.model_copy(update={"api_proxies": proxies})) as one:
        body = one.service.body

        async def noted(*arguments: object, client: str, **more: object) -> bytes:
            clients.append(client)
            return await body(*arguments, client=client, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(one.service, "body", noted)
        headers = {"X-Forwarded-For": forwarded}
        httpx.get(f"http://{HOST}:{one.port}/symbols", headers=headers).raise_for_status()
    return clients[0]


def test_only_a_trusted_proxy_says_who_asks(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_by(published, monkeypatch, (), "192.0.2.7") == HOST
    assert asked_by(published, monkeypatch, ("127.0.0.0/8",), "192.0.2.66, 2001:db8::7") == "2001:db8::"


@pytest.mark.parametrize(("proxies", "left"), [((), 8), (("127.0.0.1",), 20)])
def test_the_connections_of_a_trusted_proxy_are_not_one_clients(
    published: Settings, proxies: tuple[str, ...], left: int
) -> None:
    with serving_here(published.model_copy(update={"api_proxies": proxies}), most=32) as one:
        made = []
        for _ in range(20):
            made.append(socket.create_connection((HOST, one.port), 10))
            made[-1].sendall(GET + b"\r\n")
            assert made[-1].recv(16).startswith(b"HTTP/1.1 200")
        assert len(one.crowd) == left
        for connection in made[: 20 - left]:  # the oldest that was idle made room
            everything(connection)
        for connection in made:
            connection.close()
