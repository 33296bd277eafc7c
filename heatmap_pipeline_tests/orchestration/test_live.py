"""Kept fresh: what is due, who asks for it, and the exchange as the source of a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from heatmap_pipeline.chain.due import due_days, last_due
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.schedules import DAILY, INTRADAY
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import as_if_yesterday_were, clean_environment, done, heatmap
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.homes import of_the_exchange

DAYS = [date(2024, 9, day) for day in (14, 15, 16, 17)]
YESTERDAY, TODAY = DAYS[2:]


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeServer]:
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, "BTCUSDT", DAYS)
    with ExchangeServer(root, datetime.combine(TODAY, time(12, 2, 30))) as running:
        yield running


def set_environment(patch: pytest.MonkeyPatch, server: ExchangeServer) -> None:
    """The exchange at noon of the 17th, with archive files until the 15th."""
    server.forget_all()
    server.hide(str(YESTERDAY), str(TODAY))
    as_if_yesterday_were(patch, YESTERDAY)
    of_the_exchange(patch, server)


@pytest.fixture(scope="module")
def begun(_server: ExchangeServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with the days until yesterday, and what its run said on stderr."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        set_environment(patch, _server)
        said = done("run", "BTCUSDT", "--start", DAYS[0], "--end", YESTERDAY, "--home", home).stderr
    return home, said


@pytest.fixture
def home(begun: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that home."""
    return Path(shutil.copytree(begun[0], tmp_path / "home"))


@pytest.fixture
def server(_server: ExchangeServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeServer:
    set_environment(monkeypatch, _server)
    return _server


def tick(settings: Settings, name: str, at: datetime) -> dg.RunRequest:
    repository = build_defs(settings).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at, repository_def=repository)
        (request,) = repository.get_schedule_def(name).evaluate_tick(context).run_requests or ()
    return request


def ask(home: Path, query: str) -> list[Any]:
    with duckdb.connect(str(home / "heatmap.duckdb"), read_only=True) as con:
        return con.execute(query).fetchall()


@pytest.mark.usefixtures("light_commands")  # the run of `begun` is one of Dagster
def test_real_data_of_the_exchange_become_a_published_map_that_refresh_keeps_current(
    server: ExchangeServer, begun: tuple[Path, str], home: Path
) -> None:
    assert "BTCUSDT download: 6 of 6 files" in begun[1]
    days = "SELECT day, provisional FROM heatmap_days ORDER BY day"
    assert ask(home, days) == [(day, False) for day in DAYS[:3]]
    assert ask(home, "SELECT source, simulated FROM symbols") == [("binance", False)]
    done("refresh", "BTCUSDT", "--home", home)
    assert ask(home, days) == [*((day, False) for day in DAYS[:3]), (TODAY, True)]
    assert ask(home, f"SELECT max(open_time) FROM raw_candles WHERE day = '{TODAY}'") == [
        (datetime.combine(TODAY, time(11, 55)),)  # the candle of 12:00 is not finished
    ]
    assert "provisional" in done("status", "--home", home).stdout


@pytest.mark.usefixtures("light_commands")
def test_the_archive_replaces_what_came_over_rest_once(server: ExchangeServer, home: Path) -> None:
    settings = load_settings(home=home, symbols=("BTCUSDT",))
    assert due_days(settings, ["BTCUSDT"], YESTERDAY) == {"BTCUSDT": (YESTERDAY, YESTERDAY)}
    rest = "SELECT json_extract_string(facts, '$.via') FROM raw_days ORDER BY day, kind"
    assert ask(home, rest) == [("archive",)] * 4 + [("rest",)] * 2
    server.hidden.clear()
    server.hide(str(TODAY))
    done("run", "BTCUSDT", "--start", YESTERDAY, "--end", YESTERDAY, "--home", home)
    assert ask(home, rest) == [("archive",)] * 6
    assert due_days(settings, ["BTCUSDT"], YESTERDAY) == {}


def test_an_exchange_that_is_down_is_named_and_leaves_what_is_published(
    server: ExchangeServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (home / "heatmap.duckdb").read_bytes()
    monkeypatch.setenv("HEATMAP_REST_URL", "ftp://nowhere")
    failed = heatmap("run", "BTCUSDT", "--start", DAYS[2], "--end", YESTERDAY, "--home", home)
    assert failed.exit_code == 2
    assert "HEATMAP_REST_URL" in failed.stderr.splitlines()[-1]
    assert (home / "heatmap.duckdb").read_bytes() == before


def test_after_downtime_one_run_asks_for_everything_missing(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, source="demo", symbols=("BTCUSDT",), start=date(2024, 3, 1))
    first = tick(settings, DAILY, datetime(2024, 3, 3, 0, 20, tzinfo=UTC))
    assert first.tags["dagster/asset_partition_range_start"] == "2024-03-01"
    assert first.tags["dagster/asset_partition_range_end"] == "2024-03-02"


def test_the_intraday_schedule_is_there_for_the_exchange_only_and_off_until_it_is_wanted(
    server: ExchangeServer, tmp_path: Path
) -> None:
    demo = build_defs(load_settings(home=tmp_path, source="demo")).get_repository_def()
    assert not demo.has_schedule_def(INTRADAY)
    plain = load_settings(home=tmp_path, source="binance")
    schedule = build_defs(plain).get_repository_def().get_schedule_def(INTRADAY)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    wanted = load_settings(home=tmp_path, source="binance", intraday_minutes=5)
    schedule = build_defs(wanted).get_repository_def().get_schedule_def(INTRADAY)
    assert (schedule.default_status, schedule.cron_schedule) == (dg.DefaultScheduleStatus.RUNNING, "*/5 * * * *")
    now = datetime.combine(last_due(wanted), time(9, 5), UTC)
    request = tick(wanted, INTRADAY, now)
    assert request.partition_key == now.date().isoformat()
    assert tick(wanted, INTRADAY, now + timedelta(minutes=5)).run_key != request.run_key
