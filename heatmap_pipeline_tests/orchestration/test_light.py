"""A run without Dagster, which most tests of the stages use, is one of Dagster in all that they look at."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.orchestration.assets import STAGES, parquet_export
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._homes import heatmap
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    Ran,
    assert_same,
    break_file,
    candles_file,
    checksum_of,
    compute,
    copy_home,
    day,
    metrics_file,
    real,
    rewrite,
    run_job,
    tables,
    wilder,
)
from heatmap_pipeline_tests.orchestration.light import light_runs

_MEGABYTES = re.compile("'megabytes': [0-9.]+")  # they depend on how often a file was opened
DATABASES = ("warehouse", "heatmap.duckdb")


@pytest.fixture
def files(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "files"))


def assert_alike(settings: Settings, tmp_path: Path, first: int, last: int | None = None, **more: Any) -> Ran:
    """Run the job of a home in both ways, compare what they tell and what they leave; return what Dagster told."""
    dagster, light = (copy_home(settings.home, tmp_path / name) for name in ("dagster", "light"))
    ran = run_job(settings.model_copy(update={"home": dagster}), first, last, dagster=True, **more)
    alike = run_job(settings.model_copy(update={"home": light}), first, last, **more)
    for name in DATABASES:
        if (dagster / name).exists() or (light / name).exists():
            assert_same(tables(dagster / name), tables(light / name))
    for told, like in ((ran.materialised, alike.materialised), (ran.checks, alike.checks)):
        words, others = (
            {name: _MEGABYTES.sub("", str(value)).replace(str(home), "HOME") for name, value in each.items()}
            for each, home in ((told, dagster), (like, light))
        )
        assert others == words
    assert (alike.success, alike.failures.keys()) == (ran.success, ran.failures.keys())
    ours = {step: text for step, text in ran.failures.items() if not step.endswith("_checks")}  # else Dagster's words
    assert {step: alike.failures[step] for step in ours} == ours
    return ran


def test_of_two_symbols_one_stops_at_a_day_that_cannot_be_had(files: Path, tmp_path: Path) -> None:
    break_file(candles_file(files, 2))
    run = assert_alike(real(tmp_path / "new", files, BTC, ETH, models=("delta",)), tmp_path, 1, 2)
    assert run.failures.keys() == {f"{BTC}__raw_candles"}
    assert f"{ETH}/published_database" in run.materialised


def test_a_check_that_blocks(files: Path, tmp_path: Path) -> None:
    settings = compute(real(tmp_path / "home", files, models=("delta",)), 1, 3)
    rewrite(candles_file(files, 2), wilder)
    assert assert_alike(settings, tmp_path, 2).failed_checks() == {f"{BTC}/position_events:chain_unbroken"}


def test_some_stages_of_days_that_are_there(home: Path, archive: Path, tmp_path: Path) -> None:
    stages = ("position_events", "liquidation_snapshots", "raw_liquidations", "heatmap_render", "published_database")
    run = assert_alike(real(home, archive, models=("turnover",)), tmp_path, 3, 4, stages=stages).ok()
    assert run.materialised[f"{BTC}/published_database"][None]["replaced"] is False


def test_a_history_that_begins_anew_after_a_gap(files: Path, tmp_path: Path) -> None:
    settings = compute(real(tmp_path / "home", files, models=("turnover",)), 1, 1)
    for path in (candles_file(files, 2), checksum_of(candles_file(files, 2))):
        path.unlink()
    assert_alike(settings, tmp_path, 3, restart=True).ok()


def test_each_stage_follows_the_one_before(archive: Path, tmp_path: Path) -> None:
    """So that one which fails, or a check of it that blocks, stops all that come after it."""
    settings = real(tmp_path, archive, export=tmp_path / "tree")
    specs = {spec.key.path[-1]: spec for spec in build_defs(settings).resolve_all_asset_specs()}
    order = [stage.NAME for stage in (*STAGES, parquet_export)]
    assert specs.keys() == set(order)
    for before, name in pairwise(order):
        assert before in {dep.asset_key.path[-1] for dep in specs[name].deps}, name


def test_a_command_and_the_run_of_the_days_before(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    break_file(metrics_file(files, 2))

    def command(home: Path) -> tuple[list[str], dict[str, Any]]:
        days = ("--start", day(1), "--end", day(2))
        ended = heatmap("run", BTC, "--archive", files, *days, "--home", home)
        assert ended.exit_code == 1
        said = [text.replace(str(home), "HOME") for text in (ended.stdout, ended.stderr)]
        return said, {f"{name} {table}": rows for name in DATABASES for table, rows in tables(home / name).items()}

    told, rows = command(tmp_path / "dagster")
    with light_runs():
        like, others = command(tmp_path / "light")
    assert like == told
    assert f"{BTC}: {day(1)} .. {day(1)} computed and published" in told[0]
    assert_same(rows, others)
