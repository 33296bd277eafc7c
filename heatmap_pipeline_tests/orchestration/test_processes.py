"""Symbols in several processes: the same bytes, one publication, and what becomes of one that fails or is killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.chain import compute, publication
from heatmap_pipeline.chain.progress import listening as hearing
from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.orchestration import processes, runs
from heatmap_pipeline.orchestration.assets import position_events
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.processes import groups_of
from heatmap_pipeline.orchestration.runs import STOPPED, Outcome, prepare_home
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store import publish as publishing
from heatmap_pipeline.store import warehouse
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._forked import Fork, Say, die
from heatmap_pipeline_tests._homes import heatmap, last_line
from heatmap_pipeline_tests._webhook import listening
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    FIRST,
    assert_same,
    break_file,
    candles_file,
    day,
    tables,
    write_archive,
)
from heatmap_pipeline_tests.orchestration.light import light_runs

SOL = "SOLUSDT"


def _one_thread() -> ModuleType:
    """Return `threading` as it is in a command: the threads of a test's server share nothing with what is forked."""
    module = ModuleType("threading")
    module.__dict__.update(threading.__dict__, active_count=lambda: 1)
    return module


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes be copies of this one, as those of a command are; pytest-xdist has a second thread."""
    monkeypatch.setattr(processes, "threading", _one_thread())


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(1, 12))
def test_every_symbol_is_in_one_group_and_no_group_has_more_than_its_share(lengths: list[int], jobs: int) -> None:
    requests = {f"S{number}USDT": (FIRST, FIRST + timedelta(days=length - 1)) for number, length in enumerate(lengths)}
    groups = groups_of(requests, jobs)
    assert len(groups) == min(jobs, len(lengths))
    assert all(groups)
    assert sorted(symbol for group in groups for symbol in group) == sorted(requests)
    assert {symbol: days for group in groups for symbol, days in group.items()} == requests
    work = [sum((last - first).days + 1 for first, last in group.values()) for group in groups]
    assert max(work) - min(work) <= max(lengths)


@pytest.fixture(scope="module", autouse=True)
def _made_before_any_fork(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make what homes begin with (`_prepared.py`) in this process, or each of two that it forks would."""
    home = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        with open_history(prepare_home(load_settings(home=home))), Warehouse(home).connect(BTC):
            pass


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three symbols and two days; the second of ETHUSDT is damaged."""
    root = write_archive(tmp_path_factory.mktemp("three"), 2, BTC, ETH, SOL)
    break_file(candles_file(root, 2, ETH))
    return root


def _run(files: Path, home: Path, *symbols: str, jobs: int = 1) -> Any:
    days = ("--start", day(1), "--end", day(2))
    return heatmap("run", *symbols, "--archive", files, *days, "--home", home, "--model", "delta", "--jobs", jobs)


def _publications(patch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let each publication of this process be written down: its symbols."""
    written: list[list[str]] = []
    publish = publishing.publish

    def noted(warehouse: Any, symbols: list[str], **more: Any) -> Any:
        written.append(sorted(symbols))
        return publish(warehouse, symbols, **more)

    patch.setattr(publication, "publish", noted)
    return written


