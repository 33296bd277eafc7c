"""The export: row for row what is published, only what changed is written, and nothing leaves half of it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heatmap_pipeline.files import sync
from heatmap_pipeline.locks import file_lock
from heatmap_pipeline.store import export as module
from heatmap_pipeline.store.export import MANIFEST, ExportError, ExportReport, export, exported_tables, is_current
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.schema import View, comments, relations, symbol_tables
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._disk import small_files
from heatmap_pipeline_tests._examples import PROFILE
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.tiny import fill, forget_symbol

OLD = [Path(folder) for folder in os.environ.get("HEATMAP_TEST_OLD_DUCKDB", "").split(os.pathsep) if folder]
"""Folders of older versions: `pip install --target FOLDER duckdb==1.1.3`."""

VIEWS = tuple(relation.name for relation in relations() if isinstance(relation, View))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_months(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published home with two symbols, of which BTCUSDT has each of its days once more a month later."""
    home = Path(shutil.copytree(built, tmp_path_factory.mktemp("months") / "home"))
    with Warehouse(home).connect("BTCUSDT") as con:
        for table in symbol_tables():
            if time := table.time_column:
                later = f"{time} + INTERVAL 1 MONTH"
                later = f"CAST({later} AS DATE)" if table.types[time] == "DATE" else later
                con.execute(f"INSERT INTO {table.name} SELECT * REPLACE ({later} AS {time}) FROM {table.name}")
    with Warehouse(home).connect("ETHUSDT") as con:
        fill(con, "ETHUSDT", seed=5)
    publish(Warehouse(home), ["BTCUSDT", "ETHUSDT"])
    return home


@pytest.fixture(scope="module")
def exported(two_months: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """What is published there, in a tree that nobody changes; `tree` is a copy."""
    folder = tmp_path_factory.mktemp("exported") / "tree"
    return folder, export(Warehouse(two_months), folder)


@pytest.fixture
def published(two_months: Path, tmp_path: Path) -> Warehouse:
    shutil.copytree(two_months, tmp_path / "home")
    return Warehouse(tmp_path / "home", lock_timeout=20)


@pytest.fixture
def tree(exported: tuple[Path, ExportReport], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[0], tmp_path / "tree"))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "new"


