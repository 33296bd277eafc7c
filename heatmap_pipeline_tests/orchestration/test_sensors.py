"""What the sensors do besides telling: they write down how runs of the UI went, and remove old ones."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.sensors import FAILURES, RETENTION, SUCCESSES
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.last_run import LastRun, read_last_run
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "dagster").mkdir()
    return load_settings(home=tmp_path)


def ended(settings: Settings, sensor: str, kind: str, *symbols: str) -> LastRun:
    """Have a sensor look at a run of symbols that has begun and ended; return what is remembered."""
    defs = build_defs(settings, start=day(1))
    job = defs.resolve_job_def("heatmap_daily")
    with dg.DagsterInstance.ephemeral() as instance:
        keys = frozenset(dg.AssetKey([symbol, "raw_candles"]) for symbol in symbols)
        made = instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED, asset_selection=keys or None)
        for event in (dg.DagsterEvent("PIPELINE_START", job.name), dg.DagsterEvent(kind, job.name)):
            instance.report_dagster_event(event, made.run_id)
        run = instance.get_run_by_id(made.run_id)
        assert run is not None
        context = dg.build_run_status_sensor_context(sensor, dg.DagsterEvent(kind, job.name), instance, run)
        defs.resolve_sensor_def(sensor)(context if sensor == SUCCESSES else context.for_run_failure())
    found = read_last_run(settings.home)
    assert found is not None
    return found


def test_runs_of_the_ui_are_remembered_as_commands_are(settings: Settings) -> None:
    before = datetime.now(UTC)
    found = ended(settings, SUCCESSES, "PIPELINE_SUCCESS", BTC)
    assert (found.failed, list(found.symbols), list(found.failures)) == (False, [BTC], [])
    assert before <= found.began <= found.ended <= datetime.now(UTC)
    found = ended(settings, FAILURES, "PIPELINE_FAILURE")
    assert (found.failed, list(found.symbols), list(found.failures)) == (True, [BTC, ETH], [BTC, ETH]), "it was killed"


def test_the_sensor_removes_once_a_day(settings: Settings) -> None:
    sensor = build_defs(settings, start=day(1)).resolve_sensor_def(RETENTION)

    def look() -> str | None:
        with dg.DagsterInstance.ephemeral() as instance:
            return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, sensor_name=RETENTION)).skip_message

    assert look() == "0 runs and 0 files of the archive were too old"
    assert look() == "done within the last day"
    for when in (time.time() - 86400, time.time() + 86400):  # yesterday, and before the clock was set right
        os.utime(settings.home / "dagster" / "tidied", (when, when))
        assert look() == "0 runs and 0 files of the archive were too old"
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
