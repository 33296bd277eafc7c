"""Weeks of a market in hours or minutes, with everything that goes wrong at stated instants of it, as a table.

`PLAN` says what goes wrong when and which notices that makes; `Soak` runs `heatmap refresh` every five minutes of the
market's clock beside `heatmap serve` and a reader, and writes down what became of each command.
"""

from __future__ import annotations

import errno
import http.client
import importlib.util
import json
import logging
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time as real_time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline_tests._webhook import Webhook
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.orchestration.clocked import Clock, stamp
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day, metrics_file, rewrite
from heatmap_pipeline_tests.orchestration.killed import Death, Ended, Forks

_log = logging.getLogger(__name__)

RATE = 60.0
PACE = float(os.environ.get("HEATMAP_TEST_SOAK_PACE", RATE))
"""How many times faster the exchange's clock may run: more than `RATE` takes fewer hours for the same commands."""

KEPT = os.environ.get("HEATMAP_TEST_SOAK_FOLDER", "")
"""Folder in which everything of a soak stays, so that the same command goes on with one that was stopped."""

MINUTES = float(os.environ.get("HEATMAP_TEST_SOAK_MINUTES", "inf"))
"""After so many a soak whose folder stays is stopped, between two commands."""

TICK = timedelta(minutes=5)
DAY = timedelta(days=1)
ROUND = timedelta(days=7)
"""After so long the table begins anew."""

KEEP_RUNS = 4

SMALL_DISK = os.environ.get("HEATMAP_TEST_DISK", "")
"""Folder on a file system of some 256 MB, or 2 GB for all of it, that may be filled up. The home of a soak whose
folder stays lies in it, and stays, too."""

SLACK = 8 << 20
"""Bytes of SQLite's files that may be empty, whatever is in them."""

MORE = 64.0
"""MB that the server may hold more at the end than after the first quarter: there are more days by then."""

LEFT = 200_000
"""Bytes that a full disk has left."""

APPEARS = timedelta(hours=33)
"""How long after its first instant the archive has a day: at nine on the day after it."""

SETTINGS: dict[str, object] = {
    "SOURCE": "binance",
    "SYMBOLS": f"{BTC},{ETH}",
    "MODELS": "turnover",
    "SNAPSHOT_INTERVAL": "1h",
    "INTRADAY_MINUTES": "5",
    "KEEP_RUNS": KEEP_RUNS,
    "API_CACHE_MB": "8",
    "LOG_FORMAT": "off",
}

What: TypeAlias = Literal["added", "closed", "late", "corrected", "killed", "full", "refused", "asleep", "delisted"]


def at(number: int, clock: str) -> datetime:
    """Return an instant of a day of the first round."""
    return datetime.combine(day(number), time.fromisoformat(clock))


@dataclass(frozen=True)
class Planned:
    """Something that goes wrong.

    Attributes:
        what: it is; `Soak` switches it on and off.
        begin: first instant.
        end: instant from which it is over; None for what stays, or lasts for one command.
        notice: kind of the one notice that there has to be of it; '' for what is no failure.
        later: whether the command after it gives the notice.
        death: when a process is killed.
        last: whether it only happens in the last round.
        needs: module of the program without which it is left out.
    """

    what: What
    begin: datetime
    end: datetime | None = None
    notice: str = ""
    later: bool = False
    death: Death | None = None
    last: bool = False
    needs: str = ""


PLAN = (
    Planned("added", at(3, "10:00"), last=True),
    Planned("closed", at(3, "10:30"), at(3, "11:30")),
    Planned("killed", at(3, "11:40"), notice="killed", later=True, death=Death("publication", 12)),
    Planned("late", at(4, "00:00"), at(5, "15:00")),
    Planned("corrected", at(4, "12:00")),
    Planned("full", at(4, "12:10"), notice="failed"),
    Planned("killed", at(5, "12:15"), notice="killed", later=True, death=Death("liquidation_snapshots", 1)),
    Planned("refused", at(5, "15:10"), notice="failed", later=True),
    Planned("asleep", at(5, "15:20"), at(8, "09:30"), notice="nothing_ran"),
    Planned("delisted", at(8, "00:00"), last=True, needs="heatmap_pipeline.chain.ends"),
    Planned("killed", at(9, "09:40"), notice="killed", later=True, death=Death("raw_candles", 1)),
)
"""A second symbol is added in the last round. What goes wrong: REST answers 451 for an hour, the archive has day 3
30 hours late, that of day 2 is corrected, processes get SIGKILL while they publish, commit and ingest, the disk is
full, REST refuses every request while the webhook is gone, too, the machine sleeps for two days and more, a symbol is
not traded any more."""

