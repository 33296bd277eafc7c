"""Databases of another schema version: taken over where they can be, else refused in words and in nobody's way."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.api.health import health
from heatmap_pipeline.chain.commands import rebuild_commands
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store import migrate
from heatmap_pipeline.store import warehouse as module
from heatmap_pipeline.store.columns import served_symbols
from heatmap_pipeline.store.migrate import READABLE, SCHEMA_VERSION
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import SymbolRecord, get_symbol, put_symbol
from heatmap_pipeline.store.read import first_published_day, published_histories
from heatmap_pipeline.store.schema import column_types
from heatmap_pipeline.store.warehouse import StoreError, UnusableError, Warehouse
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.window import find_symbol
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests._homes import heatmap, refused
from heatmap_pipeline_tests.orchestration.light import run_lightly
from heatmap_pipeline_tests.store.earlier import become_version_1, become_version_3, become_version_4, become_version_5
from heatmap_pipeline_tests.store.tiny import DAYS, MODELS_USED, digest_but_times, dump, fill, forget_symbol

OLDER, NEWER = min(READABLE) - 1, SCHEMA_VERSION + 1


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
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    run_lightly(monkeypatch)
    publish(warehouse, ["BTCUSDT"])
    become(warehouse.path("BTCUSDT"), version)
    before = warehouse.path("BTCUSDT").read_bytes(), warehouse.published.read_bytes()
    for words in (["status"], ["refresh", "BTCUSDT"], ["run", "BTCUSDT", "--start", DAYS[0], "--end", DAYS[2]]):
        line = refused(
            heatmap(*words, "--home", warehouse.home),
            1,
            f"{warehouse.path('BTCUSDT')} has schema version {version}, this program needs {SCHEMA_VERSION}",
            f"mv {warehouse.path('BTCUSDT')}* {warehouse.home / 'damaged'}",
            f"heatmap run BTCUSDT --start {DAYS[0]} --end {DAYS[2]}",
        )
        assert "use the program that made it, or rebuild it" in line
    with pytest.raises(UnusableError, match=f"schema version {version}"), warehouse.connect("BTCUSDT"):
        pass
    assert (warehouse.path("BTCUSDT").read_bytes(), warehouse.published.read_bytes()) == before


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_both_files_of_another_version_are_known_well_enough_to_name_the_days(
    warehouse: Warehouse, version: int
) -> None:
    publish(warehouse, ["BTCUSDT"])
    for path in (warehouse.path("BTCUSDT"), warehouse.published):
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
    with warehouse.connect("ETHUSDT") as con:
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
    for symbol in ("BTCUSDT", "ETHUSDT"):
        with warehouse.read() as con, warehouse.connect(symbol) as private:
            assert digest_but_times(con, symbol) == digest_but_times(private)
    assert aside.read_bytes() == old, "it is kept, once"
    assert sorted(path.name for path in warehouse.home.glob("*.duckdb")) == [
        "heatmap.duckdb", aside.name
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


def schema_of(path: Path) -> list[tuple[Any, ...]]:
    """Return everything that a database says of its tables and views, comments included."""
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(
            "SELECT table_name AS name, sql, comment FROM duckdb_tables() UNION ALL "
            "SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal UNION ALL "
            "SELECT table_name || '.' || column_name, data_type || is_nullable || column_index, comment "
            "FROM duckdb_columns() WHERE NOT internal UNION ALL "
            "SELECT 'version', CAST(version AS VARCHAR), '' FROM schema_version ORDER BY ALL"
        ).fetchall()


def test_a_warehouse_of_version_1_becomes_one_of_today_in_its_place(warehouse: Warehouse) -> None:
    today = schema_of(warehouse.path("BTCUSDT"))
    with warehouse.connect("BTCUSDT") as con:
        rows = dump(con)
    become_version_1(warehouse.path("BTCUSDT"))
    assert schema_of(warehouse.path("BTCUSDT")) != today
    with warehouse.connect("BTCUSDT") as con:
        migrated = dump(con)
    assert schema_of(warehouse.path("BTCUSDT")) == today
    assert migrated.keys() == rows.keys()
    for name in rows.keys() - {"heatmap_days", "book_ledger"}:
        assert migrated[name] == rows[name], name
    at_once, rescaled = (
        [name for name, _ in column_types("book_ledger")].index(name) for name in ("liquidated_at_once", "rescaled")
    )
    assert {(row[at_once], row[rescaled]) for row in migrated["book_ledger"]} == {(0.0, 0.0)}
    keep = [n for n, _ in enumerate(column_types("book_ledger")) if n not in (at_once, rescaled)]

    def kept(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return sorted(tuple(str(row[n]) for n in keep) for row in rows)

    assert kept(migrated["book_ledger"]) == kept(rows["book_ledger"])


def test_a_warehouse_of_version_3_gets_the_views_and_what_its_columns_hold(warehouse: Warehouse) -> None:
    """Its rows are today's, so nothing is computed anew; what is published next says what its columns hold too."""
    publish(warehouse, ["BTCUSDT"])
    today = schema_of(warehouse.path("BTCUSDT"))
    with warehouse.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
    for path in (warehouse.path("BTCUSDT"), warehouse.published):
        become_version_3(path)
    with warehouse.read() as con:
        as_it_is = digest_but_times(con)
        assert {name: as_it_is[name] for name in as_it_is if name != "symbols"} == {
            name: rows[name] for name in rows if name not in ("symbols", "lot_days")
        }, "what version 3 published is read as it is"
    with warehouse.connect("BTCUSDT") as con:
        assert digest_but_times(con) == rows
        con.execute("UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 DAY")
    assert schema_of(warehouse.path("BTCUSDT")) == today
    assert publish(warehouse, ["BTCUSDT"]).changed
    assert schema_of(warehouse.published) == today


