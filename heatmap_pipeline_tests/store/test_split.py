"""A home of one private file for all symbols becomes one of a file each: no row is lost, whoever is killed when."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store import moving_in, split
from heatmap_pipeline.store.backup import chosen, restore
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import StoreError, UnusableError, Warehouse
from heatmap_pipeline_tests._forked import Fork, Say, die, ended
from heatmap_pipeline_tests._homes import heatmap, refused
from heatmap_pipeline_tests.store.earlier import become_one_file, become_version_1
from heatmap_pipeline_tests.store.test_migration import schema_of
from heatmap_pipeline_tests.store.tiny import DAYS, digest

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


@pytest.fixture(scope="module")
def made(built_three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of before with three symbols, two of them published. Nobody changes it."""
    home = Path(shutil.copytree(built_three, tmp_path_factory.mktemp("before") / "home"))
    publish(Warehouse(home), ["BTCUSDT", "ETHUSDT"])
    become_one_file(home)
    (home / ".heatmap.published").unlink()
    return home


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(Path(shutil.copytree(made, tmp_path / "old")), lock_timeout=20)


@pytest.fixture(scope="module")
def wanted(built_three: Path) -> dict[str, Any]:
    """What each symbol's file is to hold."""
    return contents(Warehouse(built_three))


def contents(warehouse: Warehouse) -> dict[str, Any]:
    found = {}
    for symbol in warehouse.symbols():
        with warehouse.connect(symbol) as con:
            found[symbol] = digest(con)
            assert digest(con, symbol) == found[symbol], "no row of another symbol"
    return found


def test_each_symbol_gets_its_file_and_nothing_else_changes(old: Warehouse, wanted: dict[str, Any]) -> None:
    before = old.published.read_bytes()
    assert old.symbols() == SYMBOLS
    assert not old.former.exists()
    assert contents(old) == wanted
    assert schema_of(old.path("ETHUSDT")) == schema_of(old.published)
    assert old.published.read_bytes() == before
    assert not publish(old, ["BTCUSDT", "ETHUSDT"]).changed, "what is published is what is stored, to the last bit"
    files = {path.relative_to(old.home).as_posix() for path in old.home.rglob("*") if path.is_file()}
    private = {f"warehouse/{symbol}.duckdb" for symbol in SYMBOLS}
    assert {name for name in files if not name.endswith(".lock")} == {"heatmap.duckdb", *private}


def _at(count: int, do: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, which ends the process after it was called so often."""

    def dying(*args: Any, **more: Any) -> Any:
        nonlocal count
        count -= 1
        done = do(*args, **more)
        if not count:
            die()
        return done

    return dying


@pytest.mark.parametrize(
    ("place", "step", "count"),
    [
        (split, "_write", 1),
        (split, "_write", 3),
        (split, "release", 1),
        (moving_in, "_move", 1),
        (moving_in, "_move", 3),
        (Path, "unlink", 0),
        (shutil, "rmtree", 0),
    ],
)
def test_a_kill_loses_nothing_and_the_next_use_ends_it(
    old: Warehouse, wanted: dict[str, Any], place: Any, step: str, count: int
) -> None:
    whole = hashlib.sha256(old.former.read_bytes()).hexdigest()

    def use_and_die() -> None:
        do = getattr(place, step)

        def of_the_old_file(path: Any, *args: Any, **more: Any) -> None:
            do(path, *args, **more)
            if path == old.former or (step == "rmtree" and Path(path).name == moving_in.READY):
                die()

        setattr(place, step, _at(count, do) if count else of_the_old_file)
        old.symbols()

    assert ended(use_and_die) == -signal.SIGKILL
    if place is split and step == "_write":
        assert hashlib.sha256(old.former.read_bytes()).hexdigest() == whole
    assert contents(old) == wanted
    assert not old.former.exists()
    assert not [path for path in old.home.iterdir() if path.name.startswith((".split", ".restore", "replaced"))]


def test_a_file_of_an_earlier_version_is_brought_up_to_date_first(old: Warehouse) -> None:
    become_version_1(old.former)
    with old.connect("SOLUSDT") as con:
        assert con.execute("FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
        assert con.execute("SELECT count(*) FROM lot_days").fetchall() == [(2 * len(DAYS),)]
    assert old.symbols() == SYMBOLS


def test_a_home_that_cannot_be_written_is_looked_at_as_it_is(
    old: Warehouse, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every folder can be written, so the answer of the system is said here."""
    before = {path: path.stat().st_mtime_ns for path in old.home.rglob("*")}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert old.symbols() == SYMBOLS
    for symbol in SYMBOLS:
        with old.look(symbol) as con:
            assert digest(con) == wanted[symbol]
    with old.look("NOSUCH") as con:
        assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(0,)]
    lines = list(status_lines(load_settings(home=old.home)))
    assert [line.split()[0] for line in lines[2:8]] == [symbol for symbol in SYMBOLS for _ in range(2)]
    assert {path: path.stat().st_mtime_ns for path in old.home.rglob("*")} == before


def test_a_full_disk_leaves_the_old_file(
    old: Warehouse, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in old.home.iterdir() if not path.name.endswith(".lock"))

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(split, "sync", full)
        with pytest.raises(StoreError, match=rf"^the disk that holds {old.home} is full; make room and run again"):
            old.symbols()
    assert sorted(path.name for path in old.home.iterdir() if not path.name.endswith(".lock")) == before
    assert contents(old) == wanted


def test_a_damaged_file_is_named_with_the_line_that_computes_all_of_it_again(old: Warehouse) -> None:
    old.former.write_bytes(b"not a database" * 1000)
    line = refused(heatmap("status", "--home", old.home), 1, old.former, "damaged", f"mv {old.former}* ")
    assert f"heatmap run BTCUSDT ETHUSDT --start {DAYS[0]} --end {DAYS[-1]}" in line
    with pytest.raises(UnusableError), old.connect("BTCUSDT"):
        pass


