"""Weeks of operation in fast motion, with all that goes wrong in them; afterwards it is as if nothing had gone wrong.

A local exchange whose clock runs 60 times faster, `heatmap refresh` every five minutes of it, `heatmap serve` and a
reader beside it (`fast_motion.py` has the table of what goes wrong). At the end both databases are those of a rebuild
that nothing disturbed, each failure was told once, and neither history nor memory has grown.

    HEATMAP_TEST_SOAK_HOURS=8 pytest heatmap_pipeline_tests/orchestration/test_fast_motion.py

goes through three weeks of the market at its clock's pace; less than an hour, as in CI, through one week without
waiting for that clock, with commands only around what goes wrong.
"""

from __future__ import annotations

import os
import resource
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from heatmap_pipeline_tests._webhook import listening
from heatmap_pipeline_tests.orchestration.clocked import Clock
from heatmap_pipeline_tests.orchestration.fast_motion import (
    FIRST,
    RATE,
    SETTINGS,
    TICK,
    Exchange,
    Reader,
    Soak,
    market,
    plan,
    small_disk,
    ticks,
)
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, day, tables
from heatmap_pipeline_tests.orchestration.killed import Forks

HOURS = float(os.environ.get("HEATMAP_TEST_SOAK_HOURS", "0"))
"""Of this machine's clock; 0: not at all."""

SHORT = HOURS < 1
ROUNDS = max(1, round(HOURS * RATE / 24 / 7))


@pytest.mark.parametrize(("rounds", "short"), [(1, True), (1, False), (3, False)])
def test_whatever_goes_wrong_has_commands_around_it(rounds: int, short: bool) -> None:
    instants = list(ticks(rounds, short=short))
    for row in plan(rounds):
        if row.what not in ("late", "delisted", "asleep"):
            assert row.begin in instants, row
        after = row.end or row.begin + TICK
        if row.what not in ("corrected", "delisted"):
            assert any(after <= moment <= after + TICK for moment in instants), row
        assert any(moment > row.begin + timedelta(days=1) for moment in instants), "files are asked for once a day"


@pytest.mark.slow
@pytest.mark.skipif(not HOURS, reason="HEATMAP_TEST_SOAK_HOURS says for how long: 0.05 as in CI, 8 for all of it")
def test_weeks_in_fast_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"HEATMAP_{name}", str(value))
    root = market(tmp_path / "exchange", ROUNDS)
    with (
        small_disk(tmp_path / "disk", "2g") as disk,
        Clock(tmp_path / "clock", FIRST, RATE) as clock,
        Exchange(root, clock) as server,
        Forks(tmp_path, clock.path) as forks,
        listening() as hook,
    ):
        home = tmp_path / "disk" / "home"
        soak = Soak(home, clock, server, forks, hook, disk, draw=not SHORT)
        soak.command("run", BTC, ETH, "--start", day(1), "--end", day(2)).ok()
        reader = Reader(home, clock.path, tmp_path / "server.log")
        try:
            soak.run(reader, ROUNDS, short=SHORT)
        finally:
            said = reader.stop()
        clock.jump(clock.now)
        soak.command("refresh").ok()
        assert soak.command("status").ok().stdout.splitlines()[-1] == "nothing is failed, stale or missing"
        with capsys.disabled():
            sys.stdout.write("\n" + "\n".join(_summary(soak, reader)) + "\n")
        assert not soak.problems(), "\n".join(soak.problems())
        assert not reader.problems, reader.problems
        assert "Traceback" not in said, said
        fresh = tmp_path / "fresh"
        last = clock.now.date()
        if server.delisted:
            ended = next(row.begin.date() for row in plan(ROUNDS) if row.what == "delisted") - timedelta(days=1)
            soak.command("run", ETH, "--start", day(1), "--end", ended, home=fresh).ok()
            soak.command("run", BTC, "--start", day(1), "--end", last, home=fresh).ok()
            soak.command("refresh", home=fresh).ok()
        else:
            soak.command("run", BTC, ETH, "--start", day(1), "--end", last, home=fresh).ok()
        for name in ("heatmap.duckdb", "warehouse.duckdb"):
            assert_same(tables(home / name), tables(fresh / name))


def _summary(soak: Soak, reader: Reader) -> list[str]:
    """Return what the soak came to, for whoever runs it."""
    commands = soak.commands
    spent = [sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
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
        f"a command took {sorted(command.seconds for command in commands)[len(commands) // 2]:.1f} s (median); "
        f"processor time of the tests {spent[0]:.0f} s, of the children so far {spent[1]:.0f} s",
    ]
