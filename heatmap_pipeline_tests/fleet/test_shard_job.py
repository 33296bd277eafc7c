"""The job of a shard: what it leaves in store and home, what of it stands in Dagster's history, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import get_reexecution_strategy

from heatmap_pipeline import definitions
from heatmap_pipeline.chain import calendar
from heatmap_pipeline.fleet.pull import PullError
from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.orchestration import shard_job
from heatmap_pipeline.orchestration.runs import Outcome
from heatmap_pipeline.orchestration.shard_job import NAME, build_shard_defs
from heatmap_pipeline.orchestration.shards import SHARD_TAG
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import manifest_path
from heatmap_pipeline_tests.fleet.stores import assert_like
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, candles_file, day, tables

Machine = Callable[..., Settings]


def run(settings: Settings, **given: date | bool) -> tuple[Any, dg.DagsterInstance]:
    """Run the job for these days, or what is due, with a history of its own."""
    instance = dg.DagsterInstance.ephemeral()
    values = {name: value if isinstance(value, bool) else str(value) for name, value in given.items()}
    config = {"ops": {"symbols": {"config": values}}}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job = build_shard_defs(settings).resolve_job_def(NAME)
    return job.execute_in_process(run_config=config | quiet, instance=instance, raise_on_error=False), instance


def committed(result: Any) -> dict[str, tuple[Any, Any]]:
    """Return first and last day of the symbols that a run says it committed."""
    made = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {one.asset_key.path[0]: (one.metadata["first_day"].value, one.metadata["last_day"].value) for one in made}


@pytest.mark.slow
@pytest.mark.fleet
def test_a_run_leaves_what_an_embedded_home_has_and_its_catalogue(
    settings_of: Machine, begin: Callable[[Settings, str], None], embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(BTC, ETH)
    begin(settings, "1-2")
    monkeypatch.setattr(calendar, "yesterday", lambda: day(3))
    monkeypatch.setattr(calendar, "today", lambda: day(4))
    result, instance = run(settings)
    assert result.success
    assert committed(result) == dict.fromkeys((BTC, ETH), (str(day(3)), str(day(3)))), "what is due, from day 3 on"
    (kept,) = instance.get_runs()  # of the symbols' stages nothing is
    again = get_reexecution_strategy(kept, instance)
    assert again == ReexecutionStrategy.ALL_STEPS, "killed it begins from the beginning: its steps share a memory"
    result, _ = run(settings, only_missing=True)
    assert result.success
    assert committed(result) == {}, "the store has yesterday"
    with monkeypatch.context() as patch:
        patch.setattr(calendar, "yesterday", lambda: day(4))
        patch.setattr(
            shard_job, "run_symbols", lambda own, *_: Outcome(dict.fromkeys(own.symbols, (day(4), day(4))), {})
        )
        result, _ = run(settings.model_copy(update={"catalogue": False}), only_missing=True)
        assert committed(result).keys() == {BTC, ETH}, "and lacks the next day"
    assert_like(settings, embedded)
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(embedded / "heatmap.duckdb"))


@pytest.mark.slow
@pytest.mark.fleet
@pytest.mark.usefixtures("light_commands")
def test_a_symbol_that_fails_fails_the_run_after_the_others_are_there(
    settings_of: Machine, archive: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in archive.rglob("*"):
        if path.is_file() and path != candles_file(archive, 1, ETH):
            target = broken / path.relative_to(archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    settings = settings_of(BTC, ETH, models=("delta",)).model_copy(update={"archive": broken})
    result, _ = run(settings, start=day(1), end=day(2))
    assert not result.success
    assert committed(result) == {BTC: (str(day(1)), str(day(2)))}
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    words = failure.step_failure_data.user_failure_data.description
    assert failure.step_key == "failures"
    assert ETH in words
    assert str(day(1)) in words
    assert {row[0] for row in _symbols(settings)} == {BTC}


def _symbols(settings: Settings) -> list[Any]:
    from heatmap_pipeline_tests.orchestration.homes import ask

    return ask(settings, "SELECT DISTINCT symbol FROM heatmap_days", published=True)


@pytest.mark.usefixtures("light_commands")
@pytest.mark.parametrize("start", [None, date(2100, 1, 1)])
def test_a_symbol_that_nobody_began_is_named_and_nothing_is_made(settings_of: Machine, start: date | None) -> None:
    settings = settings_of(BTC, start=start)
    result, _ = run(settings)
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    words = failure.step_failure_data.user_failure_data.description
    begin = start or "not set"
    assert words == f"{BTC}: nothing is stored yet and HEATMAP_START is {begin}; set it to a day that is over"
    assert not (settings.home / "heatmap.duckdb").exists()


def test_without_a_catalogue_no_home_gets_one(settings_of: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[Path] = []

    def pull(settings: Settings, folder: Path) -> SimpleNamespace:
        pulled.append(folder)
        return SimpleNamespace(symbols=1, fetched=0)

    monkeypatch.setattr(shard_job, "run_symbols", lambda *_: Outcome({BTC: (day(1), day(1))}, {}))
    monkeypatch.setattr(shard_job, "pull", pull)
    for catalogue in (True, False):
        result, _ = run(settings_of(BTC, catalogue=catalogue))
        assert result.success
    assert pulled == [settings_of(BTC).home]


@pytest.mark.slow
@pytest.mark.fleet
@pytest.mark.usefixtures("light_commands")
def test_a_symbol_of_which_the_days_leave_a_gap_spoils_no_other(
    settings_of: Machine, begin: Callable[[Settings, str], None]
) -> None:
    settings = settings_of(BTC, ETH, models=("delta",), catalogue=False)
    begin(settings, "1")
    result, _ = run(settings, start=day(3))
    assert committed(result).keys() == {ETH}
    assert f"{BTC}: {day(3)} does not follow the last stored day {day(1)}" in _words(result)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"start": "yesterday"}, "start 'yesterday' and end '' are not days"),
        ({"end": "2026-11-01"}, "start '' and end '2026-11-01' are not days"),
        ({"start": day(2), "end": day(1)}, "has to be no later than"),
        ({"start": day(1), "end": "2999-01-01"}, "has to be no later than"),
    ],
)
def test_days_that_no_run_can_mean_are_refused(
    settings_of: Machine, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(shard_job, "run_symbols", lambda own, plan, _: Outcome(plan(own), {}))
    result, _ = run(settings_of(BTC, catalogue=False), **given)
    assert words in _words(result)


def _words(result: Any) -> str:
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return str(failure.step_failure_data.user_failure_data.description)


def test_what_failed_is_said_though_the_catalogue_fails_too(
    settings_of: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(*_: object) -> None:
        raise PullError("the disk is full")

    monkeypatch.setattr(shard_job, "run_symbols", lambda *_: Outcome({BTC: (day(1), day(1))}, {ETH: "ETH failed"}))
    monkeypatch.setattr(shard_job, "pull", pull)
    result, _ = run(settings_of(BTC, ETH))
    assert _words(result) == "ETH failed; the disk is full"


def test_a_damaged_manifest_is_said_by_the_run_and_not_before_it(
    settings_of: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(BTC, ETH, catalogue=False)
    assert open_bucket(settings).swap(manifest_path(BTC), b"{", None)
    asked: list[tuple[str, ...]] = []

    def run_symbols(own: Settings, *_: object) -> Outcome:
        asked.append(own.symbols)
        return Outcome({}, {})

    monkeypatch.setattr(shard_job, "run_symbols", run_symbols)
    assert run(settings, only_missing=True)[0].success
    assert asked == [(BTC, ETH)]


def test_later_in_the_day_the_schedule_asks_only_for_what_is_missing(settings_of: Machine) -> None:
    (daily,) = build_shard_defs(settings_of(BTC).model_copy(update={"source": "binance"})).schedules or ()
    assert isinstance(daily, dg.ScheduleDefinition)
    assert daily.cron_schedule == "20 0,10,14,20 * * *"
    asked = {}
    for hour in (0, 10):
        context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 3, hour, 20, tzinfo=UTC))
        (request,) = daily.evaluate_tick(context).run_requests or ()
        asked[request.run_key] = request.run_config
    assert asked == {
        "2026-11-02 at 00:20": {},
        "2026-11-02 at 10:20": {"ops": {"symbols": {"config": {"only_missing": True}}}},
    }


def test_the_definitions_of_a_shard_over_a_store_are_its_job(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("STORE", store), ("HOME", str(tmp_path / "home")), ("SYMBOLS", f"{BTC},{ETH}")):
        monkeypatch.setenv(f"HEATMAP_{name}", value)
    loaded = definitions.defs()
    assert isinstance(loaded, dg.Definitions)
    dg.Definitions.validate_loadable(loaded)
    job = loaded.resolve_job_def(NAME)
    assert job.tags[SHARD_TAG] == "1", "also where there is one: its runs may not overlap"
    assert {node.name for node in job.nodes} == {"symbols", "catalogue", "failures"}, "however many symbols there are"
    (schedule,) = loaded.schedules or ()
    assert schedule.name == "heatmap_daily_schedule"
    assert len(list(loaded.sensors or ())) == 4
