"""What is removed of Dagster's history: old runs with all they wrote, and nothing that its UI shows of the days."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from filelock import FileLock

from heatmap_pipeline.orchestration import retention as module
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.retention import remove_old_runs, tidy_up
from heatmap_pipeline.orchestration.runs import packaged_file
from heatmap_pipeline.settings import load_settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DAY = 86400.0
DAYS = ("2026-01-01", "2026-01-02")


@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03"))
def levels() -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"padding": "x" * 20000})


@dg.asset_check(asset=levels)
def positive() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


job = dg.Definitions(
    assets=[levels], asset_checks=[positive], jobs=[dg.define_asset_job("levels_job", [levels])]
).resolve_job_def("levels_job")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A history of six runs, of day 1 and day 2 by turns. Nobody changes it; the ids are in order."""
    folder = tmp_path_factory.mktemp("history")
    shutil.copyfile(packaged_file("dagster.yaml"), folder / "dagster.yaml")
    with open_history(folder) as instance:
        ids = [
            job.execute_in_process(instance=instance, run_config=QUIET, partition_key=DAYS[number % 2]).run_id
            for number in range(6)
        ]
    return folder, ids


@pytest.fixture
def history(ran: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of it in which the runs ended 60, 50, 40, 20, 10 and 0 days ago."""
    folder = Path(shutil.copytree(ran[0], tmp_path / "home" / "dagster"))
    now = time.time()
    with sqlite3.connect(folder / "history" / "runs.db") as con:
        for name, days in zip(ran[1], (60, 50, 40, 20, 10, 0), strict=True):
            con.execute("UPDATE runs SET end_time = ? WHERE run_id = ?", [now - days * DAY, name])
    con.close()
    for path in (folder / "history" / "runs").glob("*.db"):
        os.utime(path, (now - 70 * DAY, now - 70 * DAY))
    return folder, ran[1]


def known(folder: Path) -> set[str]:
    with open_history(folder) as instance:
        return {run.run_id for run in instance.get_runs()}


def traces(folder: Path, name: str) -> list[str]:
    """Return where something of a run is still found, but for the newest materialisations and results of checks."""
    found = [str(path.relative_to(folder)) for path in folder.rglob(f"*{name}*")]
    with sqlite3.connect(folder / "history" / "runs" / "index.db") as con:
        found += [kind for (kind,) in con.execute("SELECT dagster_event_type FROM event_logs WHERE run_id = ?", [name])]
    con.close()
    return found


def change(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / "history" / "runs.db") as con:
        con.execute(statement, values)
    con.close()


def test_old_runs_go_with_all_they_wrote_and_the_rest_is_as_it_was(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    with open_history(folder) as instance:
        logs = {name: len(instance.all_logs(name)) for name in ids}
    assert all(traces(folder, name) for name in ids)
    assert remove_old_runs(folder, 30, 0) == (3, False)
    assert known(folder) == set(ids[3:])
    assert [traces(folder, name) for name in ids[:3]] == [[], [], []]
    with open_history(folder) as instance:
        assert {name: len(instance.all_logs(name)) for name in ids[3:]} == {name: logs[name] for name in ids[3:]}
        assert instance.get_materialized_partitions(levels.key) == set(DAYS)
        job.execute_in_process(instance=instance, run_config=QUIET, partition_key=DAYS[0])
    assert remove_old_runs(folder, 30, 0) == (0, False)


def test_days_stay_materialised_when_the_run_that_made_them_is_gone(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    assert remove_old_runs(folder, 5, 0) == (5, False)
    assert known(folder) == {ids[5]}
    assert traces(folder, ids[4]) == ["ASSET_MATERIALIZATION"], "the newest of its day"
    assert traces(folder, ids[2]) == []
    with open_history(folder) as instance:
        assert instance.get_materialized_partitions(levels.key) == set(DAYS)
        record = instance.get_latest_data_version_record(levels.key, partition_key=DAYS[0])
        assert record is not None
        assert record.run_id == ids[4]


def test_of_those_that_succeeded_so_many_are_kept(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    change(folder, "UPDATE runs SET status = 'FAILURE' WHERE run_id = ?", ids[0])
    assert remove_old_runs(folder, 0, 2) == (3, False)
    assert known(folder) == {ids[0], *ids[4:]}, "failed ones are not counted"
    assert remove_old_runs(folder, 0, 0) == (0, False)


def test_what_goes_on_and_the_newest_stay_however_old(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    change(folder, "UPDATE runs SET status = 'STARTED', end_time = NULL WHERE run_id = ?", ids[0])
    change(folder, "UPDATE runs SET backfill_id = 'going' WHERE run_id = ?", ids[1])
    change(folder, "UPDATE runs SET backfill_id = 'done' WHERE run_id = ?", ids[2])
    for name, status in (("going", "REQUESTED"), ("done", "COMPLETED_SUCCESS")):
        change(
            folder,
            "INSERT INTO bulk_actions (key, status, timestamp, body) VALUES (?, ?, CURRENT_TIMESTAMP, '')",
            name,
            status,
        )
    assert remove_old_runs(folder, 1, 1, now=time.time() + 90 * DAY) == (3, False)
    assert known(folder) == {ids[0], ids[1], ids[5]}


def test_the_disk_gets_its_room_back(history: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = history
    monkeypatch.setattr(module, "_EMPTY_BYTES", 1)
    index = folder / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    con.close()
    before = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), index.stat().st_size
    remove_old_runs(folder, 5, 0)
    after = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), index.stat().st_size
    assert after[1] < before[1] - 3 * 20000
    assert after[0] < before[0] / 2


def test_what_a_cleaning_that_was_killed_left_is_removed_by_the_next(
    history: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids = history

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_old_runs(folder, 30, 0)
    assert known(folder) == set(ids[3:])
    assert traces(folder, ids[0])
    assert remove_old_runs(folder, 30, 0) == (0, False)
    assert [traces(folder, name) for name in ids[:3]] == [[], [], []]


def test_a_run_that_has_begun_to_write_and_no_row_yet_is_no_leftover(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    young = folder / "history" / "runs" / "0b3f6a6e-0000-4000-8000-000000000000.db"
    young.write_bytes((folder / "history" / "runs" / f"{ids[0]}.db").read_bytes())
    remove_old_runs(folder, 30, 0)
    assert young.exists()


def test_once_a_day_and_one_at_a_time(history: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = history
    settings = load_settings(home=folder.parent)
    monkeypatch.setattr(module, "_MOST", 2)
    done = [tidy_up(settings) for _ in range(3)]
    assert [(one.runs, one.more) if one else None for one in done] == [(2, True), (1, False), None]
    stamp = folder / "tidied"
    os.utime(stamp, (time.time() - DAY, time.time() - DAY))
    with FileLock(folder / "tidied.lock"):
        assert tidy_up(settings) is None, "somebody else does it"
    assert tidy_up(settings) is not None


def test_a_history_that_is_not_as_known_is_left_alone_and_that_is_said(history: tuple[Path, list[str]]) -> None:
    folder, ids = history
    change(folder, "ALTER TABLE runs RENAME COLUMN end_time TO ended_at")
    said: list[str] = []
    assert tidy_up(load_settings(home=folder.parent), said.append) is None
    assert "no such column: end_time" in said[0]
    assert all(traces(folder, name) for name in ids)


def test_without_any_history(tmp_path: Path) -> None:
    assert remove_old_runs(tmp_path, 1, 1) == (0, False)
