"""Publications that write only what changed: the same rows as a whole copy, and never a file that anyone may read."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import publish as publication
from heatmap_pipeline.store import spare
from heatmap_pipeline.store.commit import drop_cells
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._examples import tries
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.readers import put_version, readers
from heatmap_pipeline_tests.store.tiny import DAYS, MODELS_USED, change, digest, forget_symbol

BTC, ETH, SOL = "BTCUSDT", "ETHUSDT", "SOLUSDT"


@pytest.fixture(autouse=True)
def _small_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    if not spare.unread(probe):
        pytest.skip("this file system has no leases: every publication copies the whole file")
    treat_as_large(monkeypatch)


def treat_as_large(patch: pytest.MonkeyPatch) -> None:
    """Treat small and new files as large and settled ones, and forget that blocks may be shared."""
    patch.setattr(spare, "MINIMUM", 0)
    patch.setattr(spare, "_YOUNGEST", 0.0)
    patch.setattr(spare, "_is_local", lambda _: True)
    patch.setattr(spare, "clone", lambda *_: False)


def touch(warehouse: Warehouse, number: int, *, symbol: str = BTC, day: date = DAYS[2]) -> None:
    with warehouse.connect(symbol) as con:
        change(con, symbol, day, number)


def days_written(patch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return a list of what is written from now on: the symbols, the first and the last day."""
    written: list[tuple[Any, ...]] = []
    replace_days = spare._Source._replace_days

    def replace_and_say(source: spare._Source, con: Connection, *span: Any) -> None:
        written.append(span[:3])
        replace_days(source, con, *span)

    patch.setattr(spare._Source, "_replace_days", replace_and_say)
    return written


def published(warehouse: Warehouse, symbol: str | None = None) -> dict[str, tuple[Any, ...]]:
    with warehouse.read() as con:
        return digest(con, symbol)


def private(warehouse: Warehouse, symbol: str = BTC) -> dict[str, tuple[Any, ...]]:
    with warehouse.connect(symbol) as con:
        return digest(con, symbol)