@pytest.mark.usefixtures("light_commands", "copies")
def test_two_processes_publish_once_what_one_publishes_also_where_a_day_cannot_be_had(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _publications(monkeypatch)
    alone = _run(files, tmp_path / "alone", BTC, ETH, SOL)
    assert len(written) > 1
    written.clear()
    shared = _run(files, tmp_path / "shared", BTC, ETH, SOL, jobs=2)
    assert written == [[BTC, ETH, SOL]], "one publication, by the process that holds the lock"
    for name in ("warehouse", "heatmap.duckdb"):
        assert_same(tables(tmp_path / "shared" / name), tables(tmp_path / "alone" / name))
    assert tables(tmp_path / "shared" / "heatmap.duckdb")["heatmap_days"].num_rows == 5
    assert shared.exit_code == alone.exit_code == 1
    where = str(tmp_path / "shared"), str(tmp_path / "alone")
    assert sorted(shared.stdout.splitlines()) == sorted(alone.stdout.replace(*reversed(where)).splitlines())
    assert last_line(shared.stderr, 1, ETH) == last_line(alone.stderr, 1, ETH)
    told = sorted(line for line in shared.stderr.splitlines() if " of " in line and not line.startswith("heatmap"))
    assert told == sorted(line for line in alone.stderr.splitlines() if " of " in line and line[:7] != "heatmap")


@pytest.mark.slow
@pytest.mark.usefixtures("copies")
def test_a_process_that_is_killed_takes_no_other_symbol_with_it_and_is_told_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = compute.advance

    def advance_or_die(connect: Any, settings: Any, symbol: str, *rest: Any, **more: Any) -> Any:
        if symbol == ETH:
            die()
        return advance(connect, settings, symbol, *rest, **more)

    home = tmp_path / "home"
    with listening() as hook, pytest.MonkeyPatch.context() as patch:
        patch.setattr(position_events, "advance", advance_or_die)
        patch.setenv("HEATMAP_WEBHOOK", hook.url)
        ended = _run(archive, home, BTC, ETH, jobs=2)
        assert hook.kinds() == ["failed"]
    assert f"{BTC}: {day(1)} .. {day(2)} computed and published" in ended.stdout
    line = last_line(ended.stderr, 1, ETH, "was killed by signal 9", "the same command goes on from there")
    (body,) = hook.bodies
    assert body["symbol"] == ETH
    assert body["cause"] in line
    with open_history(home / "dagster") as instance:
        history = {run.tags["heatmap/symbols"]: run for run in instance.get_runs(dg.RunsFilter())}
        statuses = sorted((run.tags["heatmap/symbols"], run.status.value) for run in instance.get_runs())
        assert statuses == [(BTC, "SUCCESS"), (BTC, "SUCCESS"), (ETH, "FAILURE")]
        assert history[ETH].run_id == body["run_id"]
        published = instance.get_latest_materialization_event(dg.AssetKey([BTC, "published_database"]))
        assert published is not None, "Dagster knows of the publication"
        assert instance.get_latest_materialization_event(dg.AssetKey([ETH, "published_database"])) is None
    assert not list((home / "dagster").glob("command-*.json")), "nothing is left that somebody would tell again"
    with light_runs():
        assert _run(archive, home, BTC, ETH, jobs=2).exit_code == 0
    computed = tables(home / "heatmap.duckdb")["heatmap_days"].to_pylist()
    assert {(row["symbol"], row["day"]) for row in computed} == {(name, day(n)) for name in (BTC, ETH) for n in (1, 2)}


@pytest.mark.slow
def test_where_copies_are_not_safe_a_process_imports_everything_anew_and_does_the_same(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere but on Linux. It has a day that it cannot compute, which takes least."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    context = processes._context()
    assert context.get_start_method() == "spawn"
    settings = load_settings(home=tmp_path, source="archive", archive=files, symbols=(ETH,), models=("delta",))
    prepare_home(settings)
    child = processes._Child(context, settings, {ETH: (FIRST + timedelta(1), FIRST + timedelta(1))}, False, 2)
    said: list[tuple[Any, ...]] = []
    with hearing(lambda *step: said.append(step)):
        while child.outcome is None:
            child.hear()
    child.end()
    assert not child.killed
    assert child.outcome.published == {}
    assert candles_file(files, 2, ETH).name in child.outcome.failures[ETH]


def test_where_a_process_cannot_be_begun_those_before_it_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    class Child:
        def __init__(self, _context: object, _settings: object, requests: dict[str, object], *_: object) -> None:
            (self.symbol,) = requests
            if self.symbol == ETH:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        def end(self) -> None:
            ended.append(self.symbol)

    monkeypatch.setattr(processes, "_Child", Child)
    settings = load_settings(home=tmp_path, jobs=2)
    words = r"2 processes cannot be begun \(Resource temporarily unavailable\); run it with fewer, by --jobs"
    requests = dict.fromkeys((BTC, ETH), (FIRST, FIRST))
    with pytest.raises(RunError, match=words), processes.started(settings, requests, ""):
        pass
    assert ended == [BTC]


def test_a_process_has_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    said = lambda *_, **__: Outcome({}, {ETH: warehouse._SETTINGS["threads"]})  # noqa: E731
    monkeypatch.setattr(runs, "compute_days", said)
    settings = load_settings(home=tmp_path, source="demo", symbols=(ETH,))
    child = processes._Child(multiprocessing.get_context("fork"), settings, {ETH: (FIRST, FIRST)}, False, 2)
    while child.outcome is None:
        child.hear()
    child.end()
    assert child.outcome.failures == {ETH: "3"}


# -- stopped, or alone


@pytest.fixture
def waiting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fork, list[int]]]:
    """A command that has begun in two processes, which wait; and these, by their ids.

    With the parameter "deaf" they do not stop when they are told to.
    """

    def wait_for_ever(settings: Any, requests: Any, *, restart: bool) -> Outcome:
        (symbol,) = requests
        if getattr(request, "param", "") == "deaf":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        tell(symbol, f"process {os.getpid()}", 1, 1)
        time.sleep(60)
        return Outcome(dict(requests), {})

    def work(say: Say) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "compute_days", wait_for_ever)
            patch.setattr(processes, "threading", _one_thread())
            settings = load_settings(home=tmp_path, source="demo", symbols=(BTC, ETH), jobs=2)
            requests = {symbol: (day(1), day(2)) for symbol in settings.symbols}
            with (
                processes.started(settings, requests, "heatmap run") as finish,
                hearing(lambda symbol, stage, *_: say(f"{symbol} {stage}")),
            ):
                outcome = finish()
            say(f"{sorted(set(outcome.failures.values()))} {sorted(outcome.failures)}")

    with Fork(work) as fork:
        ids = [int(fork.said.readline().split(" process ")[1].split()[0]) for _ in range(2)]
        yield fork, ids


def _gone(process: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").exists() and ") Z " in Path(f"/proc/{process}/stat").read_text():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_stops_its_processes_and_says_so(
    waiting: tuple[Fork, list[int]], number: signal.Signals
) -> None:
    fork, ids = waiting
    os.kill(fork.pid, number)
    assert fork.said.read().splitlines() == [f"{[STOPPED]} {[BTC, ETH]}"]
    assert fork.wait() == 0
    assert all(map(_gone, ids))


@pytest.mark.parametrize("waiting", ["deaf"], indirect=True)
def test_told_again_a_command_kills_the_processes_that_do_not_stop(waiting: tuple[Fork, list[int]]) -> None:
    fork, ids = waiting
    os.kill(fork.pid, signal.SIGINT)
    time.sleep(0.2)
    assert not any(_gone(process, 0.05) for process in ids)
    os.kill(fork.pid, signal.SIGINT)
    assert fork.said.read().splitlines() == [f"{[STOPPED]} {[BTC, ETH]}"]
    assert all(map(_gone, ids))


def test_processes_end_with_the_command_that_began_them(waiting: tuple[Fork, list[int]]) -> None:
    fork, ids = waiting
    fork.kill()
    assert all(map(_gone, ids))
