"""`--restart` on the day after a stored one: a contract that goes on in another unit starts anew in everything."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from heatmap_pipeline.chain.scoring import history_starts, score_symbol
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.days import day_records
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import done
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ask,
    assert_same,
    candles_file,
    compute,
    day,
    metrics_file,
    problems,
    real,
    rewrite,
    run_job,
    tables,
    write_archive,
)

pytestmark = pytest.mark.usefixtures("light_commands")


def divide_prices(rows: list[list[str]]) -> list[list[str]]:
    """Return candles of a contract that became 1,000: prices a thousandth, contracts a thousand times as many."""
    for row in rows:
        row[1:5] = [f"{float(price) / 1000:.6f}" for price in row[1:5]]
        row[5] = f"{float(row[5]) * 1000:.3f}"
    return rows


def multiply_contracts(rows: list[list[str]]) -> list[list[str]]:
    for row in rows:
        row[2] = f"{float(row[2]) * 1000:.3f}"
    return rows


@pytest.fixture(scope="module")
def redenominated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of a contract of which a thousand are made on the fourth."""
    root = write_archive(tmp_path_factory.mktemp("redenominated"), 5, BTC)
    for number in (4, 5):
        rewrite(candles_file(root, number), divide_prices)
        rewrite(metrics_file(root, number), multiply_contracts)
    return root


def test_a_redenominated_symbol_starts_anew_in_everything(redenominated: Path, tmp_path: Path) -> None:
    archive = redenominated
    settings = compute(real(tmp_path / "home", archive, models=("turnover",)), 1, 3)
    old = f"SELECT * EXCLUDE (created_at) FROM heatmap_days WHERE day < '{day(4)}' ORDER BY ALL"
    before = ask(settings, old)
    words = ("--archive", archive, "--model", "turnover", "--home", settings.home)
    done("run", BTC, "--start", day(4), "--end", day(5), "--restart", *words)
    fresh = compute(real(tmp_path / "fresh", archive, models=("turnover",)), 4, 5)

    # What it holds of the new days is what a home holds that never knew the old ones, and what it held stays.
    new = f"timestamp >= '{day(4)}'"
    for published in (False, True):
        for name, since in (("position_events", new), ("liquidation_snapshots", new), ("book_ledger", new)):
            query = f"SELECT * FROM {name} WHERE {since} ORDER BY ALL"
            assert ask(settings, query, published=published) == ask(fresh, query, published=published), name
    assert ask(settings, old) == before
    (opened,) = ask(settings, f"SELECT min(opened_at) FROM open_positions WHERE day >= '{day(4)}'")
    assert opened[0].date() == day(4)
    buckets = dict(ask(settings, "SELECT day, bucket FROM buckets"))
    assert buckets[day(3)] / buckets[day(4)] >= 500
    assert problems(settings) == []

    # What is drawn and scored begins there as well.
    with Warehouse(settings.home).read() as con:
        drawn = newest_days(con, BTC, ("turnover",), 3600)["turnover"]
        records = day_records(con, BTC, "turnover")
    assert drawn.meta["start_time"].startswith(str(day(4)))
    assert history_starts(records) == [day(1), day(4)]


def test_a_rebuild_from_before_begins_anew_on_the_same_day(redenominated: Path, tmp_path: Path) -> None:
    settings = compute(real(tmp_path / "home", redenominated, models=("delta",)), 1, 3)
    run_job(settings, 4, 5, restart=True).ok()
    rows = tables(settings.home / "warehouse")
    with Warehouse(settings.home).connect(BTC) as con:
        con.execute(f"DELETE FROM heatmap_days WHERE day >= '{day(3)}' AND day < '{day(4)}'")
    run_job(settings, 3, 5).ok()
    run_job(settings, 5, 5).ok()
    assert_same(tables(settings.home / "warehouse"), rows)
    assert list(status_lines(settings))[-1] == "nothing is failed, stale or missing"


def test_without_restart_a_day_follows_the_one_before(home: Path, archive: Path) -> None:
    settings: Settings = real(home, archive)
    with Warehouse(home).connect(BTC) as con:
        assert history_starts(day_records(con, BTC, "turnover")) == [day(1)]
    outcome = score_symbol(partial(Warehouse(home).connect, BTC), BTC, settings.models)
    assert [type(one).__name__ for one in outcome] == ["NotScored", "NotScored"]
