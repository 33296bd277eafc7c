"""The running endpoint against its own description, and against requests that nobody should send.

schemathesis makes requests from /openapi.json, valid and invalid ones, and judges the answers; the same requests every
time, few of them, and three times as many examples with HYPOTHESIS_PROFILE=ci. For many, and others at every run:

    HEATMAP_TEST_CONTRACT=2000 pytest heatmap_pipeline_tests/api/test_contract.py

It runs as a program, not as pytest's plugin, whose import every start of pytest would pay for.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._examples import tries
from heatmap_pipeline_tests.api._load import HOST, KLINES, LEVELS, serving_fork
from heatmap_pipeline_tests.api.homes import HEATMAP, MAP

EXAMPLES = int(os.environ.get("HEATMAP_TEST_CONTRACT", "0"))
OPERATIONS = {
    HEATMAP,
    MAP,
    "/liquidations/lots",
    LEVELS,
    KLINES,
    "/score",
    "/alerts",
    "/symbols",
    "/markets",
    "/health",
    "/ready",
    "/cache/stats",
}
_TIMES = r"^2024-01-0[67](T([01]\d|2[0-3]):[0-5]\d(Z|\+0[1-9]:30)?)?$"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(published: Settings) -> Iterator[int]:
    """Where the endpoint listens, over days that count as fresh."""
    with serving_fork(published, api_stale_hours=1e7) as (found, _):
        yield found


# -- the description


def run_schemathesis(port: int, folder: Path, schema: dict[str, Any], *options: str) -> dict[str, Any]:
    """Run it over a schema and return its report; fail with what it says if it finds anything."""
    (folder / "schema.json").write_text(json.dumps(schema))
    settled = ["--generation-database", "none"] if EXAMPLES else ["--generation-deterministic"]
    count = str(EXAMPLES or tries(12, 3))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(folder / "schema.json")),
        *("--url", f"http://{HOST}:{port}", "--max-examples", count, "--continue-on-failure", *settled),
        *("--report", "json", "--report-json-path", str(folder / "report.json")),
        *options,
    ]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def expect(folder: Path, check: str, *statuses: int) -> None:
    """Say which statuses pass a check of schemathesis that runs in a folder."""
    listed = [str(status) for status in statuses]
    (folder / "schemathesis.toml").write_text(f"[checks.{check}]\nexpected-statuses = {json.dumps(listed)}\n")


def served_schema(port: int) -> dict[str, Any]:
    schema: dict[str, Any] = httpx.get(f"http://{HOST}:{port}/openapi.json").json()
    return schema


def test_the_description_is_of_every_operation(port: int) -> None:
    schema = served_schema(port)
    assert set(schema["paths"]) == OPERATIONS
    assert all(set(methods) == {"get"} for methods in schema["paths"].values())
    assert schema["paths"][LEVELS]["get"]["deprecated"]


def test_answers_are_as_described(port: int, tmp_path: Path) -> None:
    """All operations and checks, valid and invalid requests, but for one check.

    `positive_data_acceptance` is left to the next test: that a symbol is published, that start_time is before end_time,
    or that price_bin_size is a multiple of the symbol's bucket, no schema can say, so "valid" requests are refused.
    """
    # Wrong is wrong before anything is looked for: a 404 would hide that a limit of the schema is none.
    expect(tmp_path, "negative_data_rejection", 400, 405, 414, 422)
    options = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")
    report = run_schemathesis(port, tmp_path, served_schema(port), *options)
    assert report["operations"]["tested"] == len(OPERATIONS)
    assert report["test_cases"]["generated"] > 300


def test_what_can_be_answered_is_answered(port: int, tmp_path: Path) -> None:
    """Requests about what there is: no refusal but 404 for a window without data and 413 for too much at once."""
    schema = narrowed(served_schema(port))
    expect(tmp_path, "positive_data_acceptance", 200, 404, 413)
    options = ("--mode", "positive", "--checks", "all", "--phases", "fuzzing")
    report = run_schemathesis(port, tmp_path, schema, *options)
    for operation, phases in report["valid_rates"].items():
        assert phases["fuzzing"]["accepted"] > 0, f"nothing of {operation} was answered"
    assert report["valid_rates"].keys() == {f"GET {path}" for path in OPERATIONS}


def narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that only describes what the published home has."""
    own = {
        "symbol": {"enum": ["BTCUSDT", "ETHUSDT"]},
        "model": {"enum": ["turnover", "delta"]},
        "start_time": {"type": "string", "pattern": _TIMES},
        "time": {"type": "string", "pattern": _TIMES},
        "price_bin_size": {"type": "integer", "multipleOf": 100, "minimum": 100, "maximum": 2_000},
        "leverage_tiers": {"enum": ["all"]},  # which others there are depends on model and weights
        "leverage_weights": {"type": "string", "pattern": r"^[2-9]:[1-9]\d?(\.\d)?(,[1-9]\d:[1-9]\d{0,3})?$"},
    }
    for methods in schema["paths"].values():
        # Of symbol and symbols one is wanted, which the schema of a parameter cannot say.
        every = methods["get"].get("parameters", [])
        parameters = [one for one in every if one["name"] not in ("end_time", "symbols")]
        either = any(one["name"] == "symbols" for one in every)
        methods["get"]["parameters"] = parameters
        for parameter in parameters:
            parameter["required"] |= either and parameter["name"] == "symbol"
            if parameter["name"] in own:
                parameter["schema"] = own[parameter["name"]]
            elif parameter["name"] == "interval":
                parameter["schema"]["enum"] = ["15m", "1h", "4h", "1d"]
    return schema


