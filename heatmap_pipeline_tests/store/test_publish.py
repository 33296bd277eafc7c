"""Publication: the old file or the new one, never anything between, and no symbol against its will."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import publish as module
from heatmap_pipeline.store.days import day_records, record_failure
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._examples import tries
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.readers import put_version, readers
from heatmap_pipeline_tests.store.tiny import DAYS, change, commit, compute, digest, forget_symbol


def _bytes(warehouse: Warehouse) -> tuple[bytes, int]:
    return warehouse.published.read_bytes(), warehouse.published.stat().st_ino


def _published(warehouse: Warehouse, symbol: str | None = None) -> dict[str, tuple[Any, ...]]:
    with warehouse.read() as con:
        return digest(con, symbol)


def _private(warehouse: Warehouse, symbol: str = "BTCUSDT") -> dict[str, tuple[Any, ...]]:
    with warehouse.connect(symbol) as con:
        return digest(con, symbol)


def _rows(warehouse: Warehouse, symbol: str) -> int:
    """Return how many rows of a symbol are published."""
    return sum(count for count, _ in _published(warehouse, symbol).values())


def _change(warehouse: Warehouse, *symbols: str) -> None:
    """Give symbols other rows everywhere."""
    for symbol in symbols:
        with warehouse.connect(symbol) as con:
            for day in DAYS:
                change(con, symbol, day, 7)


def test_everything_is_published_once(warehouse: Warehouse) -> None:
    report = publish(warehouse, ["BTCUSDT"])
    assert (report.changed, report.published, report.kept) == (True, ("BTCUSDT",), ())
    assert report.size == warehouse.published.stat().st_size > 0
    assert _published(warehouse) == _private(warehouse)
    assert stat.S_IMODE(warehouse.published.stat().st_mode) == 0o644
    left = {path.relative_to(warehouse.home).as_posix() for path in warehouse.home.rglob("*") if path.is_file()}
    assert left - {"heatmap.lock", "warehouse/BTCUSDT.lock"} == {
        "heatmap.duckdb",
        ".heatmap.published",
        "warehouse/BTCUSDT.duckdb",
    }
    before = _bytes(warehouse)
    assert not publish(warehouse, ["BTCUSDT"]).changed
    assert not publish(warehouse, []).changed
    assert _bytes(warehouse) == before


def test_readers_can_only_read(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"])
    with warehouse.read() as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("DELETE FROM raw_days")
    with duckdb.connect(str(warehouse.published), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM heatmap_days").fetchall() == [(6,)]
        assert con.execute("SELECT count(*) > 10 FROM liquidation_map").fetchall() == [(True,)]


def test_other_symbols_keep_what_is_published(three: Warehouse) -> None:
    warehouse = three
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    assert not _rows(warehouse, "SOLUSDT")
    old = _published(warehouse, "ETHUSDT")
    _change(warehouse, "ETHUSDT", "BTCUSDT")
    with warehouse.connect("ETHUSDT") as con:
        record_failure(con, "ETHUSDT", "raw_candles", DAYS[2], "corrupt file")
    report = publish(warehouse, ["BTCUSDT"])
    assert (report.changed, report.kept) == (True, ("ETHUSDT",))
    assert _published(warehouse, "ETHUSDT") == old != _private(warehouse, "ETHUSDT")
    assert _published(warehouse, "BTCUSDT") == _private(warehouse, "BTCUSDT")
    assert not _rows(warehouse, "SOLUSDT")
    publish(warehouse, ["ETHUSDT"])
    assert _published(warehouse, "ETHUSDT") == {**_private(warehouse, "ETHUSDT"), "failed_days": (0, None)}


@pytest.mark.slow
def test_many_symbols_are_published_within_the_memory_that_duckdb_is_given(warehouse: Warehouse) -> None:
    """More than take turns in one query: of each table of each file there is a scan."""
    symbols = ["BTCUSDT", *(f"COIN{number}USDT" for number in range(23))]
    for symbol in symbols[1:]:
        shutil.copyfile(warehouse.path("BTCUSDT"), warehouse.path(symbol))
        with warehouse.connect(symbol) as con:
            for table in symbol_tables():
                con.execute(f"UPDATE {table.name} SET symbol = ?", [symbol])
    publish(warehouse, symbols)
    for symbol in symbols:
        with warehouse.connect(symbol) as con:
            change(con, symbol, DAYS[-1], 7)
    assert publish(warehouse, symbols).changed
    for symbol in symbols[::8]:
        assert _published(warehouse, symbol) == _private(warehouse, symbol)


def test_a_change_of_another_symbol_alone_publishes_nothing(three: Warehouse) -> None:
    warehouse = three
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    before = _bytes(warehouse)
    _change(warehouse, "ETHUSDT")
    assert not publish(warehouse, ["BTCUSDT"]).changed
    assert _bytes(warehouse) == before


def test_a_forgotten_symbol_goes_only_when_named(three: Warehouse) -> None:
    warehouse = three
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    old = _published(warehouse, "ETHUSDT")
    with warehouse.connect("ETHUSDT") as con:
        forget_symbol(con, "ETHUSDT")
    _change(warehouse, "BTCUSDT")
    publish(warehouse, ["BTCUSDT"])
    assert _published(warehouse, "ETHUSDT") == old
    report = publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    assert (report.changed, report.published) == (True, ("BTCUSDT",))
    assert not _rows(warehouse, "ETHUSDT")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE symbols SET bucket = 50",
        "UPDATE raw_days SET content_hash = 'x' WHERE kind = 'candles'",
        "UPDATE heatmap_days SET provisional = true",
        "UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 DAY",
        "DELETE FROM snapshot_days WHERE day = '2024-03-03'",
        "INSERT INTO saved_snapshots VALUES ('BTCUSDT', 'mine', '2024-03-01', 0, 0, '')",
    ],
)
def test_every_kind_of_change_is_seen(warehouse: Warehouse, statement: str) -> None:
    publish(warehouse, ["BTCUSDT"])
    with warehouse.connect("BTCUSDT") as con:
        con.execute(statement)
    assert publish(warehouse, ["BTCUSDT"]).changed
    assert _published(warehouse) == _private(warehouse)


@pytest.mark.slow
def test_readers_meet_no_error_and_no_mixture(warehouse: Warehouse) -> None:
    put_version(warehouse, 0)
    publish(warehouse, ["BTCUSDT"])
    with readers(warehouse, least=20) as wait_for_two:
        for number in range(1, tries(20) + 1):
            put_version(warehouse, number)
            assert publish(warehouse, ["BTCUSDT"]).changed
            wait_for_two()


def test_an_open_reader_keeps_its_version_and_a_new_one_sees_the_new(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"])
    count = "SELECT bucket FROM symbols"
    with warehouse.read() as old:
        with warehouse.connect("BTCUSDT") as con:
            con.execute("UPDATE symbols SET bucket = 50")
        publish(warehouse, ["BTCUSDT"])
        assert old.execute(count).fetchall() == [(100.0,)]
        with warehouse.read() as new:
            assert new.execute(count).fetchall() == [(50.0,)]


def test_someone_who_has_the_published_file_open_for_writing_stops_nothing(three: Warehouse) -> None:
    warehouse = three
    publish(warehouse, ["BTCUSDT", "ETHUSDT"])
    old = _published(warehouse, "ETHUSDT")
    _change(warehouse, "ETHUSDT", "BTCUSDT")
    script = f"""
