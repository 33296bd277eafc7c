"""Making a database one that version 1, 3, 4 or 5 of this program has left: its schema, and days by its rules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from heatmap_pipeline.store.schema import schema_text, symbol_tables
from heatmap_pipeline.store.warehouse import STORAGE_VERSION, Warehouse

_COLUMNS_SINCE = {"book_ledger": ("liquidated_at_once", "rescaled"), "symbols": ("quote",)}
_COLUMNS_SINCE_4 = {
    "symbols": ("exchange", "native_symbol", "base", "margin", "contract_size", "lot", "oi_sides", "clock_rule")
}
_TABLES_SINCE = ("ended_symbols", "coarse_days")
_TABLES_SINCE_3 = ("lot_days",)
_VIEWS_SINCE = ("buckets",)
_VIEWS_SINCE_3 = ("located_shares", "leverage_mix", "model_parameters", "band_lives", "zone_hits", "daily_zones")
_STATE_THEN = ("open_interest", "unlocated", "sample_time", "sample_contracts")
_RULES_THEN = {
    "delta": {"dust": 0.01, "nets": False, "opens": "candle", "starts_with": "nothing", "turnover": 0.0},
    "turnover": {"dust": 1000.0, "nets": True, "opens": "both", "starts_with": "open_interest", "turnover": 0.05},
}
_SAME_THEN = (
    *("model", "books", "formula", "price_tick", "dust_rule", "bucket", "candle_interval_seconds"),
    *("maintenance_margin_rate", "max_leverage", "leverage_weights"),
)


@contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for one transaction: some hundred statements, each of which else would go to the disk."""
    with duckdb.connect(str(path), config={"threads": "1"}) as con:
        con.begin()
        yield con
        con.commit()


def become_version_5(path: Path) -> None:
    """Take away what version 5 did not have: a view."""
    with _opened(path) as con:
        _be_5(con)


def become_version_4(path: Path) -> None:
    """Take away what version 4 did not have: what a market is besides its name."""
    with _opened(path) as con:
        _be_4(con)


def become_version_3(path: Path) -> None:
    """Take away what version 3 did not have: views, columns of views, and what most columns hold."""
    with _opened(path) as con:
        _be_3(con)


def become_version_1(path: Path) -> None:
    """Take away what version 1 did not have, and say of every computed day that it was made by its rules."""
    with _opened(path) as con:
        _be_1(con)


def _be_5(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("DROP VIEW heatmap_by_base")
    con.execute("UPDATE schema_version SET version = 5")


def _be_4(con: duckdb.DuckDBPyConnection) -> None:
    _be_5(con)
    _drop_columns(con, _COLUMNS_SINCE_4)
    con.execute("UPDATE schema_version SET version = 4")


def _drop_columns(con: duckdb.DuckDBPyConnection, columns_since: Mapping[str, Sequence[str]]) -> None:
    for table, columns in columns_since.items():
        for column in columns:
            con.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def _be_3(con: duckdb.DuckDBPyConnection) -> None:
    _be_4(con)
    for view in _VIEWS_SINCE_3:
        con.execute(f"DROP VIEW {view}")
    for table in _TABLES_SINCE_3:
        con.execute(f"DROP TABLE {table}")
    for view in ("heatmap", "liquidation_map"):
        con.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT 1 AS symbol")
    columns = con.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NOT NULL"
    ).fetchall()
    for table, column in columns:
        con.execute(f'COMMENT ON COLUMN {table}."{column}" IS NULL')
    con.execute("UPDATE schema_version SET version = 3")


def _be_1(con: duckdb.DuckDBPyConnection) -> None:
    _be_3(con)
    _drop_columns(con, _COLUMNS_SINCE)
    for table in _TABLES_SINCE:
        con.execute(f"DROP TABLE {table}")
    for view in _VIEWS_SINCE:
        con.execute(f"DROP VIEW {view}")
    con.execute("UPDATE schema_version SET version = 1")
    days = con.execute("SELECT symbol, model, day, parameters, state FROM heatmap_days").fetchall()
    for symbol, model, day, parameters, state in days:
        now = json.loads(parameters)
        then = {name: now[name] for name in _SAME_THEN} | {"unlevered": 0.0} | _RULES_THEN[model]
        left = json.loads(state)
        left["carried"] = {name: left["carried"][name] for name in _STATE_THEN if name in left["carried"]}
        con.execute(
            "UPDATE heatmap_days SET parameters = ?, state = ? WHERE symbol = ? AND model = ? AND day = ?",
            [json.dumps(then, sort_keys=True), json.dumps(left, sort_keys=True), symbol, model, day],
        )


def become_one_file(home: Path) -> Path:
    """Make a home one of before each symbol had a private file of its own; return the one it has."""
    warehouse = Warehouse(home)
    symbols = warehouse.symbols()
    with duckdb.connect(str(warehouse.former), config={"storage_compatibility_version": STORAGE_VERSION}) as con:
        con.execute(schema_text())
        for symbol in symbols:
            con.execute(f"ATTACH '{warehouse.path(symbol)}' AS own (READ_ONLY)")
            for table in symbol_tables():
                con.execute(f"INSERT INTO {table.name} FROM own.main.{table.name}")
            con.execute("DETACH own")
    shutil.rmtree(warehouse.folder)
    return warehouse.former
