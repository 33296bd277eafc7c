"""The read endpoint over loopback: `heatmap serve` in a process of its own, asked from this one; then plain SQL."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks import market
from benchmarks.measure import Measured, Setting, repeat, row
from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.sql import arrow
from heatmap_pipeline.store.warehouse import Warehouse

MODEL = "turnover"
_BASE = "BTC"
_PATH = "/liquidations/heatmap-timeseries"
_SECONDS = 20.0
"""No measurement takes longer; what was answered by then counts."""
_GREEDY, _GREEDY_ADDRESS, _GREEDY_PAUSE = 40, "127.0.0.2", 0.05
"""Questions that a greedy client always has open, where it asks from, and its pause after a 503, in seconds."""
_CACHED = "the client beside it on the same two cores, then the system's copying of the bytes"


def serve(setting: Setting) -> Sequence[Measured]:
    """Measure answers of seven days at 15 minutes, kept and not, other weights, and the same by SQL in this process."""
    count_ = setting.pick(30, 9)
    home = make_home(setting, count_)
    end = market.FIRST + timedelta(days=count_)
    by_sql = _plain_sql(home, end, setting)
    with run_server(home) as server:
        kept, made = list(_kept(server, setting)), list(_made(server, count_, setting))
        weighted = list(_weighted(server, count_, setting))
    return [*kept, *made, *weighted, *by_sql, *_faster(kept[0], made[0], by_sql[0])]


def crowd(setting: Setting) -> Sequence[Measured]:
    """Measure what one client waits for answers never asked before: alone, and beside another with 40 open questions.

    Both ask the same kind of question; needs a second loopback address, which only Linux has by itself.
    """
    if sys.platform != "linux":
        return []
    days = setting.pick(30, 9)
    with run_server(make_home(setting, days)) as server:
        asked = _shifting("nested", days)
        run_clients(server, 2, 6, asked)
        alone, beside = Done(), Done()
        for _ in range(setting.pick(4, 1)):  # in turns, so that what else the machine does falls on both
            alone.add(run_clients(server, 1, setting.pick(25, 6), asked))
            beside.add(run_clients(server, 1, setting.pick(25, 6), asked, greedy=_GREEDY))
    what = "7 days at 15m, nested, zstd, never asked before, 1 connection"
    many = f"{what}, while another client always has {_GREEDY} such questions open"
    limit = "the last place to work at is left free for it; processor and caches are shared"
    p95 = [float(np.percentile(done.times, 95)) for done in (alone, beside)]
    return [
        alone.row("a client alone", what, None, "seven days of the engine, then the bytes"),
        beside.row("a client beside a greedy one", many, None, limit),
        Measured(
            name="serve, beside a greedy client, times longer",
            what=f"the 95th percentile beside it ({p95[1]:.3g} ms) over that alone ({p95[0]:.3g} ms)",
            unit="x",
            values=(p95[1] / p95[0],),
            limit=limit,
            expected=setting.target(3.0),
        ),
    ]


def base(setting: Setting) -> Sequence[Measured]:
    """Measure how much longer the sum of three markets takes than one of them, never asked before, one at a time."""
    days, answers = setting.pick(30, 9), setting.pick(25, 4)
    rows = []
    with market.of_three_exchanges() as symbols:
        home = make_home(setting, days, symbols=symbols)
    with run_server(home) as server:
        for name, one, three in (
            ("map", _moments(days, market.SYMBOL), _moments(days, _BASE)),
            *((form, _shifting(form, days), _shifting(form, days, _BASE)) for form in ("nested", "columns")),
        ):
            alone, summed = Done(), Done()
            for asked in (one, three):
                run_clients(server, 1, 3, asked)
            for _ in range(setting.pick(4, 1)):  # in turns, so that what else the machine does falls on both
                alone.add(run_clients(server, 1, answers, one))
                summed.add(run_clients(server, 1, answers, three))
            p95 = [float(np.percentile(done.times, 95)) for done in (summed, alone)]
            what = "7 days at 15m" if name != "map" else "a moment"
            rows.append(
                Measured(
                    name=f"serve {name} of three markets, times longer",
                    what=f"{what}, zstd, never asked before: the 95th percentile of the sum ({p95[0]:.3g} ms) over "
                    f"that of one ({p95[1]:.3g} ms)",
                    unit="x",
                    values=(p95[0] / p95[1],),
                    limit="three replays on two cores, then what each market has of every cell beside the sum",
                    expected=setting.target(3.0),
                )
            )
    return rows


# -- the endpoint


def _kept(server: Server, setting: Setting) -> Iterator[Measured]:
    """Yield what is answered from memory, 8 connections at a time."""
    answers = setting.pick(400, 24)
    for form in ("columns", "nested"):
        target = f"{_PATH}?symbol={market.SYMBOL}&model={MODEL}&format={form}"
        for coding in ("zstd", "gzip", "identity"):
            asked = _request(target, coding)
            first = run_clients(server, 1, 1, asked)
            done = run_clients(server, 8, answers, asked)
            what = f"7 days at 15m, {form}, {coding}, kept ({first.size / 1e6:.2f} MB), 8 connections without pause"
            # Without compression the answer is for programs on the same machine; a target would be one for the system.
            yield done.row(f"{form}, {coding}", what, setting.target(20.0) if coding != "identity" else None, _CACHED)
        tagged = _request(target, "zstd", first_tag(server, target))
        done = run_clients(server, 8, answers, tagged)
        assert done.statuses == {304}
        what = f"7 days at 15m, {form}, asked with If-None-Match, 8 connections without pause"
        yield done.row(f"{form}, 304", what, setting.target(20.0), _CACHED)


def _made(server: Server, days: int, setting: Setting) -> Iterator[Measured]:
    """Yield what has to be computed, as no window is asked for twice, 2 connections at a time."""
    for form in ("columns", "nested"):
        shifted = _shifting(form, days)
        run_clients(server, 2, 6, shifted)
        done = run_clients(server, 2, setting.pick(80, 8), shifted)
        what = f"7 days at 15m, {form}, zstd, never asked before, 2 connections without pause"
        yield done.row(f"{form}, not kept", what, setting.target(100.0), "seven days of the engine, then the bytes")


def _shifting(form: str, days: int, symbol: str = market.SYMBOL) -> Callable[[], bytes]:
    """Return what asks for (about) seven of the days in zstd, each time for others than ever before."""
    shifts, most = count(), (days - 7) * 96
    end = datetime.combine(market.FIRST + timedelta(days=days), datetime.min.time())

    def asked() -> bytes:
        shorter, earlier = divmod(next(shifts), most)
        last = end - earlier * timedelta(minutes=15)
        first = last - timedelta(days=7) + shorter * timedelta(minutes=15)
        window = f"start_time={quote(first.isoformat())}&end_time={quote(last.isoformat())}"
        return _request(f"{_PATH}?symbol={symbol}&model={MODEL}&format={form}&{window}", "zstd")

    return asked


def _moments(days: int, symbol: str) -> Callable[[], bytes]:
    """Return what asks for the map of a moment of the days, each time for another."""
    end, numbers = datetime.combine(market.FIRST + timedelta(days=days), datetime.min.time()), count()

    def asked() -> bytes:
        moment = end - next(numbers) * timedelta(minutes=5)
        return _request(f"/liquidations/map?symbol={symbol}&model={MODEL}&time={quote(moment.isoformat())}", "zstd")

    return asked


def _weighted(server: Server, days: int, setting: Setting) -> Iterator[Measured]:
    """Yield what other weights cost: the model runs from the first stored day."""
    numbers = count(1)

    def other() -> bytes:
        weights = f"5:15,10:30,25:25,50:20,100:{next(numbers)}"
        target = f"{_PATH}?symbol={market.SYMBOL}&model={MODEL}&format=columns&leverage_weights={quote(weights)}"
        return _request(target, "zstd")

    run_clients(server, 1, 2, other)
    done = run_clients(server, 1, setting.pick(30, 4), other)
    what = f"7 days at 15m, columns, zstd, weights never asked before, over {days} days of history, 1 connection"
    yield done.row("other weights", what, setting.target(300.0), "the engine, from the first stored day")


# -- plain SQL


def _plain_sql(home: Path, end: date, setting: Setting) -> list[Measured]:
    """Return the row of the same seven days at 15 minutes as a query, to Arrow."""
    stop = datetime.combine(end, datetime.min.time())
    start = stop - timedelta(days=7)
    where = [market.SYMBOL, MODEL, start, stop]
    query = (
        "SELECT timestamp, price_bucket, sum(active_volume) FILTER (side = 'long') AS long, "
        "sum(active_volume) FILTER (side = 'short') AS short, sum(consumed_volume) AS consumed "
        "FROM liquidation_snapshots WHERE symbol = ? AND model = ? AND timestamp >= ? AND timestamp < ? "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    repetitions = setting.pick(25, 3)
    with Warehouse(home).read() as con:
        sizes = arrow(con, query, where).num_rows
        queried = repeat(lambda: arrow(con, query, where), repetitions)
    limit = "reading, sorting and grouping the stored rows; JSON and compression would come on top"
    return [
        row(
            queried,
            unit="ms",
            per=1000.0,
            name="plain SQL",
            what=f"7 days at 15m as a query in this process, both cores, to Arrow ({sizes:,} rows), no bytes of JSON",
            limit=limit,
        ),
    ]


def _faster(kept: Measured, made: Measured, by_sql: Measured) -> list[Measured]:
    """Return how much faster answers in columns are than the query alone, at the 95th percentile of both."""
    query = float(np.percentile(by_sql.values, 95))
    what = f"than plain SQL ({query:,.1f} ms), each at the 95th percentile; the query is alone on the machine"
    return [
        Measured(
            name=f"serve columns, {name}, times faster", what=what, unit="x", values=(query / one.value,), limit=limit
        )
        for name, one, limit in (
            ("kept", kept, "8 ask at once where the query is asked by one"),
            ("not kept", made, "2 ask at once, and get JSON, compressed; the query ends where that would begin"),
        )
    ]


# -- data and server


def make_home(
    setting: Setting, days: int, *, symbols: Sequence[str] = (market.SYMBOL,), stored_cells: bool = True
) -> Path:
    """Return a home with days of the demo market, published, with cells or without: the endpoint makes them itself."""
    home = setting.home("served")
    settings = load_settings(home=home, source="demo", symbols=symbols)
    warehouse, source, which = Warehouse(home), open_market(settings), market.days(days)
    for symbol in symbols:
        for store in (ingest_candles, ingest_open_interest):
            list(store(partial(warehouse.connect, symbol), source, settings, symbol, which))
        for compute in (advance, sample) if stored_cells else (advance,):
            list(compute(partial(warehouse.connect, symbol), settings, symbol, which))
    publish(warehouse, symbols)
    return home


@dataclass(frozen=True)
class Server:
    """A server that runs: where it listens, and its process."""

    port: int
    pid: int

    def cpu(self) -> float | None:
        """Return the processor seconds of all its threads so far, None where the system does not tell."""
        path = Path(f"/proc/{self.pid}/stat")
        if not path.exists():
            return None
        fields = path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def run_server(home: Path) -> Iterator[Server]:
    """Run `heatmap serve` over a home, with none of the caller's settings and no line per request."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HEATMAP_", "DAGSTER_"))}
    given["HEATMAP_LOG_FORMAT"] = "off"
    command = [sys.executable, "-u", "-m", "heatmap_pipeline", "serve", "--port", "0", "--home", str(home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=given, cwd=Path(__file__).parents[1]
    ) as child:
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise RuntimeError(f"`heatmap serve` does not start: {line}{child.stdout.read()}")
            yield Server(int(found[1]), child.pid)
        finally:
            child.terminate()
            child.wait(30)


# -- the client


class Done:
    """Answers of a measurement: milliseconds of each, statuses, bytes of a body, the server's processor time of one."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.statuses: set[int] = set()
        self.size = 0
        self.tag = b""
        self.cpu: tuple[float, ...] = ()

    def add(self, more: Done) -> None:
        """Count further answers to the same kind of question."""
        self.times += more.times
        self.cpu += more.cpu

    def row(self, name: str, what: str, expected: float | None, limit: str) -> Measured:
        """Return the row of the 95th percentile, which the targets are for; the others are told in words."""
        p50, p95, p99 = np.percentile(self.times, (50, 95, 99))
        return Measured(
            name=f"serve {name}, p95",
            what=f"{what}; p50 {p50:.3g}, p99 {p99:.3g} ms (n={len(self.times)})",
            unit="ms",
            values=(float(p95),),
            cpu=self.cpu,
            expected=expected,
            limit=limit,
        )


class _Connection(asyncio.BufferedProtocol):
    """A connection that asks, takes the answer without looking at its body, and asks again.

    So little is done per answer because whatever the client takes of two cores, the server does not have.
    """

    def __init__(self, ask: Callable[[], bytes | None], done: Done, pause: float | None = None) -> None:
        self._ask, self._done, self._pause = ask, done, pause
        self._room = memoryview(bytearray(1 << 20))
        self._head, self._left, self._begun, self._refused = b"", 0, 0.0, False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            self._left -= nbytes
        else:
            head, end, body = (self._head + bytes(self._room[:nbytes])).partition(b"\r\n\r\n")
            self._head = b"" if end else head
            if not end:
                return
            length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
            status = int(head[9:12])
            self._done.statuses.add(status)
            if status not in ({200, 304} if self._pause is None else {200, 304, 503}):
                self._end(RuntimeError(f"the server answers {status}: {body[:300]!r}"))
                return
            self._refused = status == 503
            size = int(length[1]) if length else 0
            self._done.size = size
            tag = re.search(rb"\r\netag: ([^\r]+)", head, re.IGNORECASE)
            self._done.tag = tag[1] if tag else b""
            self._left = size - len(body)
        if self._left <= 0:
            self._done.times.append(1000 * (time.perf_counter() - self._begun))
            self._left = 0
            if self._refused and self._pause is not None:
                asyncio.get_running_loop().call_later(self._pause, self._next)
            else:
                self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or RuntimeError("the server closed the connection"))

    def _next(self) -> None:
        asked = self._ask()
        if asked is None:
            self._end(None)
        else:
            self._begun = time.perf_counter()
            self._transport.write(asked)

    def _end(self, error: Exception | None) -> None:
        if not self.over.done():
            if error is None:
                self.over.set_result(None)
            else:
                self.over.set_exception(error)
        self._transport.abort()


def run_clients(
    server: Server, connections: int, answers: int, asked: bytes | Callable[[], bytes], *, greedy: int = 0
) -> Done:
    """Ask over some connections at a time, each the next as soon as it is answered, until there are so many answers.

    Args:
        server: to ask.
        connections: at a time.
        answers: in all.
        asked: the question, or what returns the next one.
        greedy: connections of another client that ask meanwhile, which are not counted; they may be answered 503.

    Raises:
        RuntimeError: for any other answer than 200 and 304.
    """
    done, others, begun, left = Done(), Done(), time.monotonic(), iter(range(answers))

    def following() -> bytes | None:
        if next(left, None) is None or time.monotonic() > begun + _SECONDS:
            return None
        return asked if isinstance(asked, bytes) else asked()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        over = False

        def another() -> bytes | None:
            return None if over else asked if isinstance(asked, bytes) else asked()

        async def connect(number: int, protocol: Callable[[], _Connection], address: str) -> list[_Connection]:
            connected = [
                await loop.create_connection(protocol, "127.0.0.1", server.port, local_addr=(address, 0))
                for _ in range(number)
            ]
            return [connection for _, connection in connected]

        crowding = await connect(greedy, lambda: _Connection(another, others, _GREEDY_PAUSE), _GREEDY_ADDRESS)
        await asyncio.sleep(1.0 if greedy else 0.0)
        made = await connect(connections, lambda: _Connection(following, done), "127.0.0.1")
        await asyncio.gather(*(connection.over for connection in made))
        over = True
        await asyncio.gather(*(connection.over for connection in crowding))

    before = server.cpu()
    asyncio.run(run())
    after = server.cpu()
    if before is not None and after is not None and done.times and not greedy:
        done.cpu = (1000 * (after - before) / len(done.times),)
    return done


def first_tag(server: Server, target: str) -> str:
    """Return the entity tag of an answer in zstd."""
    return run_clients(server, 1, 1, _request(target, "zstd")).tag.decode()


def _request(target: str, coding: str, tag: str = "") -> bytes:
    more = f"If-None-Match: {tag}\r\n" if tag else ""
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n{more}\r\n".encode()