FIRST, LAST = at(3, "10:00"), at(10, "12:00")

SHORT = {
    3: ("10:00", "10:25", "10:30", "10:50", "11:25", "11:30", "11:40", "11:45"),
    4: ("00:20", "00:25", "09:05", "12:00", "12:10", "12:15"),
    5: ("12:10", "12:15", "12:20", "15:05", "15:10", "15:15"),
    8: ("09:30", "09:35"),
    9: ("09:35", "09:40", "09:45"),
    10: ("09:05", "12:00"),
}
"""When there are commands in the short version, by day: around all of that."""


def plan(rounds: int) -> list[Planned]:
    """Return what goes wrong in so many rounds, in order."""
    rows = []
    for number in range(rounds):
        for row in PLAN:
            if (row.last and number + 1 < rounds) or (row.needs and importlib.util.find_spec(row.needs) is None):
                continue
            moved = {"begin": row.begin + number * ROUND, "end": row.end and row.end + number * ROUND}
            rows.append(Planned(**{**vars(row), **moved}))
    return sorted(rows, key=lambda row: row.begin)


def ticks(rounds: int, *, short: bool) -> Iterator[datetime]:
    """Yield the instants of the commands: every five minutes while the machine is awake; in short those of `SHORT`."""
    if short:
        yield from (at(number, clock) for number, clocks in SHORT.items() for clock in clocks)
        return
    asleep = [(row.begin, row.end) for row in plan(rounds) if row.what == "asleep" and row.end is not None]
    moment = FIRST
    while moment <= LAST + (rounds - 1) * ROUND:
        if not any(begin <= moment < end for begin, end in asleep):
            yield moment
        moment += TICK


OF_ONE_COMMAND = ("corrected", "killed", "full", "refused")
"""What goes wrong for a single command, and is over when a soak goes on after it."""


