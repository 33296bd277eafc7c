"""A real server and clients that mean it no good: real sockets, and somebody else who asks meanwhile."""

from __future__ import annotations

import datetime as dt
import http.client
import itertools
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from heatmap_pipeline.api import connections, descriptors, encode, memory, service
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline_tests.api._load import HOST, serving, serving_fork
from heatmap_pipeline_tests.api._threaded import everything, serving_here
from heatmap_pipeline_tests.api.homes import BTC, HEATMAP, compute, day, publish_all, settings_of

SILENT = 1100


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many sockets as the tests need."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2 * SILENT:
        pytest.skip(f"this process may open {before[1]} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * SILENT), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def opened(stack: ExitStack, port: int, sent: bytes = b"", *, source: str = HOST, small: bool = False) -> socket.socket:
    """Connect from an address, and send something; the system may be told to keep little for who does not read."""
    one = stack.enter_context(closing(socket.socket()))
    if small:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.settimeout(20)
    one.bind((source, 0))
    one.connect((HOST, port))
    if sent:
        one.sendall(sent)
    return one


def is_ended(one: socket.socket) -> bool:
    """Return whether the other side has ended a connection; what it has sent before is thrown away."""
    one.setblocking(False)
    try:
        while one.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
def test_silent_connections_and_a_publication(tmp_path: Path) -> None:
    """More silent connections than files may be open: others are answered, what is published meanwhile is served."""
    settings = settings_of(tmp_path / "home")
    compute(settings, BTC, [day(1)])
    publish_all(settings, BTC)
    compute(settings, BTC, [day(2)])
    with serving_fork(settings, files=1024, api_stale_hours=1e7) as (port, process), ExitStack() as stack:
        address = f"http://{HOST}:{port}/symbols"
        assert httpx.get(address, timeout=20).status_code == 200
        for number in range(SILENT):
            # From four addresses, as one of them alone may have a quarter of the connections only.
            source = f"127.0.0.{1 + number % 4}" if sys.platform == "linux" else HOST
            opened(stack, port, b"GET / HT" if number % 2 else b"", source=source)
        publish_all(settings, BTC)
        end = time.monotonic() + 8
        while str(day(2)) not in httpx.get(address, timeout=5).text:
            assert time.monotonic() < end, "what was published is not served"
            time.sleep(0.2)
        if Path("/proc/self/fd").exists():
            assert len(list(Path(f"/proc/{process}/fd").iterdir())) < 1024 - descriptors.BACKLOG


def test_who_keeps_the_server_waiting_is_cut(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing said, half a head, half a body after its answer, an answer not taken: all end, and not too early."""
    for name, seconds in (("REQUEST_SECONDS", 1.0), ("SEND_SECONDS", 1.5), ("_LOOK_SECONDS", 0.1)):
        monkeypatch.setattr(connections, name, seconds)
    path = f"{HEATMAP}?symbol={BTC}&interval=15m"
    question = f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    post = b"POST /symbols HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
    with serving_here(published) as one, ExitStack() as stack:
        port = one.port
        size = len(httpx.get(f"http://{HOST}:{port}{path}", timeout=60).raise_for_status().content)
        asked = (64 << 20) // size + 1  # more than what the system takes for a reader that is late
        unread = opened(stack, port, question * asked)
        silent, half, dripped, posted = (
            opened(stack, port, sent) for sent in (b"", b"GET /sym", b"GET /symbols HTTP/1.1\r\nX: ", post)
        )
        begun = time.monotonic()
        waiting = {"silent": silent, "half": half, "dripped": dripped, "posted": posted}
        ends: dict[str, float] = {}
        while waiting and time.monotonic() - begun < 20:
            for name in [name for name, connection in waiting.items() if is_ended(connection)]:
                ends[name] = time.monotonic() - begun
                del waiting[name]
            for name in ("dripped", "posted"):
                if name in waiting:
                    waiting[name].send(b"a")
            time.sleep(0.05)
        assert set(ends) == {"silent", "half", "dripped", "posted"}
        assert all(seconds > 0.9 for seconds in ends.values()), ends
        while len(one.crowd):
            assert time.monotonic() - begun < 20, "what is not taken is not ended"
            time.sleep(0.05)
        assert time.monotonic() - begun > 1.4
        # What the system had taken for it comes, then the end, before all that was asked for.
        assert 0 < len(everything(unread)) < asked * size
        assert (one.crowd.cut, one.service.outgoing.size, one.service.report()["working"]) == (5, 0, 0)


def test_a_reserve_that_is_not_whole_lends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = descriptors.Reserve()
    with reserve.lent():
        pass

    def no_more(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", no_more)
    with reserve.lent():  # what was kept back is enough for this time
        pass
    with pytest.raises(StoreError, match="too many files are open"), reserve.lent():
        pass
    monkeypatch.undo()
    with reserve.lent():
        pass
    reserve.close()


def test_what_is_asked_by_who_leaves_is_not_made_and_holds_nothing(
    published: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions of one who hangs up at once: those that wait are forgotten, those under way count for nobody."""
    made: list[str] = []
    compress = encode.compress

    def noted(body: encode.Body, encoding: str, *, thorough: bool = False) -> bytes:
        made.append(encoding)
        return compress(body, encoding, thorough=thorough)

    with serving_here(published) as one:
        version = one.service.publications.version
        assert version is not None
        version.data(BTC)  # or nobody would wait for more than its being read
        monkeypatch.setattr(encode, "compress", noted)
        for number in range(60):
            end = datetime.combine(day(5), dt.time()) + timedelta(minutes=15 * number)
            question = f"GET {HEATMAP}?symbol={BTC}&interval=15m&end_time={end.isoformat()} HTTP/1.1\r\nHost: h\r\n\r\n"
            with one.opened(question.encode()):
                pass
        until = time.monotonic() + 20
        while one.service.cache.stats.misses <= 50:  # the server comes to them after who asked has left
            assert time.monotonic() < until, "the questions were not seen"
            time.sleep(0.02)
        while one.service.report()["working"] or len(one.crowd):
            assert time.monotonic() < until, "questions of nobody are still worked on"
            time.sleep(0.02)
        assert one.service.outgoing.size == 0
        assert len(made) < 20


def megabytes(pid: int) -> float:
    """Return the memory that a process has."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1000


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says in a file how much memory a process has")
def test_answers_that_nobody_reads_hold_little_and_give_it_back(published: Settings) -> None:
    """A hundred different large answers, asked for from four addresses and not read; then everybody leaves."""

    def question(number: int) -> bytes:
        end = datetime.combine(day(5), dt.time(6)) - timedelta(minutes=15 * number)
        path = f"{HEATMAP}?symbol={BTC}&interval=5m&start_time={day(1)}&end_time={end.isoformat()}&model=turnover"
        return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()

    with serving(published.home, HEATMAP_API_STALE_HOURS=1e7, HEATMAP_API_CACHE_MB=1) as (port, process):
        with ExitStack() as stack:
            size = whole_answer(opened(stack, port, question(0))) / 1e6
            before = megabytes(process.pid)
            for number in range(100):
                unread = opened(stack, port, source=f"127.0.0.{1 + number % 4}", small=True)
                unread.sendall(question(number + 1))
            bound = service.LEAST_OUTGOING / 1e6
            assert 100 * size > 5 * bound, "too little is asked for to mean anything"
            most, grew, end = 0.0, time.monotonic(), time.monotonic() + 6
            # Until it has not grown for a second and a half: then everybody waits for those who do not read.
            while time.monotonic() < end and (most < bound / 2 or time.monotonic() < grew + 1.5):
                if (now := megabytes(process.pid) - before) > most:
                    most, grew = now, time.monotonic()
                time.sleep(0.05)
            # Two answers are made beyond the bound, and each has its arrays and its parts before it is one.
            assert bound / 2 < most < bound + 2 * 3 * size + memory.KEPT_BYTES / 1e6, (most, size)
        end = time.monotonic() + memory.GIVE_BACK_SECONDS + 8
        while (left := megabytes(process.pid) - before) > memory.KEPT_BYTES / 1e6 and time.monotonic() < end:
            time.sleep(0.25)
        assert left < 1.2 * memory.KEPT_BYTES / 1e6, (most, size)
        assert httpx.get(f"http://{HOST}:{port}/cache/stats").json()["outgoing_bytes"] == 0


def whole_answer(connection: socket.socket) -> int:
    """Return the bytes of the body of an answer, all of which are read."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return len(answer.read())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one loopback address by itself")
def test_one_client_does_not_crowd_out_the_others(published: Settings) -> None:
    """With 40 questions of one client always open, all different, nobody else gets 503, and its own do."""
    numbers = itertools.count(1)
    statuses: dict[str, list[int]] = {"greedy": [], "modest": []}
    ends = threading.Event()

    def ask_from(source: str, port: int) -> int:
        number = next(numbers)  # no two questions are equal, so nothing that is kept answers
        end = datetime.combine(day(5), dt.time()) + timedelta(minutes=15 * (number % 95))
        query = f"symbol={BTC}&interval=15m&end_time={end.isoformat()}Z&max_rows={300 + number}"
        with closing(http.client.HTTPConnection(HOST, port, timeout=60, source_address=(source, 0))) as connection:
            connection.request("GET", f"{HEATMAP}?{query}")
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def crowd(port: int) -> None:
        while not ends.is_set():
            statuses["greedy"].append(ask_from("127.0.0.2", port))
            ends.wait(0.05)

    with serving_fork(published, api_stale_hours=1e7, api_cache_mb=1) as (port, _):
        threads = [threading.Thread(target=crowd, args=(port,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1)
            for _ in range(12):
                statuses["modest"].append(ask_from(HOST, port))
        finally:
            ends.set()
            for thread in threads:
                thread.join()
    assert set(statuses["modest"]) == {200}
    assert set(statuses["greedy"]) == {200, 503}
