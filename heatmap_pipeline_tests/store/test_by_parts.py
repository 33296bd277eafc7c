"""A large home's publication: views over parts that show what real tables would, and nobody is left without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store.parts import by_month
from heatmap_pipeline.store.publish import PublishReport, publish
from heatmap_pipeline.store.schema import comments, symbol_tables
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.store.tiny import DAYS, change

BOTH = ("BTCUSDT", "ETHUSDT")
ALWAYS, NEVER = 0, 1e12


def generations(warehouse: Warehouse) -> list[Path]:
    """Return the folders of parts, the newest last."""
    found = [path for path in (warehouse.home / "parts").glob("*") if path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def views(warehouse: Warehouse) -> set[str]:
    """Return which tables are views."""
    with duckdb.connect(str(warehouse.published), read_only=True) as con:
        found = {name for (name,) in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    return found & {table.name for table in symbol_tables()}


def assert_same(one: Warehouse, other: Warehouse) -> None:
    """Hold every table of two publications against each other: rows, how many of each, types, what is said of them."""
    with duckdb.connect() as con:
        for name, warehouse in (("one", one), ("other", other)):
            con.execute(f"ATTACH '{warehouse.published}' AS {name} (READ_ONLY)")
        for table in symbol_tables():
            shapes = []
            for name in ("one", "other"):
                con.execute(f"USE {name}")
                shapes.append([row[:2] for row in con.execute(f"DESCRIBE {table.name}").fetchall()])
                con.execute(f"CREATE OR REPLACE TEMP TABLE {name}_rows AS FROM {table.name}")
            assert shapes[0] == shapes[1]
            for left, right in (("one", "other"), ("other", "one")):
                query = f"FROM temp.{left}_rows EXCEPT ALL FROM temp.{right}_rows"
                assert con.execute(query).fetchall() == [], f"{table.name}: {left} has other rows"
        for name in ("one", "other"):
            said = con.execute(
                "SELECT coalesce(table_name, ''), '', comment FROM duckdb_tables() WHERE database_name = $1 UNION ALL "
                "SELECT view_name, '', comment FROM duckdb_views() WHERE database_name = $1 AND NOT internal UNION ALL "
                "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = $1",
                [name],
            ).fetchall()
            words = {(of, column): text for of, column, text in said if text is not None}
            assert words == {key: text for key, text in comments().items() if text}


class Twins:
    """A home in tables and the same home in views, to which the same things happen."""

    def __init__(self, tables: Warehouse) -> None:
        self.tables = tables
        home = tables.home.with_name("views")
        shutil.copytree(tables.home, home)
        self.views = Warehouse(home, lock_timeout=20)

    def change(self, symbol: str, day: Any, value: int) -> None:
        for warehouse in (self.tables, self.views):
            with warehouse.connect(symbol) as con:
                change(con, symbol, day, value)

    def publish(self, *symbols: str) -> tuple[PublishReport, PublishReport]:
        reports = publish(self.tables, symbols), publish(self.views, symbols, tables_up_to=ALWAYS)
        assert_same(self.tables, self.views)
        return reports


@pytest.fixture
def twins(three: Warehouse) -> Twins:
    return Twins(three)


def test_views_show_what_tables_do(twins: Twins) -> None:
    first = twins.publish(*BOTH)
    assert [report.whole for report in first] == [True, True]
    assert views(twins.views) == {t.name for t in symbol_tables(private=False) if by_month(t)} - {
        "coarse_days",
        "score_hours",
        "score_days",
    }
    twins.change("ETHUSDT", DAYS[1], 7)
    twins.change("BTCUSDT", DAYS[1], 7)
    _, by_parts = twins.publish("BTCUSDT")
    assert (by_parts.changed, by_parts.published, by_parts.kept) == (True, ("BTCUSDT",), ("ETHUSDT",))
    assert not by_parts.whole
    twins.publish("BTCUSDT", "SOLUSDT")
    assert len(generations(twins.views)) == 2