@contextmanager
def opened(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the tree as its README says for a program that starts elsewhere."""
    with duckdb.connect(":memory:") as con:
        con.execute(f"SET file_search_path = '{folder}'")
        con.execute((folder / "open.sql").read_text())
        yield con


def everything(con: duckdb.DuckDBPyConnection, names: list[str]) -> dict[str, Any]:
    """Return tables and views as Arrow, ordered by their rows, ENUM as text."""
    found = {}
    for name in names:
        kinds = {column: kind for column, kind, *_ in con.execute(f"DESCRIBE {name}").fetchall()}
        columns = [f'CAST("{n}" AS VARCHAR) AS "{n}"' if k.startswith("ENUM") else f'"{n}"' for n, k in kinds.items()]
        found[name] = con.sql(f"SELECT {', '.join(columns)} FROM {name} ORDER BY ALL").to_arrow_table()
    return found


def alike(left: Any, right: Any, *, exactly: bool) -> bool:
    """Whether tables hold the same; the sums of a view depend in their last bits on the order of its rows."""
    if exactly:
        return bool(left.equals(right))
    return left.num_rows == right.num_rows > 0 and all(
        np.allclose(a.to_numpy(), b.to_numpy(), rtol=1e-12, atol=0, equal_nan=True)
        if pa.types.is_floating(a.type)
        else a.equals(b)
        for a, b in zip(left.columns, right.columns, strict=True)
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a tree but the lock's."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def inodes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in folder.rglob("*.parquet")}


def change(warehouse: Warehouse, symbol: str = "BTCUSDT", month: int = 4) -> None:
    """Store and publish other rows of one month of a symbol, as a rebuild does: also other hashes."""
    with warehouse.connect("BTCUSDT") as con:
        when = f"symbol = '{symbol}' AND month"
        con.execute(f"UPDATE book_ledger SET closed = closed + 1 WHERE {when}(timestamp) = {month}")
        con.execute(f"UPDATE heatmap_days SET state_hash = state_hash || 'x' WHERE {when}(day) = {month}")
    assert publish(warehouse, [symbol]).changed


def fresh(warehouse: Warehouse, tmp_path: Path) -> dict[str, bytes]:
    """Return what an export into a new folder makes."""
    folder = tmp_path / "fresh"
    shutil.rmtree(folder, ignore_errors=True)
    export(warehouse, folder)
    return contents(folder)


# -- what is in it


def test_every_table_and_view_is_as_it_is_published(published: Warehouse, exported: tuple[Path, ExportReport]) -> None:
    tree, report = exported
    names = [*(table.name for table in exported_tables()), *VIEWS]
    with published.read() as con, opened(tree) as other:
        views = {name for (name,) in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
        assert set(VIEWS) == views
        before, after = everything(con, names), everything(other, names)
    empty = {name for name in names if before[name].num_rows == 0}
    assert empty == {
        *("saved_snapshots", "ended_symbols", "coarse_days", "map_scores", "score_hours", "score_days", "alerts"),
    }
    for name in names:
        assert after[name].schema == before[name].schema, name
        assert alike(after[name], before[name], exactly=name not in VIEWS), name
    rows = sum(before[table.name].num_rows for table in exported_tables())
    groups = json.loads((tree / MANIFEST).read_text())["groups"]
    assert rows == sum(part["rows"] for group in groups for part in group["parts"].values()) > 10000
    assert {path for group in groups for path in group["parts"]} == inodes(tree).keys()
    assert report.files == report.written == len(inodes(tree))
    assert report.size == sum(path.stat().st_size for path in tree.rglob("*.parquet"))
    assert is_current(published, tree)


def test_a_file_is_plain_parquet_of_one_symbol_and_month(published: Warehouse, tree: Path) -> None:
    path = tree / "position_events" / "symbol=BTCUSDT" / "month=2024-04" / "part.parquet"
    table = pq.ParquetFile(path).read()
    assert table.column_names[0] == "model"
    assert table.schema.field("timestamp").type == pa.timestamp("us")
    assert table.schema.field("side").type == table.schema.field("event_type").type == pa.string()
    assert {stamp.month for stamp in table["timestamp"].to_pylist()} == {4}
    for file in tree.rglob("*.parquet"):
        metadata = pq.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            for column in (metadata.row_group(group).column(n) for n in range(metadata.num_columns)):
                assert column.compression == "ZSTD"
                assert set(column.encodings) <= {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "BIT_PACKED"}


def test_a_folder_of_a_table_is_a_data_set_for_pandas(published: Warehouse, tree: Path) -> None:
    frame = pd.read_parquet(tree / "book_ledger")
    with published.read() as con:
        wanted = con.execute(
            "SELECT symbol, sum(closed), count(*) FROM book_ledger GROUP BY symbol ORDER BY 1"
        ).fetchall()
    found = frame.groupby("symbol", observed=True)["closed"].agg(["sum", "count"])
    assert [(name, pytest.approx(row["sum"]), row["count"]) for name, row in found.iterrows()] == wanted
    assert set(frame["month"]) == {"2024-03", "2024-04"}


def test_the_page_says_what_it_is(published: Warehouse, tree: Path) -> None:
    page = (tree / "README.md").read_text()
    assert "The market of BTCUSDT and ETHUSDT is **simulated**" in page
    assert "| BTCUSDT | turnover | 6 | 2024-03-01 | 2024-04-03 | 2024-03-03 23:30 | 2024-03-01 | simulated |" in page
    for table in exported_tables():
        assert f"\n| `{table.name}` | " in page
    for view in VIEWS:
        assert f"\n| `{view}` | {comments()[view, '']} |" in page
    for word in ("modelled", "UTC", "DuckDB from 1.1", "quantities in contracts", '"complete": true'):
        assert word in page


def commands(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)\n```", page, re.DOTALL)


def test_the_lines_of_the_page_work_as_they_stand(published: Warehouse, tree: Path, tmp_path: Path) -> None:
    line_of_duckdb, line_of_python = commands((tree / "README.md").read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{tmp_path / 'bin'}:{os.environ['PATH']}"}
    shown = subprocess.run(
        ["sh", "-c", line_of_python], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    assert "cumulative_volume" in shown.stdout
    assert "BTCUSDT" in shown.stdout
    if shutil.which("duckdb"):
        asked = subprocess.run(
            [*line_of_duckdb.split(), "-c", "SELECT count(*) FROM heatmap"],
            cwd=tree, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "count" in asked.stdout


# -- only what changed


def test_again_nothing_is_written(published: Warehouse, tree: Path) -> None:
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(tree.rglob("*"))}
    report = export(published, tree)
    assert (report.written, report.removed) == (0, 0)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(tree.rglob("*"))}
    locks = {path for path in before if ".lock" in path.name}
    assert {path: at for path, at in after.items() if path.is_file() and path not in locks} == {
        path: at for path, at in before.items() if path.is_file() and path not in locks
    }


def test_only_the_month_that_changed_is_written(published: Warehouse, tree: Path, tmp_path: Path) -> None:
    before = inodes(tree)
    change(published, month=4)
    assert not is_current(published, tree)
    report = export(published, tree)
    after = inodes(tree)
    touched = {path for path in after if after[path] != before.get(path)}
    assert touched == {path for path in after if "symbol=BTCUSDT/month=2024-04" in path}
    assert report.written == len(touched) > 5
    assert contents(tree) == fresh(published, tmp_path)


def test_the_order_in_which_days_were_stored_does_not_matter(published: Warehouse, tree: Path) -> None:
    before = contents(tree)
    with published.connect("BTCUSDT") as con:
        for table in symbol_tables(private=False):
            if table.time_column:
                con.execute(f"CREATE TEMP TABLE kept AS FROM {table.name} WHERE day({table.time_column}) = 1")
                con.execute(f"DELETE FROM {table.name} WHERE day({table.time_column}) = 1")
                con.execute(f"INSERT INTO {table.name} FROM kept")
                con.execute("DROP TABLE kept")
    published.published.unlink()
    publish(published, ["BTCUSDT", "ETHUSDT"])
    (tree / MANIFEST).write_text("{}")  # so that all of it is written
    assert export(published, tree).written == len(inodes(tree))
    assert contents(tree) == before


def test_a_forgotten_symbol_is_removed(published: Warehouse, tree: Path, tmp_path: Path) -> None:
    with published.connect("ETHUSDT") as con:
        forget_symbol(con, "ETHUSDT")
    publish(published, ["ETHUSDT"])
    report = export(published, tree)
    assert report.removed > 10
    assert report.written == 0
    assert not list(tree.rglob("*ETHUSDT*"))
    assert contents(tree) == fresh(published, tmp_path)
    with opened(tree) as con:
        assert con.execute("SELECT DISTINCT symbol FROM book_ledger").fetchall() == [("BTCUSDT",)]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_file_that_is_gone_or_cut_is_written_again(
    published: Warehouse, tree: Path, harm: Callable[[Path], object]
) -> None:
    before = contents(tree)
    harm(tree / "raw_candles" / "symbol=ETHUSDT" / "month=2024-03" / "part.parquet")
    assert not is_current(published, tree)
    assert export(published, tree).written > 0
    assert contents(tree) == before


def test_other_columns_mean_other_files(published: Warehouse, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = len(inodes(tree))
    monkeypatch.setattr(module, "_how", lambda: b"as another version writes them")
    assert export(published, tree).written == files


@pytest.mark.parametrize("text", ["", '{"format": 99, "groups": []}', '{"groups": [{"symbol": 1}]}'])
def test_a_manifest_that_says_nothing_costs_time_only(published: Warehouse, tree: Path, text: str) -> None:
    files = len(inodes(tree))
    before = contents(tree)
    (tree / MANIFEST).write_text(text)
    assert not is_current(published, tree)
    assert export(published, tree).written == files
    assert contents(tree) == before


def _other_rows(group: dict[str, Any]) -> None:
    for part in group["parts"].values():
        part["rows"] += 10**30


@pytest.mark.parametrize("change", [_other_rows, lambda group: group["parts"].clear(), lambda group: group.clear()])
def test_a_manifest_that_says_other_files_costs_time_only(
    published: Warehouse, tree: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """Its hashes being right, the files that it does not name would go, and those that it does be taken as they are."""
    before = contents(tree)
    manifest = json.loads((tree / MANIFEST).read_text())
    change(next(group for group in manifest["groups"] if group["month"]))
    manifest["groups"].append(manifest["groups"][-1])
    (tree / MANIFEST).write_text(json.dumps(manifest))
    export(published, tree)
    assert contents(tree) == before


@pytest.mark.parametrize("place", ["raw_candles", "raw_candles/symbol=ETHUSDT", ".tmp", ".heatmap-export.lock"])
def test_a_link_that_leads_out_of_the_tree_is_refused(
    published: Warehouse, tree: Path, tmp_path: Path, place: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "part.parquet").write_text("mine")
    if (tree / place).is_dir():
        shutil.rmtree(tree / place)
    (tree / place).unlink(missing_ok=True)
    (tree / place).symlink_to(mine if "lock" not in place else mine / "part.parquet")
    with pytest.raises(ExportError, match=r"is a link, and an export writes nothing outside of its folder; remove"):
        export(published, tree)
    assert [path.read_text() for path in mine.rglob("*")] == ["mine"]


def test_a_manifest_cannot_have_files_of_others_removed(published: Warehouse, tree: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "part.parquet"
    mine.parent.mkdir()
    mine.write_text("mine")
    manifest = json.loads((tree / MANIFEST).read_text())
    manifest["groups"][0]["parts"]["../mine/part.parquet"] = {"rows": 1, "bytes": 4}
    (tree / MANIFEST).write_text(json.dumps(manifest))
    export(published, tree)
    assert mine.read_text() == "mine"


# -- whatever happens


class Killed(BaseException):
    """The end of the process, as far as the tree is concerned."""


@contextmanager
def dying(patch: pytest.MonkeyPatch, after: int) -> Iterator[list[str]]:
    """End everything at the given step that changes the tree; what would clean up does not happen either."""
    steps: list[str] = []
    real_replace, real_unlink = Path.replace, Path.unlink

    def step(name: str) -> None:
        if len(steps) > after:
            raise Killed
        steps.append(name)
        if len(steps) > after:
            raise Killed

    def replace(self: Path, target: Path) -> Path:
        step(f"replace {target}")
        return real_replace(self, target)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if ".lock" not in self.name:  # of the process itself, which lives on
            step(f"unlink {self}")
        real_unlink(self, missing_ok)

    with patch.context() as context:
        context.setattr(Path, "replace", replace)
        context.setattr(Path, "unlink", unlink)
        yield steps


def some(count: int) -> list[int]:
    """Return numbers of steps: in CI all, else the first and the last ones, and some between."""
    if PROFILE == "ci":
        return list(range(count))
    return sorted({0, 1, count // 3, 2 * count // 3, *range(count - 4, count)})


@pytest.mark.slow
def test_after_a_kill_at_any_step_the_next_export_makes_the_same_tree(
    published: Warehouse, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, kept = contents(tree), Path(shutil.copytree(tree, tmp_path / "first"))
    earlier = published.published.read_bytes()
    with published.connect("ETHUSDT") as con:
        forget_symbol(con, "ETHUSDT")
    publish(published, ["ETHUSDT"])
    change(published)
    later = published.published.read_bytes()
    with dying(monkeypatch, 1000) as steps:
        export(published, tree)
    wanted = contents(tree)
    assert len(steps) > 30
    for after in some(len(steps)):
        shutil.rmtree(tree)
        shutil.copytree(kept, tree)
        with dying(monkeypatch, after) as steps, pytest.raises(Killed):
            export(published, tree)
        there = contents(tree)
        for path, content in there.items():
            if path.endswith(".parquet"):
                assert content in (first.get(path), wanted.get(path)), f"{path} is half of one after {steps[-1]}"
        if json.loads(there[MANIFEST])["complete"]:
            assert there[MANIFEST] in (first[MANIFEST], wanted[MANIFEST]), steps[-1]
        # Also where what is published is the former again: a file of between must not pass for one of before.
        which, right = [(later, wanted), (earlier, first)][after % 2]
        published.published.write_bytes(which)
        export(published, tree)
        assert contents(tree) == right, steps[-1]
        published.published.write_bytes(later)


def test_a_kill_of_the_first_export_leaves_a_folder_that_is_ours(
    published: Warehouse, tree: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for after in (0, 1, 20):
        shutil.rmtree(new, ignore_errors=True)
        with dying(monkeypatch, after), pytest.raises(Killed):
            export(published, new)
        export(published, new)
        assert contents(new) == contents(tree)


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_is_in_the_way(published: Warehouse, tree: Path, new: Path) -> None:
    left = 5

    def dying(path: Path) -> None:
        nonlocal left
        sync(path)
        if not left:
            die()
        left -= 1

    def export_and_die() -> None:
        setattr(module, "sync", dying)  # noqa: B010
        export(published, new)

    assert ended(export_and_die) == -signal.SIGKILL
    assert (new / ".tmp" / "part.parquet").exists()
    export(published, new)
    assert contents(new) == contents(tree)


def test_a_reader_sees_one_file_or_the_other(published: Warehouse, tree: Path) -> None:
    """One that opens the file once is never disturbed; one that opens it again for its data may have to ask again."""
    path = tree / "book_ledger" / "symbol=BTCUSDT" / "month=2024-04" / "part.parquet"
    before = pq.ParquetFile(path).read()["closed"].to_numpy()
    seen: set[float] = set()
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.wait(0.002):  # or it would take the processor from the exports
                tables = [pq.ParquetFile(path).read()]
                with suppress(OSError):
                    tables.append(pq.read_table(path, partitioning=None))
                for table in tables:
                    (step,) = set(np.round(table["closed"].to_numpy() - before).tolist())
                    seen.add(step)
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        change(published)
        export(published, tree)
    stop.set()
    reader.join()
    assert not failures
    assert len(seen) > 1


def test_a_full_disk_is_one_sentence_and_leaves_whole_files(published: Warehouse, tree: Path, tmp_path: Path) -> None:
    first = contents(tree)
    change(published)
    with small_files(20000), pytest.raises(ExportError, match=f"disk that holds {tree} is full; make room"):
        export(published, tree)
    wanted = fresh(published, tmp_path)
    for path, content in contents(tree).items():
        if path.endswith(".parquet"):
            assert content in (first.get(path), wanted.get(path))
    export(published, tree)
    assert contents(tree) == wanted


def test_no_room_for_the_manifest_either(published: Warehouse, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "replace_file", full)
    with pytest.raises(ExportError, match="is full; make room and run again"):
        export(published, new)


# -- refusals


def test_a_file_in_place_of_the_folder(published: Warehouse, new: Path) -> None:
    new.write_text("mine")
    with pytest.raises(ExportError, match="new is a file; an export needs a folder"):
        export(published, new)
    with pytest.raises(ExportError, match="new/below cannot be written; mend that or choose another folder"):
        export(published, new / "below")
    assert new.read_text() == "mine"


def test_a_folder_of_others(published: Warehouse, new: Path) -> None:
    new.mkdir()
    (new / "thesis.tex").write_text("mine")
    with pytest.raises(ExportError, match=r"new holds thesis\.tex, which is of no export; choose a new or an empty"):
        export(published, new)
    assert [path.name for path in new.iterdir()] == ["thesis.tex"]
    with pytest.raises(ExportError, match="which is of no export"):
        export(published, published.home)


def test_a_parquet_file_of_others_among_ours(published: Warehouse, tree: Path) -> None:
    (tree / "notes.txt").write_text("mine")
    (tree / "book_ledger" / ".DS_Store").write_text("")
    export(published, tree)
    assert (tree / "notes.txt").read_text() == "mine"
    stranger = tree / "book_ledger" / "symbol=BTCUSDT" / "mine.parquet"
    stranger.write_text("mine")
    with pytest.raises(ExportError, match=r"mine\.parquet is of no export and would be read with the others; move it"):
        export(published, tree)
    assert stranger.read_text() == "mine"


def test_nothing_to_export(tmp_path: Path, new: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing is published in .*; run `heatmap demo"):
        export(Warehouse(tmp_path / "nothing"), new)
    assert not new.exists()


def test_a_publication_of_an_earlier_version(published: Warehouse, new: Path) -> None:
    with duckdb.connect(str(published.published)) as con:
        con.execute("UPDATE schema_version SET version = 1")
    with pytest.raises(ExportError, match="is of an earlier version; bring it up to date with `heatmap refresh"):
        export(published, new)


def test_two_at_once(published: Warehouse, tree: Path) -> None:
    lock = tree / ".heatmap-export.lock"
    with file_lock(lock, timeout=1, patience=1, waiting=lambda _: None):
        ended: list[str] = []

        def second() -> None:
            try:
                export(Warehouse(published.home, lock_timeout=0.2), tree)
            except ExportError as error:
                ended.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert re.fullmatch(rf"process \d+ .* has been exporting into {tree} for over 0.2 s; run again .*", ended[0])


# -- older clients


def test_what_the_documentation_says_of_the_file_is_true(published: Warehouse) -> None:
    """DuckDB's header: a checksum of 8 bytes, DUCK, and the number of the storage version, which readers compare."""
    header = published.published.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    number = int.from_bytes(header[12:20], "little")
    words = f"version number {number}, but we can only read version"
    for page in ("README.md", "docs/operations.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert words in text, page
        assert "heatmap export" in text
        assert "DuckDB 1.5" in text


@pytest.mark.slow
@pytest.mark.parametrize("old", OLD or [None], ids=lambda path: path.name if path else "none")
def test_an_older_duckdb_refuses_the_file_and_reads_the_export(
    published: Warehouse, tree: Path, old: Path | None
) -> None:
    if old is None:
        pytest.skip("no older DuckDB here; `pip install --target DIR duckdb==1.1.3`, HEATMAP_TEST_OLD_DUCKDB=DIR")
    export(published, tree)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(old)}

    def ask(code: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", f"import duckdb\n{code}"]
        return subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, check=False)

    refused = ask(f"duckdb.connect({str(published.published)!r}, read_only=True)")
    assert "Trying to read a database file with version number 68, but we can only read version" in refused.stderr
    names = [*(table.name for table in exported_tables()), *VIEWS]
    with opened(tree) as con:
        wanted = plain({name: sorted(con.execute(f"FROM {name}").fetchall(), key=repr) for name in names})
    elsewhere = f"import os; os.chdir('/'); duckdb.sql(\"SET file_search_path = '{tree}'\")"
    for start, path in (("", "open.sql"), (elsewhere, str(tree / "open.sql"))):
        give = f"duckdb.sql(open({path!r}).read())"
        rows = "{name: sorted(duckdb.sql(f'FROM {name}').fetchall(), key=repr) for name in names}"
        asked = ask(f"import json\n{start}\n{give}\n{give}\nnames = {names!r}\nprint(json.dumps({rows}, default=str))")
        assert asked.returncode == 0, asked.stderr
        found = json.loads(asked.stdout)
        for name in names:
            if name in VIEWS:  # sums, which depend in their last bits on the order of the rows
                assert rounded(found[name]) == rounded(wanted[name]), name
            else:
                assert found[name] == wanted[name], name


def plain(rows: Any) -> Any:
    return json.loads(json.dumps(rows, default=str))


def rounded(rows: list[list[Any]]) -> list[tuple[Any, ...]]:
    digits = [tuple(float(f"{value:.10g}") if isinstance(value, float) else value for value in row) for row in rows]
    return sorted(digits, key=repr)
