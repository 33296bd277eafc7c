"""Dagster's history kept open: what it leans on is there, it saves what it is for, and without it all works."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy.engine import Engine

from heatmap_pipeline.orchestration import event_rows
from heatmap_pipeline.orchestration import instance as history

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a history of its own."""
    shutil.copyfile(Path(history.__file__).parents[2] / "dagster.yaml", tmp_path / "dagster.yaml")
    return tmp_path


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The SQLite files that are opened, one entry each time."""
    names: list[str] = []

    def listen(connection: Any, _record: Any) -> None:
        names.append(Path(connection.execute("PRAGMA database_list").fetchone()[2]).name)

    sqlalchemy.event.listen(Engine, "connect", listen)
    yield names
    sqlalchemy.event.remove(Engine, "connect", listen)


@dg.op
def step() -> None: ...


@dg.job
def four_steps() -> None:
    for number in range(4):
        step.alias(f"step{number}")()


def run(instance: dg.DagsterInstance) -> int:
    """Run a job and return how many events of it are stored."""
    result = four_steps.execute_in_process(instance=instance, run_config=QUIET)
    assert result.success
    records = instance.all_logs(result.run_id)
    assert [one.dagster_event.event_type_value for one in records if one.dagster_event][-1] == "PIPELINE_SUCCESS"
    return len(records)


def test_dagster_has_the_names_that_are_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert type(instance.event_log_storage).__name__ == history._STORAGE
        assert history._missing(instance.event_log_storage) == []
    with history.open_history(folder):
        pass
    assert not caplog.records


def test_a_file_is_opened_once_and_not_once_per_event(folder: Path, opened: list[str]) -> None:
    with history.open_history(folder) as instance:
        run(instance)
        opened.clear()
        events = run(instance)
        storage = [name for name in opened if name != "runs.db"]
    assert events > 15
    assert 1 <= len(storage) <= 2, "the file of the second run, twice while it is made"
    # What it is for: without, each of these events opens it again.
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        opened.clear()
        events = run(instance)
    assert len([name for name in opened if name != "runs.db"]) > events


def test_migrations_are_read_once_and_the_table_of_checks_is_looked_for_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    looked: list[str] = []
    make, has_table = ScriptDirectory.__init__, SqliteEventLogStorage.has_table

    def reading(self: ScriptDirectory, place: str, *rest: Any, **more: Any) -> None:
        read.append(place)
        make(self, place, *rest, **more)

    def looking(self: SqliteEventLogStorage, name: str) -> bool:
        looked.append(name)
        return has_table(self, name)

    monkeypatch.setattr(ScriptDirectory, "__init__", reading)
    monkeypatch.setattr(SqliteEventLogStorage, "has_table", looking)
    monkeypatch.setattr(history, "_migrations", {})
    for number in range(2):
        with history.open_history(folder) as instance:
            run(instance)
            assert all(instance.event_log_storage.supports_asset_checks for _ in range(5))
        assert looked.count("asset_check_executions") == number + 1
    assert len(read) == 1
    # What it is for: without, each storage and each new run reads them, and each check looks.
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        run(instance)
        assert all(instance.event_log_storage.supports_asset_checks for _ in range(5))
    assert len(read) > 3
    assert looked.count("asset_check_executions") >= 7


DAYS = dg.DailyPartitionsDefinition("2024-01-01")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def of_each_day(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads the type, which here is a string
    for day in context.partition_keys:
        context.add_asset_metadata({"rows": int(day[-2:])}, partition_key=day)


@dg.asset_check(asset=of_each_day)
def all_is_well() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def run_thirty_days(instance: dg.DagsterInstance) -> str:
    job = dg.Definitions(
        assets=[of_each_day], asset_checks=[all_is_well], jobs=[dg.define_asset_job("days", [of_each_day])]
    ).resolve_job_def("days")
    tags = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-01-30"}
    result = job.execute_in_process(instance=instance, run_config=QUIET, tags=tags)
    assert result.success
    return result.run_id


def stored(folder: Path, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in a history of the days and checks of a run, without what differs between two runs."""
    rows = {}
    log = (
        "SELECT id, dagster_event_type, step_key, asset_key, partition, run_id = :run, length(event) > 200 "
        "FROM event_logs ORDER BY id"
    )
    for name, query in (
        (run_id, log),
        ("index", log),
        (
            "index",
            "SELECT asset_key, last_materialization_timestamp IS NULL, last_run_id = :run, wipe_timestamp, "
            "json_extract(last_materialization, '$.storage_id'), "
            "json_extract(last_materialization, "
            "'$.event_log_entry.dagster_event.event_specific_data.materialization.partition') FROM asset_keys",
        ),
        ("index", "SELECT asset_key, key, event_id FROM asset_event_tags ORDER BY 1, 2, 3"),
        (
            "index",
            "SELECT asset_key, check_name, partition, run_id = :run, execution_status, evaluation_event_storage_id, "
            "materialization_event_storage_id, json_extract(evaluation_event, '$.dagster_event.event_type_value') "
            "FROM asset_check_executions ORDER BY id",
        ),
    ):
        with closing(sqlite3.connect(folder / "history" / "runs" / f"{name}.db")) as con:
            rows[f"{name == run_id} {query}"] = con.execute(query, {"run": run_id}).fetchall()
        assert rows[f"{name == run_id} {query}"], query
    return rows


