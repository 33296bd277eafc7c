"""The private database: its lock, its errors, its transactions."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.store import warehouse as module
from heatmap_pipeline.store.forget import forget_symbol
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.schema import column_types
from heatmap_pipeline.store.sql import rows, transaction
from heatmap_pipeline.store.warehouse import FileError, StoreError, UnusableError, Warehouse, free_name
from heatmap_pipeline_tests._forked import Fork, Say, die, ended

LUNA = "LUNAUSDT"

_CHANGES = (
    "INSERT INTO many SELECT random(), hash(i) FROM range(200000) AS numbers (i)",
    "BEGIN; INSERT INTO many SELECT random(), hash(i) FROM range(200000) AS numbers (i); ROLLBACK",
    "UPDATE many SET other = other / 2 WHERE number < 0.3",
    "DELETE FROM many WHERE number > 0.4",
    "CHECKPOINT",
)


def _holder(warehouse: Warehouse, seconds: float) -> Fork:
    def hold(say: Say) -> None:
        with warehouse.connect("BTCUSDT"):
            say("held")
            time.sleep(seconds)

    process = Fork(hold)
    assert process.said.readline() == "held\n"
    return process


def test_a_home_is_made_with_every_table_in_the_contract(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "a" / "b").connect("BTCUSDT") as con:
        columns = {
            table: [name for name, *_ in con.execute(f"DESCRIBE {table}").fetchall()]
            for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        assert con.execute("SELECT count(*) FROM duckdb_indexes()").fetchall() == [(0,)]
    contract = {
        "raw_candles": "symbol, day, open_time, open, high, low, close, volume, quote_volume, trades, "
        "taker_buy_volume, taker_buy_quote_volume",
        "raw_open_interest": "symbol, day, snapshot_time, contracts, value",
        "position_events": "symbol, model, timestamp, event_type, side, leverage, entry_price, liq_price, quantity, "
        "volume, opened_at",
        "open_positions": "symbol, model, day, side, leverage, entry_price, liq_price, quantity, volume, opened_at",
        "book_ledger": "symbol, model, timestamp, side, open_interest, opened, liquidated, liquidated_at_once, closed, "
        "dropped, rescaled, located, unlocated, active_volume, consumed_volume",
        "liquidation_snapshots": "symbol, model, timestamp, price_bucket, side, active_volume, consumed_volume",
        "heatmap_days": "symbol, model, day, input_hash, previous_hash, state_hash, parameters, repairs, provisional, "
        "created_at, state",
    }
    for table, names in contract.items():
        assert columns[table] == names.split(", ")
        assert [name for name, _ in column_types(table)] == names.split(", ")
    with pytest.raises(KeyError):
        column_types("no_table")


def test_the_file_has_the_storage_format_of_the_command_line_client(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT") as con:
        tags = con.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'warehouse'").fetchall()
    assert "v1.5.0" in str(tags)


def test_what_was_not_committed_is_rolled_back(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT") as con:
        con.begin()
        con.execute("DELETE FROM raw_days")

    def fail() -> None:
        with warehouse.connect("BTCUSDT") as con, transaction(con):
            con.execute("DELETE FROM raw_days")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with warehouse.connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(9,)]


def test_a_second_process_waits_or_names_the_holder(warehouse: Warehouse) -> None:
    process = _holder(warehouse, 1.5)
    hasty = Warehouse(warehouse.home, lock_timeout=0.2)
    with (
        pytest.raises(StoreError, match=rf"held by process {process.pid} \(since .* UTC\) for over 0.2 s"),
        hasty.connect("BTCUSDT"),
    ):
        pass
    started = time.monotonic()
    with Warehouse(warehouse.home, lock_timeout=30).connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(9,)]
    assert time.monotonic() - started > 0.5
    assert process.wait() == 0


def test_a_killed_holder_frees_the_lock(warehouse: Warehouse) -> None:
    process = _holder(warehouse, 60)
    process.kill()
    with Warehouse(warehouse.home, lock_timeout=5).connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(9,)]


def test_threads_wait_for_each_other(warehouse: Warehouse) -> None:
    order = []

    def work(name: str) -> None:
        with warehouse.connect("BTCUSDT"):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[0::2] == order[1::2]


def test_nesting_is_a_defect_not_a_deadlock(warehouse: Warehouse) -> None:
    with (
        warehouse.connect("BTCUSDT"),
        pytest.raises(RuntimeError, match="already held here"),
        warehouse.connect("BTCUSDT"),
    ):
        pass


def test_other_threads_may_come_and_go_while_it_is_asked_who_holds_what(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[Path, int] = {}

    class Leaving(int):
        def __eq__(self, _: object) -> bool:
            held.pop(Path("other"), None)
            return False

        __hash__ = int.__hash__

    held |= {Path("one"): Leaving(1), Path("other"): 2}
    monkeypatch.setattr(module, "_held", held)
    with warehouse.locked("BTCUSDT"):
        assert list(held) == [Path("one"), warehouse.folder / "BTCUSDT.lock"]


def test_who_looks_at_a_symbol_does_not_bring_it_back_that_is_forgotten_this_moment(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def there(_: Warehouse, symbol: str) -> bool:
        forget_symbol(warehouse, symbol)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "holds", there)
        with warehouse.look("BTCUSDT") as con:
            assert rows(con, "FROM raw_days") == []
    assert not warehouse.holds("BTCUSDT")


def test_a_folder_that_a_killed_process_left_is_in_the_way_of_no_new_symbol(warehouse: Warehouse) -> None:
    """DuckDB makes one beside a file that is being written, where its memory is too small."""
    left = warehouse.folder / ".BTCUSDT.duckdb.compact.tmp"
    left.mkdir()
    os.utime(left, (0, 0))
    with warehouse.connect("ETHUSDT"):
        assert warehouse.symbols() == ["BTCUSDT", "ETHUSDT"]


def test_a_file_open_elsewhere_is_named_with_its_process(warehouse: Warehouse) -> None:
    path = str(warehouse.path("BTCUSDT"))
    script = f"import duckdb, time; c = duckdb.connect({path!r}); print('open', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        with pytest.raises(StoreError, match=rf"open elsewhere.*PID {process.pid}"), warehouse.connect("BTCUSDT"):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_damaged_file_is_refused(warehouse: Warehouse) -> None:
    warehouse.path("BTCUSDT").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="damaged"), warehouse.connect("BTCUSDT"):
        pass


def test_a_damaged_block_is_refused(warehouse: Warehouse) -> None:
    size = warehouse.path("BTCUSDT").stat().st_size
    with warehouse.path("BTCUSDT").open("r+b") as file:
        for place in range(3 * 4096, size, 4096):
            file.seek(place)
            file.write(os.urandom(512))
    with pytest.raises(HeatmapError, match=str(warehouse.home)), warehouse.connect("BTCUSDT") as con:
        con.execute("SELECT sum(volume) FROM raw_candles").fetchall()


def test_a_file_that_was_cut_off_is_refused_before_anything_of_it_is_used(warehouse: Warehouse) -> None:
    """What opening it reads lies at its beginning: DuckDB alone says nothing, and writes into it."""
    with warehouse.connect("BTCUSDT") as con:
        con.execute("CREATE TABLE many AS SELECT random() AS number FROM range(1000000)")
    whole = warehouse.path("BTCUSDT").read_bytes()
    half = whole[: len(whole) // 2]
    warehouse.path("BTCUSDT").write_bytes(half)
    with duckdb.connect(str(warehouse.path("BTCUSDT")), read_only=True) as con:
        assert con.execute("SELECT max(version) FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
    with pytest.raises(UnusableError, match="is damaged: it was cut off at"), warehouse.connect("BTCUSDT"):
        pass
    assert warehouse.path("BTCUSDT").read_bytes() == half
    warehouse.path("BTCUSDT").write_bytes(whole)
    with warehouse.connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM many").fetchall() == [(1_000_000,)]


@pytest.mark.parametrize("seed", range(3))
def test_no_file_whose_writer_was_killed_counts_as_cut_off(warehouse: Warehouse, seed: int) -> None:
    """Rows written before a commit, blocks that are free, and a log that nobody has read yet."""
    chance = random.Random(seed)
    for _ in range(4):
        changes = chance.choices(_CHANGES, k=5)

        def change_and_die(changes: list[str] = changes) -> None:
            with warehouse.connect("BTCUSDT") as con:
                con.execute("CREATE TABLE IF NOT EXISTS many (number DOUBLE, other UBIGINT)")
                for change in changes:
                    con.execute(change)
                die()

        assert ended(change_and_die) == -signal.SIGKILL
        with warehouse.connect("BTCUSDT") as con:
            con.execute("SELECT count(*) FROM schema_version")


def test_another_schema_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(StoreError, match="schema version 99"), warehouse.connect("BTCUSDT"):
        pass
    other = tmp_path / "other"
    other.mkdir()
    (other / "warehouse").mkdir()
    with duckdb.connect(str(other / "warehouse" / "BTCUSDT.duckdb")) as raw:
        raw.execute("CREATE TABLE mine (a INTEGER)")
    with pytest.raises(StoreError, match="no tables of this program"), Warehouse(other).connect("BTCUSDT"):
        pass


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot be written; choose another with --home \(Not a directory: "),
        Warehouse(file).connect("BTCUSDT"),
    ):
        pass
    with pytest.raises(StoreError, match="cannot be written"), Warehouse(file / "below").connect("BTCUSDT"):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="cannot be written"), Warehouse(tmp_path / "new").connect("BTCUSDT"):
        pass


def test_a_file_of_another_user_is_named_and_not_the_home(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = warehouse.folder / "BTCUSDT.lock"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(lock))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(FileError, match=rf"^{lock} cannot be used; mend its permissions"), warehouse.look("BTCUSDT"):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        duckdb.IOException('IO Error: Could not write file "x": No space left on device'),
        duckdb.FatalException("FATAL Error: database invalidated. Original error: No space left on device"),
    ],
)
def test_a_full_disk_is_said_so(warehouse: Warehouse, error: Exception) -> None:
    def fail() -> None:
        with warehouse.connect("BTCUSDT") as con:
            con.begin()
            con.execute("DELETE FROM raw_days")
            raise error

    with pytest.raises(StoreError, match="is full; make room"):
        fail()
    with warehouse.connect("BTCUSDT") as con:
        assert con.execute("SELECT count(*) FROM raw_days").fetchall() == [(9,)]


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is published"), Warehouse(tmp_path).read():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alone", [False, True])
def test_a_query_of_what_is_published_that_needs_the_disk_uses_that_of_the_home(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    with warehouse.connect("BTCUSDT"):
        pass
    os.link(warehouse.path("BTCUSDT"), warehouse.published)
    monkeypatch.setitem(module._SETTINGS, "memory_limit", "40MB")
    monkeypatch.chdir("/proc")  # a service is started in `/`, where it may write nothing
    with warehouse.read(alone=alone) as con:
        con.execute("CREATE TEMP TABLE large AS SELECT hash(range), hash(-range) FROM range(4_000_000)")
        (folder,) = warehouse.home.glob(f"{module.READER_PREFIX}*")
        assert list(folder.iterdir())
        assert con.execute("SELECT count(*) FROM large").fetchall() == [(4_000_000,)]
    assert not folder.exists()


def test_defects_pass_as_they_are(warehouse: Warehouse) -> None:
    with pytest.raises(duckdb.CatalogException), warehouse.connect("BTCUSDT") as con:
        con.execute("SELECT * FROM nothing_of_ours")
    with pytest.raises(duckdb.ParserException), warehouse.connect("BTCUSDT") as con:
        con.execute("SELEC")


def test_further_settings_reach_the_connection(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT", config={"threads": "1", "memory_limit": "300MB"}) as con:
        assert con.execute("SELECT current_setting('threads')").fetchall() == [(1,)]
    assert module.STORAGE_VERSION == "v1.5.0"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    wanted = tmp_path / "heatmap.schema-0.duckdb"
    assert free_name(wanted) == wanted
    wanted.touch()
    assert free_name(wanted).name == "heatmap.schema-0-2.duckdb"
    free_name(wanted).mkdir()
    assert free_name(wanted).name == "heatmap.schema-0-3.duckdb"


def test_a_home_that_cannot_be_written_is_looked_at_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every folder can be written, so the answer of the system is said here."""
    warehouse = Warehouse(tmp_path)
    with warehouse.look(LUNA) as con:  # there is none, and none is made
        assert con.execute("SELECT count(*) FROM ended_symbols").fetchall() == [(0,)]
    assert list(tmp_path.iterdir()) == []
    with warehouse.connect(LUNA) as con:
        con.execute("INSERT INTO ended_symbols (symbol, ended, reason) VALUES ('LUNAUSDT', '2022-05-12', 'delisted')")
    warehouse.path(LUNA).with_suffix(".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert warehouse.symbols() == [LUNA]
    with warehouse.look(LUNA) as con:
        assert con.execute("SELECT symbol FROM ended_symbols").fetchall() == [(LUNA,)]
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            con.execute("DELETE FROM ended_symbols")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match=r"where home .* can be written"), warehouse.look(LUNA):
        pass


@pytest.mark.parametrize(("processes", "threads"), [(1, 6), (2, 3), (4, 1), (64, 1)])
def test_processes_at_work_at_a_time_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(module, "_SETTINGS", {**module._SETTINGS})
    module.share_cores(processes)
    with Warehouse(tmp_path).connect("BTCUSDT") as con:
        assert rows(con, "SELECT current_setting('threads')") == [(threads,)]
