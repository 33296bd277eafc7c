"""The catalogue: a reader of the store's heatmap.duckdb sees what one of an embedded home sees, and fetches little."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import duckdb
import pytest

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.fleet.collect import collect, manifests
from heatmap_pipeline.fleet.pull import PullError, pull
from heatmap_pipeline.fleet.worker import open_bucket, shard
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.bucket import Bucket, BucketError
from heatmap_pipeline.store.export import export
from heatmap_pipeline.store.manifest import Manifest
from heatmap_pipeline.store.parts import by_month
from heatmap_pipeline.store.schema import View, comments, relations, symbol_tables
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests.api.homes import TestClient
from heatmap_pipeline_tests.fleet.conftest import at_the_hour, both
from heatmap_pipeline_tests.fleet.stores import parts_named, parts_there
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, day, real, tables

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

Machine = Callable[..., Settings]
Begin = Callable[[Settings, str], None]

ENDPOINTS = (
    f"/liquidations/heatmap-timeseries?symbol={BTC}&start_time={day(1)}&interval=1h",
    f"/liquidations/heatmap-timeseries?symbol={ETH}&start_time={day(2)}&interval=1h&format=columns&model=delta",
    f"/liquidations/map?symbol={BTC}",
    f"/liquidations/map?symbol={ETH}&model=delta",
    f"/liquidations/lots?symbol={BTC}&time={day(2)}T12:00:00Z",
)


def answers(settings: Settings) -> list[bytes]:
    """Return what is served of a home, byte for byte."""
    with TestClient(create_app(settings)) as client:
        got = [client.get(path) for path in ENDPOINTS]
    assert [answer.status_code for answer in got] == [200] * len(got), [answer.text[:200] for answer in got]
    return [answer.content for answer in got]


def contents(database: Path) -> dict[str, tuple[object, ...]]:
    """Return the number of rows of every table of a database, a table or a view, and a sum over all their values.

    Without what differs between any two homes.
    """
    with duckdb.connect(str(database), read_only=True) as con:
        found = {}
        for table in symbol_tables(private=False):
            columns = ", ".join(f'"{name}"' for name in table.types if name != "created_at")
            rows = f"(SELECT {columns} FROM {table.name})"
            (found[table.name],) = con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {rows} AS t").fetchall()
        return found


@pytest.fixture(scope="session")
def served(embedded: Path, archive: Path) -> list[bytes]:
    """What is served of the embedded home."""
    with at_the_hour():
        return answers(real(embedded, archive, BTC, ETH))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were fetched from the store."""
    paths: list[str] = []
    fetch = Bucket.fetch

    def note(self: Bucket, path: str, target: Path) -> bool:
        paths.append(path)
        return fetch(self, path, target)

    monkeypatch.setattr(Bucket, "fetch", note)
    return paths


@both
def test_what_is_pulled_is_served_as_an_embedded_home_is(
    settings_of: Machine,
    begin: Begin,
    embedded: Path,
    served: list[bytes],
    archive: Path,
    tmp_path: Path,
    fetched: list[str],
) -> None:
    settings = settings_of(BTC, ETH)
    begin(settings, "1-2")
    folder = tmp_path / "reader"
    first = pull(settings, folder)
    assert (first.symbols, first.replaced, first.fetched) == (2, True, first.parts)
    begin(settings, "1-3")
    fetched.clear()
    second = pull(settings, folder)
    kept = parts_named(settings) - set(fetched)
    assert kept, "what did not change is not fetched again"
    assert len(set(fetched)) == len(fetched) == second.fetched == second.parts - len(kept)
    published = Warehouse(folder).published
    assert_same(tables(published), tables(embedded / "heatmap.duckdb"))
    assert answers(real(folder, archive, BTC, ETH)) == served
    before = published.stat()
    third = pull(settings, folder)
    assert (third.replaced, third.fetched, third.removed) == (False, 0, 0)
    assert published.stat() == before


