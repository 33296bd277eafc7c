"""The definitions as Dagster sees them: they load, everything is labelled, and their names are pinned."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline import cli, definitions
from heatmap_pipeline.chain.calendar import yesterday
from heatmap_pipeline.chain.settings import DEMO_MARKETS
from heatmap_pipeline.orchestration import schedules
from heatmap_pipeline.orchestration.assets.common import symbol_and_stage
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.settings import Settings, SymbolSettings, load_settings
from heatmap_pipeline.store.dictionary import published_relations
from heatmap_pipeline.store.schema import column_types, comments
from heatmap_pipeline_tests.orchestration.homes import BTC, day, write_archive

DAILY = ["raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots", "raw_liquidations"]
WHOLE = ["map_scores", "heatmap_render", "published_database"]
PINNED = {
    "assets": {
        "raw_candles": [],
        "raw_open_interest": ["raw_candles"],
        "position_events": ["position_events", "raw_candles", "raw_open_interest"],
        "liquidation_snapshots": ["position_events"],
        "raw_liquidations": ["liquidation_snapshots"],
        "map_scores": ["liquidation_snapshots", "raw_liquidations"],
        "heatmap_render": ["map_scores"],
        "published_database": ["heatmap_render"],
    },
    "checks": {
        "raw_candles": ["candles_complete", "candles_valid"],
        "raw_open_interest": ["open_interest_complete", "open_interest_valid"],
        "position_events": [
            "chain_unbroken",
            "days_unique",
            "ledger_conserves",
            "levels_consumed",
            "quantities_valid",
            "totals_equal_open_interest",
        ],
        "liquidation_snapshots": ["bucket_fits", "cells_add_up", "cells_unique", "snapshots_current"],
        "map_scores": ["level_in_bracket", "score_not_worse"],
        "published_database": ["days_believable", "days_whole", "up_to_date"],
    },
    "warnings only": [
        "bucket_fits",
        "candles_complete",
        "days_believable",
        "days_whole",
        "level_in_bracket",
        "open_interest_complete",
        "score_not_worse",
        "up_to_date",
    ],
    "jobs": ["heatmap_daily"],
    "schedules": {"heatmap_daily_schedule": "20 0 * * *"},
    "sensors": [
        "heatmap_days_before_sensor",
        "heatmap_failure_sensor",
        "heatmap_success_sensor",
        "heatmap_idle_sensor",
        "heatmap_retention_sensor",
    ],
    "resources": ["market", "warehouse"],
}
"""What other people's scripts, bookmarks and run histories hold on to; change it on purpose only."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, source="demo", start=date(2024, 3, 1))