def test_a_warehouse_of_version_5_learns_whose_liquidations_are_a_market_s_own(warehouse: Warehouse) -> None:
    """Its view took every market for one of Binance."""
    today = schema_of(warehouse.path("BTCUSDT"))
    with warehouse.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
    with duckdb.connect(str(warehouse.path("BTCUSDT"))) as con:
        ((view,),) = con.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'liquidation_sources'").fetchall()
        then = view.replace("COALESCE(y.exchange, 'binance')", "'binance'").replace("CREATE", "CREATE OR REPLACE", 1)
        con.execute(then)
        con.execute("UPDATE schema_version SET version = 5")
    assert schema_of(warehouse.path("BTCUSDT")) != today
    assert then.count("y.exchange") == 0
    with warehouse.connect("BTCUSDT") as con:
        assert digest_but_times(con) == rows
    assert schema_of(warehouse.path("BTCUSDT")) == today


def test_a_home_of_version_4_says_of_its_markets_what_they_are(warehouse: Warehouse) -> None:
    """Every market then was one of Binance. No row is lost, nothing is computed anew, readers see it at once."""
    with warehouse.connect("1000SHIBUSDC") as con:
        fill(con, "1000SHIBUSDC", seed=5)
    with warehouse.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
        put_symbol(con, SymbolRecord("NOSUCH", 300, 1.0, "archive", simulated=False))
    publish(warehouse, ["BTCUSDT", "1000SHIBUSDC"])
    today = schema_of(warehouse.path("BTCUSDT"))
    for path in (warehouse.path("BTCUSDT"), warehouse.published):
        become_version_4(path)
    with warehouse.read() as con:
        shib, btc = (record for record, _ in served_symbols(con))
    assert (btc.exchange, btc.native_symbol, btc.base, btc.quote) == ("binance", "BTCUSDT", "", "USDT")
    assert (shib.contract_size, shib.lot, shib.oi_sides, shib.clock_rule) == (1.0, None, None, None)
    with warehouse.connect("BTCUSDT") as con:
        unknown = get_symbol(con, "NOSUCH")
        forget_symbol(con, "NOSUCH")
        assert digest_but_times(con) == rows
    assert unknown is not None
    assert (unknown.native_symbol, unknown.base, unknown.quote) == ("NOSUCH", "", "")
    assert schema_of(warehouse.path("BTCUSDT")) == today


