"""Real liquidations in the pipeline: after the chain, beside it, and never of any consequence for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.market.liquidations.recording import RecordingWriter
from heatmap_pipeline.market.liquidations.streams import Event
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    ask,
    assert_same,
    copy_home,
    created,
    day,
    real,
    run_job,
    tables,
    untouched,
)

STAGES = ("raw_liquidations", "map_scores", "heatmap_render", "published_database")
"""From them to the publication, on a home with all before them."""

OURS = ("raw_liquidations", "recorded", "map_scores", "score_hours", "score_days")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Sums of BTCUSDT from noon of day 1 to noon of day 4, an hour of day 2 left out."""
    folder = tmp_path / "real"
    folder.mkdir()
    lines = [
        f"{day(number)}T{hour:02}:00:00Z,{side},{number}.{hour:02}"
        for number in range(1, 5)
        for hour in range(24)
        for side in ("long", "short")
        if (number, hour) >= (1, 12) and (number, hour) < (4, 12) and (number, hour) != (2, 5)
    ]
    (folder / f"{BTC}-1h.csv").write_text("\n".join(["time,side,quantity", *lines]) + "\n")
    return folder


def without_ours(path: Path) -> dict[str, Any]:
    """Return what is published, without real liquidations."""
    kept = {name: table for name, table in tables(path).items() if name not in OURS}
    kinds = kept["raw_days"].column("kind").to_pylist()
    kept["raw_days"] = kept["raw_days"].filter([kind != "liquidations" for kind in kinds])
    return kept


def test_without_a_source_nothing_is_read_and_it_says_so(archive: Path, tmp_path: Path) -> None:
    run = run_job(real(tmp_path, archive, models=("delta",)), 1).ok()
    told = run.materialised[f"{BTC}/raw_liquidations"]["2024-03-04"]
    assert told["sources"] == "none: HEATMAP_LIQUIDATIONS is not set, so no real liquidations are read"
    assert not any("feed_alive" in name for name in run.checks)


def test_the_map_is_the_same_with_them(finished: Settings, home: Path, archive: Path, files: Path) -> None:
    before = created(finished)
    run = run_job(real(home, archive, liquidations_folder=files), 1, 5).ok()
    assert created(real(home, archive)) == before, "no day of the map is computed again"
    assert_same(without_ours(home / "heatmap.duckdb"), tables_without_empty(finished.home / "heatmap.duckdb"))
    assert ask(
        real(home, archive), "SELECT day, count(*), sum(quantity) FROM raw_liquidations GROUP BY 1 ORDER BY 1"
    ) == [
        (day(1), 24, pytest.approx(2 * sum(1 + hour / 100 for hour in range(12, 24)))),
        (day(2), 46, pytest.approx(2 * sum(2 + hour / 100 for hour in range(24) if hour != 5))),
        (day(3), 48, pytest.approx(2 * sum(3 + hour / 100 for hour in range(24)))),
        (day(4), 24, pytest.approx(2 * sum(4 + hour / 100 for hour in range(12)))),
    ]
    told = run.materialised[f"{BTC}/raw_liquidations"]
    assert told["2024-03-05"]["binance_file_rows"] == 46
    assert told["2024-03-05"]["binance_file_recorded_hours"] == 24
    assert told["2024-03-08"]["dagster/partition_row_count"] == 0
    assert told["2024-03-04"]["days_changed"] == 4
    hours = ask(
        real(home, archive),
        "SELECT count(*), count(*) FILTER (WHERE recorded), count(reported), count(*) FILTER (WHERE reported = 0) "
        "FROM liquidations_hourly WHERE model = 'turnover'",
        published=True,
    )
    assert hours == [(2 * 24 * 5, 2 * 72, 2 * 72, 2)], (
        "the hour that is left out within the record is 0, others missing"
    )


def tables_without_empty(path: Path) -> dict[str, Any]:
    made = tables(path)
    assert all(made.pop(name).num_rows == 0 for name in OURS)
    return made


