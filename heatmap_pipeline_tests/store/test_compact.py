"""A database of which much was taken away gives the room back; what it holds stays, row for row."""

from __future__ import annotations

import errno
import signal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import compact as room
from heatmap_pipeline.store.compact import compact, has_room
from heatmap_pipeline.store.forget import forget_symbol
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.test_migration import schema_of
from heatmap_pipeline_tests.store.tiny import digest_but_times

MUCH = """
INSERT INTO failed_days
SELECT 'X', 'x', DATE '2024-01-01', md5(n::VARCHAR) || md5((-n)::VARCHAR), TIMESTAMP '2024-01-01'
FROM range(200000) AS r(n)
"""


@pytest.fixture
def roomy(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A database from which far more was deleted than it holds, in front of what was stored again since."""
    monkeypatch.setattr(room, "MINIMUM", 1_000_000)
    with warehouse.connect("BTCUSDT") as con:
        for statement in (
            MUCH,
            "UPDATE raw_candles SET volume = volume * 2",
            "DELETE FROM failed_days WHERE symbol = 'X'",
        ):
            con.execute(statement)
            con.execute("CHECKPOINT")
    return warehouse


def test_a_publication_gives_the_room_back_and_keeps_every_row(roomy: Warehouse) -> None:
    before, schema = roomy.path("BTCUSDT").stat().st_size, schema_of(roomy.path("BTCUSDT"))
    with roomy.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
        assert has_room(con)
    publish(roomy, ["BTCUSDT"])
    assert roomy.path("BTCUSDT").stat().st_size < before / 2
    assert roomy.published.stat().st_size < before / 2
    with roomy.connect("BTCUSDT") as con:
        assert digest_but_times(con) == rows
        assert not has_room(con)
    assert schema_of(roomy.path("BTCUSDT")) == schema
    left = {path.relative_to(roomy.home).as_posix() for path in roomy.home.rglob("*") if path.is_file()}
    locks = {"heatmap.lock", "warehouse/BTCUSDT.lock"}
    assert left == {"heatmap.duckdb", ".heatmap.published", "warehouse/BTCUSDT.duckdb", *locks}


def test_little_room_is_left_for_the_days_that_come(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT") as con:
        con.execute("DELETE FROM liquidation_snapshots")
        con.execute("CHECKPOINT")
        assert not has_room(con)


def test_what_duckdb_has_given_back_itself_is_no_room(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the file, where nothing lies behind it; opened again, DuckDB still counts those blocks."""
    monkeypatch.setattr(room, "MINIMUM", 1_000_000)
    before = warehouse.path("BTCUSDT").stat().st_size
    with warehouse.connect("BTCUSDT") as con:
        for statement in (MUCH, "DELETE FROM failed_days WHERE symbol = 'X'"):
            con.execute(statement)
            con.execute("CHECKPOINT")
    assert warehouse.path("BTCUSDT").stat().st_size == before
    with warehouse.connect("BTCUSDT") as con:
        assert con.execute("SELECT free_blocks > 4 FROM pragma_database_size()").fetchone() == (True,)
        assert not has_room(con)


def test_a_disk_without_room_for_both_leaves_it_as_it_is(roomy: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    before = roomy.path("BTCUSDT").read_bytes()

    def full(path: Path) -> None:
        raise StoreError(f"the disk that holds {path} is full")

    monkeypatch.setattr(room, "sync", full)
    with roomy.locked("BTCUSDT"):
        assert not compact(roomy, "BTCUSDT")
    assert roomy.path("BTCUSDT").read_bytes() == before
    assert not list(roomy.home.rglob(".*.compact*"))


def test_tables_of_somebody_else_are_not_lost(roomy: Warehouse) -> None:
    with duckdb.connect(str(roomy.path("BTCUSDT"))) as con:
        con.execute("CREATE TABLE notes AS SELECT 'mine' AS text")
    with roomy.locked("BTCUSDT"):
        assert not compact(roomy, "BTCUSDT")
    with duckdb.connect(str(roomy.path("BTCUSDT"))) as con:
        assert con.execute("FROM notes").fetchall() == [("mine",)]


@pytest.mark.parametrize(("step", "count"), [("_written_anew", 1), ("sync", 1), ("sync", 2)])
def test_a_kill_leaves_the_old_file_or_the_new_one(roomy: Warehouse, step: str, count: int) -> None:
    """After it was written, after it was on the disk, and after it had taken its place."""
    with roomy.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
    before = roomy.path("BTCUSDT").stat().st_size
    do, left = getattr(room, step), count

    def dying(*args: Any) -> Any:
        nonlocal left
        left -= 1
        done = do(*args)
        if not left:
            die()
        return done

    def publish_and_die() -> None:
        setattr(room, step, dying)
        publish(roomy, ["BTCUSDT"])

    assert ended(publish_and_die) == -signal.SIGKILL
    assert (roomy.path("BTCUSDT").stat().st_size < before) == (count == 2)
    with roomy.connect("BTCUSDT") as con:
        assert digest_but_times(con) == rows
    publish(roomy, ["BTCUSDT"])
    with roomy.connect("BTCUSDT") as con, roomy.read() as published:
        assert digest_but_times(con) == rows == digest_but_times(published)
    assert not list(roomy.home.rglob(".*.compact*"))


def test_what_a_kill_leaves_of_a_symbol_is_forgotten_with_it(roomy: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(partial(_publish_and_die, roomy, monkeypatch)) == -signal.SIGKILL
    assert list(roomy.folder.glob(".*.compact"))
    forget_symbol(roomy, "BTCUSDT")
    assert [path.name for path in roomy.folder.iterdir()] == ["BTCUSDT.lock"]


def _publish_and_die(roomy: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "sync", lambda _: die())
    publish(roomy, ["BTCUSDT"])


def test_the_folder_may_lie_on_another_disk_than_the_home(roomy: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with roomy.locked("BTCUSDT"):
        assert compact(roomy, "BTCUSDT")
