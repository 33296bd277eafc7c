"""When data are fresh, stale or broken, and what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.api.health import health
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import Version, published_version
from heatmap_pipeline_tests.api.homes import BTC, TestClient, day

AFTER = datetime(2024, 1, 8, tzinfo=UTC).timestamp()
"""The end of day 5, the newest."""

HOURS_36 = Settings(api_stale_hours=36)


@pytest.fixture
def version(published: Settings) -> Iterator[Version]:
    found = published_version(Warehouse(published.home), None, ("turnover", "delta"))
    yield found
    found.retire()


def changed(published: Settings, folder: Path, statement: str) -> Version:
    """Load the home after a change to its rows."""
    shutil.copytree(published.home / "warehouse", folder / "warehouse")
    warehouse = Warehouse(folder)
    for symbol in warehouse.symbols():
        with warehouse.connect(symbol) as con:
            con.execute(statement)
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    return published_version(warehouse, None, ("turnover", "delta"))


def of(body: dict[str, Any], symbol: str, model: str = "turnover") -> dict[str, Any]:
    (found,) = [one for one in body["symbols"] if (one["symbol"], one["model"]) == (symbol, model)]
    return dict(found)


def test_fresh(version: Version) -> None:
    status, body = health(version, "", HOURS_36, AFTER + 35.9 * 3600)
    assert (status, body["status"]) == (200, "ok")
    assert (body["newest_day"], body["as_of"]) == (str(day(5)), "2024-01-08T00:00:00Z")
    assert body["age_seconds"] == int(35.9 * 3600)
    assert "reason" not in body
    assert of(body, BTC)["missing_days"] == []
    ether = of(body, "ETHUSDT")
    assert (ether["missing_days"], ether["broken_days"], ether["stale"]) == ([str(day(3))], [], False)


def test_too_old(version: Version) -> None:
    status, body = health(version, "", HOURS_36, AFTER + 36.1 * 3600)
    assert (status, body["status"]) == (503, "stale")
    assert f"BTCUSDT turnover: the newest complete day is {day(5)}, 36 h old, which is more than 36 h" in body["reason"]
    assert "run `heatmap refresh BTCUSDT`" in body["reason"], "the environment says all the rest"
    assert health(version, "", Settings(api_stale_hours=48), AFTER + 36.1 * 3600)[0] == 200


def test_the_commands_are_for_the_home_and_the_source_that_are_served(
    version: Version, published: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_SOURCE", "binance")
    served = Settings(home=published.home, api_stale_hours=36)
    _, body = health(version, "", served, AFTER + 36.1 * 3600)
    for symbol in (BTC, "ETHUSDT"):
        line = f"heatmap refresh {symbol} --source demo --home {published.home}"
        assert f"run `{line}`" in of(body, symbol)["reason"]
    assert (
        f"`heatmap demo --home {published.home}` or `heatmap run SYMBOL --start DAY --end DAY --home {published.home}`"
        in (health(None, "", served)[1]["reason"])
    )


def test_a_clock_before_the_data_makes_nothing_negative(version: Version) -> None:
    assert health(version, "", HOURS_36, AFTER - 10_000)[1]["age_seconds"] == 0


def test_an_older_version_is_served(version: Version) -> None:
    status, body = health(version, "the file is damaged", HOURS_36, AFTER)
    assert (status, body["status"], body["reason"]) == (503, "stale", "an older version is served: the file is damaged")


def test_nothing() -> None:
    assert health(None, "", HOURS_36)[1]["status"] == "empty"
    assert health(None, "it is damaged", HOURS_36)[1]["reason"] == "it is damaged"


def test_a_day_going_on_does_not_count_as_complete(published: Settings, tmp_path: Path) -> None:
    version = changed(published, tmp_path, f"UPDATE heatmap_days SET provisional = true WHERE day = DATE '{day(5)}'")
    status, body = health(version, "", HOURS_36, AFTER)
    assert (status, body["newest_day"], body["age_seconds"]) == (200, str(day(4)), 86400)
    assert of(body, BTC)["provisional"]
    assert health(version, "", HOURS_36, AFTER + 12.1 * 3600)[0] == 503
    version.retire()


def test_a_chain_that_does_not_hold(published: Settings, tmp_path: Path) -> None:
    version = changed(
        published,
        tmp_path,
        f"UPDATE heatmap_days SET state_hash = 'other' WHERE day = DATE '{day(2)}' AND model = 'delta' "
        "AND symbol = 'BTCUSDT'",
    )
    status, body = health(version, "", HOURS_36, AFTER)
    assert status == 503
    assert of(body, BTC, "delta")["broken_days"] == [str(day(3))]
    assert f"BTCUSDT delta: {day(3)} does not follow from the day before it" in body["reason"]
    assert "`heatmap status` names the command" in body["reason"]
    assert of(body, BTC)["stale"] is False
    version.retire()


def test_the_route_says_the_same(served: TestClient) -> None:
    answer = served.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "stale"
    assert datetime.now(UTC) - timedelta(seconds=answer.json()["age_seconds"]) - datetime(
        2024, 1, 8, tzinfo=UTC
    ) < timedelta(minutes=5)


def test_a_page_may_ask_without_a_status_that_its_browser_reports(served: TestClient) -> None:
    quiet = served.get("/health", params={"always_ok": "true"})
    assert (quiet.status_code, quiet.json()["status"]) == (200, "stale")
    assert served.get("/health", params={"always_ok": "false"}).status_code == 503
    assert "always_ok" in served.get("/health", params={"always_ok": "maybe"}).json()["detail"]
    assert "is no parameter" in served.get("/health", params={"quiet": 1}).json()["detail"]
