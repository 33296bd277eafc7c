"""A run that is killed and repeated leaves what an undisturbed run leaves, to the last bit."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline.orchestration.report import status_lines
from heatmap_pipeline.orchestration.runs import close_killed_runs
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ask,
    assert_same,
    candles_file,
    day,
    problems,
    real,
    rewrite,
    run_job,
    tables,
    untouched,
    wilder,
)

SIGKILL = -signal.SIGKILL


def kill(settings: Settings, *steps: int) -> list[int]:
    """Run days 1 to 5 once per step, each time killed before that step; return how the processes ended."""
    module = "heatmap_pipeline_tests.orchestration.killed"
    command = [sys.executable, "-m", module, str(settings.home), str(settings.archive), *map(str, steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [int(line) for line in done.stdout.split()]


def days_in(settings: Settings) -> list[tuple[int, int]]:
    """Return the numbers of days with events and with snapshots, of both models together."""
    return ask(settings, "SELECT (SELECT count(*) FROM heatmap_days), (SELECT count(*) FROM snapshot_days)")


def runs_going_on(settings: Settings) -> int:
    with dg.DagsterInstance.from_config(str(settings.home / "dagster")) as instance:
        return instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))


def test_a_first_run_killed_again_and_again_ends_as_if_undisturbed(
    finished: Settings, archive: Path, tmp_path: Path
) -> None:
    settings = real(tmp_path, archive)
    # Within the second and the fifth day of events, within the snapshots, within the publication.
    # A day is one transaction per model: 3 tables of events, then later 1 of snapshots.
    assert kill(settings, 6, 20) == [SIGKILL] * 2
    events, snapshots = days_in(settings)[0]
    assert (events, snapshots) == (1 + 6, 0), "the days before the kills, whole; of the others nothing"
    assert not (tmp_path / "heatmap.duckdb").exists()
    told = "\n".join(status_lines(settings))
    assert "stale" in told
    assert "`heatmap run" in told, "what a kill left is told, with the command that goes on"
    assert kill(settings, 15, 7) == [SIGKILL] * 2
    assert days_in(settings) == [(10, 10)]
    assert list(tmp_path.glob(".heatmap.duckdb.*")), "killed within the publication"
    assert not (tmp_path / "heatmap.duckdb").exists()
    run_job(settings, 1, 5).ok()
    assert_same(tables(tmp_path / "heatmap.duckdb"), tables(finished.home / "heatmap.duckdb"))
    assert not list(tmp_path.glob(".heatmap.duckdb.*"))
    assert not problems(settings)


@pytest.mark.parametrize("seed", [1])
def test_a_rebuild_killed_at_random_ends_as_if_undisturbed(
    seed: int, finished: Settings, archive: Path, tmp_path: Path
) -> None:
    """A changed day 2 is rebuilt with all that follows it; readers keep what was published until it is done."""
    files = Path(shutil.copytree(archive, tmp_path / "files"))
    rewrite(candles_file(files, 2), wilder)
    changed = real(tmp_path / "home", files)
    run_job(changed, 1, 5).ok()
    settings = real(tmp_path / "home", archive)
    chance = random.Random(seed)
    # Undisturbed it takes 2 tables of rows, some 20 of events and of snapshots, and then the publication.
    steps = [chance.randint(2, 9) for _ in range(2)]
    with untouched(settings.home / "heatmap.duckdb"):
        assert kill(settings, *steps) == [SIGKILL] * 2
    run_job(settings, 1, 5).ok()
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(finished.home / "heatmap.duckdb"))


@pytest.mark.slow
def test_the_command_killed_while_it_works(finished: Settings, archive: Path, tmp_path: Path) -> None:
    """The command itself, in its own process, killed when it says how far it is.

    A killed run must not stay in Dagster's list as going on: it would count against the runs allowed at a time, and the
    schedule would wait for ever.
    """
    settings = real(tmp_path / "home", archive)
    home = settings.home
    words = ["run", BTC, "--start", str(day(1)), "--end", str(day(5)), "--archive", str(archive), "--home", str(home)]
    command = [sys.executable, "-m", "heatmap_pipeline", *words]
    for sign in ("position_events: 3", "liquidation_snapshots: 4", "heatmap_render: 1"):
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
            assert run.stderr is not None
            seen = next((line for line in run.stderr if sign in line), None)
            assert seen is not None, sign
            run.kill()
            assert run.wait(timeout=60) == SIGKILL
        assert runs_going_on(settings) == 1, "each run closes the one before it"
    close_killed_runs(settings)
    assert runs_going_on(settings) == 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "computed and published" in done.stdout
    assert_same(tables(home / "heatmap.duckdb"), tables(finished.home / "heatmap.duckdb"))
