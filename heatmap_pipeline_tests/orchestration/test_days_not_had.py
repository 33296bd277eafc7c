"""A day that cannot be had stops itself and what follows; the days before it are computed and published."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.partitions import days_of_run, range_tags
from heatmap_pipeline.orchestration.sensors import BEFORE, days_before
from heatmap_pipeline_tests._homes import heatmap, last_line
from heatmap_pipeline_tests._webhook import listening
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    QUIET,
    ask,
    break_file,
    candles_file,
    day,
    metrics_file,
    obey,
    real,
)
from heatmap_pipeline_tests.orchestration.light import Job


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")


@pytest.fixture
def files(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "files"))


@pytest.mark.usefixtures("light_commands")
@pytest.mark.parametrize(("stage", "damage"), [("raw_candles", candles_file), ("raw_open_interest", metrics_file)])
def test_days_before_a_damaged_file_are_published_and_the_failure_stands_where_it_belongs(
    files: Path, tmp_path: Path, stage: str, damage: object
) -> None:
    assert callable(damage)
    bad = damage(files, 3)
    break_file(bad)
    settings = real(tmp_path / "home", files, BTC, ETH)
    days = ("--start", day(1), "--end", day(3), "--home", settings.home)
    failed = heatmap("run", BTC, ETH, "--archive", files, *days)
    last_line(failed.stderr, 1, bad.name)
    assert failed.exit_code == 1
    assert f"{BTC}: {day(1)} .. {day(2)} computed and published" in failed.stdout
    assert f"{ETH}: {day(1)} .. {day(3)} computed and published" in failed.stdout
    query = f"SELECT DISTINCT day FROM heatmap_days WHERE symbol = '{BTC}' ORDER BY day"
    assert ask(settings, query, published=True) == [(day(number),) for number in (1, 2)]
    lines = list(status_lines(settings))
    assert next(line for line in lines if line.startswith("failed")).startswith(f"failed  {BTC} {day(3)} {stage}: ")
    assert sum(line.startswith("failed") for line in lines) == 1
    assert "nothing is failed, stale or missing" not in lines


@pytest.mark.usefixtures("light_commands")
def test_days_read_and_not_computed_are_waiting_until_the_named_command_computes_them(
    files: Path, tmp_path: Path
) -> None:
    whole = metrics_file(files, 2).read_bytes()
    break_file(metrics_file(files, 2))
    settings = real(tmp_path / "home", files)
    heatmap("run", BTC, "--archive", files, "--start", day(1), "--end", day(3), "--home", settings.home)
    (line,) = [line for line in status_lines(settings) if line.startswith("waiting")]
    assert f"{BTC} {day(2)} .. {day(3)}: read and not computed" in line
    metrics_file(files, 2).write_bytes(whole)
    obey(line)
    assert list(status_lines(settings))[-1] == "nothing is failed, stale or missing"


def test_in_dagster_the_run_of_all_days_failed_and_that_of_the_days_before_did_not(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_file(metrics_file(files, 3))
    home = tmp_path / "home"
    with listening() as hook:
        monkeypatch.setenv("HEATMAP_WEBHOOK", hook.url)
        heatmap("run", BTC, "--archive", files, "--start", day(1), "--end", day(3), "--home", home)
    with open_history(home / "dagster") as instance:
        (failed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        runs = {days_of_run(run.tags): run.status for run in instance.get_runs()}
        done = instance.get_materialized_partitions(dg.AssetKey([BTC, "position_events"]))
        samples = instance.get_materialized_partitions(dg.AssetKey([BTC, "raw_open_interest"]))
    assert runs == {(day(1), day(3)): dg.DagsterRunStatus.FAILURE, (day(1), day(2)): dg.DagsterRunStatus.SUCCESS}
    assert done == samples == {str(day(1)), str(day(2))}
    assert [body["run_id"] for body in hook.bodies] == [failed.run_id]


@pytest.mark.usefixtures("light_commands")
def test_of_two_days_that_cannot_be_had_the_first_is_told(files: Path, tmp_path: Path) -> None:
    break_file(candles_file(files, 3))
    break_file(metrics_file(files, 2))
    failed = heatmap("run", BTC, "--archive", files, "--start", day(1), "--end", day(3), "--home", tmp_path / "home")
    last_line(failed.stderr, 1, metrics_file(files, 2).name)
    assert f"{BTC}: {day(1)} .. {day(1)} computed and published" in failed.stdout


def test_the_ui_runs_the_days_before_as_well(files: Path, tmp_path: Path) -> None:
    break_file(metrics_file(files, 3))
    settings = real(tmp_path / "home", files, BTC, ETH)
    definitions = build_defs(settings, start=day(1))
    assert definitions.get_repository_def().get_sensor_def(BEFORE).default_status == dg.DefaultSensorStatus.RUNNING
    job = definitions.resolve_job_def("heatmap_daily")
    tags = range_tags(day(1), day(3))
    with dg.DagsterInstance.ephemeral() as instance:
        failed = job.execute_in_process(run_config=QUIET, instance=instance, tags=tags, raise_on_error=False)
        failures = [event for event in failed.all_events if event.event_type_value == "STEP_FAILURE"]
        keys = [key for asset in definitions.assets or () for key in getattr(asset, "keys", ())]
        (request,) = days_before(failed.dagster_run, failures, keys)
        assert request.asset_selection is not None
        assert {key.path[0] for key in request.asset_selection} == {BTC}
        assert days_of_run(request.tags) == (day(1), day(2))
    again = Job(settings).execute_in_process(
        run_config=QUIET, tags=request.tags, asset_selection=request.asset_selection
    )
    assert again.success
    query = "SELECT symbol, max(day) FROM heatmap_days GROUP BY symbol ORDER BY symbol"
    assert ask(settings, query, published=True) == [(BTC, day(2)), (ETH, day(3))]
