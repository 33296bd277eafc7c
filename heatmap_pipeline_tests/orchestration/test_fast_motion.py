"""Weeks of operation in fast motion, with all that goes wrong in them; afterwards it is as if nothing had gone wrong.

A local exchange whose clock runs 60 times faster, `heatmap refresh` every five minutes of it, `heatmap serve` and a
reader beside it (`fast_motion.py` has the table of what goes wrong). At the end both databases are those of a rebuild
that nothing disturbed, each failure was told once, and neither history nor memory has grown.

    HEATMAP_TEST_SOAK_HOURS=8 pytest heatmap_pipeline_tests/orchestration/test_fast_motion.py

goes through five weeks of the market at its clock's pace, but for the days on which the machine sleeps; less than an
hour, as in CI, through one week without waiting for that clock, with commands only around what goes wrong. With
HEATMAP_TEST_SOAK_FOLDER it can be stopped, after HEATMAP_TEST_SOAK_MINUTES, and gone on with by the same command.
"""

from __future__ import annotations

import os
import pickle
import resource
import sqlite3
import sys
import time
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import dagster._time
import pytest

from heatmap_pipeline.chain import calendar, due
from heatmap_pipeline.store import spare
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests._webhook import Webhook, listening
from heatmap_pipeline_tests.orchestration.clocked import Clock, follow
from heatmap_pipeline_tests.orchestration.fast_motion import (
    FIRST,
    KEEP_RUNS,
    KEPT,
    OF_ONE_COMMAND,
    PACE,
    RATE,
    SETTINGS,
    TICK,
    Command,
    Exchange,
    Planned,
    Reader,
    Soak,
    StoppedError,
    market,
    plan,
    small_disk,
    ticks,
)
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, day, tables
from heatmap_pipeline_tests.orchestration.killed import Ended, Forks

HOURS = float(os.environ.get("HEATMAP_TEST_SOAK_HOURS", "0"))
"""Of this machine's clock; 0: not at all."""

SHORT = HOURS < 1
ROUNDS = max(1, round(HOURS * RATE * timedelta(hours=1) / (len(list(ticks(1, short=False))) * TICK)))


@pytest.mark.parametrize(("rounds", "short"), [(1, True), (1, False), (5, False)])
def test_whatever_goes_wrong_has_commands_around_it(rounds: int, short: bool) -> None:
    instants = list(ticks(rounds, short=short))
    for row in plan(rounds):
        if row.what not in ("late", "delisted", "asleep"):
            assert row.begin in instants, row
        after = row.end or row.begin + TICK
        if row.what not in ("corrected", "delisted", "added"):
            assert any(after <= moment <= after + TICK for moment in instants), row
        assert any(moment > row.begin + timedelta(days=1) for moment in instants), "files are asked for once a day"


@pytest.mark.slow
@pytest.mark.skipif(not HOURS, reason="HEATMAP_TEST_SOAK_HOURS says for how long: 0.05 as in CI, 8 for all of it")
def test_weeks_in_fast_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"HEATMAP_{name}", str(value))
    folder = Path(KEPT or tmp_path)
    journal, root = folder / "journal" if KEPT else None, folder / "exchange"
    if not root.exists():
        market(root, ROUNDS)
    with (
        small_disk(folder / "disk", "256m" if SHORT else "2g") as (home, disk),
        Clock(tmp_path / "clock", FIRST, PACE) as clock,
        Exchange(root, clock) as server,
        Forks(tmp_path, clock.path) as forks,
        listening() as hook,
    ):
        soak = Soak(home, clock, server, forks, hook, disk, draw=not SHORT, journal=journal)
        soak.go_on()
        if not soak.commands:
            soak.command("run", BTC, "--start", day(1), "--end", day(2)).ok()
        reader = Reader(home, clock.path, tmp_path / "server.log")
        try:
            soak.run(reader, ROUNDS, short=SHORT)
            serving = reader.processor()
        except StoppedError as stopped:
            assert not soak.problems(), "\n".join(soak.problems())
            assert not reader.problems, reader.problems
            pytest.skip(f"{stopped}; the same command goes on")
        finally:
            said = reader.stop()
        clock.jump(clock.now)
        soak.command("refresh").ok()
        assert soak.command("status").ok().stdout.splitlines()[-1] == "nothing is failed, stale or missing"
        with capsys.disabled():
            sys.stdout.write("\n" + "\n".join(_summary(soak, reader, serving)) + "\n")
        assert not soak.problems(), "\n".join(soak.problems())
        assert not reader.problems, reader.problems
        assert "Traceback" not in said, said
        fresh = tmp_path / "fresh"
        last = clock.now.date()
        added = next(row.begin.date() for row in plan(ROUNDS) if row.what == "added") - timedelta(days=2)
        if server.delisted:
            ended = next(row.begin.date() for row in plan(ROUNDS) if row.what == "delisted") - timedelta(days=1)
            soak.command("run", ETH, "--start", added, "--end", ended, home=fresh).ok()
            soak.command("run", BTC, "--start", day(1), "--end", last, home=fresh).ok()
            soak.command("refresh", home=fresh).ok()
        else:
            soak.command("run", BTC, "--start", day(1), "--end", last, home=fresh).ok()
            soak.command("run", ETH, "--start", added, "--end", last, home=fresh).ok()
        for name in ("heatmap.duckdb", "warehouse"):
            assert_same(tables(home / name), tables(fresh / name))