class Exchange(ExchangeServer):
    """The exchange by a clock; its archive has a day when it is due, and what goes wrong is switched on and off.

    Args:
        root: folder of its files.
        clock: that it goes by.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._clock = clock
        self.closed = False
        self.refusing = False
        self.late: set[str] = set()
        """Days that its archive does not have though they are due."""
        self.delisted: set[str] = set()
        super().__init__(root, clock.now)

    @property
    def now(self) -> datetime:
        return self._clock.now

    @now.setter
    def now(self, value: datetime) -> None:
        """Leave the clock alone."""

    @property
    def answers_at(self) -> float | None:
        return self.now_ms / 1000

    @answers_at.setter
    def answers_at(self, value: float | None) -> None:
        """Leave the clock alone."""

    def next_fault(self, path: str) -> Fault:
        if self.closed and not path.startswith("/data/"):
            return Fault(451, body=b'{"code":0,"msg":"Service unavailable from a restricted location."}')
        if self.refusing and not path.startswith("/data/"):
            return Fault(400, body=b'{"code":-1000,"msg":"An unknown error occurred while processing the request."}')
        return super().next_fault(path)

    def archive(self, path: str) -> bytes | None:
        found = re.search(r"\d{4}-\d{2}-\d{2}", path)
        if found and (found[0] in self.late or self.now < datetime.fromisoformat(found[0]) + APPEARS):
            return None
        return super().archive(path)

    def _info(self, symbol: str) -> dict[str, Any]:
        return super()._info(symbol) | ({"status": "SETTLING"} if symbol in self.delisted else {})


class Disk:
    """A small file system that can be filled up.

    Args:
        home: folder on it, for the home.
    """

    def __init__(self, home: Path) -> None:
        self._ballast = home.with_name("ballast")

    def leave(self, free: int) -> None:
        """Fill it up to so many bytes."""
        size, step = 0, 1 << 28
        with self._ballast.open("wb") as stream:
            while step >= 4096:  # what a file system says is free it may keep for itself, or for root
                try:
                    os.posix_fallocate(stream.fileno(), size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
            stream.truncate(size - free)

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[tuple[Path, Disk | None]]:
    """Give a place for a home, and the small file system that it lies on.

    That is the one of HEATMAP_TEST_DISK, else one that is mounted, which takes root; None where neither can be, and
    where the home has to stay on one that would be mounted.
    """
    if KEPT:
        home = Path(SMALL_DISK or folder, "home")
        home.parent.mkdir(exist_ok=True)
        yield home, Disk(home) if SMALL_DISK else None
        return
    if SMALL_DISK:
        with tempfile.TemporaryDirectory(dir=SMALL_DISK) as place:
            yield Path(place, "home"), Disk(Path(place, "home"))
        return
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder / "home", Disk(folder / "home") if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


class Reader:
    """`heatmap serve` as a process, and a client that asks it for everything in turn, twice a second."""

    PATHS = (
        "/symbols",
        f"/liquidations/map?symbol={BTC}",
        f"/prices/klines?symbol={BTC}&interval=1h",
        f"/liquidations/heatmap-timeseries?symbol={BTC}&interval=1h&format=columns",
    )

    def __init__(self, home: Path, clock: Path, log: Path) -> None:
        self.statuses: dict[int, int] = {}
        self.problems: list[str] = []
        self._log = log
        self._newest = ""
        self._stopped = threading.Event()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")}
        command = [sys.executable, "-m", "heatmap_pipeline_tests.orchestration.clocked", str(clock)]
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [*command, "serve", "--port", "0", "--home", str(home)],
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._port = self._find_port()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        while not self.problems and sum(self.statuses.values()) < 2 * len(self.PATHS):
            real_time.sleep(0.05)  # what it holds once it has answered everything is what it begins with

    def stop(self) -> str:
        """Stop both; return what the server has said."""
        self._stopped.set()
        self._thread.join(30)
        if self._process.poll() is not None:
            self.problems.append(f"the server ended by itself with {self._process.returncode}")
        self._process.terminate()
        self._process.wait(30)
        return self._log.read_text()

    def processor(self) -> float:
        """Return the seconds of processor time that the server has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return what the server holds, MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def _find_port(self) -> int:
        end = real_time.monotonic() + 120
        try:
            while real_time.monotonic() < end and self._process.poll() is None:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", self._log.read_text()):
                    return int(found[1])
                real_time.sleep(0.05)
        except BaseException:  # nobody else would stop it
            self._process.kill()
            raise
        self._process.kill()
        raise AssertionError(f"the server does not start: {self._log.read_text()}")

    def _read(self) -> None:
        number = 0
        while not self._stopped.wait(0.5):
            path = self.PATHS[number % len(self.PATHS)]
            number += 1
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    self._judge(path, answer.status, json.loads(answer.read()))
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.problems.append(f"{path}: {error!r}")

    def _judge(self, path: str, status: int, body: Any) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status != 200:
            self.problems.append(f"{path}: {status} {body}")
        elif path == "/symbols":
            newest = next(one["as_of"] for one in body["symbols"] if one["symbol"] == BTC)
            if newest < self._newest:
                self.problems.append(f"the newest of {BTC} went back from {self._newest} to {newest}")
            self._newest = newest


@dataclass(frozen=True)
class Command:
    """What became of one `heatmap refresh`.

    Attributes:
        moment: of the market at which it began.
        planned: what was to go wrong with it, itself.
        due: kinds of the notices that had to come since the command before it.
        ended: how.
        notices: bodies that did come.
        seconds: of this machine that it took.
        memory: of the server after it, MB.
        runs: in Dagster's history after it.
        history: bytes of Dagster's history after it.
    """

    moment: datetime
    planned: tuple[What, ...]
    due: tuple[str, ...]
    ended: Ended
    notices: tuple[dict[str, Any], ...]
    seconds: float
    memory: float
    runs: int
    history: int

    def problems(self) -> Iterator[str]:
        """Yield what is not as planned."""
        code = self.ended.code
        told = tuple(sorted(body["kind"] for body in self.notices))
        if "killed" in self.planned:
            right = self.ended.killed
        else:
            right = code == (1 if {"full", "refused"} & set(self.planned) else 0)
        if not right:
            words = self.ended.stderr[-2000:]
            yield f"{self.moment}: exit code {code} with {self.planned or 'nothing'} planned: {words}"
        if told != tuple(sorted(self.due)):
            texts = [body["text"] for body in self.notices]
            yield f"{self.moment}: {self.due or 'no notice'} due, told {told}: {texts}"
        if ("is closed to the place" in self.ended.stdout) != ("closed" in self.planned):
            yield f"{self.moment}: closed is {'closed' in self.planned}, said {self.ended.stdout[-2000:]}"
        if "Traceback" in self.ended.stderr:
            yield f"{self.moment}: {self.ended.stderr[-4000:]}"


class StoppedError(Exception):
    """A soak that was stopped between two commands, to go on with later."""