def test_the_days_of_a_range_are_one_transaction_and_stand_there_as_without(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    commits: list[str] = []

    def listen(connection: sqlalchemy.Connection) -> None:
        commits.append(str(connection.engine.url.database))

    sqlalchemy.event.listen(Engine, "commit", listen)
    try:
        with history.open_history(folder) as instance:
            run_thirty_days(instance)
            commits.clear()
            run_id = run_thirty_days(instance)
            in_batches = len(commits)
            keys = instance.get_materialized_partitions(dg.AssetKey("of_each_day"))
        other = tmp_path_factory.mktemp("other")
        shutil.copyfile(folder / "dagster.yaml", other / "dagster.yaml")
        commits.clear()
        with dg.DagsterInstance.from_config(str(other)) as instance:
            run_thirty_days(instance)
            commits.clear()
            other_id = run_thirty_days(instance)
    finally:
        sqlalchemy.event.remove(Engine, "commit", listen)
    assert history._BATCH not in os.environ
    assert len(keys) == 30
    assert len(commits) - in_batches > 2 * 30, "two for each day's event, without"
    here = stored(folder, run_id)
    assert here == stored(other, other_id)
    assert next(rows for query, rows in here.items() if "asset_keys" in query)[0][-1] == "2024-01-30"


def test_a_batch_that_fails_is_stored_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = event_rows.store

    def refuse(storage: Any, connect: Any, events: Any) -> None:
        if len(events) > 1:
            raise OSError("no room")
        store(storage, connect, events)

    monkeypatch.setattr(event_rows, "store", refuse)
    with history.open_history(folder) as instance:
        run_thirty_days(instance)
        assert len(instance.get_materialized_partitions(dg.AssetKey("of_each_day"))) == 30


def test_somebodys_own_size_of_a_batch_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(history._BATCH, "7")
    with history.open_history(folder) as instance:
        assert os.environ[history._BATCH] == "7"
        run_thirty_days(instance)
    assert os.environ[history._BATCH] == "7"


def test_the_storage_is_left_as_it_was(folder: Path) -> None:
    with history.open_history(folder) as instance:
        run(instance)
        storage = instance.event_log_storage
        assert "_connect" in vars(storage)
    assert not history._REPLACED.keys() & vars(storage).keys()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert len(instance.get_run_ids()) == 1


@pytest.mark.parametrize("moved", ["a name of the object", "a name of its module", "a method", "its arguments"])
def test_where_names_have_moved_the_history_works_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: str
) -> None:
    if moved == "a name of the object":
        monkeypatch.setattr(history, "_KEPT", (*history._KEPT, "_moved"))
    elif moved == "a name of its module":
        monkeypatch.setattr(event_rows, "NAMED", (*event_rows.NAMED, "_moved"))
    else:
        called = {"_moved": 1} if moved == "a method" else {"_connect": 7}
        monkeypatch.setattr(history, "_CALLED", {**history._CALLED, **called})
    with caplog.at_level(logging.WARNING), history.open_history(folder) as instance:
        assert run(instance) > 15
        assert "_connect" not in vars(instance.event_log_storage)
    (record,) = caplog.records
    assert record.name == history.__name__
    assert f"Dagster {dg.__version__} keeps its history in another way" in record.message
    assert ("_moved" if moved != "its arguments" else "_connect") in record.message


def test_a_storage_of_somebody_elses_choice_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with dg.DagsterInstance.ephemeral() as instance, history._keeping_engines(instance.event_log_storage) as engines:
        run(instance)
        assert engines == {}
    assert not caplog.records