import duckdb, time
con = duckdb.connect({str(warehouse.published)!r})
con.execute("CREATE TABLE mine (a INTEGER)")
print("open", flush=True)
time.sleep(60)
"""
    analyst = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert analyst.stdout is not None
    try:
        assert analyst.stdout.readline() == "open\n"
        assert publish(warehouse, ["BTCUSDT"]).changed
    finally:
        analyst.kill()
        analyst.wait()
    assert not warehouse.published.with_name("heatmap.duckdb.wal").exists()
    assert _published(warehouse, "ETHUSDT") == old
    assert _published(warehouse, "BTCUSDT") == _private(warehouse, "BTCUSDT")


@pytest.mark.parametrize(
    ("step", "when"), [("copy", "before"), ("copy", "after"), ("_written", "after"), ("_sync", "after")]
)
def test_a_kill_leaves_the_old_file(warehouse: Warehouse, step: str, when: str) -> None:
    publish(warehouse, ["BTCUSDT"])
    before, old = _bytes(warehouse), _published(warehouse)
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE symbols SET bucket = 50")
    target, name = (shutil, "copyfile") if step == "copy" else (module, step)
    do = getattr(target, name)

    def dying(*args: Any, **more: Any) -> None:
        if when == "after":
            do(*args, **more)
        elif name == "copyfile":
            data = Path(args[0]).read_bytes()
            Path(args[1]).write_bytes(data[: len(data) // 2])
        die()

    def publish_and_die() -> None:
        setattr(target, name, dying)
        publish(warehouse, ["BTCUSDT"])

    assert ended(publish_and_die) == -signal.SIGKILL
    assert _bytes(warehouse) == before
    assert _published(warehouse) == old
    assert list(warehouse.home.glob(".heatmap.duckdb.*"))
    assert publish(warehouse, ["BTCUSDT"]).changed
    assert not list(warehouse.home.glob(".heatmap.duckdb.*"))
    assert _published(warehouse) == _private(warehouse)


@pytest.mark.parametrize("step", ["copy", "sync", "replace"])
def test_a_full_disk_leaves_the_old_file(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    publish(warehouse, ["BTCUSDT"])
    before = _bytes(warehouse)
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE symbols SET bucket = 50")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        target, name = {"copy": (shutil, "copyfile"), "sync": (os, "fsync"), "replace": (Path, "replace")}[step]
        patch.setattr(target, name, full)
        with pytest.raises(StoreError, match="is full; make room"):
            publish(warehouse, ["BTCUSDT"])
    assert _bytes(warehouse) == before
    assert not list(warehouse.home.glob(".heatmap.duckdb.*"))
    assert publish(warehouse, ["BTCUSDT"]).changed


def test_what_cannot_be_published(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"run `heatmap demo --home [^`]+/nothing`"):
        publish(Warehouse(tmp_path / "nothing"), ["BTCUSDT"])
    assert not (tmp_path / "nothing").exists()
    publish(warehouse, ["BTCUSDT"])
    warehouse.published.write_bytes(b"nonsense" * 2000)
    with pytest.raises(StoreError, match="damaged"):
        publish(warehouse, ["BTCUSDT"])


def test_days_committed_later_are_published(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"])
    with warehouse.connect("BTCUSDT") as con:
        record, result = compute("BTCUSDT", "delta")[2]
        previous = day_records(con, "BTCUSDT", "delta")[DAYS[1]].state_hash
        commit(con, replace(record, input_hash="new", previous_hash=previous), result)
    assert publish(warehouse, ["BTCUSDT"]).changed
    with warehouse.read() as con:
        assert day_records(con, "BTCUSDT", "delta")[DAYS[2]].input_hash == "new"
    assert module.fingerprints.__doc__


def test_a_symbol_without_rows_makes_no_file(warehouse: Warehouse) -> None:
    assert not publish(warehouse, ["NOSUCH"]).changed
    assert not warehouse.published.exists()


def test_what_a_killed_publication_spilled_is_removed(warehouse: Warehouse) -> None:
    spilled = warehouse.home / ".heatmap.duckdb.99.new.tmp"
    spilled.mkdir()
    (spilled / "duckdb_temp_storage").write_text("x")
    assert publish(warehouse, ["BTCUSDT"]).changed
    assert not spilled.exists()


def test_what_is_published_is_known_while_someone_has_it_open_for_writing(warehouse: Warehouse) -> None:
    """Else a lost warehouse would be published over it as if nothing were lost."""
    publish(warehouse, ["BTCUSDT"])
    free = published_histories(warehouse)
    assert free
    assert len(free["BTCUSDT"].raw_days) == len(DAYS)
    script = f"import duckdb; con = duckdb.connect({str(warehouse.published)!r}); print('open', flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "open\n"
        assert published_histories(warehouse) == free
        client.communicate("\n", timeout=30)
    assert not list(warehouse.home.glob(".heatmap.reader*"))