def at_the_limits(schema: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return texts just inside and just outside of what the schema of a parameter allows."""
    inside = [str(value) for value in schema.get("enum", [])]
    outside = ["", "\0", *(f"{value}x" for value in inside)]
    if schema["type"] in {"integer", "number"}:
        step = 1 if schema["type"] == "integer" else 0.5
        bounds = [schema[key] for key in ("minimum", "maximum") if key in schema]
        inside += [str(bound) for bound in bounds] if schema["type"] == "integer" else []
        outside += [str(schema["maximum"] + step), "x", "nan", "inf", "1e400", "-1"]
        outside += [str(schema["minimum"] - step)] if "minimum" in schema else [str(schema["exclusiveMinimum"])]
    elif "pattern" in schema:
        outside += ["!", "x" * 3000]
    elif schema.get("format") == "date-time":
        outside += ["yesterday", "2024-13-01", "1e9"]
    return inside, outside


def misdescribed(port: int, schema: dict[str, Any]) -> list[str]:
    """Return the requests whose answer is not what the limits in a schema say."""
    wrong = []
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60) as client:
        for path, methods in schema["paths"].items():
            for parameter in methods["get"].get("parameters", []):
                name = parameter["name"]
                inside, outside = at_the_limits(parameter["schema"])
                for value in [*inside, *outside]:
                    answer = client.get(path, params={"symbol": "BTCUSDT", name: value})
                    refused = answer.status_code == 422 and answer.json()["detail"].startswith(name)
                    # The one value that only candles of 1 minute allow.
                    if refused != (value in outside) and "finer than the stored candles" not in answer.text:
                        wrong.append(f"{path} {name}={value!r:.40}: {answer.status_code}")
    return wrong


def test_limits_are_where_the_description_says(port: int) -> None:
    """The check of schemathesis for this takes a request for valid as soon as any of its parameters is."""
    schema = served_schema(port)
    assert misdescribed(port, schema) == []
    (limit,) = (one for one in schema["paths"][KLINES]["get"]["parameters"] if one["name"] == "limit")
    limit["schema"]["maximum"] -= 1
    assert misdescribed(port, schema) == [f"{KLINES} limit='1500': 200"]


# -- what nobody should send

END = b"Host: h\r\nConnection: close\r\n"
BIG = 100_000


def get(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method, target, END, b"".join(header + b"\r\n" for header in headers))


GOOD, BAD = {200}, {400}
HOSTILE: dict[str, tuple[bytes, set[int]]] = {
    # no HTTP, or hardly
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), BAD),
    "a protocol of the future": (b"GET /symbols HTTP/9.9\r\n" + END + b"\r\n", {400, 505}),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "a header without a colon": (get(b"/symbols", b"nothing"), BAD),
    "NUL in a header": (get(b"/symbols", b"X: a\0b"), BAD),
    "bytes that are no ASCII in headers": (
        get(b"/symbols", b"Accept-Encoding: \xff\xfe", b"If-None-Match: \xff", b"Authorization: Bearer \xff"),
        GOOD | BAD,
    ),
    "NUL in the address": (get(b"/symbols?a=\0"), BAD),
    "bytes that are no ASCII in the address": (get("/symbols?a=é".encode()), BAD | {422}),
    "a blank in the address": (get(b"/symbols ?a"), BAD),
    "somebody else's address": (get(b"http://example.org/symbols"), GOOD | {404}),
    "a tunnel": (get(b"example.org:443", method=b"CONNECT"), {400, 404, 405}),
    "length and chunks": (get(b"/symbols", b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", BAD),
    "a negative length": (get(b"/symbols", b"Content-Length: -1", method=b"POST"), BAD),
    "two lengths": (get(b"/symbols", b"Content-Length: 1", b"Content-Length: 2", method=b"POST") + b"ab", BAD),
    "chunks that are none": (get(b"/symbols", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\n", {400, 405}),
    # too much
    "a huge header": (get(b"/symbols", b"X: " + b"a" * BIG), {200, 400, 431}),
    "thousands of headers": (get(b"/symbols", *(b"X%d: a" % n for n in range(5000))), {200, 400, 431}),
    "a huge query": (get(b"/symbols?a=" + b"a" * BIG), {400, 414}),
    "a query that is too long": (get(b"/symbols?a=" + b"a" * 8000), {414}),
    "thousands of parameters": (get(b"/symbols?" + b"&".join(b"a%d" % n for n in range(500))), {414, 422}),
    "a huge path": (get(b"/" + b"a" * BIG), {400, 404, 414}),
    "thousands of tags": (get(b"/symbols", b"If-None-Match: " + b'"a",' * 4000), {200, 400, 431}),
    "a body that never comes": (get(b"/symbols", b"Content-Length: 99999999999", method=b"POST"), {405}),
    "a body with GET": (get(b"/symbols", b"Content-Length: 3") + b"abc", GOOD),
    # well-formed nonsense
    "escaped NUL": (get(b"/prices/klines?symbol=%00"), {422}),
    "escapes that are no UTF-8": (get(b"/prices/klines?symbol=%ff%fe"), {422}),
    "escapes that are none": (get(b"/prices/klines?symbol=BTCUSDT&limit=%zz"), {422}),
    "a name that is no UTF-8": (get(b"/prices/klines?symbol=BTCUSDT&%ff=1"), {422}),
    "a path that is no UTF-8": (get(b"/%ff%00"), {404}),
    "a path upwards": (get(b"/../../etc/passwd"), {400, 404}),
    "an escaped path upwards": (get(b"/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "the same twice": (get(b"/prices/klines?symbol=BTCUSDT&symbol=ETHUSDT"), {422}),
    "the same twice, once escaped": (get(b"/prices/klines?symbol=BTCUSDT&s%79mbol=ETHUSDT"), {422}),
    "an empty parameter": (get(b"/prices/klines?symbol="), {422}),
    "only separators": (get(b"/prices/klines?&&;=&?"), {422}),
    "codings that are none": (get(b"/symbols", b"Accept-Encoding: gzip;q=1e999, zstd;q=nan, *;q=-1, ;;,=,"), GOOD),
    "no coding at all": (get(b"/symbols", b"Accept-Encoding: identity;q=0, *;q=0"), {200, 406}),
    "a part of it": (get(b"/symbols", b"Range: bytes=0-1"), {200, 206}),
    "another protocol": (get(b"/symbols", b"Connection: Upgrade", b"Upgrade: h2c"), GOOD),
    # other methods
    **{f"{name.decode()}": (get(b"/symbols", method=name), {405}) for name in (b"POST", b"PUT", b"DELETE", b"PATCH")},
    "TRACE": (get(b"/symbols", method=b"TRACE"), {405}),
    "OPTIONS": (get(b"/symbols", method=b"OPTIONS"), {405}),
    "OPTIONS *": (get(b"*", method=b"OPTIONS"), {200, 400, 404, 405}),
    "BREW": (get(b"/symbols", method=b"BREW"), {400, 405}),
    "HEAD": (get(b"/symbols", method=b"HEAD"), GOOD),
    "HEAD of nothing": (get(b"/nothing", method=b"HEAD"), {404}),
}


def talk(port: int, sent: bytes) -> tuple[int, bytes, bytes]:
    """Send bytes; return status, head and body of what comes back until the server closes."""
    with socket.create_connection((HOST, port), timeout=20) as one:
        got = b""
        try:
            one.sendall(sent)
            while part := one.recv(65536):
                got += part
        except ConnectionError:
            pass  # it had heard enough
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1."), f"no answer but {got[:200]!r}"
    return int(head.split()[1]), head.lower(), body


def test_what_nobody_should_send(port: int) -> None:
    wrong = {}
    for name, (sent, allowed) in HOSTILE.items():
        status, head, body = talk(port, sent)
        problem = []
        if status not in allowed:
            problem.append(f"{status} is not in {allowed}: {body[:200]!r}")
        if status == 405 and b"\r\nallow: get, head" not in head:
            problem.append("405 without Allow")
        if sent.startswith(b"HEAD") and body:
            problem.append("a body after HEAD")
        # What is no HTTP is answered before our part of the server: without JSON.
        if status not in {200, 206, 400, 431} and not sent.startswith(b"HEAD"):
            detail = json.loads(body)["detail"]
            if not detail.isascii() or len(detail) > 500:
                problem.append(f"not a sentence: {detail[:600]}")
        if problem:
            wrong[name] = problem
    assert not wrong
    stats = httpx.get(f"http://{HOST}:{port}/cache/stats").json()
    assert stats["working"] == 0
    assert httpx.get(f"http://{HOST}:{port}/health").status_code == 200


def quick(port: int, seconds: float) -> float:
    """Ask for the symbols for a while, over one connection; return the longest time that took."""
    slowest, end = 0.0, time.monotonic() + seconds
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < end:
            begun = time.monotonic()
            assert client.get(f"http://{HOST}:{port}/symbols").status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.02)
    return slowest


def test_who_does_not_finish_holds_up_nobody(port: int) -> None:
    """Halves of requests on many connections, and an answer that nobody reads, do not keep others waiting."""
    with ExitStack() as stack:
        halves = [stack.enter_context(closing(socket.create_connection((HOST, port), 20))) for _ in range(100)]
        for one in halves:
            one.sendall(b"GET /symbols HT")
        lazy = stack.enter_context(closing(socket.create_connection((HOST, port), 20)))
        lazy.sendall(get(f"{HEATMAP}?symbol=BTCUSDT&interval=5m".encode()))
        assert quick(port, 1) < 5
        for one in halves[::10]:
            one.sendall(b"TP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert one.recv(99).startswith(b"HTTP/1.1 200")
    # Those who went away in the middle of it have left nothing behind.
    end = time.monotonic() + 20
    while httpx.get(f"http://{HOST}:{port}/cache/stats").json()["working"]:
        assert time.monotonic() < end
    assert quick(port, 0.2) < 5


def test_a_head_without_end(port: int) -> None:
    """A head that goes on for ever is not listened to: the server ends the connection."""
    for opening in (b"GET /symbols HTTP/1.1\r\nHost: h\r\nX: ", b"GET /symbols?a="):
        with socket.create_connection((HOST, port), timeout=20) as one:
            one.sendall(opening)
            # More than what the system itself takes for a reader that is late.
            assert poured(one, 32 << 20) < 32 << 20
    assert quick(port, 0.2) < 5


def poured(one: socket.socket, most: int) -> int:
    """Send bytes until the other side has had enough; return how many it took, or the system for it."""
    sent = 0
    with suppress(ConnectionError, TimeoutError):
        while sent < most:
            sent += one.send(b"a" * 65536)
    return sent


def test_many_requests_at_once_are_answered_in_order(port: int) -> None:
    paths = [b"/symbols", b"/nothing", b"/prices/klines?symbol=BTCUSDT&limit=10"] * 7
    sent = b"".join(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path for path in paths) + get(b"/symbols")
    with socket.create_connection((HOST, port), timeout=20) as one:
        one.sendall(sent)
        got = b""
        while part := one.recv(65536):
            got += part
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200", b"404", b"200"] * 7 + [b"200"]
