"""Two of everything on one home: two commands, two ticks, two daemons. One works, the other waits and finds it done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.schedules import DAILY
from heatmap_pipeline.render import page
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import done
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    assert_same,
    compute,
    created,
    day,
    problems,
    real,
    tables,
)
from heatmap_pipeline_tests.orchestration.killed import Ended, Forks

OFTEN = int(os.environ.get("HEATMAP_TEST_SCHEDULERS", "0"))
"""How often two runs without the run lock are let loose on one home; each takes some 5 s."""


@pytest.mark.slow
def test_two_commands_on_one_home_work_one_after_the_other(
    forks: Forks, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both want all three days of an empty home; the second comes while the first one draws its page."""
    home = tmp_path / "home"
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    alone = compute(real(tmp_path / "alone", archive), 1, 3)
    words = ("run", BTC, "--start", day(1), "--end", day(3), "--archive", archive, "--home", home)
    waits = f"waiting for process {os.getpid()} (since "
    others: list[Future[Ended]] = []
    draw = page.write_page

    def while_the_other_waits(*arguments: Any, **named: Any) -> Any:
        if not others:
            others.append(thread.submit(forks.heatmap, *words))
            end = time.monotonic() + 60
            while not (others[0].done() or waits in forks.stderr.read_text()):
                assert time.monotonic() < end, forks.stderr.read_text()
                time.sleep(0.02)
        return draw(*arguments, **named)

    forks.heatmap("status", "--home", alone.home).ok()
    monkeypatch.setattr(page, "write_page", while_the_other_waits)
    with ThreadPoolExecutor(1) as thread:
        ours = done(*words)
        other = others[0].result().ok()
    for out, error in ((ours.stdout, ours.stderr), (other.stdout, other.stderr)):
        assert f"{BTC}: {day(1)} .. {day(3)} computed and published (real data)" in out
        assert "Traceback" not in error
    assert "waiting for" not in ours.stderr
    assert waits in other.stderr
    assert_same(tables(home / "heatmap.duckdb"), tables(alone.home / "heatmap.duckdb"))
    assert_same(tables(home / "warehouse"), tables(alone.home / "warehouse"))
    settings = real(home, archive)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        runs = sorted(instance.get_run_records(), key=lambda record: record.create_timestamp)
        assert [one.dagster_run.status for one in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        # What the second one did: nothing that had been done.
        began = datetime.fromtimestamp(runs[1].start_time or 0, UTC).replace(tzinfo=None)
        assert max(created(settings).values()) < began
        materialised = instance.all_logs(runs[1].dagster_run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
        told = [entry.dagster_event.step_materialization_data.materialization for entry in materialised]  # type: ignore[union-attr]
        events = [one for one in told if one.asset_key.path[-1] == "position_events"]
        assert len(events) == 3
        assert all(one.metadata["unchanged"].value for one in events)
    assert not problems(settings)
    assert not (home / "run.lock.holder").exists()


_TWO_RUNS = """
import os, sys
from pathlib import Path
from heatmap_pipeline.render import page, picture
from heatmap_pipeline_tests.orchestration.homes import real, run_job
page.write_page, picture.small_png = (lambda *_: None), (lambda *_: b"")
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os._exit(not run_job(real(Path(sys.argv[1]), Path(sys.argv[2])), 1, 5, dagster=True).success)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""
"""Runs the same days twice at the same time, as two daemons would that both launched a run: without the run lock."""


@pytest.mark.slow
@pytest.mark.skipif(not OFTEN, reason="HEATMAP_TEST_SCHEDULERS says how often: HEATMAP_TEST_SCHEDULERS=3")
@pytest.mark.parametrize("_again", range(OFTEN))
def test_two_runs_of_two_daemons_leave_what_one_leaves(
    finished: Settings, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _again: int
) -> None:
    """They wait for each other at every commit, and a day that both compute is the same day."""
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    command = [sys.executable, "-c", _TWO_RUNS, str(tmp_path), str(archive)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert_same(tables(tmp_path / "heatmap.duckdb"), tables(finished.home / "heatmap.duckdb"))
    assert_same(tables(tmp_path / "warehouse"), tables(finished.home / "warehouse"))
    assert not problems(real(tmp_path, archive))


def test_two_evaluations_of_one_tick_ask_for_one_run(tmp_path: Path) -> None:
    """The key is the same, and Dagster starts no second run for a key."""
    settings = load_settings(home=tmp_path, source="demo", symbols=(BTC,), start=date(2024, 3, 4))
    keys = []
    for _ in range(2):
        repository = build_defs(settings).get_repository_def()
        with dg.DagsterInstance.ephemeral() as instance:
            at = datetime(2024, 3, 9, 0, 20, tzinfo=UTC)
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=at, repository_def=repository
            )
            result = repository.get_schedule_def(DAILY).evaluate_tick(context)
        keys += [one.run_key for one in result.run_requests or ()]
    assert keys == [f"{day(1)} .. {day(5)}"] * 2