def test_tables_of_somebody_else_are_kept_aside(old: Warehouse, wanted: dict[str, Any]) -> None:
    with duckdb.connect(str(old.former)) as con:
        con.execute("CREATE TABLE notes AS SELECT 'mine' AS text")
    assert contents(old) == wanted
    (kept,) = old.home.glob("replaced-*/warehouse.duckdb")
    with duckdb.connect(str(kept), read_only=True) as con:
        assert con.execute("FROM notes").fetchall() == [("mine",)]


def test_an_old_file_beside_new_ones_replaces_none_and_is_kept(old: Warehouse, made: Path) -> None:
    """An earlier version was used again on a home of today, or somebody has put its file back."""
    with old.connect("BTCUSDT") as con:
        con.execute("UPDATE symbols SET bucket = 7")
    old.path("SOLUSDT").unlink()
    shutil.copyfile(made / "warehouse.duckdb", old.former)
    assert old.symbols() == SYMBOLS, "one that had no file has one again"
    with old.connect("BTCUSDT") as con:
        assert con.execute("SELECT bucket FROM symbols").fetchall() == [(7.0,)]
    (kept,) = old.home.glob("replaced-*/warehouse.duckdb")
    assert kept.read_bytes() == (made / "warehouse.duckdb").read_bytes()
    assert not old.former.exists()


@pytest.mark.parametrize("into", ["empty", "a home of today", "a home of before"])
def test_a_backup_of_before_is_restored(
    made: Path, old: Warehouse, wanted: dict[str, Any], tmp_path: Path, into: str
) -> None:
    backup = tmp_path / "backups" / "2026-11-26T040000Z"
    backup.mkdir(parents=True)
    files = {}
    for name in ("warehouse.duckdb", "heatmap.duckdb"):
        content = (made / name).read_bytes()
        (backup / name).write_bytes(content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    said = {"format": 1, "program": "0.1.0", "schema_version": SCHEMA_VERSION, "home": "/srv", "settings": {}}
    (backup / "manifest.json").write_text(json.dumps({**said, "made": "2026-11-26T04:00:00Z", "files": files}))
    home = old
    if into == "a home of today":
        with old.connect("NEWUSDT") as con:
            con.execute("INSERT INTO ended_symbols VALUES ('NEWUSDT', '2024-01-01', 'of the home before')")
    elif into == "empty":
        home = Warehouse(tmp_path / "new")
    report = restore(home, *chosen(backup), replace=into != "empty", now=datetime(2026, 11, 27, tzinfo=UTC))
    assert contents(home) == wanted
    assert not home.former.exists()
    if report.replaced is not None:
        there = {path.relative_to(report.replaced).as_posix() for path in report.replaced.rglob("*.duckdb")}
        assert there >= {"heatmap.duckdb", "warehouse/NEWUSDT.duckdb" if "today" in into else "warehouse.duckdb"}


# -- one symbol does not wait for another


@contextmanager
def _held(warehouse: Warehouse, symbol: str) -> Iterator[None]:
    """Let another process have a symbol's file open."""

    def hold(say: Say) -> None:
        with warehouse.connect(symbol):
            say("held")
            signal.pause()

    process = Fork(hold)
    assert process.said.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_who_works_on_a_symbol_waits_for_nobody_who_works_on_another(three: Warehouse) -> None:
    """Stored, published, looked at and forgotten, while another process has the file of one open all the time."""
    publish(three, ["BTCUSDT"])
    hasty = Warehouse(three.home, lock_timeout=0.0)
    with _held(three, "BTCUSDT"):
        with hasty.connect("ETHUSDT") as con:
            con.execute("UPDATE symbols SET bucket = 50")
        assert publish(hasty, ["ETHUSDT", "SOLUSDT"]).kept == ("BTCUSDT",)
        assert hasty.symbols() == SYMBOLS
        with hasty.look("SOLUSDT") as con:
            assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(9,)]
        with hasty.read() as con:
            found = con.execute("SELECT DISTINCT symbol FROM heatmap_days ORDER BY 1").fetchall()
        assert found == [(symbol,) for symbol in SYMBOLS]
        with pytest.raises(StoreError, match=r"BTCUSDT\.lock has been held by process"), hasty.connect("BTCUSDT"):
            pass


def test_files_that_wait_to_be_moved_in_come_before_anybody_s_next_use(three: Warehouse, tmp_path: Path) -> None:
    """Whoever has a file open is waited for; whoever comes later finds the new file."""
    staged = three.home / "staged"
    (staged / "warehouse").mkdir(parents=True)
    shutil.copyfile(three.path("BTCUSDT"), staged / "warehouse" / "BTCUSDT.duckdb")
    with duckdb.connect(str(staged / "warehouse" / "BTCUSDT.duckdb")) as con:
        con.execute("UPDATE symbols SET bucket = 7")
    with _held(three, "BTCUSDT"):
        hasty = Warehouse(three.home, lock_timeout=0.0)
        with pytest.raises(StoreError, match=r"BTCUSDT\.lock has been held"):
            hasty.take_over(staged, "replaced")
        with pytest.raises(StoreError, match=r"BTCUSDT\.lock has been held"), hasty.connect("BTCUSDT"):
            pass
    with three.connect("BTCUSDT") as con:
        assert con.execute("SELECT bucket FROM symbols").fetchall() == [(7.0,)]
    assert three.symbols() == ["BTCUSDT"], "files that were not among them are put aside"
    assert (three.home / "replaced" / "warehouse" / "ETHUSDT.duckdb").exists()
