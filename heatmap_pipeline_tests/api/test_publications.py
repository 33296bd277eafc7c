"""What happens while something is published: nobody meets an error, a mix of versions, or a version for ever."""

from __future__ import annotations

import errno
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import FastAPI

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.api.server import ServeError, listen, make_server
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import Version
from heatmap_pipeline_tests._examples import tries
from heatmap_pipeline_tests.api.homes import (
    BTC,
    ETH,
    HEATMAP,
    MAP,
    TestClient,
    ask,
    client,
    compute,
    day,
    publish_all,
    refused,
    settings_of,
)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Run a real server on a free port of 127.0.0.1, in a thread; give its address."""
    bound = listen("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server did not start")
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def home(published: Settings, tmp_path: Path) -> Settings:
    """A copy of the published home, looked at often."""
    shutil.copytree(published.home / "warehouse", tmp_path / "warehouse")
    shutil.copyfile(published.home / "heatmap.duckdb", tmp_path / "heatmap.duckdb")
    return settings_of(tmp_path)


def quick(one: TestClient) -> Any:
    """Have a server look at its file all the time; return its publications."""
    publications = one.app.state.service.publications  # type: ignore[attr-defined]
    publications.look_every = 0.01
    return publications


QUESTIONS = (
    f"{HEATMAP}?symbol=BTCUSDT&interval=4h",
    f"{HEATMAP}?symbol=BTCUSDT&interval=1h&format=columns&start_time={day(1)}",
    f"{HEATMAP}?symbol=BTCUSDT&interval=1d&leverage_weights=5:1,20:2",
    f"{MAP}?symbol=BTCUSDT&model=delta",
    "/symbols",
)


@pytest.mark.slow
def test_publications_under_load(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    versions: list[Path] = []

    def publish_day(number: int) -> None:
        compute(settings, BTC, [day(number)])
        publish_all(settings, BTC)
        versions.append(tmp_path / f"version{number}")
        versions[-1].mkdir()
        shutil.copyfile(settings.home / "heatmap.duckdb", versions[-1] / "heatmap.duckdb")

    publish_day(1)
    app = create_app(settings)
    publications = app.state.service.publications
    publications.look_every = 0.02
    loaded: list[Version] = []
    load = publications._load
    publications._load = lambda before: loaded.append(load(before)) or loaded[-1]  # type: ignore[func-returns-value]
    answers: list[tuple[str, int, bytes]] = []
    stop = threading.Event()

    def keep_asking(address: str, offset: int) -> None:
        with httpx.Client(base_url=address, timeout=60) as one:
            while not stop.is_set():
                for number in range(len(QUESTIONS)):
                    question = QUESTIONS[(number + offset) % len(QUESTIONS)]
                    answer = one.get(question)
                    answers.append((question, answer.status_code, answer.content))
                    time.sleep(0.02)  # the publications need the machine too

    with running(app) as address:
        wait_for(lambda: httpx.get(f"{address}/symbols").status_code == 200, "nothing is served")
        asking = [threading.Thread(target=keep_asking, args=(address, offset)) for offset in range(tries(3))]
        for thread in asking:
            thread.start()
        for number in range(2, 4):
            publish_day(number)
        least = tries(12)
        for number in range(100):  # what a publication does last, over and over
            if number >= least and len(loaded) >= 5:
                break
            shutil.copyfile(versions[number % 3] / "heatmap.duckdb", settings.home / ".new")
            (settings.home / ".new").replace(settings.home / "heatmap.duckdb")
            time.sleep(0.1)
        wait_for(lambda: len(loaded) >= 5, "the publications were not noticed")
        stop.set()
        for thread in asking:
            thread.join(60)
    assert {status for _, status, _ in answers} == {200}
    expected: dict[str, set[bytes]] = {question: set() for question in QUESTIONS}
    for folder in versions:
        with client(settings_of(folder)) as one:
            for question in QUESTIONS:
                expected[question].add(one.get(question).content)
    seen: dict[str, set[bytes]] = {question: set() for question in QUESTIONS}
    for question, _, content in answers:
        seen[question].add(content)
    for question in QUESTIONS:
        assert len(expected[question]) == 3
        assert seen[question] <= expected[question], "an answer of no version, or of two"
        assert len(seen[question]) >= 2, "no publication was seen"
    assert all(version.closed for version in loaded)


def test_a_version_is_closed_when_its_last_request_is_done(home: Settings) -> None:
    with client(home) as one:
        publications = quick(one)
        ask(one, interval="1d")
        ask(one, symbol=ETH, interval="1d")
        old: Version = publications.version
        data = {name: old.data(name) for name in (BTC, ETH)}
        assert old.loaded.reads == 2
        old.acquire()
        with Warehouse(home.home).connect(ETH) as con:
            con.execute("UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 HOUR WHERE symbol = 'ETHUSDT'")
        publish_all(home, ETH)
        wait_for(lambda: publications.version is not old, "the new version was not read")
        closed = old.closed
        assert not closed
        book = old.state(BTC, "turnover", day(2))
        assert book is not None
        assert book.open_interest > 0
        old.release()
        assert old.closed
        new: Version = publications.version
        assert not new.closed
        assert new.name != old.name
        assert new.symbols[BTC] is old.symbols[BTC], "what did not change is not read again"
        assert new.symbols[ETH] is not old.symbols[ETH]
        assert new.data(BTC) is data[BTC]
        assert new.data(ETH) is not data[ETH]
        assert new.loaded.reads == 3, "what changed is read again, when it is asked for"
    assert new.closed


def test_what_did_not_change_stays_in_the_cache(home: Settings) -> None:
    with client(home) as one:
        publications = quick(one)
        tags = {
            symbol: one.get(HEATMAP, params={"symbol": symbol, "interval": "1d"}).headers["etag"]
            for symbol in (BTC, ETH)
        }
        old = publications.version
        with Warehouse(home.home).connect(ETH) as con:
            con.execute("UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 HOUR WHERE symbol = 'ETHUSDT'")
        publish_all(home, ETH)
        wait_for(lambda: publications.version is not old, "the new version was not read")
        for symbol, status in ((BTC, 304), (ETH, 200)):
            answer = one.get(
                HEATMAP, params={"symbol": symbol, "interval": "1d"}, headers={"If-None-Match": tags[symbol]}
            )
            assert answer.status_code == status


def test_nothing_published_yet(published: Settings, tmp_path: Path) -> None:
    told: list[str] = []
    settings = settings_of(tmp_path)
    with TestClient(create_app(settings, tell=told.append)) as one:
        publications = quick(one)
        health = one.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "empty"
        assert "heatmap run" in health.json()["reason"]
        for path in (f"{HEATMAP}?symbol=BTCUSDT", "/symbols", f"{MAP}?symbol=BTCUSDT", "/prices/klines?symbol=BTCUSDT"):
            answer = one.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "nothing is published" in answer.json()["detail"]
        assert refused(one, 422, symbol="x"), "what is wrong is wrong with or without data"
        assert one.get("/").status_code == one.get("/docs").status_code == 200
        assert told == [f"nothing is published in {tmp_path} yet; it is served as soon as it is"]
        shutil.copyfile(published.home / "heatmap.duckdb", tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / "heatmap.duckdb")
        wait_for(lambda: publications.version is not None, "what was published was not noticed")
        ask(one, interval="1d")
        assert told[1:] == [
            f"serving BTCUSDT {day(1)} .. {day(5)}, turnover, delta (simulated)",
            f"serving ETHUSDT {day(1)} .. {day(5)}, turnover, delta (simulated)",
        ]


def test_a_file_that_cannot_be_read_leaves_the_version_before(home: Settings) -> None:
    told: list[str] = []
    with TestClient(create_app(home, tell=told.append)) as one:
        publications = quick(one)
        before = one.get(f"{HEATMAP}?symbol=BTCUSDT&interval=4h").content
        good = (home.home / "heatmap.duckdb").read_bytes()
        (home.home / "new").write_bytes(good[:5000] + bytes(20_000))
        (home.home / "new").replace(home.home / "heatmap.duckdb")
        wait_for(lambda: bool(publications.problem), "the damage was not noticed")
        assert one.get(f"{HEATMAP}?symbol=BTCUSDT&interval=4h").content == before
        assert ask(one, interval="1h")["meta"]["symbol"] == BTC, "not from the cache either"
        health = one.get("/health")
        assert health.status_code == 503
        assert "an older version is served" in health.json()["reason"]
        assert len([line for line in told if line.startswith("the version before stays: ")]) == 1
        (home.home / "new").write_bytes(good)
        (home.home / "new").replace(home.home / "heatmap.duckdb")
        wait_for(lambda: not publications.problem, "the repair was not noticed")


def test_a_symbol_that_is_published_no_more(home: Settings) -> None:
    with client(home) as one:
        publications = quick(one)
        ask(one, symbol=ETH, interval="1d")
        old = publications.version
        with Warehouse(home.home).connect(ETH) as con:
            for table in ("symbols", "heatmap_days", "raw_days", "snapshot_days"):
                con.execute(f"DELETE FROM {table} WHERE symbol = 'ETHUSDT'")
        publish(Warehouse(home.home), [ETH])
        wait_for(lambda: publications.version is not old, "the new version was not read")
        assert "there are BTCUSDT" in refused(one, 404, symbol=ETH, interval="1d")


def test_serving_writes_nothing(home: Settings) -> None:
    def contents() -> dict[str, tuple[bytes, int]]:
        files = (path for path in home.home.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = contents()
    with client(home) as one:
        for question in QUESTIONS:
            assert one.get(question).status_code == 200
        assert contents() == before
    assert contents() == before


def test_addresses_that_cannot_be_listened_on() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"port {port} on 127\.0\.0\.1 is taken .*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(ServeError, match="--host"):
        listen("192.0.2.1", 0)
    with pytest.raises(ServeError, match="host 'no such host' is not known"):
        listen("no such host", 0)


def test_a_machine_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_family(*_: object) -> NoReturn:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_family)
    with pytest.raises(ServeError, match=r"cannot listen on ::1 port 0 \(Address family not supported .*--host"):
        listen("::1", 0)
