"""A large home's publication: views over parts show what real tables would, whatever happens, and nobody is without."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.files import state_of
from heatmap_pipeline.store import by_parts, catalogue, parts
from heatmap_pipeline.store.backup import BackupError, back_up, chosen, restore
from heatmap_pipeline.store.export import export
from heatmap_pipeline.store.forget import forget_symbol
from heatmap_pipeline.store.manifest import Manifest
from heatmap_pipeline.store.parts import by_month
from heatmap_pipeline.store.publish import PublishReport, publication, publish, published_prints
from heatmap_pipeline.store.schema import comments, symbol_tables
from heatmap_pipeline.store.spare import spare_path
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._examples import tries
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.earlier import become_version_1
from heatmap_pipeline_tests.store.tiny import DAYS, change, digest

ALWAYS, NEVER = 0.0, 1e12
LARGE = {table.name for table in symbol_tables(private=False) if by_month(table)}


def generations(warehouse: Warehouse) -> list[Path]:
    """Return the folders of parts, the oldest first, and whatever else is there."""
    return sorted((warehouse.home / "parts").glob("*"))


def views(warehouse: Warehouse) -> set[str]:
    """Return which tables are views."""
    with duckdb.connect(str(warehouse.published), read_only=True) as con:
        found = {name for (name,) in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    return found & {table.name for table in symbol_tables()}


def inodes(warehouse: Warehouse, *symbols: str) -> dict[str, int]:
    """Return which file each part of symbols is, in the newest folder."""
    newest = generations(warehouse)[-1]
    files = [path for symbol in symbols for path in newest.glob(f"*/symbol={symbol}/*.parquet")]
    return {path.relative_to(newest).as_posix(): path.stat().st_ino for path in files}


def assert_same(one: Warehouse, other: Warehouse) -> None:
    """Hold every table of two publications against each other: rows, types, and what is said of them."""
    with duckdb.connect() as con:
        for name, warehouse in (("one", one), ("other", other)):
            con.execute(f"ATTACH '{warehouse.published}' AS {name} (READ_ONLY)")
        for table in symbol_tables():
            for left, right in (("one", "other"), ("other", "one")):
                found = con.execute(f"FROM {left}.{table.name} EXCEPT ALL FROM {right}.{table.name} LIMIT 1").fetchall()
                assert not found, f"{table.name} of {left} has a row more"
        shapes = [con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = ? AND NOT internal ORDER BY ALL", [name]
        ).fetchall() for name in ("one", "other")]  # fmt: skip
        assert shapes[0] == shapes[1]
        for name in ("one", "other"):
            said = con.execute(
                "SELECT table_name, '', comment FROM duckdb_tables() WHERE database_name = $1 UNION ALL "
                "SELECT view_name, '', comment FROM duckdb_views() WHERE database_name = $1 AND NOT internal UNION ALL "
                "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = $1", [name]
            ).fetchall()  # fmt: skip
            words = {(of, column): text for of, column, text in said if text}
            assert words == {key: text for key, text in comments().items() if text}


@contextmanager
def open_elsewhere(path: Path, statement: str = "SELECT 1") -> Iterator[None]:
    """Have another process hold a database open for writing, as an analyst's client does."""
    script = (
        f"import duckdb; con = duckdb.connect({str(path)!r}); con.execute({statement!r}); "
        "print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        yield
        other.communicate("\n", timeout=30)


class Twins:
    """A home in tables and the same home in views, to which the same things happen."""

    def __init__(self, tables: Warehouse) -> None:
        self.tables = tables
        shutil.copytree(tables.home, tables.home.with_name("views"))
        self.views = Warehouse(tables.home.with_name("views"), lock_timeout=20)
        self.limit = ALWAYS

    def change(self, symbol: str, statement: str | None = None, *, day: date = DAYS[1], number: int = 7) -> None:
        """Give a symbol other rows."""
        for warehouse in (self.tables, self.views):
            with warehouse.connect(symbol) as con:
                if statement:
                    con.execute(statement)
                else:
                    change(con, symbol, day, number)

    def publish(self, *symbols: str) -> PublishReport:
        """Publish in both; return what it did in the one in views."""
        publish(self.tables, symbols, tables_up_to=NEVER)
        report = publish(self.views, symbols, tables_up_to=self.limit)
        self.assert_same()
        return report

    def forget(self, symbol: str) -> None:
        forget_symbol(self.tables, symbol, tables_up_to=NEVER)
        forget_symbol(self.views, symbol, tables_up_to=self.limit)

    def assert_same(self) -> None:
        """Hold the rows against each other by sums of their hashes, which is quicker."""
        found = []
        for warehouse in (self.tables, self.views):
            with warehouse.read() as con:
                found.append(digest(con))
        assert found[0] == found[1]


@pytest.fixture
def twins(three: Warehouse) -> Twins:
    return Twins(three)


def test_views_show_what_tables_do(twins: Twins) -> None:
    twins.change("BTCUSDT", "INSERT INTO failed_days VALUES ('BTCUSDT', 'x', '2024-03-09', 'why', '2024-03-10')")
    assert twins.publish("BTCUSDT", "ETHUSDT").whole
    assert_same(twins.tables, twins.views)
    filled = {name for name in LARGE if list(generations(twins.views)[0].glob(f"{name}/*/*.parquet"))}
    assert views(twins.views) == filled > {"raw_candles", "position_events", "liquidation_snapshots"}
    private = {table.name for table in symbol_tables() if table.private}
    assert not private & {path.name for path in generations(twins.views)[0].iterdir()}
    twins.change("ETHUSDT")
    twins.change("BTCUSDT")
    before = inodes(twins.views, "ETHUSDT")
    report = twins.publish("BTCUSDT")
    assert (report.changed, report.published, report.kept) == (True, ("BTCUSDT",), ("ETHUSDT",))
    assert not report.whole
    assert inodes(twins.views, "ETHUSDT") == before, "files of another symbol are the same files"
    present = state_of(twins.views.published)
    assert not twins.publish("BTCUSDT").changed
    assert not publish(twins.views, [], tables_up_to=ALWAYS).changed
    assert state_of(twins.views.published) == present
    for table in ("heatmap_days", "raw_days", "raw_candles"):
        twins.change("SOLUSDT", f"DELETE FROM {table} WHERE day > '2024-03-01'")
    twins.publish("BTCUSDT", "ETHUSDT", "SOLUSDT")
    assert_same(twins.tables, twins.views)
    assert len(generations(twins.views)) == 2, "the newest, and that of the file before"


def test_it_switches_there_and_back(twins: Twins) -> None:
    twins.limit = NEVER
    twins.publish("BTCUSDT", "ETHUSDT")
    assert not views(twins.views)
    spare_path(twins.views).write_bytes(b"the file published before")
    twins.change("ETHUSDT")
    private = twins.views.path("ETHUSDT")
    before = state_of(private)
    twins.limit = ALWAYS
    report = twins.publish("BTCUSDT")
    assert (report.changed, report.whole, report.kept) == (True, True, ("ETHUSDT",))
    assert views(twins.views)
    assert state_of(private) == before, "the rows of one that is not asked for are those that are published"
    assert not spare_path(twins.views).exists()
    assert not (twins.views.home / ".heatmap.published").exists()
    twins.limit = NEVER
    twins.publish("BTCUSDT")
    assert not views(twins.views)
    assert len(generations(twins.views)) == 1, "who has the former file open may be reading it"
    twins.change("BTCUSDT", day=DAYS[2])
    twins.publish("BTCUSDT")
    assert not (twins.views.home / "parts").exists()


def test_a_switch_tells_how_far_it_is(three: Warehouse) -> None:
    told: list[tuple[str, int, int]] = []

    def publish_telling(*symbols: str, limit: float) -> list[tuple[str, int, int]]:
        told.clear()
        publish(three, symbols, tables_up_to=limit, tell=lambda *step: told.append(step))
        return told

    names = three.symbols()
    publish_telling(*names, limit=NEVER)
    count = len(names)
    assert publish_telling(names[0], limit=ALWAYS) == [("parts", done, count) for done in range(count + 1)]
    with three.connect(names[0]) as con:
        change(con, names[0], DAYS[1], 7)
    assert publish_telling(names[0], limit=ALWAYS) == []
    assert publish_telling(limit=NEVER) == [("tables", done, count) for done in range(count + 1)]


def test_the_spare_file_makes_room_for_the_parts(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(warehouse, ["BTCUSDT"], tables_up_to=NEVER)
    spare_path(warehouse).write_bytes(b"the file published before")
    there = []

    def cut(*arguments: Any, **more: Any) -> Any:
        there.append(spare_path(warehouse).exists())
        return parts.cut(*arguments, **more)

    monkeypatch.setattr(by_parts, "cut", cut)
    publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
    assert there == [False]


def test_nothing_switches_where_the_disk_has_no_room_for_it(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    twins.limit = NEVER
    twins.publish("BTCUSDT", "ETHUSDT")
    for limit, form in ((ALWAYS, "parts"), (NEVER, "real tables")):
        before = views(twins.views)
        twins.change("BTCUSDT", number=8 if before else 7)
        twins.limit = limit
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
            assert twins.publish("BTCUSDT").changed
            assert views(twins.views) == before
            assert f"goes over to {form} once there is room: the disk has 0.0 GB left" in caplog.text
        twins.publish("BTCUSDT")
        assert bool(views(twins.views)) == (not before)


def test_between_the_two_sizes_nothing_switches(warehouse: Warehouse) -> None:
    size = warehouse.path("BTCUSDT").stat().st_size
    publish(warehouse, ["BTCUSDT"], tables_up_to=size)
    assert not views(warehouse)
    publish(warehouse, ["BTCUSDT"], tables_up_to=size - 1)
    assert views(warehouse)
    assert not publish(warehouse, ["BTCUSDT"], tables_up_to=1.2 * size).changed
    assert publish(warehouse, ["BTCUSDT"], tables_up_to=1.3 * size).changed
    assert not views(warehouse)


def test_while_a_private_file_is_lost_nothing_switches(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    private = twins.views.path("ETHUSDT")
    aside = private.rename(private.with_suffix(".aside"))
    twins.limit = NEVER
    twins.change("BTCUSDT")
    twins.publish("BTCUSDT")
    assert views(twins.views)
    aside.rename(private)
    twins.publish("BTCUSDT")
    assert not views(twins.views)


def test_of_a_month_that_did_not_change_no_file_is_written(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT") as con:
        for table in symbol_tables(private=False):
            if time := table.time_column:
                later = f"CAST({time} + INTERVAL 1 MONTH AS {table.types[time]})"
                con.execute(f"INSERT INTO {table.name} SELECT * REPLACE ({later} AS {time}) FROM {table.name}")
    publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
    before = inodes(warehouse, "BTCUSDT")
    with warehouse.connect("BTCUSDT") as con:
        change(con, "BTCUSDT", DAYS[1], 7)
    publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
    after = inodes(warehouse, "BTCUSDT")
    kept = {path for path, inode in before.items() if after.get(path) == inode}
    assert all("/2024-03-" in path or "/all-" in path for path in before.keys() - kept)
    assert {path for path in kept if "/2024-04-" in path} == {path for path in before if "/2024-04-" in path} != set()


def test_a_forgotten_symbol_is_in_no_folder(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT", "SOLUSDT")
    with twins.views.read() as con:
        twins.forget("ETHUSDT")
        twins.assert_same()
        assert not [path for path in twins.views.home.rglob("*") if "ETHUSDT" in path.name and path.suffix != ".lock"]
        ((rows,),) = con.execute("SELECT count(*) FROM raw_candles WHERE symbol = 'BTCUSDT'").fetchall()
        assert rows, "who has the former file open goes on reading the others"
    twins.forget("BTCUSDT")
    twins.forget("SOLUSDT")
    twins.assert_same()


def test_a_forget_that_was_killed_after_the_new_file_was_in_place_is_ended_by_the_next(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")

    def forget_and_die() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("heatmap_pipeline.store.publish.remove_older", lambda *_: die())
            forget_symbol(twins.views, "ETHUSDT", tables_up_to=ALWAYS)

    assert ended(forget_and_die) == -signal.SIGKILL
    assert list(twins.views.home.glob("parts/*/*/symbol=ETHUSDT/*.parquet"))
    twins.forget("ETHUSDT")
    twins.assert_same()
    assert not [path for path in twins.views.home.rglob("*") if "ETHUSDT" in path.name and path.suffix != ".lock"]


def test_a_disk_that_is_full_once_the_new_file_is_in_place_harms_nothing(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    twins.publish("BTCUSDT", "ETHUSDT")
    with monkeypatch.context() as patch:
        patch.setattr(by_parts, "mark_built", full)
        twins.forget("ETHUSDT")
    twins.assert_same()
    assert not [path for path in twins.views.home.rglob("*") if "ETHUSDT" in path.name and path.suffix != ".lock"]
    twins.change("BTCUSDT")
    twins.publish("BTCUSDT")


def test_a_switch_that_was_killed_leaves_nothing_where_tables_stay(twins: Twins) -> None:
    def publish_and_die() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(by_parts, "build", lambda *_, **__: die())
            publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)

    publish(twins.views, ["BTCUSDT"], tables_up_to=NEVER)
    assert ended(publish_and_die) == -signal.SIGKILL
    (twins.views.home / "parts" / ".1.new" / "raw_candles").mkdir(parents=True)  # of one that was killed before
    assert len(generations(twins.views)) == 2
    publish(twins.views, ["BTCUSDT"], tables_up_to=NEVER)
    assert not (twins.views.home / "parts").exists()


def test_below_a_folder_whose_name_says_a_symbol_tables_are_real(three: Warehouse, tmp_path: Path) -> None:
    """DuckDB would take the symbol of every row from it."""
    home = tmp_path / "symbol=X" / "home"
    shutil.copytree(three.home, home)
    below = Warehouse(home)
    publish(below, ["BTCUSDT", "ETHUSDT"], tables_up_to=ALWAYS)
    assert not views(below)
    with below.read() as con:
        found = con.execute("SELECT DISTINCT symbol FROM raw_candles ORDER BY symbol").fetchall()
    assert found == [("BTCUSDT",), ("ETHUSDT",)]


def test_who_has_the_former_file_open_goes_on_reading(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
    query = "SELECT sum(close) FROM raw_candles"
    with warehouse.read() as con:
        before = con.execute(query).fetchall()
        with warehouse.connect("BTCUSDT") as private:
            change(private, "BTCUSDT", DAYS[0], 7)
        publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
        assert con.execute(query).fetchall() == before
    with warehouse.read() as con:
        assert con.execute(query).fetchall() != before
    assert publish(warehouse, ["BTCUSDT"], tables_up_to=NEVER).changed
    with warehouse.read() as con:
        assert con.execute(query).fetchall() != before


def _dying(do: Callable[..., Any], count: int, when: str) -> Callable[..., Any]:
    """Return the same function, which ends the process before or after its call of that number."""

    def dying(*args: Any, **more: Any) -> Any:
        nonlocal count
        count -= 1
        if not count and when == "before":
            die()
        done = do(*args, **more)
        if not count:
            die()
        return done

    return dying


KILLS = [
    (by_parts, "cut", 1, "after"),
    (by_parts, "link", 5, "after"),
    (by_parts, "build", 1, "before"),
    (by_parts, "build", 1, "after"),
    (by_parts, "mark_built", 1, "after"),
    (shutil, "rmtree", 2, "before"),
]


@pytest.mark.parametrize("switch", [False, True])
def test_a_kill_leaves_what_was_published_or_what_is_new(twins: Twins, switch: bool) -> None:
    """Within views, and where real tables are to become views."""
    twins.limit = NEVER if switch else ALWAYS
    twins.publish("BTCUSDT", "ETHUSDT")
    for number, (place, step, count, when) in enumerate(KILLS[2:4] if switch else KILLS):
        twins.change("BTCUSDT", number=number)
        dying = _dying(getattr(place, step), count, when)

        def publish_and_die(place: Any = place, step: str = step, do: Any = dying) -> None:
            setattr(place, step, do)
            publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)

        before = twins.views.published.stat().st_ino
        assert ended(publish_and_die) == -signal.SIGKILL, step
        if switch:
            twins.limit = ALWAYS
        if twins.views.published.stat().st_ino == before:
            twins.assert_same()
        publish(twins.tables, ["BTCUSDT"], tables_up_to=NEVER)
        if twins.views.published.stat().st_ino != before:
            twins.assert_same()
        twins.change("BTCUSDT", day=DAYS[2], number=number)
        twins.publish("BTCUSDT")
        assert len(generations(twins.views)) <= 2, step
        assert not list(twins.views.home.glob(".heatmap.duckdb.*")), step
        if switch:
            twins.limit = NEVER
            twins.publish("BTCUSDT")


def test_what_a_killed_one_left_goes_first_and_what_readers_use_stays_though_one_fails(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.publish("BTCUSDT")
    with twins.views.read() as con:
        twins.change("BTCUSDT")
        twins.publish("BTCUSDT")
        used = generations(twins.views)

        def publish_and_die() -> None:
            monkeypatch.setattr(by_parts, "build", _dying(catalogue.build, 1, "before"))
            publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)

        twins.change("BTCUSDT", day=DAYS[2])
        assert ended(publish_and_die) == -signal.SIGKILL
        assert len(generations(twins.views)) == 3

        def full(*_: object, **__: object) -> None:
            assert [path for path in generations(twins.views) if not path.name.startswith(".")] == used
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(by_parts, "cut", full)
        with pytest.raises(StoreError, match="is full; make room"):
            publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)
        assert con.execute("SELECT count(*) FROM raw_candles").fetchall() > [(0,)]


def test_a_full_disk_leaves_what_was_published(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    twins.change("BTCUSDT")
    before, folders = state_of(twins.views.published), generations(twins.views)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("link", "sync", "build", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path if step == "rename" else by_parts, step, full)
            with pytest.raises(StoreError, match="is full; make room"):
                publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)
        assert state_of(twins.views.published) == before, step
        assert generations(twins.views) == folders, step
    twins.assert_same()
    assert twins.publish("BTCUSDT").changed


def test_a_home_that_was_moved_says_what_to_type_and_is_made_anew(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    old = twins.views
    twins.views = Warehouse(old.home.rename(old.home.with_name("it's [moved]")), lock_timeout=20)
    with pytest.raises(StoreError, match=r"was the home moved.*; remove .* `heatmap refresh --home .*moved.*` makes"):  # noqa: SIM117
        with twins.views.read() as con:
            con.execute("SELECT count(*) FROM raw_candles").fetchall()
    with pytest.raises(StoreError, match="was the home moved"):
        export(twins.views, twins.views.home.with_name("tree"))
    assert published_prints(twins.views, ["BTCUSDT"]) == {}, "else a run would find nothing to do"
    assert publish(twins.views, [], tables_up_to=ALWAYS).changed
    twins.assert_same()
    assert not publish(twins.views, [], tables_up_to=ALWAYS).changed
    there = publication(twins.views)
    assert there is not None
    assert there.parts is not None
    assert not there.parts.moved


def test_parts_that_are_gone_are_made_anew(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    for loss in ("file", "cut off", "manifest", "all"):
        newest = generations(twins.views)[-1]
        part = next(newest.glob("position_events/symbol=ETHUSDT/*"))
        match loss:
            case "file":
                part.unlink()
            case "cut off":
                part.write_bytes(part.read_bytes()[:-100])
            case "manifest":
                (newest / "manifests" / "ETHUSDT.json").write_text("{}")
            case "all":
                shutil.rmtree(twins.views.home / "parts")
        if loss in ("cut off", "all"):
            with pytest.raises(StoreError, match="makes them anew"), twins.views.read() as con:
                con.execute("SELECT * FROM position_events").fetchall()
        assert published_prints(twins.views, ["BTCUSDT"]) == {}, loss
        assert publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS).changed, loss
        twins.assert_same()


@pytest.mark.parametrize("harm", [bytes, lambda size: b"PAR1" + b"x" * (size - 8) + b"PAR1"], ids=["zeros", "a shell"])
def test_parts_that_are_damaged_are_made_anew_where_they_are_read(twins: Twins, harm: Callable[[int], bytes]) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    for table in ("position_events", "raw_candles"):
        (part, *_) = generations(twins.views)[0].glob(f"{table}/symbol=ETHUSDT/*.parquet")
        part.write_bytes(harm(part.stat().st_size))
    twins.limit = NEVER  # so that all of them are read
    twins.change("BTCUSDT")
    twins.publish("BTCUSDT")
    assert not views(twins.views)


def test_parts_that_are_damaged_stay_where_nobody_can_make_them_anew(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    (part, *_) = generations(twins.views)[0].glob("raw_candles/symbol=ETHUSDT/*.parquet")
    part.write_bytes(bytes(part.stat().st_size))
    hidden = twins.views.path("ETHUSDT").rename(twins.views.home / "hidden")
    twins.change("BTCUSDT", "UPDATE symbols SET bucket = 50")
    with pytest.raises(StoreError, match=r"the parts of ETHUSDT in .* are gone or damaged, and so are their private"):
        by_hand(twins.views)
    assert part.exists()
    hidden.rename(twins.views.path("ETHUSDT"))
    by_hand(twins.views)
    publish(twins.tables, ["BTCUSDT"], tables_up_to=NEVER)
    twins.assert_same()


def by_hand(warehouse: Warehouse) -> None:
    """Publish as if nobody had looked how large the home is: in tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatmap_pipeline.store.publish._views_wanted", lambda *_: False)
        publish(warehouse, ["BTCUSDT"])


def test_everybody_may_read_parts_as_everybody_may_read_the_file(warehouse: Warehouse) -> None:
    before = os.umask(0o077)
    try:
        publish(warehouse, ["BTCUSDT"], tables_up_to=ALWAYS)
    finally:
        os.umask(before)
    parts = warehouse.home / "parts"
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [parts, *parts.rglob("*")]}
    assert modes == {(True, 0o755), (False, 0o644)}, "and what `status` reads: manifests"


def test_parts_that_nobody_can_make_anew_are_named_until_the_symbol_is_forgotten(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    shutil.rmtree(generations(twins.views)[0] / "position_events" / "symbol=ETHUSDT")
    twins.views.path("ETHUSDT").unlink()
    twins.change("BTCUSDT", "UPDATE symbols SET bucket = 50")
    with pytest.raises(StoreError, match=r"the parts of ETHUSDT in .* are gone.*`heatmap run ETHUSDT --start DAY"):
        publish(twins.views, ["BTCUSDT"], tables_up_to=ALWAYS)
    twins.forget("ETHUSDT")
    twins.publish("BTCUSDT")


def test_a_backup_has_no_parts_and_a_restored_home_makes_them_anew(twins: Twins, tmp_path: Path) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    folder = back_up(twins.views, tmp_path / "backups", {}).folder
    assert not [path for path in folder.rglob("*") if path.suffix == ".parquet"]
    twins.views = Warehouse(tmp_path / "restored", lock_timeout=20)
    restore(twins.views, *chosen(folder), replace=False)
    assert publish(twins.views, [], tables_up_to=ALWAYS).changed
    twins.assert_same()
    with twins.views.read() as con:
        assert con.execute("SELECT symbol FROM symbols ORDER BY 1").fetchall() == [("BTCUSDT",), ("ETHUSDT",)]


def test_a_backup_that_would_hold_less_than_is_published_is_refused(twins: Twins, tmp_path: Path) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    for warehouse in (twins.tables, twins.views):
        warehouse.path("ETHUSDT").unlink()
    back_up(twins.tables, tmp_path / "backups", settings={})
    words = (
        r"private files of ETHUSDT are gone, .*`heatmap refresh ETHUSDT.*`, or take them out with `heatmap forget ETH"
    )
    with pytest.raises(BackupError, match=words):
        back_up(twins.views, tmp_path / "of views", settings={})
    assert not list((tmp_path / "of views").glob("*/*"))
    twins.forget("ETHUSDT")
    back_up(twins.views, tmp_path / "of views", settings={})


def test_what_cannot_be_read_of_what_is_published_stops_no_backup(warehouse: Warehouse, tmp_path: Path) -> None:
    """And nobody copies all of it to say what it is: it may be large."""
    publish(warehouse, ["BTCUSDT"])
    with open_elsewhere(warehouse.published), pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatmap_pipeline.store.publish._copied", lambda _: pytest.fail("it is copied"))
        assert publication(warehouse) is None
        back_up(warehouse, tmp_path / "open", {})
    there = publication(warehouse)
    assert there is not None
    assert there.symbols == ("BTCUSDT",)
    harmed = bytes(warehouse.published.stat().st_size)
    warehouse.published.write_bytes(harmed)
    folder = back_up(warehouse, tmp_path / "damaged", {}).folder
    assert (folder / "heatmap.duckdb").read_bytes() == harmed
    assert (folder / "warehouse" / "BTCUSDT.duckdb").exists()


def test_an_export_is_the_same_tree(twins: Twins, tmp_path: Path) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    trees = []
    for warehouse in (twins.tables, twins.views):
        folder = tmp_path / f"tree {warehouse.home.name}"
        export(warehouse, folder)
        trees.append({path.relative_to(folder): path for path in folder.rglob("*.parquet")})
    assert trees[0].keys() == trees[1].keys()
    with duckdb.connect() as con:
        for path, of_tables in trees[0].items():
            query = "SELECT * FROM read_parquet('{}', hive_partitioning = false)"
            one, other = (con.execute(query.format(each)).fetchall() for each in (of_tables, trees[1][path]))
            assert one == other, f"{path}: rows in their order"


def test_somebody_who_writes_into_what_is_published_stops_nothing(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    twins.change("BTCUSDT")
    with open_elsewhere(twins.views.published, "CREATE TABLE mine (a INTEGER)"):
        twins.publish("BTCUSDT")
    twins.assert_same()
    assert not twins.views.published.with_name("heatmap.duckdb.wal").exists()


def test_while_somebody_has_real_tables_open_for_writing_they_stay(twins: Twins) -> None:
    twins.limit = NEVER
    twins.publish("BTCUSDT", "ETHUSDT")
    twins.change("BTCUSDT")
    twins.limit = ALWAYS
    with open_elsewhere(twins.views.published):
        twins.publish("BTCUSDT")
        assert not views(twins.views)
    twins.publish("BTCUSDT")
    assert views(twins.views)


def test_real_tables_of_an_earlier_version_get_the_tables_of_today_first(twins: Twins) -> None:
    twins.limit = NEVER
    twins.publish("BTCUSDT", "ETHUSDT")
    for warehouse in (twins.tables, twins.views):
        become_version_1(warehouse.published)
    twins.change("BTCUSDT")
    twins.limit = ALWAYS
    twins.publish("BTCUSDT")
    assert not views(twins.views)
    twins.publish("BTCUSDT")
    assert views(twins.views)


def test_parts_of_an_earlier_version_get_the_columns_of_today(twins: Twins) -> None:
    twins.publish("BTCUSDT", "ETHUSDT")
    (newest,) = generations(twins.views)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        path = newest / "manifests" / f"{symbol}.json"
        manifest = Manifest.model_validate_json(path.read_bytes())
        parts = []
        for part in manifest.parts:
            file, size = newest / part.path(symbol).removeprefix("parts/"), part.bytes
            if part.table == "book_ledger":
                with duckdb.connect() as con:
                    query = f"SELECT * EXCLUDE rescaled FROM read_parquet('{file}', hive_partitioning = false)"
                    con.execute(f"COPY ({query}) TO '{file}.new' (FORMAT parquet)")
                file.with_name(f"{file.name}.new").replace(file)
                size = file.stat().st_size
            parts.append(part.model_copy(update={"bytes": size}))
        path.write_bytes(manifest.model_copy(update={"schema_version": 2, "parts": tuple(parts)}).written())
        twins.change(symbol, "UPDATE book_ledger SET rescaled = 0.0")
    with duckdb.connect(str(twins.views.published)) as con:
        con.execute("UPDATE schema_version SET version = 2")
    with duckdb.connect(str(twins.tables.published)) as con:
        con.execute("UPDATE book_ledger SET rescaled = 0.0")
    twins.change("BTCUSDT")
    twins.publish("BTCUSDT")


def test_what_another_version_shows_is_kept_with_what_it_shows(twins: Twins) -> None:
    twins.publish("BTCUSDT")
    with duckdb.connect(str(twins.views.published)) as con:
        con.execute("UPDATE schema_version SET version = 99")
    for day in DAYS:
        twins.change("BTCUSDT", day=day)
        twins.publish("BTCUSDT")
    with duckdb.connect(str(twins.views.home / "heatmap.schema-99.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM raw_candles").fetchall() > [(0,)]
    assert len(generations(twins.views)) == 3
    aside = twins.views.home / "heatmap.schema-99.duckdb"
    with duckdb.connect(str(aside), read_only=True) as con:
        named = catalogue.views_over(con)
    assert named is not None
    with open_elsewhere(aside):
        for day in DAYS:
            twins.change("BTCUSDT", day=day, number=8)
            twins.publish("BTCUSDT")
    assert named.is_dir(), "open elsewhere"
    twins.views = Warehouse(twins.views.home.rename(twins.views.home.with_name("moved")), lock_timeout=20)
    for day in DAYS:
        twins.change("BTCUSDT", day=day, number=9)
        twins.publish("BTCUSDT")
    assert (twins.views.home / "parts" / named.name).is_dir(), "moved"
    assert len(generations(twins.views)) == 3


def test_a_file_system_without_links_gets_copies(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    twins.publish("BTCUSDT", "ETHUSDT")
    before = inodes(twins.views, "ETHUSDT")
    twins.change("BTCUSDT")
    monkeypatch.setattr(Path, "hardlink_to", none)
    twins.publish("BTCUSDT")
    after = inodes(twins.views, "ETHUSDT")
    assert after.keys() == before.keys()
    assert not {*after.values()} & {*before.values()}


def test_a_folder_that_only_lets_read_is_read(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every folder can be written, so the answer of the system is said here."""
    twins.publish("BTCUSDT")

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with twins.views.read() as con:
        assert con.execute("SELECT count(*) FROM raw_candles").fetchall() > [(0,)]
    there = publication(twins.views)
    assert there is not None
    assert there.lost() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(tries(12, 12)))
def test_whatever_happens_in_whatever_order(twins: Twins, seed: int) -> None:
    choose = random.Random(seed)
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    for number in range(7):
        step = choose.choice(["publish", "publish", "publish", "switch", "forget", "lose", "kill"])
        chosen_ = choose.sample(symbols, choose.randint(1, len(symbols)))
        twins.change(choose.choice(chosen_), day=choose.choice(DAYS), number=number)
        if step == "switch":
            twins.limit = NEVER if twins.limit == ALWAYS else ALWAYS
        elif step == "forget" and len(symbols) > 1:
            symbols.remove(gone := choose.choice(symbols))
            chosen_ = [name for name in chosen_ if name != gone] or symbols[:1]
            twins.forget(gone)
        elif step == "lose" and (files := sorted((twins.views.home / "parts").rglob("*.parquet"))):
            choose.choice(files).unlink()
            chosen_ = list(symbols)
        elif step == "kill":
            place, name, count, when = choose.choice(KILLS)

            dying = _dying(getattr(place, name), count, when)

            def killed(place: Any = place, name: str = name, do: Any = dying, about: Any = tuple(chosen_)) -> None:
                setattr(place, name, do)
                publish(twins.views, about, tables_up_to=twins.limit)

            assert ended(killed) in (0, -signal.SIGKILL)
        twins.publish(*chosen_)
