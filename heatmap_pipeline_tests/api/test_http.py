"""What travels around the numbers: content codings, entity tags, headers, the token, methods, limits, the schema."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard
from pydantic import TypeAdapter

from heatmap_pipeline.api import schemas
from heatmap_pipeline.api import service as service_module
from heatmap_pipeline.api.answers import best_encoding, matches
from heatmap_pipeline.api.cache import ByteCache
from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.api.service import Service
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC, HEATMAP, MAP, TestClient, ask, client, day, refused, settings_of

ORIGIN = "https://example.org"
TOKEN = "a-secret"  # noqa: S105 - of a test


def stats(one: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = one.get("/cache/stats").json()
    return found


def test_codings_hold_the_same_body(served: TestClient) -> None:
    query = {"symbol": BTC, "interval": "4h"}
    bodies, tags = [], set()
    for coding, unpack in (
        ("identity", bytes),
        ("zstd", zstandard.ZstdDecompressor().decompressobj().decompress),
        ("gzip", gzip.decompress),
    ):
        with served.stream("GET", HEATMAP, params=query, headers={"Accept-Encoding": coding}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding", "identity") == coding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert int(answer.headers["content-length"]) == len(raw)
        bodies.append(unpack(raw))
        tags.add(answer.headers["etag"])
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(tags) == 3, "other bytes, another tag"


@pytest.mark.parametrize(
    ("accepted", "best"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0", "identity"),
        ("identity;q=0", "identity"),
        ("zstd;q=nan,gzip;q=1e400,;;;,=", "identity"),
        ("br", "identity"),
    ],
)
def test_the_coding_a_client_wants(accepted: str | None, best: str) -> None:
    assert best_encoding(accepted) == best


def test_a_client_that_has_it_is_told_so(served: TestClient) -> None:
    asking = {"Accept-Encoding": "zstd"}
    first = served.get(HEATMAP, params={"symbol": BTC, "interval": "4h"}, headers=asking)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert tag.endswith('-zstd"')
    for given in (tag, f'"other", W/{tag}', "*"):
        asking["If-None-Match"] = given
        again = served.get(HEATMAP, params={"symbol": BTC, "interval": "4h"}, headers=asking)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["vary"] == "Accept-Encoding"
    other = served.get(HEATMAP, params={"symbol": BTC, "interval": "1h"}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert matches('"a"', '"a"')
    assert not matches('"ab"', '"a"')


def test_what_may_be_kept(served: TestClient) -> None:
    newest = served.get(HEATMAP, params={"symbol": BTC, "interval": "4h"})
    past = served.get(HEATMAP, params={"symbol": BTC, "interval": "4h", "end_time": str(day(4))})
    assert newest.headers["cache-control"] == "no-cache"
    assert past.headers["cache-control"] == "max-age=300"
    for path in ("/health", "/cache/stats", "/nothing"):
        assert served.get(path).headers["cache-control"] == "no-store"


def test_hits_and_misses_are_counted(published: Settings) -> None:
    with client(published) as one:
        for _ in range(3):
            ask(one, interval="4h")
        ask(one, interval="1h")
        one.get(HEATMAP, params={"symbol": BTC, "interval": "4h"}, headers={"Accept-Encoding": "identity"})
        found = stats(one)
        assert (found["hits"], found["misses"], found["coalesced"], found["entries"]) == (2, 3, 0, 3)
        assert found["hit_ratio"] == pytest.approx(2 / 5)
        assert 0 < found["bytes"] <= found["max_bytes"]
        # The same window said in other words is the same answer.
        ask(one, interval="4h", start_time=f"{day(1)}T00:00:00+00:00", end_time=f"{day(6)}T00:00:00Z")
        assert stats(one)["hits"] == 3


def test_a_small_cache_forgets(published: Settings) -> None:
    with client(settings_of(published.home, api_cache_mb=1)) as one:
        for limit in range(10, 40):
            for symbol in ("BTCUSDT", "ETHUSDT"):
                ask(one, "/prices/klines", symbol, limit=limit * 30, interval="5m")
        found = stats(one)
        assert found["misses"] == 60
        assert found["evictions"] > 0
        assert found["bytes"] <= found["max_bytes"] == 1 << 20


def test_a_body_has_its_time() -> None:
    now = [0.0]
    cache = ByteCache(10_000, 60, lambda: now[0])
    cache.put("a", b"1")
    cache.put("b", b"2", lasting=True)
    now[0] = 59
    assert cache.get("a") == b"1"
    now[0] = 61
    assert cache.get("a") is None
    assert (cache.get("b"), len(cache), cache.stats.expired) == (b"2", 1, 1)
    cache.put("c", b"3")
    now[0] = 200
    cache.sweep()
    assert (len(cache), cache.size, cache.stats.expired) == (1, 501, 2)


def test_the_least_used_body_goes_first_and_a_huge_one_never_comes() -> None:
    cache = ByteCache(10_000, 60)
    for name in "abcd":
        cache.put(name, bytes(1900))
    assert cache.get("a") is not None
    cache.put("e", bytes(1900))
    assert [cache.get(name) is None for name in "abcde"] == [False, True, False, False, False]
    cache.put("huge", bytes(2001))
    assert cache.get("huge") is None, "more than a quarter of the room, with what an entry takes besides"
    assert [cache.get(name) is None for name in "acde"] == [False] * 4, "and nothing made room for it"
    cache.put("e", b"")
    assert cache.size == sum(len(cache.get(name) or b"") + 500 for name in "acde")


def test_a_body_may_take_a_quarter_of_the_room() -> None:
    cache = ByteCache(10_000, 60)
    for name in "abcd":
        cache.put(name, bytes(2000))
    assert (len(cache), cache.size, cache.stats.evictions) == (4, 10_000, 0)
    cache.put("b", bytes(2000))
    assert (len(cache), cache.size, cache.stats.evictions) == (4, 10_000, 0), "one that is made anew takes its own room"
    cache.put("e", bytes(1))
    assert (cache.get("a"), cache.stats.evictions) == (None, 1)


def test_one_body_is_made_for_all_who_ask_at_once(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.api import heatmap

    made: list[int] = []
    gate, real = threading.Event(), heatmap._body

    def slow(*arguments: Any) -> Any:
        made.append(1)
        gate.wait(10)
        return real(*arguments)

    with client(published) as one:
        ask(one, "/symbols", None)
        monkeypatch.setattr(heatmap, "_body", slow)
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(one.get, HEATMAP, params={"symbol": BTC, "interval": "4h"}) for _ in range(6)]
            deadline = time.monotonic() + 10
            while stats(one)["coalesced"] < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            gate.set()
            bodies = {answer.result().content for answer in answers}
        found = stats(one)
    assert (len(made), len(bodies)) == (1, 1)
    assert (found["misses"] - 1, found["coalesced"]) == (1, 5)


def test_requests_of_one_instant_count_before_they_begin(published: Settings) -> None:
    service = Service(settings_of(published.home, api_concurrency=1, api_queue=2))

    async def at_once() -> list[bytes | BaseException]:
        plans = [Plan((number,), "data", lambda: b"body", live=False) for number in range(10)]
        bodies = (service.body(None, plan, "identity") for plan in plans)
        found = await asyncio.gather(*bodies, return_exceptions=True)
        await service.close()
        return found

    found = asyncio.run(at_once())
    assert found[:3] == [b"body"] * 3
    assert [one.status for one in found[3:] if isinstance(one, ApiError)] == [503] * 7


def test_memory_is_given_back_soon_when_nothing_is_made_and_rarely_meanwhile(
    published: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: 5 seconds after the last time, and 60 while a body is being made."""
    given: list[float] = []
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(service_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(service_module, "give_back", lambda: given.append(clock.now))

    async def run() -> None:
        service, gate = Service(published), threading.Event()

        async def tidied_at(*seconds: float) -> list[float]:
            for clock.now in seconds:
                await service.tidy()
            return given

        await service.body(None, Plan((1,), "data", lambda: b"body", live=False), "identity")
        assert await tidied_at(4.0, 6.0, 12.0) == [6.0], "nothing was answered since"
        slow = Plan((2,), "data", lambda: b"body" if gate.wait(10) else b"", live=False)
        flight = asyncio.create_task(service.body(None, slow, "identity"))
        await asyncio.sleep(0.01)
        assert await tidied_at(13.0, 65.0, 67.0) == [6.0, 67.0], "while something is made"
        gate.set()
        await flight
        await service.body(None, Plan((3,), "data", lambda: b"body", live=False), "identity")
        assert await tidied_at(71.0, 73.0) == [6.0, 67.0, 73.0]
        await service.close()

    asyncio.run(run())


def test_a_full_server_says_so(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.api import heatmap

    with client(settings_of(published.home, api_concurrency=1, api_queue=1)) as one:
        ask(one, interval="1d")
        gate, real = threading.Event(), heatmap._body

        def slow(*arguments: Any) -> Any:
            gate.wait(10)
            return real(*arguments)

        monkeypatch.setattr(heatmap, "_body", slow)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(one.get, HEATMAP, params={"symbol": BTC, "interval": i}) for i in ("4h", "1h")]
            while stats(one)["working"] < 2:
                time.sleep(0.01)
            full = one.get(HEATMAP, params={"symbol": BTC, "interval": "15m"})
            assert full.status_code == 503
            assert full.headers["retry-after"] == "1"
            assert "as many as this server allows" in full.json()["detail"]
            assert one.get(HEATMAP, params={"symbol": BTC, "interval": "1d"}).status_code == 200, (
                "what is kept is given"
            )
            assert one.get("/health").status_code == 503
            gate.set()
            assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert stats(one)["rejected"] == 1
        assert stats(one)["working"] == 0


def test_a_failure_is_not_kept(served: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.api import heatmap
    from heatmap_pipeline.store.warehouse import StoreError

    def broken(*_: Any) -> bytes:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(heatmap, "_body", broken)
        answer = served.get(HEATMAP, params={"symbol": BTC, "interval": "4h", "max_rows": 77})
        assert answer.status_code == 503
        assert "the disk is gone" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "60"
    ask(served, interval="4h", max_rows=77)


def test_headers_for_browsers_are_everywhere(served: TestClient) -> None:
    for path in ("/", "/docs", "/symbols", "/nothing", "/health", "/symbols?a=1", "/page.js"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    assert "script-src 'self'" in served.get("/").headers["content-security-policy"]
    assert "script-src" not in served.get("/symbols").headers["content-security-policy"]
    assert "access-control-allow-origin" not in served.get("/symbols", headers={"Origin": ORIGIN}).headers


def test_methods(served: TestClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for path in ("/symbols", HEATMAP, "/", "/docs"):
            answer = served.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
            assert answer.json() == {"detail": "only GET and HEAD are answered here"}
    for path in ("/symbols", f"{MAP}?symbol=BTCUSDT", "/nothing", "/"):
        plain, head = served.get(path), served.head(path)
        assert (head.status_code, head.content) == (plain.status_code, b"")
        assert head.headers["content-length"] == plain.headers["content-length"]
        assert head.headers.get("etag") == plain.headers.get("etag")


def test_only_who_knows_the_token_comes_in(published: Settings) -> None:
    with client(settings_of(published.home, api_token=TOKEN)) as one:
        basic = base64.b64encode(b"anyone:a-secret").decode()
        for path in ("/symbols", "/", "/docs", "/openapi.json", "/nothing", "/cache/stats"):
            answer = one.get(path)
            assert answer.status_code == 401
            schemes = answer.headers.get_list("www-authenticate")
            assert [one.split()[0] for one in schemes] == ["Bearer", "Basic"], "a browser reads one scheme a line"
            assert answer.headers["x-content-type-options"] == "nosniff"
            for wrong in (
                "Bearer",
                "Bearer a-secre",
                "Bearer a-secret2",
                "Basic !!",
                "Basic YQ==",
                "Digest a-secret",
                "\u00ff",
            ):
                assert one.get(path, headers={b"Authorization": wrong.encode("latin-1")}).status_code == 401, wrong
            for right in ("Bearer a-secret", "bearer  a-secret", f"Basic {basic}"):
                assert one.get(path, headers={"Authorization": right}).status_code == (
                    404 if path == "/nothing" else 200
                )
        assert one.get("/health").status_code == 503, "open, and says what it says"
        assert "a-secret" not in repr(one.app.state.service.settings)  # type: ignore[attr-defined]


def test_origins_that_may_read(published: Settings) -> None:
    with client(settings_of(published.home, api_cors_origins=(ORIGIN,), api_token=TOKEN)) as one:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = one.options("/symbols", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert one.options("/symbols", headers={**asked, "Origin": "https://evil.example"}).status_code == 400
        answer = one.get("/symbols", headers={"Origin": ORIGIN, "Authorization": "Bearer a-secret"})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "ETag" in answer.headers["access-control-expose-headers"]
        refusal = one.get("/symbols", headers={"Origin": ORIGIN})
        assert (refusal.status_code, refusal.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_the_schema_describes_the_bodies(served: TestClient) -> None:
    bodies: dict[tuple[str, str], Any] = {
        (HEATMAP, "symbol=BTCUSDT&interval=4h"): schemas.Nested,
        (HEATMAP, "symbol=BTCUSDT&interval=4h&format=columns&leverage_weights=5:1"): schemas.Columns,
        (MAP, "symbol=BTCUSDT"): schemas.LiquidationMap,
        (MAP, "symbol=BTCUSDT&model=delta"): schemas.LiquidationMap,
        ("/liquidations/lots", "symbol=BTCUSDT&price_bin_size=500"): schemas.LotsAtMoment,
        ("/liquidations/levels", "symbol=BTCUSDT"): schemas.OldLevels,
        ("/prices/klines", "symbol=BTCUSDT"): schemas.Klines,
        ("/symbols", ""): schemas.Symbols,
        ("/markets", ""): schemas.Markets,
        ("/score", "symbol=BTCUSDT"): schemas.Score,
        ("/alerts", "limit=5"): schemas.Alerts,
        ("/health", ""): schemas.Health,
        ("/ready", ""): schemas.Ready,
        ("/cache/stats", ""): schemas.CacheStats,
    }
    for (path, query), shape in bodies.items():
        body = served.get(f"{path}?{query}").json()
        TypeAdapter(shape).validate_python(body, strict=False)
        assert set(body) - set(shape.model_fields) == set(), "a field that the schema does not name"
        if "meta" in body:
            assert set(body["meta"]) == set(shape.model_fields["meta"].annotation.model_fields)
    schema = served.get("/openapi.json").json()
    assert sorted(schema["paths"]) == sorted({path for path, _ in bodies})
    assert schema["paths"]["/liquidations/levels"]["get"]["deprecated"]
    for path, methods in schema["paths"].items():
        assert list(methods) == ["get"]
        answers = methods["get"]["responses"]
        assert {"200", "405", "422", "503"} <= set(answers), path
        for one in methods["get"].get("parameters", []):
            assert one["description"] or one["name"] == "symbol"
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_docs_need_nothing_from_elsewhere(served: TestClient) -> None:
    page = served.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for text in (
        "GET /liquidations/heatmap-timeseries",
        "leverage_weights",
        "max_rows",
        "(deprecated)",
        "openapi.json",
    ):
        assert text in page.text
    for text in ("<script", "http://", "https://", "//cdn"):
        assert text not in page.text


def test_the_page_is_served(served: TestClient) -> None:
    page = served.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    library = served.get("/plotly.min.js?v=1", headers={"Accept-Encoding": "zstd"})
    assert library.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert served.get("/plotly.min.js").headers["cache-control"] == "no-cache"
    assert library.headers["content-encoding"] == "zstd"
    assert 300_000 < len(library.content) < 500_000, "the page waits for it"


def test_symbols(served: TestClient) -> None:
    body = ask(served, "/symbols", None)
    bitcoin, ether = body["symbols"]
    assert (bitcoin["symbol"], bitcoin["models"], bitcoin["bucket"]) == (BTC, ["turnover", "delta"], 100.0)
    assert (bitcoin["first_day"], bitcoin["last_day"]) == (str(day(1)), str(day(5)))
    assert (bitcoin["as_of"], bitcoin["simulated"], bitcoin["provisional"]) == (f"{day(6)}T00:00:00Z", True, False)
    assert (bitcoin["snapshot_interval_seconds"], bitcoin["candle_interval_seconds"]) == (300, 300)
    assert bitcoin["coverage"].keys() == {"turnover", "delta"}
    assert bitcoin["price"] == ask(served, MAP)["price"]
    assert ether["first_day"] == str(day(1))
    assert served.get("/symbols").headers["etag"] == served.get("/symbols").headers["etag"]


def test_a_defect_of_ours_is_said_to_be_one(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.api import heatmap
    from heatmap_pipeline.api.app import create_app

    def broken(*_: Any) -> bytes:
        raise ZeroDivisionError

    with TestClient(create_app(published), raise_server_exceptions=False) as one:
        ask(one, "/symbols", None)
        monkeypatch.setattr(heatmap, "_body", broken)
        answer = one.get(HEATMAP, params={"symbol": BTC})
        assert answer.status_code == 500
        assert "a defect of this server (ZeroDivisionError)" in answer.json()["detail"]
        monkeypatch.undo()
        ask(one)
        assert refused(one, 422, symbol="x")


def test_nobody_waits_for_a_body_that_was_given_up(published: Settings) -> None:
    from heatmap_pipeline.api.plan import Plan
    from heatmap_pipeline.api.service import Service

    async def run() -> bytes:
        service = Service(published)
        plan = Plan(("x",), "f", lambda: time.sleep(0.05) or b"body", live=True)  # type: ignore[func-returns-value]
        leaving = asyncio.create_task(service.body(None, plan, "identity"))
        staying = asyncio.create_task(service.body(None, plan, "identity"))
        await asyncio.sleep(0.01)
        leaving.cancel()
        body = await staying
        await service.close()
        return body

    assert asyncio.run(run()) == b"body"