def _summary(soak: Soak, reader: Reader, serving: float) -> list[str]:
    """Return what the soak came to, for whoever runs it."""
    commands = soak.commands
    here = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    working = sum(command.ended.processor for command in commands)
    kinds = sorted(body["kind"] for body in soak.hook.bodies)
    memory, runs = [command.memory for command in commands], [command.runs for command in commands]
    history = [command.history / 1e6 for command in commands]
    return [
        f"{len(commands)} commands, {commands[0].moment} .. {commands[-1].moment}, a disk "
        f"{'that fills up' if soak.disk else 'that cannot be filled here (it takes root)'}",
        f"notices: {', '.join(kinds)}",
        f"history: {runs[-1]} runs, {history[-1]:.1f} MB; at most {max(runs)} runs, {max(history):.1f} MB",
        f"server: {memory[0]:.0f} MB at first, {max(memory):.0f} MB at most, {memory[-1]:.0f} MB at last; "
        f"answers by status {reader.statuses}",
        f"a command took {sorted(command.seconds for command in commands)[len(commands) // 2]:.1f} s (median)",
        f"processor time: {working:.0f} s of the commands, {serving:.0f} s of the server, {here:.0f} s of the test",
    ]


# -- whether it would be seen


def became(number: int, **facts: Any) -> Command:
    """Return what became of one of many commands with which nothing went wrong."""
    right: dict[str, Any] = {"planned": (), "due": (), "ended": Ended(0, "", "", {}), "notices": (), "seconds": 1.0}
    right |= {"memory": 200.0 + number % 5, "runs": min(number + 1, KEEP_RUNS + 6), "history": 0}
    right |= {"history": right["runs"] * 1_000_000}
    return Command(moment=FIRST + number * timedelta(hours=6), **{**right, **facts})


def told(kind: str, run_id: str = "1") -> dict[str, str]:
    return {"kind": kind, "run_id": run_id, "text": ""}


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({}, None),
        ({"planned": ("late", "full"), "ended": Ended(1, "", "no room", {})}, None),
        ({"planned": ("killed",), "ended": Ended(-9, "", "", {})}, None),
        ({"due": ("killed",), "notices": (told("killed"),)}, None),
        ({"planned": ("closed",), "ended": Ended(0, "REST is closed to the place", "", {})}, None),
        ({"ended": Ended(1, "", "no room", {})}, "exit code 1 with nothing planned: no room"),
        ({"planned": ("full",)}, "exit code 0 with"),
        ({"planned": ("killed",)}, "exit code 0 with"),
        ({"planned": ("closed",)}, "closed is True"),
        ({"ended": Ended(0, "REST is closed to the place", "", {})}, "closed is False"),
        ({"notices": (told("failed"),)}, "no notice due"),
        ({"due": ("killed",)}, "due, told ()"),
        ({"due": ("killed",), "notices": (told("killed"), told("failed", "2"))}, "due, told ('failed', 'killed')"),
        ({"due": ("failed",), "notices": (told("failed"), told("failed"))}, "told twice of 1"),
        ({"runs": 99, "history": 99_000_000}, "99 runs in the history"),
        ({"history": 99_000_000}, "99000000 bytes of history"),
    ],
)
def test_a_command_that_is_not_as_planned_is_seen(facts: dict[str, Any], problem: str | None, tmp_path: Path) -> None:
    hook = Webhook()
    hook.bodies = list(facts.get("notices", ()))
    nothing: Any = None
    soak = Soak(tmp_path, nothing, nothing, nothing, hook, None)
    soak.commands = [*(became(number) for number in range(39)), became(39, **facts)]
    found = soak.problems()
    assert bool(found) == (problem is not None), found
    assert problem is None or any(problem in text for text in found), found


