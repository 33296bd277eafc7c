"""Several symbols in one run: what one symbol's failure means for the others, and for what is published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.runs import run_days
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import PublishReport, publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    ask,
    assert_same,
    break_file,
    candles_file,
    checksum_of,
    compute,
    day,
    problems,
    real,
    run_job,
    tables,
    untouched,
)

pytestmark = pytest.mark.usefixtures("light_commands")


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with days 1 to 5 of BTCUSDT, of the one model. Nobody changes it."""
    home = tmp_path_factory.mktemp("whole")
    return compute(real(home, archive, models=("delta",), snapshot_interval="1h"), 1, 5)


@pytest.fixture
def files(archive: Path, tmp_path: Path) -> Path:
    """A copy of the archive that a test may change."""
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def status(settings: Settings) -> str:
    return "\n".join(status_lines(settings))


def test_a_failing_symbol_does_not_hold_back_another(
    whole: Settings, files: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    both = real(home, files, BTC, ETH)
    written: list[set[str]] = []

    def counted(warehouse: Warehouse, symbols: Sequence[str], **more: Any) -> PublishReport:
        written.append(set(symbols))
        return publish(warehouse, symbols, **more)

    monkeypatch.setattr("heatmap_pipeline.chain.publication.publish", counted)
    ran = run_job(both, 1, 2, dagster=True).ok()  # it is an order of steps
    assert written == [{BTC, ETH}], "a run of two symbols writes the file once"
    assert {name for name in ran.materialised if name.endswith("published_database")} == {
        f"{name}/published_database" for name in (BTC, ETH)
    }
    broken = candles_file(files, 4)
    break_file(broken)
    outcome = run_days(both, {BTC: (day(3), day(5)), ETH: (day(3), day(5))})
    assert outcome.published == {BTC: (day(3), day(3)), ETH: (day(3), day(5))}
    assert set(outcome.failures) == {BTC}
    assert str(broken) in outcome.failures[BTC]
    assert "download it again" in outcome.failures[BTC]
    # Of the one the days before the broken one are published, of the other all.
    assert ask(both, f"SELECT max(day) FROM heatmap_days WHERE symbol = '{BTC}'", published=True) == [(day(3),)]
    newest = "SELECT max(day) FROM heatmap_days WHERE symbol = '{}'"
    assert ask(both, newest.format(ETH), published=True) == [(day(5),)]
    raw = f"SELECT max(day) FROM raw_days WHERE symbol = '{BTC}'"
    assert ask(both, raw) == [(day(3),)]
    assert ask(both, raw, published=True) == [(day(3),)]
    assert f"failed  {BTC} {day(4)} raw_candles: " in status(both)
    assert f"failed  {ETH}" not in status(both)
    # The next success publishes what waited.
    for path in (broken, checksum_of(broken)):
        shutil.copyfile(archive / path.relative_to(files), path)
    ethereum = tables(home / "heatmap.duckdb", ETH)
    run_job(real(home, files, BTC), 3, 5).ok()
    assert_same(tables(home / "heatmap.duckdb", BTC), tables(whole.home / "heatmap.duckdb", BTC))
    assert_same(tables(home / "heatmap.duckdb", ETH), ethereum)
    assert not problems(both)


def test_days_of_the_chain_wait_for_the_next_success(whole: Settings, archive: Path, tmp_path: Path) -> None:
    settings = compute(real(tmp_path, archive), 1, 2)
    bad = f"UPDATE book_ledger SET dropped = dropped + {{}} WHERE model = 'delta' AND timestamp = '{day(2)} 12:00'"
    ask(settings, bad.format(1024))
    with untouched(tmp_path / "heatmap.duckdb"):
        outcome = run_days(settings, {BTC: (day(2), day(5))})
    assert outcome.published == {}
    assert outcome.failures[BTC].startswith("check ledger_conserves failed: BTCUSDT: delta ")
    assert ask(settings, "SELECT count(*), max(day) FROM heatmap_days") == [(5, day(5))]
    assert f"stale   {BTC} delta from {day(3)}: its snapshots" in status(settings), "they wait, and status says so"
    ask(settings, bad.format(-1024))
    run_job(settings, 3, 5).ok()
    assert_same(tables(tmp_path / "heatmap.duckdb"), tables(whole.home / "heatmap.duckdb"))


def test_when_every_symbol_fails_nothing_is_touched(files: Path, tmp_path: Path) -> None:
    both = compute(real(tmp_path / "home", files, BTC, ETH), 1, 1)
    for symbol in (BTC, ETH):
        break_file(candles_file(files, 2, symbol))
    with untouched(both.home / "heatmap.duckdb"):
        run = run_job(both, 2)
    assert set(run.failures) == {f"{BTC}__raw_candles", f"{ETH}__raw_candles"}
    assert not run.materialised


def test_symbols_come_one_after_the_other(finished: Settings, home: Path) -> None:
    before = tables(home / "heatmap.duckdb")
    settings = real(home, finished.archive or home, ETH)
    run_job(settings, 1).ok()
    assert_same(tables(home / "heatmap.duckdb", BTC), {k: v for k, v in before.items() if k != "schema_version"})
    assert ask(settings, "SELECT symbol FROM symbols ORDER BY 1", published=True) == [(BTC,), (ETH,)]


def test_a_failed_picture_is_forgotten_when_one_succeeds(
    finished: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(home, finished.archive or home)

    def fail(*_: object) -> None:
        raise HeatmapError("the pencil broke")

    with monkeypatch.context() as patch, untouched(home / "heatmap.duckdb"):
        patch.setattr("heatmap_pipeline.render.page.write_page", fail)
        patch.setattr("heatmap_pipeline.orchestration.assets.common.yesterday", lambda: day(8))
        run = run_job(settings, 5)
    assert run.failures == {f"{BTC}__heatmap_render": "the pencil broke"}
    assert f"{BTC}/published_database" not in run.materialised
    assert f"failed  {BTC} {day(8)} heatmap_render: the pencil broke" in status(settings)
    run_job(settings, 5).ok()  # on another day
    assert not problems(settings)
