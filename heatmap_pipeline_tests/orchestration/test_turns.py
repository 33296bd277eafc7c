"""Whose turn it is: commands of different symbols go on beside each other, and nobody takes one for killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from heatmap_pipeline.orchestration.told import noted, notes_left
from heatmap_pipeline.orchestration.turns import (
    RunError,
    goes_on,
    if_no_run_goes_on,
    no_run_at_all,
    one_run_at_a_time,
)
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests._homes import done, heatmap, refused
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day, tables

SOL = "SOLUSDT"


def of(home: Path, *symbols: str) -> Settings:
    (home / "dagster").mkdir(exist_ok=True)
    return Settings(home=home, symbols=symbols, lock_timeout=0.1)


@contextmanager
def _working(settings: Settings) -> Iterator[Fork]:
    """Have another process work on the symbols of the settings, as a command does that stores all the time."""

    def work(say: Say) -> None:
        with (
            one_run_at_a_time(settings, say),
            noted(settings, "heatmap refresh"),
            Warehouse(settings.home).locked(*settings.symbols),
        ):
            say("works")
            signal.pause()

    with Fork(work) as process:
        assert process.said.readline() == "works\n"
        yield process


def test_a_command_waits_for_none_of_other_symbols(tmp_path: Path) -> None:
    told: list[str] = []
    with _working(of(tmp_path, BTC, ETH)) as other:
        with one_run_at_a_time(of(tmp_path, SOL), told.append):
            pass
        assert told == []
        with (
            pytest.raises(RunError, match=rf"process {other.pid} .* still holds .*/running/ETHUSDT\.lock after 0.1 s"),
            one_run_at_a_time(of(tmp_path, ETH, SOL), told.append),
        ):
            pass
        assert told == [told[0]]
        assert told[0].startswith(f"waiting for process {other.pid} (since ")
        other.kill()
        with one_run_at_a_time(of(tmp_path, ETH, SOL), told.append):
            pass


def test_a_restore_waits_for_all_and_all_for_a_restore(tmp_path: Path) -> None:
    with _working(of(tmp_path, BTC)), if_no_run_goes_on(of(tmp_path, ETH)) as alone:
        assert not alone
        with (
            pytest.raises(RunError, match=r"still holds .*run\.lock"),
            no_run_at_all(of(tmp_path, BTC), lambda _: None),
        ):
            pass
    with no_run_at_all(of(tmp_path, BTC), lambda _: None), pytest.raises(RunError, match=r"still holds .*run\.lock"):
        one_run_at_a_time(of(tmp_path, BTC), lambda _: None).__enter__()
    with if_no_run_goes_on(of(tmp_path, ETH)) as alone:
        assert alone


def test_a_lock_that_cannot_be_taken_is_named(tmp_path: Path) -> None:
    here = of(tmp_path, ETH)
    for lock in (tmp_path / "run.lock", tmp_path / "running" / f"{BTC}.lock"):
        lock.mkdir(parents=True)  # root may open any file
    with pytest.raises(RunError, match=r"run\.lock cannot be locked \(Is a directory\); mend"), if_no_run_goes_on(here):
        pass
    with pytest.raises(RunError, match=r"BTCUSDT\.lock cannot be locked \(Is a directory\); mend"):
        goes_on(here, [BTC])


def test_what_goes_on_is_not_taken_for_killed(tmp_path: Path) -> None:
    here = of(tmp_path, ETH)
    with ExitStack() as stack:
        other = stack.enter_context(_working(of(tmp_path, BTC, SOL)))
        stack.enter_context(one_run_at_a_time(here, lambda _: None))
        assert goes_on(here, [SOL, BTC])
        assert not goes_on(here, [ETH, BTC]), "who works on ETHUSDT is gone, for its lock is held here"
        assert not goes_on(here, ["NEWUSDT"])
        assert notes_left(here) == []
        other.kill()
        assert not goes_on(here, [BTC])
        (left,) = notes_left(here)
        assert json.loads(left.read_bytes())["symbols"] == [BTC, SOL]


@pytest.mark.usefixtures("light_commands")
def test_a_run_of_a_symbol_does_not_wait_for_one_of_another(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One holds its symbol, and the symbol's file, all the time; the other computes and publishes."""
    home = tmp_path / "home"
    for name, value in (("LOCK_TIMEOUT", "0.1"), ("MODELS", "delta"), ("SNAPSHOT_INTERVAL", "4h")):
        monkeypatch.setenv(f"HEATMAP_{name}", value)
    words = ("--start", day(1), "--end", day(1), "--archive", archive, "--home", home)
    done("run", BTC, *words)
    with _working(of(home, BTC)):
        said = done("run", ETH, *words)
        assert "waiting" not in said.stderr
        refused(heatmap("run", BTC, *words), 1, "running/BTCUSDT.lock")
        with pytest.raises(Timeout):
            FileLock(home / "warehouse" / "BTCUSDT.lock").acquire(timeout=0)
    found = tables(home / "heatmap.duckdb")["heatmap_days"].to_pylist()
    assert [row["symbol"] for row in found] == [BTC, ETH]
