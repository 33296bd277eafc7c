"""The guard by itself: what passes, what is refused, and that every refusal says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heatmap_pipeline.orchestration.ui.guard import Guard, own_hosts

OURS = {"host": "127.0.0.1:3000"}
OWN_PAGE = {**OURS, "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}
PROXY = {"host": "heatmap.example.org", "origin": "https://heatmap.example.org", "sec-fetch-site": "same-origin"}
JSON = {"content-type": "application/json"}
HTML = {"accept": "text/html,*/*"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
Answer = tuple[int, str, dict[str, str], bool]


def ask(headers: dict[str, str] | list[tuple[str, str]], method: str = "GET", path: str = "/runs") -> Answer:
    """Return status, body and headers of the answer, and whether the app behind the guard was reached."""
    reached: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        await send({"type": f"{prefix}.start", "status": 200, "headers": []})
        await send({"type": f"{prefix}.body", "body": b"behind"})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    scope: dict[str, Any] = {
        "type": "websocket" if method == "WEBSOCKET" else "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        "extensions": {"websocket.http.response": {}},
    }
    guard = Guard(app, own_hosts("127.0.0.1", 3000), ("heatmap.example.org",))
    asyncio.run(guard(scope, receive, send))
    start, body = sent
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], body["body"].decode(), named, bool(reached)


@pytest.mark.parametrize(
    ("headers", "method", "path"),
    [
        (OURS, "GET", "/runs"),
        ({"host": "localhost:3000"}, "GET", "/"),
        ({"host": "[::1]:3000"}, "HEAD", "/"),
        ({"host": "LOCALHOST:3000"}, "GET", "/"),
        ({"host": "heatmap.example.org"}, "GET", "/"),
        ({**OURS, "sec-fetch-site": "none"}, "GET", "/assets"),
        ({**OURS, **LINK, **HTML, "sec-fetch-site": "cross-site"}, "GET", "/runs/1"),
        ({**OWN_PAGE, **HTML}, "GET", "/graphql"),
        ({**OWN_PAGE, **JSON}, "POST", "/graphql"),
        ({**OURS, "content-type": "Application/JSON; charset=utf-8"}, "POST", "/graphql"),
        ({**PROXY, **JSON}, "POST", "/graphql"),
        ({**PROXY, **JSON, "host": "127.0.0.1:3000"}, "POST", "/graphql"),
        (OWN_PAGE, "WEBSOCKET", "/graphql"),
        (OURS, "WEBSOCKET", "/graphql"),
        (PROXY, "WEBSOCKET", "/graphql"),
    ],
)
def test_the_ui_and_programs_pass(headers: dict[str, str], method: str, path: str) -> None:
    status, body, _, reached = ask(headers, method, path)
    assert (status, body, reached) == (200, "behind", True)


@pytest.mark.parametrize(
    ("headers", "method", "path", "said"),
    [
        ({}, "GET", "/", "host '' is not a name of this UI"),
        ({"host": "evil.example"}, "GET", "/", "HEATMAP_UI_HOSTS"),
        ({"host": "127.0.0.1:3001"}, "GET", "/", "not a name of this UI"),
        ({"host": "127.0.0.1:3000.evil.example"}, "GET", "/", "not a name of this UI"),
        ({"host": "evil.example", **JSON}, "POST", "/graphql", "not a name of this UI"),
        ({"host": "evil.example", "origin": "http://evil.example"}, "WEBSOCKET", "/graphql", "not a name of this UI"),
        (OURS, "GET", "/graphql", "ask over POST"),
        ({**OURS, "accept": "image/avif,*/*"}, "GET", "/graphql", "ask over POST"),
        (OURS, "GET", "/graphql\n", "ask over POST"),
        (OURS, "GET", "/GraphQL/", "ask over POST"),
        (OURS, "HEAD", "/graphql", "ask over POST"),
        ({**OURS, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "GET", "/logs/1.out", "may link"),
        ({**OURS, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, "GET", "/server_info", "may link"),
        ({**OURS, **LINK, "sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, "GET", "/", "may link"),
        (OURS, "POST", "/graphql", "content type '' is not taken"),
        ({**OURS, "content-type": "text/plain"}, "POST", "/graphql", "'text/plain' is not taken"),
        ({**OURS, "content-type": "text/plain; application/json"}, "POST", "/graphql", "'text/plain' is not taken"),
        ({**OURS, "content-type": "multipart/form-data; boundary=x"}, "POST", "/graphql", "'multipart/form-data'"),
        ({**OURS, "content-type": "application/graphql"}, "POST", "/graphql", "'application/graphql' is not taken"),
        ({**OURS, **JSON, "origin": "http://evil.example"}, "POST", "/graphql", "another site"),
        ({**OURS, **JSON, "origin": "null"}, "POST", "/graphql", "another site"),
        ({**OURS, **JSON, "origin": "http://localhost:3000"}, "POST", "/graphql", "another site"),
        ({**OURS, **JSON, "origin": "https://127.0.0.1:3000"}, "POST", "/graphql", "another site"),
        ({**OURS, **JSON, "origin": "http://127.0.0.1:8888"}, "POST", "/report_asset_check/a", "another site"),
        ({**OURS, **JSON, "sec-fetch-site": "cross-site"}, "POST", "/graphql", "'cross-site' request"),
        ({**OURS, **JSON, "sec-fetch-site": "none"}, "POST", "/graphql", "'none' request"),
        ({**OURS, "origin": "http://evil.example"}, "WEBSOCKET", "/graphql", "another site"),
        ({**OURS, "sec-fetch-site": "same-site"}, "WEBSOCKET", "/graphql", "'same-site' request"),
        (OURS, "OPTIONS", "/graphql", "method 'OPTIONS' is not taken"),
        (OURS, "DELETE", "/", "method 'DELETE' is not taken"),
        ([*OURS.items(), ("host", "evil.example")], "GET", "/", "host is given more than once"),
        ([*OURS.items(), *JSON.items(), ("content-type", "text/plain")], "POST", "/", "content-type is given more"),
    ],
)
def test_strangers_are_refused_in_a_sentence(headers: Any, method: str, path: str, said: str) -> None:
    status, body, named, reached = ask(headers, method, path)
    assert (status, reached) == (403, False)
    assert said in body
    assert body.isascii()
    assert body.count("\n") == 1
    assert "access-control-allow-origin" not in named


def test_no_other_page_may_frame_it() -> None:
    _, _, named, _ = ask(OURS)
    assert named["x-frame-options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in named["content-security-policy"]


def test_the_hosts_of_an_address() -> None:
    loopback = {"127.0.0.1:3000", "localhost:3000", "[::1]:3000"}
    assert own_hosts("127.0.0.1", 3000) == own_hosts("::", 3000) == loopback
    assert own_hosts("192.168.1.5", 3000) == {*loopback, "192.168.1.5:3000"}
    assert own_hosts("fe80::1", 3000) == {*loopback, "[fe80::1]:3000"}
    assert {"localhost", "127.0.0.1", "localhost:80"} < own_hosts("127.0.0.1", 80)
