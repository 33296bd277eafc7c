"""The exchange's REST is closed to this place, its archive is not: what it has is published, and that is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.schedules import AGAIN_AT, DAILY
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import (
    as_if_yesterday_were,
    clean_environment,
    done,
    heatmap,
    last_line,
)
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, of_the_exchange
from heatmap_pipeline_tests.orchestration.light import light_runs

pytestmark = pytest.mark.usefixtures("light_commands")

TODAY = datetime.now(UTC).date()
"""REST being closed, nothing but this machine's clock says what day it is."""
DAYS = [date.fromordinal(TODAY.toordinal() - ago) for ago in (6, 5, 4, 3, 2, 1)]

BODIES = {
    451: b'{"code":0,"msg":"Service unavailable from a restricted location."}',
    403: b"<html><title>ERROR: The request could not be satisfied</title></html>",
}


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeServer]:
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, BTC, [*DAYS, TODAY])
    with ExchangeServer(root, datetime.now(UTC).replace(tzinfo=None)) as running:
        yield running


def set_environment(patch: pytest.MonkeyPatch, server: ExchangeServer) -> None:
    """The exchange now, its archive without the file of yesterday."""
    server.forget_all()
    server.hide(str(DAYS[-1]), str(TODAY))
    as_if_yesterday_were(patch, DAYS[-1])
    of_the_exchange(patch, server, SYMBOLS=BTC)


@pytest.fixture(scope="module")
def begun(_server: ExchangeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the first two days, which came from the archive. Nobody changes it; `home` is a copy."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with pytest.MonkeyPatch.context() as patch, light_runs():
        clean_environment(patch)
        set_environment(patch, _server)
        done("run", BTC, "--start", DAYS[0], "--end", DAYS[1], "--home", home)
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "home"))


@pytest.fixture
def server(_server: ExchangeServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeServer:
    set_environment(monkeypatch, _server)
    return _server


def tick(settings: Settings, hour: int) -> Any:
    """Return what the daily schedule asks for at an hour of today."""
    repository = build_defs(settings).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime.combine(TODAY, time(hour, 20), UTC),
            repository_def=repository,
        )
        return repository.get_schedule_def(DAILY).evaluate_tick(context)


def test_refresh_publishes_what_the_archive_has_and_says_why_nothing_newer(server: ExchangeServer, home: Path) -> None:
    for part in ("/fapi/", "/futures/data/"):
        server.fault(part, Fault(status=451, body=BODIES[451]), always=True)
    settings = load_settings(home=home)
    closed = f"nothing after {DAYS[-2]} yet: Binance's REST at {server.url.removeprefix('http://')} is closed"
    for _ in range(2):
        said = done("refresh", "--home", home).stdout
        assert closed in said
        assert "HEATMAP_REST_URL" in said
        assert "nine hours after midnight" in said
        assert ask(settings, "SELECT max(day) FROM heatmap_days", published=True) == [(DAYS[-2],)]
    assert f"{BTC}: up to date" in said
    lines = done("status", "--home", home).stdout.splitlines()
    assert sum("is closed to the place this runs at" in line for line in lines) == 1
    assert lines[-1] == "nothing is failed, stale or missing"
    for hour in (0, AGAIN_AT[0]):
        ticked = tick(settings, hour)
        assert not ticked.run_requests
        assert "is closed to the place" in (ticked.skip_message or "")
    server.hidden.remove(str(DAYS[-1]))
    asked = [request.partition_key for request in tick(settings, AGAIN_AT[1]).run_requests]
    assert asked == [str(DAYS[-1])], "on the day on which the archive has it"
    done("refresh", "--home", home)
    assert ask(settings, "SELECT max(day) FROM heatmap_days", published=True) == [(DAYS[-1],)]


@pytest.mark.parametrize("status", [451, 403])
def test_a_run_that_asks_for_more_publishes_the_finished_days_and_fails(
    server: ExchangeServer, tmp_path: Path, status: int
) -> None:
    server.fault("/fapi/", Fault(status=status, body=BODIES[status]), always=True)
    failed = heatmap("run", BTC, "--start", DAYS[0], "--end", DAYS[-1], "--home", tmp_path / "home")
    last_line(failed.stderr, 1, DAYS[-1], "closed to the place", "HEATMAP_REST_URL")
    assert f"{BTC}: {DAYS[0]} .. {DAYS[-2]} computed and published" in failed.stdout


def test_when_it_is_open_again_nothing_is_said_of_it(server: ExchangeServer, home: Path) -> None:
    server.fault("/fapi/v1/time", Fault(status=451, body=BODIES[451]))
    assert "is closed to the place" in done("refresh", "--home", home).stdout
    assert "is closed to the place" not in done("refresh", "--home", home).stdout
    assert "closed" not in done("status", "--home", home).stdout


def test_a_ban_is_waited_for_and_not_asked_during(server: ExchangeServer, home: Path) -> None:
    """What the archive has is published meanwhile."""
    server.fault("/fapi/", Fault(status=418, headers={"Retry-After": "7200"}), always=True)
    server.asked.clear()
    for _ in range(2):
        said = done("refresh", "--home", home).stdout
        assert f"nothing after {DAYS[-2]} yet: Binance's REST" in said
        assert "has banned this address" in said
        assert len(server.paths("/fapi/")) == 1, "by the first command only"
    assert ask(load_settings(home=home), "SELECT max(day) FROM heatmap_days", published=True) == [(DAYS[-2],)]
    lines = done("status", "--home", home).stdout.splitlines()
    assert sum("has banned this address" in line for line in lines) == 1
