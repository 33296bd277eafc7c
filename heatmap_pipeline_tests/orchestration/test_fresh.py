"""What is stored ages by itself: the check `up_to_date` goes by the data, whatever ran when, or did not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline.orchestration import checks
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.checks import RULES, up_to_date
from heatmap_pipeline.orchestration.sensors import IDLE_DAYS, freshness
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import as_if_yesterday_were
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day, real


@pytest.fixture
def growing(home: Path, archive: Path) -> Settings:
    """The settings of a home whose source goes on, with days 1 to 5 of one of two symbols."""
    return real(home, archive, BTC, ETH).model_copy(update={"source": "demo"})


def test_data_age_while_nothing_runs(growing: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_yesterday_were(monkeypatch, day(5))
    words, (now,) = freshness(growing, {})
    assert (now.asset_key.path, now.check_name, now.passed) == ([BTC, "published_database"], "up_to_date", True)
    assert now.metadata["newest_data"].value == f"{day(5)} 23:55 UTC"
    assert freshness(growing, words) == (words, []), "nothing new to say"
    as_if_yesterday_were(monkeypatch, day(5))
    with monkeypatch.context() as later:
        later.undo()
        as_if_yesterday_were(later, day(7))
        aged, (then,) = freshness(growing, words)
    assert not then.passed
    assert then.severity == dg.AssetCheckSeverity.WARN
    assert f"{day(6)} .. {day(7)} are missing" in (then.description or "")
    assert f"heatmap refresh {BTC}" in (then.description or "")
    assert aged != words


def test_a_symbol_of_which_nothing_is_stored_is_not_up_to_date(growing: Settings) -> None:
    """As one whose runs were all in vain, and left no failure."""
    with Warehouse(growing.home).look(ETH) as con:
        report = up_to_date(con, growing.model_copy(update={"start": None}), ETH)
    assert not report.passed
    assert f"nothing of it is stored; begin with `heatmap run {ETH} --start DAY --end DAY" in report.description


def test_the_sensor_says_so_in_dagster(growing: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_yesterday_were(monkeypatch, day(8))
    defs = build_defs(growing, start=day(1))
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None
        for expected in (1, 0):  # once
            context = dg.build_sensor_context(instance=instance, sensor_name=IDLE_DAYS, cursor=cursor)
            ticked = defs.resolve_sensor_def(IDLE_DAYS).evaluate_tick(context)
            assert len(ticked.asset_events) == expected
            cursor = ticked.cursor
            for event in ticked.asset_events:
                instance.report_runless_asset_event(event)
        key = dg.AssetCheckKey(dg.AssetKey([BTC, "published_database"]), "up_to_date")
        known = {spec.key for checks_of in defs.asset_checks or () for spec in checks_of.check_specs}
        assert key in known
        records = instance.fetch_asset_check_history(key) if hasattr(instance, "fetch_asset_check_history") else []
        assert all(not record.evaluation.passed for record in records)


def test_nothing_is_fresh_because_it_was_made_lately(growing: Settings) -> None:
    """Dagster's own policies count materialisations: an old day drawn again would make its asset look new."""
    specs = [spec for asset in build_defs(growing, start=day(1)).assets or () for spec in asset.specs]  # type: ignore[union-attr]
    assert specs
    assert all(getattr(spec, "freshness_policy", None) is None for spec in specs)
    assert "up_to_date" in {rule.name for rule in RULES}


def test_of_an_empty_home_nothing_is_said(tmp_path: Path) -> None:
    assert freshness(load_settings(home=tmp_path), {}) == ({}, [])


def test_today_is_behind_where_it_is_to_be_kept_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    wanted = {"binance": [(15, False), (30, True)], "demo": [(15, False), (30, False)]}
    for source, expected in wanted.items():
        settings = load_settings(home=tmp_path, source=source, intraday_minutes=5)
        for minutes, behind in expected:
            assert checks._behind_the_day(settings, "BTCUSDT", now - timedelta(minutes=minutes)) == behind, (
                source,
                minutes,
            )
    settings = load_settings(home=tmp_path, source="binance")
    assert not checks._behind_the_day(settings, "BTCUSDT", now - timedelta(days=1)), (
        "the daily schedule alone is no promise"
    )
    monkeypatch.setattr(checks, "closed_words", lambda *_: "closed")
    settings = load_settings(home=tmp_path, source="binance", intraday_minutes=5)
    assert not checks._behind_the_day(settings, "BTCUSDT", now - timedelta(days=1)), "nothing newer can be had"
