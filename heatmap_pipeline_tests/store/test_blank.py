"""New database files: with everything of schema.sql, equal whoever makes them, whole or not there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import blank
from heatmap_pipeline.store.schema import schema_text
from heatmap_pipeline.store.sql import Connection, transaction
from heatmap_pipeline.store.warehouse import STORAGE_VERSION, StoreError, Warehouse
from heatmap_pipeline_tests._forked import die, ended

EVERYTHING = """
SELECT 'table', table_name, sql, comment FROM duckdb_tables() WHERE database_name = current_database()
UNION ALL SELECT 'view', view_name, sql, comment FROM duckdb_views() WHERE database_name = current_database()
    AND NOT internal
UNION ALL SELECT 'column of ' || table_name, column_name, data_type, comment FROM duckdb_columns()
    WHERE database_name = current_database() AND NOT internal
UNION ALL SELECT 'version', version::VARCHAR, '', '' FROM schema_version
ORDER BY ALL
"""


@pytest.fixture(autouse=True)
def _made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blank, "_made", [])


def everything(con: Connection) -> list[tuple[Any, ...]]:
    return con.execute(EVERYTHING).fetchall()


def test_the_first_file_and_each_copy_have_everything_that_schema_sql_makes(tmp_path: Path) -> None:
    made = tmp_path / "made.duckdb"
    with duckdb.connect(str(made), config={"storage_compatibility_version": STORAGE_VERSION}) as con:
        con.execute(schema_text())
    with duckdb.connect(str(made)) as con:  # the texts of views are those that are stored
        right = everything(con)
    assert len(right) > 300
    warehouse = Warehouse(tmp_path)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        with warehouse.connect(symbol) as con:
            assert everything(con) == right
    with warehouse.nothing() as con:
        tables = [row for row in everything(con) if row[0] == "table"]
        assert [row[:3] for row in tables] == [row[:3] for row in right if row[0] == "table"]
    assert not [path for path in warehouse.folder.iterdir() if path.suffix not in (".duckdb", ".lock")]


def test_rows_of_one_file_are_in_no_other(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        with warehouse.connect(symbol) as con, transaction(con):
            assert con.execute("SELECT count(*) FROM symbols").fetchall() == [(0,)]
            con.execute(
                "INSERT INTO failed_days BY NAME SELECT ? AS symbol, 'raw' AS stage, DATE '2024-01-01' AS day, "
                "'' AS message, now()::TIMESTAMP AS failed_at",
                [symbol],
            )
    for symbol in ("BTCUSDT", "ETHUSDT"):
        with warehouse.connect(symbol) as con:
            assert con.execute("SELECT symbol FROM failed_days").fetchall() == [(symbol,)]


def test_the_log_of_a_file_that_is_gone_does_not_come_into_the_new_one(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    path = warehouse.path("BTCUSDT")
    log = path.with_name(f"{path.name}.wal")

    def write_and_die() -> None:
        with warehouse.connect("BTCUSDT") as con:
            con.execute("CREATE TABLE mine AS SELECT 1 AS a")
            die()

    assert ended(write_and_die) < 0
    assert log.stat().st_size > 0
    path.unlink()
    with warehouse.connect("BTCUSDT") as con:
        assert not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'mine'").fetchall()


@pytest.mark.parametrize("first", [True, False])
def test_a_process_killed_meanwhile_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    warehouse = Warehouse(tmp_path)
    if not first:
        with warehouse.connect("ETHUSDT"):
            pass

    def begin_and_die() -> None:
        monkeypatch.setattr(blank, "sync", lambda _: die())
        with warehouse.connect("BTCUSDT"):
            pass

    assert ended(begin_and_die) < 0
    assert not warehouse.path("BTCUSDT").exists()
    (left,) = warehouse.folder.glob(".BTCUSDT.*.tmp")
    assert warehouse.symbols() == ([] if first else ["ETHUSDT"])
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    with warehouse.connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM symbols").fetchall() == [(0,)]
    assert not left.exists()


def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blank, "sync", full)
    warehouse = Warehouse(tmp_path)
    with pytest.raises(StoreError, match="disk"), warehouse.connect("BTCUSDT"):
        pass
    assert not list(warehouse.folder.glob("*.duckdb*"))