def test_a_server_that_grows_is_seen(tmp_path: Path) -> None:
    nothing: Any = None
    soak = Soak(tmp_path, nothing, nothing, nothing, Webhook(), None)
    soak.commands = [became(number, memory=200.0 + 4 * number) for number in range(40)]
    assert any("the server holds" in text for text in soak.problems())


def test_a_full_disk_has_room_for_what_is_left_and_for_no_more(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as (home, disk):
        if disk is None:
            pytest.skip("no small file system can be mounted here (it takes root); HEATMAP_TEST_DISK names one")
        page = b"0" * 4096
        disk.leave(5 * len(page))
        with home.with_name("file").open("wb", buffering=0) as stream:
            for _ in range(4):
                stream.write(page)
            with pytest.raises(OSError, match="No space left"):
                list(map(stream.write, [page] * 4))
        disk.make_room()
        home.with_name("file").write_bytes(1000 * page)


def test_a_process_goes_by_the_clock(tmp_path: Path) -> None:
    """All that a process may ask, in one that was forked for it, as `Forks` does."""
    clock = Clock(tmp_path / "clock", FIRST, RATE)

    def ask(say: Say) -> None:
        before = time.time()
        follow(clock.path, "heatmap_pipeline.chain")
        now = dagster._time.get_current_datetime()
        (by_sqlite,) = sqlite3.connect("").execute("SELECT CURRENT_TIMESTAMP").fetchone()
        say(f"{calendar.today()} {int(time.time())} {now:%F %T} {by_sqlite}")
        kind, this_machine = vars(due)["datetime"], vars(spare)["time"]
        say(f"{kind(2024, 1, 2).year} {isinstance(now, kind)} {this_machine.time() >= before}")

    with Fork(ask) as fork:
        said = fork.said.read().split("\n")
        assert fork.wait() == 0
    seconds = round(FIRST.replace(tzinfo=UTC).timestamp())
    assert said == [f"{FIRST:%F} {seconds} {FIRST:%F %T} {FIRST:%F %T}", "2024 True True", ""]


def test_a_clock_runs_to_where_it_is_told_to_wait(tmp_path: Path) -> None:
    with Clock(tmp_path / "clock", FIRST, 3600.0) as clock:
        assert clock.now == FIRST
        clock.run_to(FIRST + TICK)
        clock.wait()
        assert clock.now == FIRST + TICK


def test_a_soak_that_goes_on_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever command is the last before the stop: what is switched on then is so again, and nothing is done twice."""
    instants = [moment for moment in ticks(2, short=False) if moment.minute in (5, 10, 30, 40)]
    rows = plan(2)
    for last in instants[::97]:
        switched: list[tuple[Planned, bool]] = []
        soak = soak_of_nothing(tmp_path)
        monkeypatch.setattr(Soak, "_switch", lambda self, row, on, switched=switched: switched.append((row, on)))
        left, going = list(rows), list[Planned]()
        for moment in instants:
            if moment <= last:
                soak._switch_again(moment, left, going)
        on = [row for row in rows if (row, True) in switched and (row, False) not in switched]
        lasting = [row for row in rows if row.what not in OF_ONE_COMMAND and row.begin <= last]
        assert on == [row for row in lasting if row.end is None or row.end > last]
        assert left == [row for row in rows if row.begin > last]
        assert going == [row for row in on if row.end is not None]


def test_what_became_of_commands_is_read_back(tmp_path: Path) -> None:
    soak = soak_of_nothing(tmp_path)
    assert soak.journal is not None
    commands = [became(0), became(1, notices=(told("killed"),), due=("killed",))]
    with soak.journal.open("wb") as stream:
        for command in commands:
            pickle.dump(command, stream)
    with Clock(tmp_path / "clock", FIRST, RATE) as clock:
        soak.clock = clock
        soak.go_on()
        assert clock.now == commands[-1].moment + TICK - timedelta(seconds=1)
    assert soak.commands == commands
    assert soak.hook.kinds() == ["killed"]


def soak_of_nothing(tmp_path: Path) -> Soak:
    nothing: Any = None
    return Soak(tmp_path, nothing, nothing, nothing, Webhook(), None, journal=tmp_path / "journal")
