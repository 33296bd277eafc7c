"""Runs of the job: one day, many days, days that are there already, and what is told about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    FIRST,
    ask,
    assert_same,
    candles_file,
    checksum_of,
    compute,
    created,
    day,
    metrics_file,
    real,
    rewrite,
    run_job,
    tables,
    untouched,
)

DAILY = ("raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots", "raw_liquidations")


def test_a_run_of_one_day_fills_the_home(tmp_path: Path, pictures: None) -> None:
    settings = load_settings(home=tmp_path / "home", source="demo", symbols=(BTC,))
    run = run_job(settings, 1, dagster=True).ok()
    assert set(run.materialised) == {
        f"{BTC}/{name}" for name in (*DAILY, "map_scores", "heatmap_render", "published_database")
    }
    for name in DAILY:
        assert set(run.materialised[f"{BTC}/{name}"]) == {"2024-03-04"}
    assert {name.split(":")[1] for name in run.checks} == {rule.name for rule in RULES}
    assert run.failed_checks() == {f"{BTC}/published_database:up_to_date"}, "these days are long ago"
    days = ask(settings, "SELECT DISTINCT model, day FROM heatmap_days ORDER BY 1", published=True)
    assert days == [("delta", day(1)), ("turnover", day(1))]
    page = (settings.home / "renders" / "index.html").read_text()
    assert BTC in page
    picture = settings.home / "renders" / BTC / "heatmap.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    drawn = run.materialised[f"{BTC}/heatmap_render"][None]
    assert drawn["newest_day"] == "2024-03-04"
    assert drawn["simulated"] is True
    assert drawn["preview"].startswith("![heatmap of BTCUSDT](data:image/png;base64,")
    assert len(drawn["preview"]) < 100_000
    assert Path(drawn["picture"]) == picture


def test_a_run_of_a_range_tells_the_numbers_of_each_day(archive: Path, tmp_path: Path) -> None:
    settings = real(tmp_path, archive)
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_job(settings, 1, 2, instance=instance).ok()
        keys = {day(number).isoformat() for number in (1, 2)}
        for name in DAILY:
            assert instance.get_materialized_partitions(dg.AssetKey([BTC, name])) == keys
    candles = run.materialised[f"{BTC}/raw_candles"]
    assert {candles[key]["dagster/partition_row_count"] for key in keys} == {288}
    assert all(candles[key]["changed"] for key in keys)
    assert "clock" in run.materialised[f"{BTC}/raw_open_interest"]["2024-03-05"]
    events = run.materialised[f"{BTC}/position_events"]
    cells = run.materialised[f"{BTC}/liquidation_snapshots"]
    stored = dict(
        ask(settings, "SELECT CAST(CAST(timestamp AS DATE) AS VARCHAR), count(*) FROM position_events "
            "WHERE model = 'turnover' GROUP BY 1")
    )  # fmt: skip
    snapshots = dict(
        ask(settings, "SELECT CAST(CAST(timestamp AS DATE) AS VARCHAR), count(*) FROM liquidation_snapshots "
            "WHERE model = 'delta' GROUP BY 1")
    )  # fmt: skip
    for key in keys:
        assert events[key]["turnover_events"] == stored[key]
        assert 0 < events[key]["turnover_located_share"] <= 1
        assert cells[key]["delta_rows"] == snapshots[key]
        assert cells[key]["delta_snapshots"] <= 24
        consumed = cells[key]["turnover_consumed_volume_usdt"]
        assert consumed == pytest.approx(events[key]["turnover_consumed_volume_usdt"], rel=1e-9)
        assert events[key]["model_days_computed"] == 4
        assert events[key]["model_days_unchanged"] == 0
    assert len({events[key]["turnover_events"] for key in keys}) > 1, "each day has numbers of its own"


def test_days_one_by_one_make_what_one_run_makes(archive: Path, tmp_path: Path) -> None:
    at_once = compute(real(tmp_path / "at_once", archive, models=("turnover",)), 1, 4)
    settings = compute(real(tmp_path / "by_day", archive, models=("turnover",)), 1, 1)
    for days in ((2,), (3, 4)):
        before = created(settings)
        run_job(settings, *days).ok()
        assert before.items() <= created(settings).items(), "earlier days stay as they are"
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(at_once.home / "heatmap.duckdb"))


def test_the_warehouse_holds_what_is_published(finished: Settings) -> None:
    private, public = tables(finished.home / "warehouse"), tables(finished.home / "heatmap.duckdb")
    assert_same(private, public)
    assert public["heatmap_days"].num_rows == 10
    assert public["liquidation_snapshots"].num_rows > 10_000
    assert public["position_events"].filter(_is(public["position_events"], "liquidate")).num_rows > 20


def _is(table: object, kind: str) -> object:
    return [value == kind for value in table.column("event_type").to_pylist()]  # type: ignore[attr-defined]


def test_comparing_databases_finds_one_bit(finished: Settings, home: Path) -> None:
    """The comparison that the other tests trust."""
    settings = real(home, finished.archive or home)
    assert_same(tables(home / "warehouse"), tables(finished.home / "warehouse"))
    # One unit in the last place of one number.
    ask(settings, "UPDATE book_ledger SET located = located * (1 + 2.3e-16) WHERE timestamp = '2024-03-07 10:00' "
        "AND side = 'long'")  # fmt: skip
    with pytest.raises(AssertionError, match=r"book_ledger\.located: 1 rows differ"):
        assert_same(tables(home / "warehouse"), tables(finished.home / "warehouse"))


def test_days_that_are_there_are_skipped_and_nothing_is_replaced(finished: Settings, home: Path) -> None:
    settings = real(home, finished.archive or home)
    before = created(settings)
    with untouched(home / "heatmap.duckdb"):
        run = run_job(settings, 1, 5).ok()
    assert created(settings) == before
    for name in ("position_events", "liquidation_snapshots"):
        for number in range(1, 6):
            told = run.materialised[f"{BTC}/{name}"][day(number).isoformat()]
            assert told["unchanged"] is True
            assert told["model_days_unchanged"] == 10
    assert not any(told["changed"] for told in run.materialised[f"{BTC}/raw_candles"].values())
    assert run.materialised[f"{BTC}/published_database"][None]["replaced"] is False


def test_one_model_first_and_then_both(finished: Settings, archive: Path, tmp_path: Path) -> None:
    alone = compute(real(tmp_path, archive, models=("delta",)), 1, 5)
    assert ask(alone, "SELECT DISTINCT model FROM liquidation_snapshots", published=True) == [("delta",)]
    before = created(alone)
    run_job(real(tmp_path, archive), 1, 5).ok()
    after = created(alone)
    assert {key: after[key] for key in before} == before
    assert_same(tables(tmp_path / "heatmap.duckdb"), tables(finished.home / "heatmap.duckdb"))


def test_another_snapshot_interval_makes_the_snapshots_again_and_nothing_else(
    finished: Settings, archive: Path, home: Path, tmp_path: Path
) -> None:
    slower = real(home, archive, snapshot_interval="4h")
    before = created(slower)
    run = run_job(slower, 1, 5).ok()
    assert created(slower) == before
    assert all(told["unchanged"] for told in run.materialised[f"{BTC}/position_events"].values())
    assert not any("unchanged" in told for told in run.materialised[f"{BTC}/liquidation_snapshots"].values())
    fresh = compute(real(tmp_path / "fresh", archive, snapshot_interval="4h"), 1, 5)
    assert_same(tables(home / "heatmap.duckdb"), tables(fresh.home / "heatmap.duckdb"))
    starts = ask(slower, "SELECT DISTINCT hour(timestamp) FROM liquidation_snapshots ORDER BY 1", published=True)
    assert starts == [(0,), (4,), (8,), (12,), (16,), (20,)]


def test_an_interval_that_does_not_fit_the_candles_is_refused(archive: Path, home: Path) -> None:
    settings = real(home, archive, snapshot_interval="1m")
    with untouched(home / "heatmap.duckdb"):
        run = run_job(settings, 5)
    assert "HEATMAP_SNAPSHOT_INTERVAL_BTCUSDT" in run.failures[f"{BTC}__liquidation_snapshots"]
    assert f"{BTC}/heatmap_render" not in run.materialised


def test_gaps_in_the_files_are_told_but_do_not_stop_a_run(archive: Path, tmp_path: Path) -> None:
    """A candle that is missing and a day without open interest are information, not faults."""
    files = tmp_path / "archive"
    shutil.copytree(archive, files)
    rewrite(candles_file(files, 2), lambda rows: rows[:100] + rows[103:])
    metrics_file(files, 3).unlink()
    checksum_of(metrics_file(files, 3)).unlink()
    settings = real(tmp_path / "home", files, models=("delta",))
    run = run_job(settings, 1, 4).ok()
    assert run.failed_checks() == {
        f"{BTC}/raw_candles:candles_complete",
        f"{BTC}/raw_open_interest:open_interest_complete",
        f"{BTC}/published_database:days_whole",
    }
    assert "3 missing candles" in run.checks[f"{BTC}/raw_candles:candles_complete"][1]
    assert run.materialised[f"{BTC}/raw_candles"]["2024-03-05"]["dagster/partition_row_count"] == 285
    assert run.materialised[f"{BTC}/raw_open_interest"]["2024-03-06"]["dagster/partition_row_count"] == 0
    repairs = ask(settings, "SELECT day, repairs FROM heatmap_days ORDER BY 1")
    assert [json.loads(text)["held"] for _, text in repairs] == [False, False, True, False]


def test_simulated_and_real_history_never_mix(archive: Path, home: Path, tmp_path: Path) -> None:
    with untouched(home / "heatmap.duckdb"):
        run = run_job(load_settings(home=home, source="demo", symbols=(BTC,)), 1, 2)
    assert not run.materialised
    message = run.failures[f"{BTC}__raw_candles"]
    assert all(part in message for part in ("real history", "simulated data", "never mixed")), message

    simulated = compute(load_settings(home=tmp_path / "simulated", source="demo", symbols=(BTC,)), 1, 1)
    with untouched(simulated.home / "heatmap.duckdb"):
        run = run_job(real(simulated.home, archive), 1, 2)
    assert not run.materialised
    message = run.failures[f"{BTC}__raw_candles"]
    assert all(part in message for part in ("simulated history", "real data", "never mixed")), message

    # Simulated files stay simulated when they are read as an archive.
    other = real(tmp_path / "other", simulated.archive_root)
    assert run_job(other, 1).ok().materialised[f"{BTC}/heatmap_render"][None]["simulated"] is True
    assert ask(other, "SELECT simulated FROM symbols", published=True) == [(True,)]


def test_partitions_begin_with_the_published_history(home: Path, archive: Path) -> None:
    job = build_defs(real(home, archive)).resolve_job_def("heatmap_daily")
    assert job.partitions_def is not None
    assert job.partitions_def.get_first_partition_key() == FIRST.isoformat()
