"""Databases of another schema version: refused in words, with what rebuilds them, and in nobody's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.chain.commands import rebuild_commands
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.read import first_published_day, published_histories
from heatmap_pipeline.store.warehouse import SCHEMA_VERSION, StoreError, UnusableError, Warehouse
from heatmap_pipeline_tests._homes import heatmap, refused
from heatmap_pipeline_tests.store.tiny import DAYS, dump, fill

OLDER, NEWER = SCHEMA_VERSION - 1, SCHEMA_VERSION + 1


def become(path: Path, version: int) -> None:
    """Make a database one of another version: a column is missing, or there is one more."""
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE schema_version SET version = ?", [version])
        change = "DROP COLUMN repairs" if version < SCHEMA_VERSION else "ADD COLUMN more INTEGER"
        con.execute(f"ALTER TABLE heatmap_days {change}")


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute("SELECT symbol, count(*) FROM heatmap_days GROUP BY ALL ORDER BY ALL").fetchall()


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_a_warehouse_of_another_version_is_refused_with_the_line_that_rebuilds_it(
    warehouse: Warehouse, version: int
) -> None:
    publish(warehouse, ["BTCUSDT"])
    become(warehouse.path, version)
    before = warehouse.path.read_bytes(), warehouse.published.read_bytes()
    for words in (["status"], ["refresh", "BTCUSDT"], ["run", "BTCUSDT", "--start", DAYS[0], "--end", DAYS[2]]):
        line = refused(
            heatmap(*words, "--home", warehouse.home),
            1,
            f"{warehouse.path} has schema version {version}, this program needs {SCHEMA_VERSION}",
            f"mv {warehouse.path}* {warehouse.home / 'damaged'}",
            f"heatmap run BTCUSDT --start {DAYS[0]} --end {DAYS[2]}",
        )
        assert "use the program that made it, or rebuild it" in line
    with pytest.raises(UnusableError, match=f"schema version {version}"), warehouse.connect():
        pass
    assert (warehouse.path.read_bytes(), warehouse.published.read_bytes()) == before


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_both_files_of_another_version_are_known_well_enough_to_name_the_days(
    warehouse: Warehouse, version: int
) -> None:
    publish(warehouse, ["BTCUSDT"])
    for path in (warehouse.path, warehouse.published):
        become(path, version)
    command = f"heatmap run BTCUSDT --start {DAYS[0]} --end {DAYS[2]}"
    refused(heatmap("status", "--home", warehouse.home), 1, f"schema version {version}", command)
    with pytest.raises(UnusableError, match=rf"heatmap\.duckdb has schema version {version}"), warehouse.read():
        pass
    assert published_histories(warehouse) is None
    assert first_published_day(warehouse) is None
    # What is too different to be read names no days, and is no traceback.
    with duckdb.connect(str(warehouse.published)) as con:
        con.execute("DROP TABLE symbols CASCADE")
    assert rebuild_commands(load_settings(home=warehouse.home)) == []
    refused(heatmap("status", "--home", warehouse.home), 1, f"schema version {version}", "move it away")


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_a_published_file_of_another_version_blocks_nothing_and_nothing_of_it_is_lost(
    warehouse: Warehouse, version: int
) -> None:
    with warehouse.connect() as con:
        fill(con, "ETHUSDT", seed=5)
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    become(warehouse.published, version)
    old = warehouse.published.read_bytes()
    report = publish(warehouse, ["BTCUSDT"])
    assert (report.changed, report.published, report.kept) == (True, ("BTCUSDT",), ())
    assert rows_of(warehouse.published) == [("BTCUSDT", 6)], "rows of another version are not mixed in"
    aside = warehouse.home / f"heatmap.schema-{version}.duckdb"
    assert aside.read_bytes() == old
    publish(warehouse, ["ETHUSDT"])
    with warehouse.read() as con, warehouse.connect() as private:
        assert dump(con) == dump(private)
    assert aside.read_bytes() == old, "it is kept, once"
    assert sorted(path.name for path in warehouse.home.glob("*.duckdb")) == [
        "heatmap.duckdb", aside.name, "warehouse.duckdb"
    ]  # fmt: skip


def test_a_published_file_that_is_not_ours_is_refused_and_stays(warehouse: Warehouse) -> None:
    with duckdb.connect(str(warehouse.published)) as con:
        con.execute("CREATE TABLE mine (a INTEGER)")
    before = warehouse.published.read_bytes()
    with pytest.raises(StoreError, match=r"heatmap\.duckdb holds no tables of this program; move it away"):
        publish(warehouse, ["BTCUSDT"])
    assert warehouse.published.read_bytes() == before
    with pytest.raises(StoreError, match=r"heatmap\.duckdb holds no tables of this program"), warehouse.read():
        pass