@pytest.fixture(scope="module")
def published_twice(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose next publication finds a spare file. Nobody changes it; `settled` is a copy."""
    home = Path(shutil.copytree(built, tmp_path_factory.mktemp("twice") / "home"))
    warehouse = Warehouse(home)
    with pytest.MonkeyPatch.context() as patch:
        treat_as_large(patch)
        for version in (-2, -1):
            put_version(warehouse, version)
            assert publish(warehouse, [BTC]).whole
    assert spare.spare_path(warehouse).exists()
    return home


@pytest.fixture
def settled(published_twice: Path, tmp_path: Path) -> Iterator[Warehouse]:
    """A copy of that home; the seals of its files are of its own, as they name the file and not what is in it."""
    warehouse = Warehouse(Path(shutil.copytree(published_twice, tmp_path / "home")), lock_timeout=20)
    for path in (warehouse.published, spare.spare_path(warehouse)):
        spare.seal(path)
    yield warehouse
    with warehouse.read() as con:
        (without,) = con.execute(
            "SELECT count(*) FROM duckdb_columns() WHERE database_name = 'heatmap' AND NOT internal AND comment IS NULL"
        ).fetchall()
    assert without == (0,), "every column says what it holds, however the file came to be"
    assert not list(warehouse.home.glob(".heatmap.duckdb.*")), "nothing is left behind"


def test_only_what_changed_is_written(settled: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    written = days_written(monkeypatch)
    inode = settled.published.stat().st_ino
    for number in (3, 4, 5):
        touch(settled, number)
        report = publish(settled, [BTC])
        assert (report.changed, report.whole) == (True, False)
        assert published(settled) == private(settled)
    assert written[0] == ([BTC], DAYS[0], DAYS[2]), "the spare file is two publications old"
    assert written[1:] == [([BTC], DAYS[2], DAYS[2])] * 2
    assert settled.published.stat().st_ino != inode


def test_of_a_day_that_lost_its_cells_or_lots_nothing_else_is_written(
    settled: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events would otherwise move to the end of the file, day by day, and reading a week take the whole of it."""
    for number in (3, 4):  # the spare file is as old as the published one then, but for a day
        touch(settled, number)
        publish(settled, [BTC])
    replaced: list[str] = []
    replace = spare._Source._replace

    def replace_and_say(source: spare._Source, con: Connection, table: str, *more: Any) -> None:
        if more[1]:
            replaced.append(table)
        replace(source, con, table, *more)

    cells = ["liquidation_snapshots", "snapshot_days", "coarse_days"]
    lots = ["open_positions", "lot_days"]
    with settled.connect(BTC) as con:
        drop_cells(con, BTC, MODELS_USED, DAYS[1])
        con.execute("DELETE FROM open_positions WHERE day = ?", [DAYS[1]])
        con.execute("DELETE FROM lot_days WHERE day = ?", [DAYS[1]])
    monkeypatch.setattr(spare._Source, "_replace", replace_and_say)
    report = publish(settled, [BTC])
    assert (report.changed, report.whole) == (True, False)
    assert published(settled) == private(settled)
    others = {table.name for table in symbol_tables(private=False) if table.time_column} - {*cells, *lots}
    assert sorted(name for name in replaced if name in others) == sorted(others), "of the day that the spare lacks"
    assert Counter(name for name in replaced if name not in others) == Counter([*cells, *lots] * 2)
    with settled.connect(BTC) as con:
        con.execute("UPDATE symbols SET bucket = 50")
    assert not publish(settled, [BTC]).whole
    assert published(settled) == private(settled)


def test_other_symbols_keep_what_is_published(three: Warehouse) -> None:
    warehouse = three
    for number in (1, 2):
        touch(warehouse, number)
        touch(warehouse, number, symbol=ETH)
        publish(warehouse, [BTC, ETH])
    old = published(warehouse, ETH)
    for symbol in (BTC, ETH, SOL):
        touch(warehouse, 3, symbol=symbol)
    report = publish(warehouse, [BTC])
    assert (report.changed, report.whole, report.kept) == (True, False, (ETH,))
    assert published(warehouse, ETH) == old != private(warehouse, ETH)
    assert published(warehouse, BTC) == private(warehouse, BTC)
    assert published(warehouse, SOL)["symbols"][0] == 0, "never published"
    assert not publish(warehouse, [ETH]).whole
    assert published(warehouse, ETH) == private(warehouse, ETH)


def test_what_changed_of_several_symbols_on_the_same_days_is_written_at_once(
    three: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = [BTC, ETH, SOL]
    for number in (1, 2):
        publish(three, symbols)
        for symbol in symbols:
            touch(three, number, symbol=symbol)
    publish(three, symbols)
    written = days_written(monkeypatch)
    for symbol in symbols:
        touch(three, 3, symbol=symbol, day=DAYS[1] if symbol == SOL else DAYS[2])
    report = publish(three, symbols)
    assert (report.changed, report.whole) == (True, False)
    assert ([BTC, ETH], DAYS[2], DAYS[2]) in written or (symbols, DAYS[2], DAYS[2]) in written
    for symbol in symbols:
        assert published(three, symbol) == private(three, symbol)


def test_a_file_with_other_rows_than_it_should_have_is_not_used(
    settled: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that carry no hash, which nothing else would miss."""
    replace = spare._Source._replace

    def forget_half(source: spare._Source, con: Connection, table: str, *more: Any) -> None:
        replace(source, con, table, *more)
        if table == "liquidation_snapshots":
            con.execute(f"DELETE FROM {table} WHERE price_bucket % 2 = 0 OR side = 'long'")

    monkeypatch.setattr(spare._Source, "_replace", forget_half)
    touch(settled, 3)
    assert publish(settled, [BTC]).whole
    assert published(settled) == private(settled)


@pytest.mark.parametrize("seed", range(tries(2)))
def test_any_order_of_changes_gives_what_whole_copies_give(three: Warehouse, seed: int) -> None:
    """Changed, new and forgotten symbols, some published and some not, against what must then be published."""
    chance = random.Random(seed)
    wanted: dict[str, dict[str, tuple[Any, ...]]] = {}
    partly = 0
    for number in range(10):
        for symbol in (BTC, ETH):
            if chance.random() < 0.8:
                touch(three, number, symbol=symbol, day=chance.choice(DAYS))
        if number == 9:
            with three.connect(ETH) as con:
                forget_symbol(con, ETH)
        symbols = [symbol for symbol in (BTC, ETH, SOL) if chance.random() < 0.6 and (symbol != SOL or number >= 4)]
        wanted |= {symbol: private(three, symbol) for symbol in symbols}
        report = publish(three, symbols)
        partly += report.changed and not report.whole
        if wanted:
            with three.read() as con:
                assert {symbol: digest(con, symbol) for symbol in wanted} == wanted, number
    assert partly >= 4


def test_nobody_who_reads_an_older_publication_sees_it_change(settled: Warehouse) -> None:
    """A reader through DuckDB, one through an open file, and one with a name of its own."""
    count = f"SELECT DISTINCT state_hash FROM heatmap_days WHERE day = '{DAYS[2]}'"
    with settled.read() as reader:
        for number in (3, 4):
            touch(settled, number)
            publish(settled, [BTC])
        assert reader.execute(count).fetchall() == [("v-1",)]
    for hold in ("open", "link"):
        before = settled.published.read_bytes()
        own = settled.home / "mine.duckdb"
        if hold == "link":
            own.hardlink_to(settled.published)
        with settled.published.open("rb") as file:
            if hold == "link":
                file.close()
            wholes = []
            for number in (10, 11, 12):
                touch(settled, number + time.monotonic_ns())
                wholes.append(publish(settled, [BTC]).whole)
            assert True in wholes, "the file that somebody holds was passed over"
            assert (own.read_bytes() if hold == "link" else file.read()) == before
    touch(settled, 20)
    publish(settled, [BTC])
    assert published(settled) == private(settled)


def test_a_file_that_somebody_wrote_into_is_not_used_again(settled: Warehouse) -> None:
    with duckdb.connect(str(settled.published)) as con:
        con.execute("UPDATE liquidation_snapshots SET active_volume = 7")
    for number in (3, 4):
        touch(settled, number)
        publish(settled, [BTC])
        assert published(settled) == private(settled)
    with duckdb.connect(str(spare.spare_path(settled))) as con:
        con.execute("CREATE TABLE mine (a INTEGER)")
    touch(settled, 5)
    assert publish(settled, [BTC]).whole


@pytest.mark.parametrize("fault", ["damaged", "schema", "young", "elsewhere", "many days", "no room", "two names"])
def test_what_is_not_certain_is_copied(settled: Warehouse, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    old = spare.spare_path(settled)
    if fault == "damaged":
        old.write_bytes(b"nonsense" * 2000)
        spare.seal(old)
    elif fault == "schema":
        with duckdb.connect(str(old)) as con:
            con.execute("CREATE TABLE mine (a INTEGER)")
        spare.seal(old)
    elif fault == "young":
        monkeypatch.setattr(spare, "_YOUNGEST", 60.0)
    elif fault == "elsewhere":
        monkeypatch.setattr(spare, "_is_local", lambda _: False)
    elif fault == "many days":
        monkeypatch.setattr(spare, "MOST_DAYS", 0)
    elif fault == "two names":
        (settled.home / "backup").hardlink_to(old)
    else:

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(spare._Source, "_replace_days", full)
    touch(settled, 3)
    assert publish(settled, [BTC]).whole
    assert published(settled) == private(settled)


def test_a_file_of_another_version_is_not_brought_up_to_date(settled: Warehouse) -> None:
    """Its tables look the same, but every reader of the result would refuse it."""
    with duckdb.connect(str(spare.spare_path(settled))) as con:
        con.execute("UPDATE schema_version SET version = version - 1")
    spare.seal(spare.spare_path(settled))
    touch(settled, 9)
    assert publish(settled, [BTC]).whole
    assert published(settled) == private(settled)


def test_a_file_in_use_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert spare.unread(path)
    with path.open("rb"):
        assert not spare.unread(path)
    child = subprocess.Popen(["sleep", "30"], stdin=path.open("rb"))
    try:
        assert not spare.unread(path)
    finally:
        child.kill()
        child.wait()


def test_a_seal_is_broken_by_any_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert not spare._sealed(path.stat())
    spare.seal(path)
    assert spare._sealed(path.stat())
    path.rename(tmp_path / "renamed")
    path = tmp_path / "renamed"
    assert spare._sealed(path.stat())
    with path.open("r+b") as file:
        file.write(b"x")
    assert not spare._sealed(path.stat())


@pytest.mark.slow
def test_readers_meet_no_error_and_no_mixture(settled: Warehouse) -> None:
    """As in test_publish, with files that are used again while readers open and close them."""
    wholes = []
    with readers(settled, least=10) as wait_for_two:
        for number in range(tries(25, 3)):
            put_version(settled, number)
            wholes.append(publish(settled, [BTC]).whole)
            wait_for_two()
    assert wholes.count(False) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("take", "after"),
        ("_replace_days", "after"),
        ("has_as_many_rows", "before"),
        ("keep", "after"),
        ("_sync", "after"),
    ],
)
def test_a_kill_leaves_the_old_file(settled: Warehouse, step: str, when: str) -> None:
    before, inode, rows = settled.published.read_bytes(), settled.published.stat().st_ino, published(settled)
    module: Any = publication if step == "_sync" else spare._Source if hasattr(spare._Source, step) else spare
    do = getattr(module, step)

    def dying(*args: object) -> None:
        if when == "after":
            do(*args)
        die()

    def publish_and_die() -> None:
        setattr(module, step, dying)
        publish(settled, [BTC])

    touch(settled, 4)
    assert ended(publish_and_die) == -signal.SIGKILL
    assert (settled.published.read_bytes(), settled.published.stat().st_ino) == (before, inode)
    assert published(settled) == rows
    for number in (5, 6):  # into each of the two files
        touch(settled, number)
        publish(settled, [BTC])
        assert published(settled) == private(settled)
    assert settled.published.stat().st_nlink == 1
