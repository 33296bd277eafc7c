"""A local stand-in for the exchange: its archive's files and its REST, from one folder of files, with planted faults.

Listens on 127.0.0.1 on a free port, remembers what was asked, and is stopped by its own handle.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

STEP_MS = 300_000
DAY_MS = 86_400_000
REACH_MS = 30 * DAY_MS


@dataclass(frozen=True)
class Fault:
    """What a request gets instead of, or done to, its right answer.

    Attributes:
        status: in place of the right one.
        headers: added.
        body: in place of the right one.
        edit: changes the rows of a REST answer.
        cut: bytes after which the connection is closed.
        hang: seconds of silence before anything is sent.
        until: what is waited for in silence before anything is sent.
        drip: seconds between single bytes.
        endless: whether a chunked body without an end is sent.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    edit: Callable[[Any], Any] | None = None
    cut: int | None = None
    hang: float = 0.0
    until: threading.Event | None = None
    drip: float = 0.0
    endless: bool = False


@dataclass(frozen=True)
class Asked:
    """One request: its path, its query, its headers, and when it came (monotonic)."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float


@dataclass
class _Plan:
    part: str
    faults: deque[Fault]
    always: bool


class ExchangeServer:
    """Serves `root` (which holds `futures/um/daily/`) as archive, and the same rows as REST.

    Args:
        root: folder of archive files, labels of samples = when they were taken.
        now: what the exchange's clock says, UTC without zone; it stands still.
        status: of every symbol.
        listed: UTC day of every symbol.
        ranges: whether parts of files may be asked for.
    """

    def __init__(
        self,
        root: Path,
        now: datetime,
        *,
        status: str = "TRADING",
        listed: date = date(2019, 9, 8),
        ranges: bool = True,
    ) -> None:
        self.root = root
        self.now = now
        self.status = status
        self.listed = listed
        self.ranges = ranges
        self.answers_at: float | None = None
        """What the Date of every answer says, seconds since 1970; None: this machine's clock."""
        self.statuses: dict[str, str] = {}
        """Status of symbols that have another one than the rest; '' for those that are not listed."""
        self.invalid: set[str] = set()
        """Symbols that REST calls invalid, whatever is listed."""
        self.hidden: list[str] = []
        self.asked: list[Asked] = []
        self.stopped = threading.Event()
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def fault(self, part: str, *faults: Fault, always: bool = False) -> None:
        """Give these faults, one each, to the next requests whose path contains `part`; or the only one to all."""
        self._plans.append(_Plan(part, deque(faults), always))

    def forget_all(self) -> None:
        """Plan no faults, hide nothing and remember nothing that was asked, for the next test that shares it."""
        with self._lock:
            self._plans.clear()
        self.hidden.clear()
        self.asked.clear()

    def hide(self, *parts: str) -> None:
        """Make archive files whose path contains one of `parts` unpublished."""
        self.hidden += parts

    def paths(self, part: str = "") -> list[str]:
        """Return the paths asked for that contain `part`, in order."""
        return [one.path for one in self.asked if part in one.path]

    def next_fault(self, path: str) -> Fault:
        with self._lock:
            for plan in self._plans:
                if plan.part in path and plan.faults:
                    return plan.faults[0] if plan.always else plan.faults.popleft()
        return Fault()

    def archive(self, path: str) -> bytes | None:
        """Return a file below `data/`, None if it is not published."""
        file = self.root / unquote(path.removeprefix("/data/"))
        if any(part in path for part in self.hidden) or not file.is_file():
            return None
        return file.read_bytes()

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        """Return status and JSON of a REST question."""
        if path == "/fapi/v1/time":
            return 200, {"serverTime": self.now_ms}
        if path == "/fapi/v1/exchangeInfo":
            return 200, {
                "timezone": "UTC",
                "serverTime": self.now_ms,
                "symbols": [self._info(one) for one in self._all() if self.statuses.get(one, self.status)],
            }
        if query.get("symbol") not in self._all() or query.get("symbol") in self.invalid:
            return 400, {"code": -1121, "msg": "Invalid symbol."}
        start, end, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        if path == "/fapi/v1/klines":
            return 200, self._klines(query["symbol"], query["interval"], start, end)[: min(limit, 1500)]
        if start < self.now_ms - REACH_MS:
            return 400, {"code": -1130, "msg": "parameter 'startTime' is invalid."}
        return 200, self._open_interest(query["symbol"], start, end)[: min(limit, 500)]

    @property
    def now_ms(self) -> int:
        return round(self.now.replace(tzinfo=UTC).timestamp() * 1000)

    def _all(self) -> list[str]:
        return sorted(folder.name for folder in (self.root / "futures/um/daily/klines").iterdir())

    def _info(self, symbol: str) -> dict[str, Any]:
        listed = datetime(self.listed.year, self.listed.month, self.listed.day, 8, tzinfo=UTC)
        return {
            "symbol": symbol,
            "contractType": "PERPETUAL",
            "status": self.statuses.get(symbol, self.status),
            "onboardDate": round(listed.timestamp() * 1000),
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "4529764", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "stepSize": "0.001"},
            ],
        }

    def _klines(self, symbol: str, interval: str, start: int, end: int) -> list[list[Any]]:
        rows = []
        for day in _days(start, end):
            path = f"futures/um/daily/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip"
            for fields in _csv(self.root / path):
                at = int(fields[0])
                if start <= at <= end and at <= self.now_ms:
                    rows.append([at, *fields[1:6], int(fields[6]), fields[7], int(fields[8]), *fields[9:11], "0"])
        return rows

    def _open_interest(self, symbol: str, start: int, end: int) -> list[dict[str, Any]]:
        rows = []
        for day in _days(start - DAY_MS, end):
            for fields in _csv(self.root / f"futures/um/daily/metrics/{symbol}/{symbol}-metrics-{day}.zip"):
                at = round(datetime.fromisoformat(fields[0]).replace(tzinfo=UTC).timestamp() * 1000)
                if start <= at <= min(end, self.now_ms):
                    values = {"sumOpenInterest": fields[2], "sumOpenInterestValue": fields[3]}
                    rows.append({"symbol": symbol, **values, "CMCCirculatingSupply": "19000000", "timestamp": at})
        return rows


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients go away in the middle of an answer, which is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server_of: ExchangeServer
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner = self.server_of
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        owner.asked.append(Asked(parts.path, query, dict(self.headers.items()), time.monotonic()))
        fault = owner.next_fault(parts.path)
        try:
            status, headers, body = self._right(owner, parts.path, query, fault)
            self._send(owner, fault, fault.status or status, {**headers, **fault.headers}, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.server_of.answers_at if timestamp is None else timestamp)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _right(
        self, owner: ExchangeServer, path: str, query: dict[str, str], fault: Fault
    ) -> tuple[int, dict[str, str], bytes]:
        headers: dict[str, str] = {}
        status = 200
        if path.startswith("/data/"):
            body = owner.archive(path)
            if body is None:
                return (
                    404,
                    {"Content-Type": "application/xml"},
                    b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
                )
            body = body if fault.body is None else fault.body
            wanted = self.headers.get("Range", "")
            if wanted and owner.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[start:]
            return status, headers, body
        status, answer = owner.rest(path, query)
        if fault.edit is not None:
            answer = fault.edit(answer)
        headers = {"Content-Type": "application/json", "X-MBX-USED-WEIGHT-1M": "7"}
        return status, headers, json.dumps(answer).encode() if fault.body is None else fault.body

    def _send(self, owner: ExchangeServer, fault: Fault, status: int, headers: dict[str, str], body: bytes) -> None:
        if fault.hang and owner.stopped.wait(fault.hang):
            return
        if fault.until is not None:
            fault.until.wait(60)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault.endless:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            block = b"x" * 65536
            while not owner.stopped.is_set():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.drip:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                if owner.stopped.wait(fault.drip):
                    return
        self.wfile.write(body if fault.cut is None else body[: fault.cut])
        if fault.cut is not None:
            self.close_connection = True


def _days(start: int, end: int) -> list[date]:
    first, last = (datetime.fromtimestamp(at / 1000, UTC).date() for at in (start, end))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _csv(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with zipfile.ZipFile(path) as archive:
        rows = list(csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode())))
    return rows[1:] if rows[0][0].isalpha() or "_" in rows[0][0] else rows