def graph_of(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def checks_of(defs: dg.Definitions) -> list[dg.AssetCheckSpec]:
    return [spec for one in defs.asset_checks or () for spec in one.check_specs]


def test_the_definitions_load(settings: Settings) -> None:
    dg.Definitions.validate_loadable(build_defs(settings))


def test_the_module_loads_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    loaded = definitions.defs()
    assert isinstance(loaded, dg.Definitions)
    dg.Definitions.validate_loadable(loaded)
    symbols = {spec.key.path[0] for spec in loaded.resolve_all_asset_specs()}
    assert symbols == {*DEMO_MARKETS, "BTC"}
    assert not list(tmp_path.iterdir()), "loading makes no files"


def test_another_symbol_is_one_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    monkeypatch.setenv("HEATMAP_SYMBOLS", "BTCUSDT, SOLUSDT, 1000PEPEUSDT")
    loaded = definitions.defs()
    dg.Definitions.validate_loadable(loaded)
    for symbol in ("BTCUSDT", "SOLUSDT", "1000PEPEUSDT"):
        assert {f"{symbol}/{name}" for name in DAILY + WHOLE} <= set(graph_of(loaded))
    assert len(graph_of(loaded)) == 24


def test_names_are_pinned(settings: Settings) -> None:
    defs = build_defs(settings)
    specs = graph_of(defs)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        mine = {spec.key.path[1]: spec for spec in specs.values() if spec.key.path[0] == symbol}
        deps = {name: sorted(dep.asset_key.path[1] for dep in spec.deps) for name, spec in mine.items()}
        assert deps == PINNED["assets"]
        assert {dep.asset_key.path[0] for spec in mine.values() for dep in spec.deps} == {symbol}
        checks: dict[str, list[str]] = {}
        for check in checks_of(defs):
            if check.asset_key.path[0] == symbol:
                checks.setdefault(check.asset_key.path[1], []).append(check.name)
        assert {asset: sorted(names) for asset, names in checks.items()} == PINNED["checks"]
    assert sorted({check.name for check in checks_of(defs) if not check.blocking}) == PINNED["warnings only"]
    assert [job.name for job in defs.jobs or ()] == PINNED["jobs"]
    repository = defs.get_repository_def()
    crons = {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs}
    assert crons == PINNED["schedules"]
    assert [sensor.name for sensor in defs.sensors or ()] == PINNED["sensors"]
    assert sorted(defs.resources or ()) == PINNED["resources"]


def test_everything_is_labelled(settings: Settings) -> None:
    defs = build_defs(settings)
    for key, spec in graph_of(defs).items():
        assert spec.owners == ["team:heatmap"], key
        assert len(spec.description or "") > 40, key
        assert (spec.key.path[0], spec.group_name) in (("BTCUSDT", "BTC"), ("ETHUSDT", "ETH")), key
        assert spec.tags.items() >= {"exchange": "binance", "base": spec.group_name}.items(), key
        assert {"python"} < spec.kinds, key
    for check in checks_of(defs):
        assert len(check.description or "") > 15, check.name
        assert not (check.description or "").startswith("Return"), check.name


def test_the_markets_of_an_asset_are_one_group(settings: Settings) -> None:
    both = settings.model_copy(update={"symbols": ("BTCUSDT", "BYBIT_BTCUSDT", "GATE_BTC_USDT")})
    graph = graph_of(build_defs(both))
    # Whatever asks for one of its markets asks for the map of the base with it.
    chosen = schedules._of([spec.key for spec in graph.values()], ["BYBIT_BTCUSDT"])
    assert {key.path[0] for key in chosen} == {"BYBIT_BTCUSDT", "BTC"}
    of_base = graph.pop("BTC/aggregated_map")
    assert (of_base.group_name, of_base.tags["base"], list(of_base.deps)) == ("BTC", "BTC", [])
    assert "BTC/aggregated_map" not in graph_of(build_defs(settings)), "a base of one market has nothing to add up"
    specs = {spec.key.path[0]: spec for spec in graph.values()}
    assert {name: (spec.group_name, spec.tags["exchange"], spec.tags["base"]) for name, spec in specs.items()} == {
        "BTCUSDT": ("BTC", "binance", "BTC"),
        "BYBIT_BTCUSDT": ("BTC", "bybit", "BTC"),
        "GATE_BTC_USDT": ("BTC", "gate", "BTC"),
    }
    for market in ("BYBIT_BTCUSDT", "GATE_BTC_USDT"):
        assert symbol_and_stage(f"{market}__raw_candles") == (market, "raw_candles")


def test_day_partitions_run_in_one_go(settings: Settings) -> None:
    assets = {one.key.to_user_string(): one for one in build_defs(settings).assets or ()}  # type: ignore[union-attr]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for name in DAILY:
            asset = assets[f"{symbol}/{name}"]
            assert asset.backfill_policy == dg.BackfillPolicy.single_run(), name  # type: ignore[union-attr]
            partitions = asset.partitions_def  # type: ignore[union-attr]
            assert isinstance(partitions, dg.DailyPartitionsDefinition)
            assert partitions.timezone == "UTC"
            assert partitions.get_first_partition_key() == "2024-03-01"
            assert partitions.get_last_partition_key() == yesterday().isoformat()
            (spec,) = asset.specs  # type: ignore[union-attr]
            schema = spec.metadata["dagster/column_schema"]
            assert [(column.name, column.type) for column in schema.columns] == list(column_types(name))
            assert all(column.description == comments()[name, column.name] for column in schema.columns)
            assert spec.metadata["dagster/table_name"] == f"heatmap.{name}"
        for name in WHOLE:
            assert assets[f"{symbol}/{name}"].partitions_def is None  # type: ignore[union-attr]


def test_position_events_depend_on_the_day_before(settings: Settings) -> None:
    graph = build_defs(settings).resolve_asset_graph()
    key = dg.AssetKey(["BTCUSDT", "position_events"])
    assert key in graph.get(key).parent_keys
    (own,) = [dep for dep in graph_of(build_defs(settings))["BTCUSDT/position_events"].deps if dep.asset_key == key]
    mapping = own.partition_mapping
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    assert (mapping.start_offset, mapping.end_offset) == (-1, -1)


def test_where_the_partitions_begin(tmp_path: Path) -> None:
    def first(settings: Settings, start: date | None = None) -> str | None:
        job = build_defs(settings, start=start).resolve_job_def("heatmap_daily")
        return job.partitions_def.get_first_partition_key() if job.partitions_def else None

    plain = load_settings(home=tmp_path, source="demo")
    assert first(plain) == (yesterday() - timedelta(days=29)).isoformat()
    configured = load_settings(home=tmp_path, source="demo", start=date(2024, 6, 1))
    assert first(configured) == "2024-06-01"
    assert first(configured, date(2024, 5, 1)) == "2024-05-01"


def test_of_an_archive_the_days_that_are_there_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_archive(tmp_path / "files", 3, BTC)
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(files))

    def offered() -> list[str]:
        job = definitions.defs().resolve_job_def("heatmap_daily")
        return list(job.partitions_def.get_partition_keys()) if job.partitions_def else []

    assert offered() == [str(day(number)) for number in (1, 2, 3)]
    monkeypatch.setenv("HEATMAP_START", str(day(2)))
    assert offered() == [str(day(2)), str(day(3))]
    monkeypatch.setenv("HEATMAP_START", "2020-01-01")
    assert offered() == [str(day(number)) for number in (1, 2, 3)]
    repository = definitions.defs().get_repository_def()
    schedule = repository.get_schedule_def("heatmap_daily_schedule")
    tick = datetime(2026, 1, 1, 0, 20, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=tick, repository_def=repository)
        (request,) = schedule.evaluate_tick(context).run_requests or ()
        assert dict(request.tags)["dagster/asset_partition_range_end"] == str(day(3))
        monkeypatch.setattr(schedules, "due_days", lambda *_: {})
        assert "ends at" in (schedule.evaluate_tick(context).skip_message or "")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(empty))
    monkeypatch.delenv("HEATMAP_START")
    assert offered()[-1] == str(yesterday())


def test_the_schedule_runs_by_default_and_asks_for_yesterday(tmp_path: Path) -> None:
    repository = build_defs(load_settings(home=tmp_path, source="demo")).get_repository_def()
    schedule = repository.get_schedule_def("heatmap_daily_schedule")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "heatmap_daily"
    tick = datetime.combine(yesterday() + timedelta(days=1), time(0, 20), UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=tick, repository_def=repository)
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.partition_key == yesterday().isoformat()
    assert dict(request.tags)["dagster/partition"] == yesterday().isoformat()


def test_the_readme_has_no_gaps_and_names_every_setting_verb_and_table() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    assert not re.findall(r"@[A-Z0-9]+@", text)
    own = {f"HEATMAP_{name.upper()}" for name in Settings.model_fields if name != "per_symbol"}
    own |= {f"HEATMAP_{name.upper()}_BTCUSDT" for name in SymbolSettings.model_fields}
    assert {name for name in own if f"`{name}`" not in text} == set()
    for verb in cli.main.commands:
        assert f"heatmap {verb}" in text
    assert [relation.name for relation in published_relations() if f"`{relation.name}`" not in text] == []