def test_large_tables_are_views_where_there_is_too_much(
    settings_of: Machine, begin: Begin, embedded: Path, served: list[bytes], archive: Path, tmp_path: Path
) -> None:
    settings, folder = settings_of(BTC, ETH), tmp_path / "reader"
    begin(settings, "1-3")
    assert pull(settings, folder, tables_up_to=1000).replaced
    published = Warehouse(folder).published
    with duckdb.connect(str(published), read_only=True) as con:
        kinds = dict(con.execute("SELECT table_name, table_type FROM information_schema.tables").fetchall())
        said = con.execute(
            "SELECT view_name, '', comment FROM duckdb_views() WHERE NOT internal UNION ALL "
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        shapes = {t.name: con.execute(f"DESCRIBE {t.name}").fetchall() for t in symbol_tables(private=False)}
    large = {table.name for table in symbol_tables() if by_month(table)}
    there = {path.split("/")[1] for path in parts_named(settings)}
    views = {relation.name for relation in relations() if isinstance(relation, View)}
    assert {name for name, kind in kinds.items() if kind == "VIEW"} == (large & there) | views
    assert {(name, column): text for name, column, text in said if name in large} == {
        key: text for key, text in comments().items() if key[0] in large and (key[1] or key[0] in there)
    }
    with duckdb.connect(str(embedded / "heatmap.duckdb"), read_only=True) as con:
        for name, shape in shapes.items():
            assert [row[:2] for row in shape] == [row[:2] for row in con.execute(f"DESCRIBE {name}").fetchall()]
    assert contents(published) == contents(embedded / "heatmap.duckdb")
    assert answers(real(folder, archive, BTC, ETH)) == served
    for path in (folder / "parts").glob(f"*/position_events/symbol={ETH}/*"):
        path.write_bytes(b"no part")
    with duckdb.connect(str(published), read_only=True) as con:
        query = "SELECT count(*) FROM position_events WHERE symbol = ?"
        assert con.execute(query, [BTC]).fetchall() > [(0,)], "only the folder of the symbol is opened"
        with pytest.raises(duckdb.Error, match=r"magic bytes|too small"):
            con.execute(query, [ETH]).fetchall()


def test_who_has_the_former_file_open_goes_on_reading(settings_of: Machine, begin: Begin, tmp_path: Path) -> None:
    settings, folder = settings_of(BTC, models=("delta",)), tmp_path / "reader"
    begin(settings, "1")
    pull(settings, folder, tables_up_to=0)
    with Warehouse(folder).read() as con:
        ((before,),) = con.execute("SELECT count(*) FROM position_events").fetchall()
        begin(settings, "2")
        pull(settings, folder, tables_up_to=0)
        assert con.execute("SELECT count(*) FROM position_events").fetchall() == [(before,)]
    with Warehouse(folder).read() as con:
        assert con.execute("SELECT count(*) FROM position_events").fetchall() > [(before,)]
    begin(settings, "3")
    pull(settings, folder, tables_up_to=0)
    assert len(list((folder / "parts").iterdir())) == 2, "the newest, and the one before it"


def test_what_cannot_be_pulled_is_said_and_changes_nothing(settings_of: Machine, begin: Begin, tmp_path: Path) -> None:
    settings, folder = settings_of(BTC, models=("delta",)), tmp_path / "reader"
    with pytest.raises(PullError, match=r"nothing is stored in file://.* yet"):
        pull(settings, folder)
    begin(settings, "1")
    pull(settings, folder)
    before = Warehouse(folder).published.read_bytes()
    first = parts_named(settings)
    begin(settings, "2")
    lost = sorted(parts_named(settings) - first)[-1]
    Bucket(settings.store).remove([lost])
    with pytest.raises(BucketError, match="is missing"):
        pull(settings, folder)
    assert Warehouse(folder).published.read_bytes() == before
    with Warehouse(folder / "home").connect(BTC):
        pass
    with pytest.raises(StoreError, match="has a warehouse of its own"):
        pull(settings, folder / "home")


def test_the_query_of_the_documentation_reads_what_is_committed(settings_of: Machine, begin: Begin) -> None:
    """Over a folder, as no httpfs is at hand here."""
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "2")
    (query,) = re.findall("```sql\n(.*?)```", (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(), re.DOTALL)
    lines = [line for line in query.splitlines() if not line.startswith(("INSTALL", "CREATE SECRET"))]
    with duckdb.connect() as con:
        con.execute("\n".join(lines).replace("s3://markets/heatmap", settings.store.removeprefix("file://")))
        days = [row[0] for row in con.fetchall()]
    assert len(days) == 2 * 288


def test_parts_that_go_while_they_are_pulled_are_in_no_view(
    settings_of: Machine, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit and a collection in the middle of the parts of the manifest before."""
    settings, fetch, fetched = settings_of(BTC, models=("delta",)), Bucket.fetch, [0]
    begin(settings, "1")
    many = len(parts_named(settings)) // 2

    def late(self: Bucket, path: str, target: Path) -> bool:
        fetched[0] += 1
        if fetched[0] == many:
            begin(settings, "2")
            self.remove(sorted(parts_there(settings) - parts_named(settings)))
        return fetch(self, path, target)

    monkeypatch.setattr("heatmap_pipeline.fleet.worker.AT_ONCE", 1)
    monkeypatch.setattr(Bucket, "fetch", late)
    for name in ("meanwhile", "afterwards"):
        pull(settings, tmp_path / name, tables_up_to=0)
    assert fetched[0] > many
    assert contents(tmp_path / "meanwhile" / "heatmap.duckdb") == contents(tmp_path / "afterwards" / "heatmap.duckdb")


def test_what_a_killed_pull_left_is_removed_and_not_filled_again(
    settings_of: Machine, begin: Begin, tmp_path: Path
) -> None:
    settings, folder = settings_of(BTC, models=("delta",)), tmp_path / "reader"
    begin(settings, "1")
    pull(settings, folder)
    published = Warehouse(folder).published
    rows = contents(published)
    # Killed when the new file was whole; in a container the next pull has the same number.
    published.rename(folder / f".heatmap.duckdb.{os.getpid()}.catalogue")
    (folder / ".heatmap.duckdb.1.catalogue").write_bytes(b"half")
    (folder / "parts" / ".1.new" / "raw_candles").mkdir(parents=True)
    assert pull(settings, folder).replaced
    assert contents(published) == rows
    assert [path for path in (*folder.iterdir(), *(folder / "parts").iterdir()) if path.name.startswith(".")] == []


def test_a_folder_that_was_moved_or_lost_parts_is_made_anew(settings_of: Machine, begin: Begin, tmp_path: Path) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    pull(settings, tmp_path / "reader", tables_up_to=0)
    published = Warehouse(tmp_path / "reader").published
    rows = contents(published)
    moved = (tmp_path / "reader").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"`heatmap fleet catalogue --home .*moved`"), Warehouse(moved).read() as con:
        con.execute("FROM position_events").fetchall()
    assert pull(settings, moved, tables_up_to=0).replaced
    assert contents(Warehouse(moved).published) == rows
    assert not pull(settings, moved, tables_up_to=0).replaced
    for path in moved.glob("parts/*/position_events/*/*"):
        path.unlink()
    assert pull(settings, moved, tables_up_to=0).replaced
    assert contents(Warehouse(moved).published) == rows
    report = export(Warehouse(moved), tmp_path / "tree")
    assert report.written == report.files > 0


def test_the_folder_of_the_former_file_stays_though_a_pull_failed_between(
    settings_of: Machine, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = settings_of(BTC, models=("delta",)), tmp_path / "reader"
    begin(settings, "1")
    pull(settings, folder, tables_up_to=0)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Warehouse(folder).read() as con:
        ((before,),) = con.execute("SELECT count(*) FROM position_events").fetchall()
        begin(settings, "2")
        with monkeypatch.context() as patch:
            patch.setattr("heatmap_pipeline.fleet.pull.build", full)
            with pytest.raises(PullError, match="is full; make room"):
                pull(settings, folder, tables_up_to=0)
        begin(settings, "3")
        pull(settings, folder, tables_up_to=0)
        assert con.execute("SELECT count(*) FROM position_events").fetchall() == [(before,)]
    assert len(list((folder / "parts").iterdir())) == 2


def test_a_symbol_that_is_removed_this_moment_is_not_counted(
    settings_of: Machine, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    monkeypatch.setattr("heatmap_pipeline.fleet.pull.manifests", lambda bucket: {**manifests(bucket), ETH: None})
    assert pull(settings, tmp_path / "reader").symbols == 1


def test_a_full_disk_of_the_reader_is_not_blamed_on_the_store(
    settings_of: Machine, begin: Begin, tmp_path: Path, full_disk: None
) -> None:
    settings, folder = settings_of(BTC, models=("delta",)), tmp_path / "reader"
    begin(settings, "1")
    with pytest.raises(PullError, match=f"the disk that holds {folder} is full; make room"):
        pull(settings, folder)


@pytest.mark.parametrize("tables_up_to", [0, 1 << 30])
def test_a_folder_may_be_called_like_a_pattern(
    settings_of: Machine, begin: Begin, tmp_path: Path, tables_up_to: int
) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    for name in ("reader1", "reader[1]", "reader*"):
        pull(settings, tmp_path / name, tables_up_to=tables_up_to)
        assert contents(tmp_path / name / "heatmap.duckdb") == contents(tmp_path / "reader1" / "heatmap.duckdb")


# -- collecting


@both
def test_what_nobody_names_is_collected_after_the_grace_time(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "2")
    named, there = parts_named(settings), parts_there(settings)
    assert named < there, "the second run has replaced parts"
    day_long = collect(settings, timedelta(hours=24))
    assert (day_long.removed, day_long.kept) == (0, len(there))
    report = collect(settings, timedelta(0))
    assert (report.removed, report.kept) == (len(there - named), len(named))
    assert parts_there(settings) == named
    with shard(settings) as own:  # all of it can be read
        assert own.commit(BTC).parts == 0


def test_what_was_replaced_this_hour_stays_however_old_it_is(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    before = parts_there(settings)
    begin(settings, "2")
    for path in (Path(settings.store.removeprefix("file://")) / "parts").rglob("*.parquet"):
        os.utime(path, (0, 0))
    assert collect(settings, timedelta(hours=1)).removed == 0, "somebody may be reading them"
    collect(settings, timedelta(0))
    assert not (before - parts_named(settings)) & parts_there(settings)


def test_other_files_below_the_address_stay(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    others = [Path(settings.store.removeprefix("file://")) / name for name in ("parts/notes.txt", "parts/x.parquet")]
    for path in others:
        path.write_text("mine")
    assert collect(settings, timedelta(0)).removed == 0
    assert all(path.exists() for path in others)


def test_parts_that_a_worker_writes_again_meanwhile_stay(
    settings_of: Machine, begin: Begin, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a worker killed long ago; another one does its work again while what it left is being collected."""
    settings = settings_of(BTC, models=("delta",))
    left = _killed_before_it_committed(settings, begin, begun)
    for path in left:
        os.utime(Path(settings.store.removeprefix("file://")) / path, (0, 0))

    def read(bucket: Bucket) -> dict[str, Manifest]:
        there = manifests(bucket)
        begin(settings, "2")
        return there

    monkeypatch.setattr("heatmap_pipeline.fleet.collect.manifests", read)
    assert collect(settings, timedelta(hours=24)).removed == 0
    assert left < parts_named(settings) <= parts_there(settings)


def test_a_collector_whose_clock_is_ahead_takes_nothing_that_a_worker_is_about_to_name(
    settings_of: Machine, begin: Begin, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(BTC, models=("delta",))
    left = _killed_before_it_committed(settings, begin, begun)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=25)

    for module in ("fleet.collect", "store.bucket"):
        monkeypatch.setattr(f"heatmap_pipeline.{module}.datetime", Tomorrow, raising=False)
    assert collect(settings, timedelta(hours=24)).removed == 0
    assert left < parts_there(settings)


def _killed_before_it_committed(settings: Settings, begin: Begin, begun: Path) -> set[str]:
    """Leave a store as a worker does that was killed between its parts and the manifest; return these parts."""
    begin(settings, "2")
    written = parts_named(settings)
    for path in (begun / "1" / "manifests").glob("*.json"):
        open_bucket(settings).write(f"manifests/{path.name}", path)
    left = written - parts_named(settings)
    assert left
    return left


def test_what_a_writer_to_a_folder_left_half_is_collected(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    part = Path(settings.store.removeprefix("file://")) / min(parts_named(settings))
    half, other = part.with_name(f"{part.name}#1"), part.with_name("notes#1.txt")
    for path in (half, other):
        path.write_bytes(b"half")
    collect(settings, timedelta(hours=24))
    assert half.exists(), "it may be being written"
    for path in (half, other):
        os.utime(path, (0, 0))
    collect(settings, timedelta(hours=24))
    assert (half.exists(), other.exists()) == (False, True)
