"""The warehouse as the ops are given it: closed and unlocked whatever happens, and no other file than the one named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from heatmap_pipeline.chain.calendar import yesterday
from heatmap_pipeline.orchestration.assets.common import failing_clearly
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.store.days import record_failure
from heatmap_pipeline.store.read import failed_days
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError


def resource(home: Path, name: str = "heatmap.duckdb", **settings: str) -> WarehouseResource:
    return WarehouseResource(database=str(home / name), connection_config=settings, lock_timeout=0.2)


def test_a_failure_leaves_neither_connection_nor_lock(tmp_path: Path) -> None:
    leaked: list[Connection] = []

    def fail() -> None:
        with resource(tmp_path).get_connection("BTCUSDT") as con:
            leaked.append(con)
            con.begin()
            con.execute("INSERT INTO ended_symbols VALUES ('BTCUSDT', '2024-01-01', 'told')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(duckdb.ConnectionException):
        leaked[0].execute("SELECT 1")
    with resource(tmp_path).get_connection("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM ended_symbols").fetchall() == [(0,)]
    assert not (tmp_path / "warehouse" / "BTCUSDT.lock.holder").exists()


def test_its_settings_reach_the_connection(tmp_path: Path) -> None:
    with resource(tmp_path, threads="1").get_connection("BTCUSDT") as con:
        assert con.execute("SELECT current_setting('threads')").fetchall() == [(1,)]


def test_a_success_forgets_that_days_failed_which_have_not_begun(tmp_path: Path) -> None:
    """As of a clock that was ahead, also where no command runs the days but the UI."""
    days = [yesterday(), yesterday() + timedelta(days=400)]
    warehouse = resource(tmp_path)
    with warehouse.get_connection("BTCUSDT") as con:
        for day in days:
            record_failure(con, "BTCUSDT", "raw_candles", day, "has not begun")
    earlier = days[0] - timedelta(days=1)
    with failing_clearly(warehouse, "BTCUSDT", "raw_candles", [earlier]) as track:
        track.done(earlier)
    with warehouse.get_connection("BTCUSDT") as con:
        assert [day for _, day, _ in failed_days(con, "BTCUSDT")] == days[:1]


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"other.duckdb is not the published database of a home; .* its heatmap"):
        _ = resource(tmp_path, "other.duckdb").warehouse
    assert list(tmp_path.iterdir()) == []