def test_again_and_in_parts_it_is_the_same_to_the_last_bit(
    finished: Settings, home: Path, archive: Path, tmp_path: Path, files: Path
) -> None:
    more: dict[str, Any] = {"liquidations_folder": files, "models": ("delta",)}
    at_once = real(home, archive, **more)
    run_job(at_once, 1, 4, stages=STAGES).ok()
    in_parts = real(copy_home(finished.home, tmp_path / "in_parts"), archive, **more)
    for days in ((1,), (2, 3), (4,)):
        run_job(in_parts, *days, stages=STAGES).ok()
    assert_same(tables(in_parts.home / "heatmap.duckdb"), tables(at_once.home / "heatmap.duckdb"))
    assert ask(at_once, "SELECT count(DISTINCT day) FROM raw_liquidations", published=True) == [(4,)]
    with untouched(at_once.home / "heatmap.duckdb"):
        run_job(at_once, 1, 4, stages=STAGES).ok()
        run_job(at_once, 2).ok()


def test_what_is_wrong_with_a_source_stops_nothing(archive: Path, tmp_path: Path, files: Path) -> None:
    (files / f"{ETH}.csv").write_text("time,side,quantity\nyesterday,long,1\n")
    settings = real(tmp_path / "home", archive, BTC, ETH, liquidations_folder=files, models=("delta",))
    run = run_job(settings, 1, 2).ok()
    words = run.materialised[f"{ETH}/raw_liquidations"]["2024-03-04"]["files_not_recorded"]
    assert f"{ETH}.csv" in words
    assert f"{BTC}/raw_liquidations:feed_alive" not in run.checks
    assert ask(settings, "SELECT DISTINCT symbol FROM raw_liquidations", published=True) == [(BTC,)]
    assert ask(settings, "SELECT DISTINCT symbol FROM heatmap_days ORDER BY 1", published=True) == [(BTC,), (ETH,)]


def test_new_liquidations_of_an_old_day_are_published(home: Path, archive: Path, files: Path) -> None:
    settings = real(home, archive, liquidations_folder=files, models=("delta",))
    run_job(settings, 1, 5, stages=STAGES).ok()
    path = files / f"{BTC}-1h.csv"
    path.write_text(path.read_text().replace("long,2.07", "long,200.07"))
    run_job(settings, 2).ok()
    query = f"SELECT max(quantity) FROM raw_liquidations WHERE day = '{day(2)}'"
    assert ask(settings, query, published=True) == [(200.07,)]


@pytest.mark.parametrize("alive", [True, False])
def test_a_recorded_stream_is_watched(archive: Path, tmp_path: Path, alive: bool) -> None:
    settings = real(tmp_path, archive, liquidations=("bybit_stream",), models=("delta",))
    begin = int(_midnight(1)) * 1000
    writer = RecordingWriter(settings.recordings, "bybit", BTC, "run", begin)
    writer.open(begin)
    for second in range(5, 2 * 86400, 5):
        now = begin + second * 1000
        if second % 1800 == 0 and (alive or second < 86400):
            writer.event(Event(now, "Buy", "60000", "0.5"), second, now)
        writer.alive(now)
    writer.close()
    run = run_job(settings, 1, 2, dagster=not alive).ok()
    passed, words = run.checks[f"{BTC}/raw_liquidations:feed_alive"]
    assert passed == alive, words
    if not alive:
        assert "printed nothing from 2024-03-05T" in words
        assert "`heatmap record BTCUSDT --exchange bybit" in words
    assert run.materialised[f"{BTC}/raw_liquidations"]["2024-03-05"]["bybit_stream_recorded_hours"] == pytest.approx(
        24, abs=0.01
    )
    assert ask(settings, "SELECT bool_and(complete), sum(quantity) > 0 FROM raw_liquidations", published=True) == [
        (True, True)
    ]


def _midnight(number: int) -> float:
    return (day(number) - day(1)).days * 86400 + 1709510400


def test_dagster_has_an_asset_of_it_per_symbol(archive: Path, tmp_path: Path) -> None:
    from heatmap_pipeline.orchestration.build import build_defs

    defs = build_defs(real(tmp_path, archive, BTC, ETH, liquidations=("bybit_stream",)))
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
    for symbol in (BTC, ETH):
        key = dg.AssetKey([symbol, "raw_liquidations"])
        assert key in specs
        upstream = {
            dep.asset_key for spec in specs.values() if spec.key.path[-1] == "position_events" for dep in spec.deps
        }
        assert key not in upstream