def test_a_home_of_version_5_gets_the_map_of_a_base_as_a_view(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"])
    today = schema_of(warehouse.path("BTCUSDT"))
    with warehouse.connect("BTCUSDT") as con:
        rows = digest_but_times(con)
    for path in (warehouse.path("BTCUSDT"), warehouse.published):
        become_version_5(path)
    with warehouse.read() as con:
        assert [record.symbol for record, _ in served_symbols(con)] == ["BTCUSDT"], "readers see it as it is"
    with warehouse.connect("BTCUSDT") as con:
        assert digest_but_times(con) == rows
    assert schema_of(warehouse.path("BTCUSDT")) == today


@pytest.mark.parametrize("statement", [5, 40, -1])
def test_a_migration_that_is_killed_leaves_version_1(warehouse: Warehouse, statement: int) -> None:
    """Whatever it has done by then, after the kill the file is as it was, and the next opening does all of it."""
    today = schema_of(warehouse.path("BTCUSDT"))
    become_version_1(warehouse.path("BTCUSDT"))
    before = schema_of(warehouse.path("BTCUSDT"))
    real: Any = migrate.migrate

    class Killed:
        def __init__(self, con: Any) -> None:
            self.con, self.left = con, statement

        def __getattr__(self, name: str) -> Any:
            return getattr(self.con, name)

        def execute(self, *words: Any) -> Any:
            done = self.con.execute(*words)
            self.left -= 1
            if self.left == 0 or "UPDATE schema_version" in str(words[0]):
                die()
            return done

    def open_and_die() -> None:
        setattr(module, "migrate", lambda con: real(Killed(con)))  # noqa: B010
        with warehouse.connect("BTCUSDT"):
            pass

    assert ended(open_and_die) == -signal.SIGKILL
    assert schema_of(warehouse.path("BTCUSDT")) == before
    with warehouse.connect("BTCUSDT"):
        pass
    assert schema_of(warehouse.path("BTCUSDT")) == today


def test_what_version_1_published_is_read_and_carried_over(warehouse: Warehouse) -> None:
    """A symbol that is not named keeps its rows, though they are of the version before; nothing is set aside."""
    with warehouse.connect("ETHUSDT") as con:
        fill(con, "ETHUSDT", seed=5)
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    for path in (warehouse.path("BTCUSDT"), warehouse.published):
        become_version_1(path)
    assert first_published_day(warehouse) == DAYS[0]
    histories = published_histories(warehouse)
    assert histories is not None
    assert histories.keys() == {"BTCUSDT", "ETHUSDT"}
    with warehouse.read() as con:
        before = dump(con, "ETHUSDT")
    with warehouse.connect("ETHUSDT") as con:
        forget_symbol(con, "ETHUSDT")
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 DAY")
    report = publish(warehouse, ["BTCUSDT"])
    assert (report.changed, report.kept) == (True, ("ETHUSDT",))
    assert schema_of(warehouse.published) == schema_of(warehouse.path("BTCUSDT"))
    with warehouse.read() as con:
        after = dump(con, "ETHUSDT")
    assert {name: len(after[name]) for name in before} == {name: len(rows) for name, rows in before.items()}
    for name in before.keys() - {"book_ledger", "symbols"}:
        assert after[name] == before[name], name
    assert after["symbols"] == [
        (*row, "USDT", "binance", "ETHUSDT", "ETH", "linear", 1.0, None, None, None) for row in before["symbols"]
    ]
    assert not list(warehouse.home.glob("heatmap.schema-*"))


def test_who_reads_days_of_an_earlier_version_is_told_so(warehouse: Warehouse) -> None:
    """The symbol is left out with the words that rebuild it; one of today beside it is served."""
    publish(warehouse, ["BTCUSDT"])
    become_version_1(warehouse.published)
    with warehouse.read() as con:
        version = load_version(con, MODELS_USED)
    assert version.symbols == {}
    line = f"heatmap run BTCUSDT --start {DAYS[0]} --end {DAYS[-1]}"
    assert version.outdated.keys() == {"BTCUSDT"}
    assert "computed by an earlier version" in version.outdated["BTCUSDT"]
    assert line in version.outdated["BTCUSDT"]
    with pytest.raises(ViewError, match=f"earlier version.*{line}"):
        find_symbol(version, "BTCUSDT")
    status, body = health(version, "", load_settings(home=warehouse.home))
    assert status == 503
    assert line in body["reason"]