@dataclass
class Soak:
    """Commands on one home, and what goes wrong around them.

    Attributes:
        home: of the commands.
        clock: of everything.
        server: the exchange.
        forks: run the commands.
        hook: takes the notices.
        disk: of the home; None where none can be mounted: then it is never full.
        draw: whether the pictures are drawn, by one command an hour.
        journal: file in which what became of each command is written down for who goes on; None for nobody.
        symbols: of the commands.
    """

    home: Path
    clock: Clock
    server: Exchange
    forks: Forks
    hook: Webhook
    disk: Disk | None
    draw: bool = False
    journal: Path | None = None
    symbols: tuple[str, ...] = (BTC,)
    commands: list[Command] = field(default_factory=list)
    _death: Death | None = None
    _told: int = 0

    def go_on(self) -> None:
        """Take up what the journal says has been, if there is one."""
        if self.journal is not None and self.journal.exists():
            with self.journal.open("rb") as stream, suppress(EOFError):
                while True:
                    self.commands.append(pickle.load(stream))  # noqa: S301 - a file of this test's own
            self.hook.bodies[:] = [body for command in self.commands for body in command.notices]
            self._told = len(self.hook.bodies)
            self.clock.jump(self.commands[-1].moment + TICK - timedelta(seconds=1))

    def run(self, reader: Reader, rounds: int, *, short: bool) -> None:
        """Go through the table; in the long version no faster than the market's clock.

        Raises:
            StoppedError: after `MINUTES`.
        """
        stop, done = real_time.monotonic() + 60 * MINUTES, {command.moment for command in self.commands}
        rows = [row for row in plan(rounds) if row.what != "full" or self.disk is not None]
        instants = list(ticks(rounds, short=short))
        due = _due(rows, instants)
        going: list[Planned] = []
        for moment in instants:
            if moment in done:
                self._switch_again(moment, rows, going)
                continue
            if real_time.monotonic() > stop:
                raise StoppedError(f"{len(self.commands)} of {len(instants)} commands are done, the next is {moment}")
            if short or moment - self.clock.now > TICK:
                self.clock.jump(moment)
            else:
                self.clock.run_to(moment)
                self.clock.wait()
            while rows and rows[0].begin <= moment:
                row = rows.pop(0)
                going.append(row)
                self._switch(row, True)
                if row.what == "added":
                    self.command(
                        "run", ETH, "--start", row.begin.date() - 2 * DAY, "--end", row.begin.date() - DAY
                    ).ok()
            for row in [row for row in going if row.end is not None and row.end <= moment]:
                going.remove(row)
                self._switch(row, False)
            self.clock.run_to(moment + TICK - timedelta(seconds=1))
            planned = tuple(row.what for row in going)
            ended, seconds = self._refresh(moment, planned)
            for row in [row for row in going if row.end is None]:
                going.remove(row)
                self._switch(row, False)
            self._note(moment, planned, tuple(due.get(moment, ())), ended, seconds, reader)

    def command(
        self, *words: object, home: Path | None = None, death: Death | None = None, draw: bool = False
    ) -> Ended:
        """Run a command on the home, or on another."""
        variables: dict[str, Any] = {f"HEATMAP_{name}": value for name, value in SETTINGS.items()}
        variables |= {
            "HEATMAP_SYMBOLS": ",".join(self.symbols),
            "HEATMAP_ARCHIVE_URL": self.server.url,
            "HEATMAP_REST_URL": self.server.url,
        }
        if home is None:
            variables["HEATMAP_WEBHOOK"] = self.hook.url
        where = home or self.home
        ended = self.forks.heatmap(*words, "--home", where, death=death, draw=draw, **variables)
        for name in ("archive", "dagster"):
            stamp(where / name, self.clock.now)
        return ended

    def problems(self) -> list[str]:
        """Return everything that was not as planned."""
        found = [problem for command in self.commands for problem in command.problems()]
        told = [body["run_id"] for body in self.hook.bodies]
        found += [f"told twice of {run_id}" for run_id in {*told} if told.count(run_id) > 1]
        return found + list(self._grown())

    def _grown(self) -> Iterator[str]:
        """Yield what grew without bounds: Dagster's history, and the server after the first quarter."""
        last = self.commands[-1]
        recent = sum(command.moment > last.moment - timedelta(days=2) for command in self.commands)
        failed = sum(command.ended.code != 0 for command in self.commands)
        if last.runs > KEEP_RUNS + recent + failed:
            yield f"{last.runs} runs in the history of {len(self.commands)} commands, {recent} of the last two days"
        warm = self.commands[: max(len(self.commands) // 4, 1)]
        each = warm[-1].history / max(warm[-1].runs, 1)
        if last.history > 1.25 * each * last.runs + SLACK:
            yield f"{last.history} bytes of history for {last.runs} runs, at first {each:.0f} each"
        at_first = max(command.memory for command in warm)
        at_last = sorted(command.memory for command in self.commands[-len(warm) :])[len(warm) // 2]
        if at_last > at_first + MORE:
            yield f"the server holds {at_last:.0f} MB, after the first quarter it was {at_first:.0f} MB"

    def _refresh(self, moment: datetime, planned: tuple[What, ...]) -> tuple[Ended, float]:
        began = real_time.monotonic()
        death, self._death = self._death, None
        ended = self.command("refresh", death=death, draw=self.draw and moment.minute == 0)
        _log.info("%s %s: exit code %d, %.1f s of processor time", moment, planned, ended.code, ended.processor)
        return ended, real_time.monotonic() - began

    def _note(
        self,
        moment: datetime,
        planned: tuple[What, ...],
        due: tuple[str, ...],
        ended: Ended,
        seconds: float,
        reader: Reader,
    ) -> None:
        """Write down what became of a command; the disk has room again."""
        notices, self._told = tuple(self.hook.bodies[self._told :]), len(self.hook.bodies)
        folder = self.home / "dagster"
        with closing(sqlite3.connect(f"file:{folder / 'history/runs.db'}?mode=ro", uri=True)) as con:
            (runs,) = con.execute("SELECT count(*) FROM runs").fetchone()
        history = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        facts = (ended, notices, seconds, reader.memory(), runs, history)
        self.commands.append(Command(moment, planned, due, *facts))
        if self.journal is not None:
            with self.journal.open("ab") as stream:
                pickle.dump(self.commands[-1], stream)

    def _switch_again(self, moment: datetime, rows: list[Planned], going: list[Planned]) -> None:
        """Tell the exchange and the webhook, which are new, what was so at an instant of the past."""
        while rows and rows[0].begin <= moment:
            row = rows.pop(0)
            if row.what not in OF_ONE_COMMAND:
                self._switch(row, True)
                if row.end is not None:
                    going.append(row)
        for row in [row for row in going if row.end is not None and row.end <= moment]:
            going.remove(row)
            self._switch(row, False)

    def _switch(self, row: Planned, on: bool) -> None:
        """Have something go wrong, or right again."""
        match row.what:
            case "closed":
                self.server.closed = on
            case "late":
                (self.server.late.add if on else self.server.late.remove)(str(row.begin.date() - timedelta(days=1)))
            case "corrected" if on:
                number = (row.begin.date() - day(1)).days - 1
                rewrite(metrics_file(self.server.root, number), _corrected)
            case "killed" if on:
                self._death = row.death
            case "full" if self.disk is not None:
                self.disk.leave(LEFT) if on else self.disk.make_room()
            case "refused":
                self.server.refusing = on
                self.hook.answers[:] = [404] * 1000 if on else []
            case "added" if on:
                self.symbols = (BTC, ETH)
            case "delisted" if on:
                self.server.delisted.add(ETH)


def market(root: Path, rounds: int) -> Path:
    """Write the archive's files of all that time; those of a symbol that ends go to the day before that."""
    last = (LAST.date() - day(1)).days + 1 + 7 * (rounds - 1)
    ends = [(row.begin.date() - day(1)).days for row in plan(rounds) if row.what == "delisted"]
    for symbol, end in ((BTC, last), (ETH, min([last, *ends]))):
        write_demo_days(root, symbol, [day(number) for number in range(1, end + 1)])
    return root


def _due(rows: list[Planned], instants: list[datetime]) -> dict[datetime, list[str]]:
    """Return the kinds of the notices that are due, by the command that they have to come by."""
    due: dict[datetime, list[str]] = {}
    for row in rows:
        if row.notice:
            begin = row.begin if row.end is None else row.end
            place = next(number for number, moment in enumerate(instants) if moment >= begin)
            due.setdefault(instants[place + row.later], []).append(row.notice)
    return due


def _corrected(rows: list[list[str]]) -> list[list[str]]:
    """Return samples of a day on which somewhat more contracts were open, at the same price."""
    for number, row in enumerate(rows):
        for column in (2, 3):
            row[column] = f"{float(row[column]) * (1 + 0.002 * (number % 7)):.8f}"
    return rows
