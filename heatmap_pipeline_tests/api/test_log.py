"""The lines that `heatmap serve` prints: one of each request, whole and well-formed, and never with the token."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote_plus

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.api.log import notices, printer, requests, shown
from heatmap_pipeline.api.parameters import PARAMETERS
from heatmap_pipeline.api.traffic import Passed
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.homes import HEATMAP, TestClient

TOKEN = "open-sesame+%41"  # noqa: S105


def logged(settings: Settings, form: str, *asked: tuple[str, str, dict[str, str]]) -> list[str]:
    """Return the lines of some requests: method, address, headers."""
    lines: list[str] = []
    app = create_app(settings, log=requests(lines.append, form, settings.api_token, PARAMETERS))
    with TestClient(app) as one:
        for method, address, headers in asked:
            one.request(method, address, headers=headers)
    return lines


def test_a_line_of_json_for_each_request(published: Settings) -> None:
    before = datetime.now(UTC)
    address = f"{HEATMAP}?symbol=BTCUSDT&interval=1d&format=columns"
    lines = logged(
        published,
        "json",
        ("GET", address, {"Accept-Encoding": "identity"}),
        ("HEAD", "/symbols", {}),
        ("GET", "/nothing?here=1", {}),
        ("POST", "/symbols", {}),
        ("GET", f"/symbols?{'x' * 5000}", {}),
    )
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    names = ["time", "event", "client", "method", "path", "query", "status", "bytes", "milliseconds"]
    assert [list(entry) for entry in entries] == [names] * 5
    assert [(entry["method"], entry["path"], entry["status"]) for entry in entries] == [
        ("GET", HEATMAP, 200),
        ("HEAD", "/symbols", 200),
        ("GET", "/nothing", 404),
        ("POST", "/symbols", 405),
        ("GET", "/symbols", 414),
    ]
    assert [entry["query"] for entry in entries] == [address.partition("?")[2], "", "here=***", "", "***"]
    assert entries[0]["bytes"] > 1000
    assert entries[1]["bytes"] == 0, "the answer to HEAD has no body"
    assert all(entry["milliseconds"] > 0 and entry["client"] == "testclient" for entry in entries)
    assert all(before.timestamp() - 1 < datetime.fromisoformat(entry["time"]).timestamp() for entry in entries)


def test_the_values_of_all_parameters_that_there_are_are_shown(published: Settings) -> None:
    paths = create_app(published).openapi()["paths"].values()
    assert {parameter["name"] for path in paths for parameter in path["get"].get("parameters", ())} == PARAMETERS


def test_a_line_of_text_for_each_request_or_none(published: Settings) -> None:
    (line,) = logged(published, "text", ("GET", "/symbols?a=b%0Ac", {}))
    time, client, method, address, status, size, *rest = line.split(" ")
    assert datetime.fromisoformat(time).tzinfo is not None
    assert (client, method, address, status) == ("testclient", "GET", "/symbols?a=***", "422")
    assert int(size) > 20
    assert (rest[0], rest[2]) == ("bytes", "ms")
    assert logged(published, "off", ("GET", "/symbols", {})) == []


def test_notices_are_json_where_lines_are(published: Settings) -> None:
    lines: list[str] = []
    notices(lines.append, "text")("as it is")
    notices(lines.append, "json")("wörtlich")
    assert lines[0] == "as it is"
    entry = json.loads(lines[1])
    assert (entry["event"], entry["message"]) == ("notice", "wörtlich")


def test_the_token_is_in_no_line(published: Settings) -> None:
    settings = published.model_copy(update={"api_token": SecretStr(TOKEN)})
    right = {"Authorization": f"Bearer {TOKEN}"}
    raw, coded, twice = TOKEN, quote(TOKEN, safe=""), quote(quote(TOKEN, safe=""), safe="")
    addresses = [
        "/symbols",
        *(f"/symbols?symbol={form}" for form in (raw, coded, twice)),
        *(f"/{form}" for form in (coded, twice)),
        f"/symbols?{coded}",
        f"/symbols?token={coded}&symbol=BTCUSDT",
    ]
    lines = logged(settings, "json", *(("GET", address, right) for address in addresses))
    assert len(lines) == len(addresses)
    assert json.loads(lines[0])["status"] == 200
    for line in lines:
        entry = json.loads(line)
        text = f"{entry['path']}?{entry['query']}"
        for _ in range(3):
            assert "open-sesame" not in text, line
            text = unquote_plus(text)


def encoded(letters: str, choices: list[bool]) -> str:
    """Percent-encode some of the letters."""
    return "".join(
        f"%{ord(letter):02X}" if chosen or letter in "%&=+#?/" else letter
        for letter, chosen in zip(letters, choices, strict=True)
    )


tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=20)


@given(tokens, st.data(), st.integers(1, 4))
def test_however_it_is_encoded(token: str, data: st.DataObject, depth: int) -> None:
    text = token
    for _ in range(depth):
        text = encoded(text, data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text))))
    assert shown(f"/a/{text}/b", token) == "***"
    assert shown(f"symbol={text}", token) == "***"


@pytest.mark.parametrize(
    ("proxies", "said"),
    [
        ((), "127.0.0.1"),
        (("127.0.0.1",), "2001:db8::7"),
    ],
)
def test_the_client_is_whom_a_trusted_proxy_names(published: Settings, proxies: tuple[str, ...], said: str) -> None:
    lines: list[str] = []
    settings = published.model_copy(update={"api_proxies": proxies})
    with serving_here(settings, log=requests(lines.append, "json", None, PARAMETERS)) as one:
        forwarded = {"X-Forwarded-For": "192.0.2.66, 2001:db8::7"}
        httpx.get(f"http://127.0.0.1:{one.port}/nothing", headers=forwarded)
    (entry,) = (entry for line in lines if (entry := json.loads(line))["path"] == "/nothing")
    assert entry["client"] == said


@given(st.text(max_size=300))
def test_what_a_proxy_hands_on_as_an_address_is_one_word(client: str) -> None:
    lines: list[str] = []
    requests(lines.append, "text", None, PARAMETERS)(Passed(0.0, 0.001, client, "GET", "/", "", 200, 7))
    (line,) = lines
    assert len(line.splitlines()) == 1
    assert line.split(" ")[2:] == ["GET", "/", "200", "7", "bytes", "1", "ms"]


@given(st.text(max_size=300), st.sampled_from(["text", "json"]))
def test_a_line_is_one_line_whatever_is_asked(path: str, form: str) -> None:
    lines: list[str] = []
    passed = Passed(0.0, 0.001, "::1", "GET", f"/{path}", path, 200, 7)
    requests(lines.append, form, None, PARAMETERS)(passed)
    (line,) = lines
    assert len(line.splitlines()) == 1
    assert line.startswith("1970-01-01T00:00:00.000Z ::1 GET /" if form == "text" else '{"time": "1970-01-01T00:00:00.')


def test_nobody_waits_for_who_reads_the_lines() -> None:
    read: list[str] = []
    stuck, go_on = threading.Event(), threading.Event()

    def slow(line: str) -> None:
        stuck.set()
        assert go_on.wait(20)
        read.append(line)

    with printer(slow, "text", room=3) as put:
        put("first")
        assert stuck.wait(20)
        for number in range(10):  # while the first is being read
            put(str(number))
        go_on.set()
    assert read == ["first", "0", "1", "2", "7 lines were lost, as nobody read them in time"]


def test_a_reader_that_is_gone_ends_nothing() -> None:
    asked: list[str] = []

    def gone(line: str) -> None:
        asked.append(line)
        raise BrokenPipeError

    with printer(gone, "json") as put:
        for line in ("one", "two"):
            put(line)
    assert asked == ["one", "two"]


@pytest.mark.parametrize("depth", [4, 1000])
def test_what_is_encoded_again_and_again_is_hidden(depth: int) -> None:
    text = "%" + "25" * depth + "41"
    assert shown(text, "12345678") == "***"
    assert shown(text, None).startswith("%25")
