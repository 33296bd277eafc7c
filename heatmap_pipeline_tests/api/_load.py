"""`heatmap serve` as a process, and clients that ask it for a mix of everything; `_judge.py` judges the answers."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import zstandard

from heatmap_pipeline.api import server
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests.api._judge import (
    Facts,
    Got,
    Report,
    read_heatmap,
    read_klines,
    read_levels,
    read_map,
    read_symbols,
    read_weighted,
)
from heatmap_pipeline_tests.api.homes import BTC, ETH, FIRST, HEATMAP, MAP

HOST = "127.0.0.1"
KLINES, LEVELS = "/prices/klines", "/liquidations/levels"


@contextmanager
def serving(
    home: Path, *options: object, files: int | None = None, **variables: object
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `heatmap serve` over a home, with these options and environment variables; gives the port and the process.

    It may open as many `files` at most, where that is given.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HEATMAP_", "DAGSTER_"))}
    given |= {name: str(value) for name, value in variables.items()}
    command = [sys.executable, "-u", "-m", "heatmap_pipeline", "serve", "--port", "0", "--home", str(home)]
    command += map(str, options)
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            assert found, f"the server does not start: {line}{process.stdout.read()}"
            # What it says later is kept, and read at once, so that it never waits for a reader.
            threading.Thread(target=lambda out=process.stdout: said.extend(out), daemon=True).start()
            yield int(found[1]), process
            assert process.poll() is None, f"the server ended by itself: {''.join(said)[-2000:]}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
        assert "Traceback" not in "".join(said), "".join(said)[-4000:]


@contextmanager
def serving_fork(settings: Settings, *, files: int | None = None, **more: object) -> Iterator[tuple[int, int]]:
    """Serve a home in a fork of this process, which has everything imported and compiled; gives the port and its id.

    For what takes a process of its own, as its memory or its files are counted or its time is not to be the test's;
    that the command starts is not seen here. It may open as many `files` at most, where that is given.
    """
    said: list[str] = []

    def serve(say: Say) -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        server.serve(settings.model_copy(update=more), HOST, 0, say)

    with Fork(serve, printed=True) as process:
        line = process.said.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, f"the server does not start: {line}"
        listener = threading.Thread(target=lambda: said.extend(process.said), daemon=True)
        listener.start()
        yield int(found[1]), process.pid
        assert os.waitpid(process.pid, os.WNOHANG) == (0, 0), f"the server ended by itself: {''.join(said)[-2000:]}"
        os.kill(process.pid, signal.SIGTERM)
        listener.join(30)
        assert process.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in "".join(said), "".join(said)[-4000:]


# -- what is asked


@dataclass(frozen=True)
class Ask:
    """A request: `read` takes from the body what a record can judge, or raises AssertionError."""

    kind: str
    path: str
    read: Callable[[Any], Facts]


def _query(path: str, **parameters: object) -> str:
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in parameters.items() if value is not None)}"


class _Mix:
    """Draws requests, in view of the newest day of each symbol."""

    def __init__(self, rng: random.Random, newest: dict[str, date]) -> None:
        self.rng = rng
        self.symbol, self.model = rng.choice((BTC, ETH)), rng.choice(("turnover", "delta"))
        self.form = rng.choice(("nested", "columns"))
        self.newest = newest[self.symbol]

    def path(self, path: str, **more: object) -> str:
        return _query(path, symbol=self.symbol, model=self.model, **more)

    def days(self) -> Ask:
        start = self.newest - timedelta(days=self.rng.choice((0, 1)))
        interval = self.rng.choice(("15m", "1h", "4h", "1d"))
        path = self.path(HEATMAP, format=self.form, start_time=start, interval=interval)
        return Ask(f"newest {self.form}", path, lambda body: read_heatmap(body, str(start)))

    def week(self) -> Ask:
        path = self.path(HEATMAP, format="columns", interval="1h", max_rows=400)
        return Ask("newest week", path, lambda body: read_heatmap(body, None))

    def past(self) -> Ask:
        begin = datetime.combine(FIRST, datetime.min.time()) + timedelta(minutes=15 * self.rng.randrange(1, 200))
        end = begin + timedelta(hours=self.rng.randrange(6, 30))
        stamps = {"start_time": begin.isoformat(), "end_time": f"{end.isoformat()}Z"}
        path = self.path(HEATMAP, format=self.form, interval=self.rng.choice(("5m", "15m")), **stamps)
        return Ask("past, hardly cached", path, lambda body: {**read_heatmap(body, None), "as_of": None})

    def weighted(self) -> Ask:
        weights = self.rng.choice(("5:15,10:30,25:25,50:20,100:10", "5:1,10:1", "10:3,20:2,50:1", "3:1,40:2"))
        asked = {"format": self.form, "start_time": self.newest, "interval": "1h", "leverage_weights": weights}
        return Ask("other weights", self.path(HEATMAP, **asked), read_weighted)

    def map(self) -> Ask:
        return Ask("map", self.path(MAP), read_map)

    def levels(self) -> Ask:
        return Ask("levels", self.path(LEVELS), read_levels)

    def klines(self) -> Ask:
        return Ask("klines", _query(KLINES, symbol=self.symbol, interval="1d", limit=1000), read_klines)

    def symbols(self) -> Ask:
        return Ask("symbols", "/symbols", read_symbols)

    def health(self) -> Ask:
        return Ask("health", "/health", lambda body: {"status": body["status"]})


_SHARES: dict[Callable[[_Mix], Ask], int] = {
    _Mix.days: 30,
    _Mix.week: 8,
    _Mix.past: 12,
    _Mix.weighted: 8,
    _Mix.map: 12,
    _Mix.levels: 4,
    _Mix.klines: 10,
    _Mix.symbols: 11,
    _Mix.health: 5,
}


def choose(rng: random.Random, newest: dict[str, date]) -> Ask:
    """Return a request of the mix."""
    (kind,) = rng.choices(list(_SHARES), list(_SHARES.values()))
    return kind(_Mix(rng, newest))


# -- how it is done


class Load:
    """Clients on a server. A client asks, reads, waits a moment and asks again.

    Args:
        port: of the server.
        pid: of the server.
        clients: how many connections.
        pause: mean seconds between an answer and the next request of a connection.
    """

    def __init__(self, port: int, pid: int, clients: int = 8, pause: float = 0.1) -> None:
        self._port, self._pid, self._clients, self._pause = port, pid, clients, pause
        self.report = Report()
        self._digests: dict[tuple[str, str], str] = {}
        self._newest = {BTC: FIRST, ETH: FIRST}
        self._over = threading.Event()

    def run(self, seconds: float) -> Report:
        """Ask for so long."""
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(self._clients)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() < begin + seconds:
                self._weigh(time.monotonic() - begin)
                time.sleep(1)
        finally:
            self._over.set()
            for thread in threads:
                thread.join(120)
        assert not any(thread.is_alive() for thread in threads), "a client hangs"
        return self.report

    def _weigh(self, second: float) -> None:
        status = Path(f"/proc/{self._pid}/status").read_text()
        values = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
        self.report.memory.append((second, int(values["VmRSS"]) / 1e3))
        self.report.threads.append(int(values["Threads"]))
        self.report.files.append(len(os.listdir(f"/proc/{self._pid}/fd")))  # noqa: PTH208

    def _client(self, number: int) -> None:
        rng = random.Random(number)
        known: dict[str, tuple[str, Facts]] = {}
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        try:
            while not self._over.is_set():
                got = self._one(connection, choose(rng, self._newest), rng, number, known)
                self.report.got.append(got)
                if got.problem:
                    connection.close()
                self._over.wait(rng.uniform(0, 2 * self._pause))
        finally:
            connection.close()

    def _one(
        self,
        connection: http.client.HTTPConnection,
        ask: Ask,
        rng: random.Random,
        number: int,
        known: dict[str, tuple[str, Facts]],
    ) -> Got:
        encoding = rng.choice(("zstd", "gzip", "identity"))
        headers = {"Accept-Encoding": encoding}
        name = f"{encoding} {ask.path}"
        if name in known and rng.random() < 0.5:
            headers["If-None-Match"] = known[name][0]
        asked = time.monotonic()
        got = Got(ask.kind, ask.path, number, asked, asked, 0, {})
        try:
            connection.request("GET", ask.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            got.answered, got.status = time.monotonic(), answer.status
            if answer.status == 304:
                assert answer.headers["ETag"] == headers["If-None-Match"]
                got.facts = known[name][1]
                return got
            if answer.status == 503 and answer.headers["Retry-After"]:
                assert json.loads(body)["detail"], "503 without a reason"
                return got
            assert answer.status == 200, f"{answer.status} {body[:300]!r}"
            self._same_as_ever(name, answer.headers["ETag"], body)
            got.facts = ask.read(orjson.loads(_decoded(body, answer.headers["Content-Encoding"])))
            if answer.headers["ETag"]:
                known[name] = answer.headers["ETag"], got.facts
            for symbol, one in got.facts.get("all", {}).items():
                self._newest[symbol] = date.fromisoformat(one["last_day"])
        except (AssertionError, OSError, http.client.HTTPException, KeyError, ValueError) as error:
            got.answered, got.problem = time.monotonic(), f"{type(error).__name__}: {error}"
        return got

    def _same_as_ever(self, name: str, tag: str | None, body: bytes) -> None:
        """Equal tags, equal bytes: whoever was told 304 must have what everybody else gets."""
        if tag is not None:
            digest = hashlib.blake2b(body, digest_size=12).hexdigest()
            assert self._digests.setdefault((name, tag), digest) == digest, f"other bytes under the same ETag {tag}"


def _decoded(body: bytes, encoding: str | None) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return gzip.decompress(body) if encoding == "gzip" else body
