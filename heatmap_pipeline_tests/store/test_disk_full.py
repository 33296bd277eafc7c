"""A disk that is really full, at each write of a run: what it says, what is left, and that room is all it needs.

The home lies on a small file system of its own, filled up to some bytes; with more room a run gets further before it
fails. More sizes, the other source and the page are tried by

    HEATMAP_TEST_SEEDS=48 pytest heatmap_pipeline_tests/store/test_disk_full.py
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market.archive_names import CANDLES_FOLDER
from heatmap_pipeline.store.backup import BackupError, back_up, backups, chosen, restore
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._homes import heatmap, last_line
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, day, tables, write_archive
from heatmap_pipeline_tests.orchestration.killed import Ended, Forks
from heatmap_pipeline_tests.orchestration.readers import look

SEEDS = int(os.environ.get("HEATMAP_TEST_SEEDS", "0"))
OFTEN = pytest.mark.skipif(SEEDS < 6, reason="takes a minute; HEATMAP_TEST_SEEDS=6 or more runs it")

STAGES = {
    "history": "Dagster's history",
    "download": "the archive's folder has to be writable",
    "warehouse": "BTCUSDT.duckdb.wal",
    "publication": ".heatmap.duckdb.",
    "page": "heatmap_render",
    "any": "is full; make room",
}
"""What the last line says of the place where a run stopped; the first that fits counts."""

pytestmark = pytest.mark.slow


class Disk:
    """A small file system, of which so much is left as a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def leave(self, free: int) -> None:
        """Fill it up to this many bytes, rounded up to whole blocks."""
        self.make_room()
        found = os.statvfs(self.root)
        with self._ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, found.f_bavail * found.f_frsize - free)

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(root)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if made.returncode:
        pytest.skip(f"no file system can be mounted here (it takes root): {made.stderr.strip()}")
    yield Disk(root)
    subprocess.run(["umount", str(root)], check=True)


class Runs:
    """Runs of either source, the exchange's at noon of day 3 with an archive until day 2."""

    def __init__(self, archive: Path, server: ExchangeServer, forks: Forks) -> None:
        self._archive = archive
        self._server = server
        self._forks = forks

    def run(self, home: Path, source: str, last: int, *, draw: bool = False) -> Ended:
        where = ("--archive", self._archive) if source == "archive" else ("--source", source)
        words = ("run", BTC, *where, "--start", day(1), "--end", day(last), "--home", home)
        address: dict[str, Any] = {"HEATMAP_ARCHIVE_URL": self._server.url, "HEATMAP_REST_URL": self._server.url}
        return self._forks.heatmap(*words, draw=draw, **address, HEATMAP_SNAPSHOT_INTERVAL="1h")


@pytest.fixture(scope="module")
def runs(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("full")
    archive = write_archive(folder / "files", 3, BTC)
    with ExchangeServer(archive, datetime.combine(day(3), time(12, 2, 30))) as server:
        server.hide(str(day(3)))
        yield Runs(archive, server, forks)


def keep_elsewhere(folder: Path, place: Path) -> None:
    """Move a folder to another disk, as a user would do."""
    if folder.exists():
        shutil.copytree(folder, place)
        shutil.rmtree(folder)
    else:
        place.mkdir(parents=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(place)


def fill(runs: Runs, disk: Disk, home: Path, source: str, sizes: list[int], *, draw: bool = False) -> set[str]:
    """Run days 1 to 3 with each of these bytes left; assert what must hold; return where the runs stopped."""
    published = home / "heatmap.duckdb"
    before = hashlib.sha256(published.read_bytes()).hexdigest(), look("plain", published)
    stages = set()
    for size in sizes:
        disk.leave(size)
        ended = runs.run(home, source, 3, draw=draw)
        if ended.code == 0:
            break  # with more room it will not fail either
        line = last_line(ended.stderr, ended.code, "No space left" if "Dagster" not in ended.stderr else "room")
        assert ended.code == 1
        assert str(home) in line
        assert "published (" not in ended.stdout
        assert (hashlib.sha256(published.read_bytes()).hexdigest(), look("plain", published)) == before, size
        stages.add(next(stage for stage, sign in STAGES.items() if sign in line))
    disk.make_room()
    return stages


def assert_room_is_enough(runs: Runs, home: Path, source: str, clean: Path, *, draw: bool = False) -> None:
    runs.run(home, source, 3, draw=draw).ok()
    runs.run(clean, source, 3, draw=draw).ok()
    for name in ("heatmap.duckdb", "warehouse"):
        assert_same(tables(home / name), tables(clean / name))
    left, expected = (
        {name for folder, _, names in os.walk(root, followlinks=True) for name in names if "dagster" not in folder}
        for root in (home, clean)
    )
    assert left == expected


def test_a_disk_that_is_full_at_each_write(disk: Disk, runs: Runs, tmp_path: Path) -> None:
    home = disk.root / "home"
    runs.run(home, "binance", 1).ok()
    assert fill(runs, disk, home, "binance", [100_000]) == {"history"}
    keep_elsewhere(home / "dagster", tmp_path / "history")  # it fills a disk before anything else can
    stages = fill(runs, disk, home, "binance", [0, 20_000, 150_000, 500_000, 4_400_000])
    # A file that finds no room stops its day only. The day before is stored and published: the run begins after it.
    assert stages == {"any", "download", "warehouse", "publication"}
    assert_room_is_enough(runs, home, "binance", tmp_path / "clean")


def test_a_backup_and_a_restore_that_find_no_room(disk: Disk, warehouse: Warehouse, tmp_path: Path) -> None:
    publish(warehouse, ["BTCUSDT"])
    target, home = disk.root / "backups", disk.root / "restored"
    before = back_up(warehouse, target, {})
    for free in (0, 30_000, before.size // 2, before.size - 5000):
        disk.leave(free)
        with pytest.raises(BackupError, match=rf"^the disk that holds {target} is full; make room and run again$"):
            back_up(warehouse, target, {})
        assert backups(target) == [before.folder]
        with pytest.raises((BackupError, StoreError), match=rf"^the disk that holds {home} is full; make room and run"):
            restore(Warehouse(home), *chosen(target), replace=False)
        assert not [path for path in home.rglob("*") if path.is_file() and ".lock" not in path.name]
    disk.make_room()
    restore(Warehouse(home), *chosen(target), replace=False)
    for name in ("heatmap.duckdb", "warehouse"):
        assert_same(tables(home / name), tables(warehouse.home / name))


def test_a_symbol_that_is_forgotten_on_a_full_disk(disk: Disk, warehouse: Warehouse) -> None:
    publish(warehouse, [BTC])
    home = Path(shutil.copytree(warehouse.home, disk.root / "home"))
    published = home / "heatmap.duckdb"
    for name in (
        "renders/index.html",
        f"renders/{BTC}/heatmap.png",
        f"archive/binance/{CANDLES_FOLDER}/{BTC}/5m/x.zip",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"x")
    before, stages = look("plain", published), set()
    for free in (0, 100_000, 1_000_000, 5_500_000, 7_000_000):
        disk.leave(free)
        ended = heatmap("forget", BTC, "--yes", "--home", home)
        if ended.exit_code == 0:
            break
        line = last_line(ended.stderr, 1, home)
        assert "room" in line
        assert (home / "archive/binance" / CANDLES_FOLDER / BTC).exists(), "the files go last, so that it goes on"
        assert look("plain", published) == before
        stages.add("history" if "Dagster" in line else "page" if "(" not in line else "database")
    assert stages == {"history", "page", "database"}
    disk.make_room()
    assert heatmap("forget", BTC, "--yes", "--home", home).exit_code == 0
    assert not [path for path in home.rglob("*") if BTC in path.name and path.suffix != ".lock"]
    assert not any(rows.num_rows for rows in tables(home / "heatmap.duckdb", BTC).values())


@OFTEN
@pytest.mark.parametrize("source", ["binance", "archive"])
@pytest.mark.parametrize("history", ["here", "elsewhere"])
def test_a_disk_that_is_full_at_any_write(disk: Disk, runs: Runs, tmp_path: Path, source: str, history: str) -> None:
    chance = random.Random(f"{source} {history}")
    home = disk.root / "home"
    runs.run(home, source, 1).ok()
    if history == "elsewhere":
        keep_elsewhere(home / "dagster", tmp_path / "history")
    sizes = sorted(int(10 ** chance.uniform(3.6, 6.8)) for _ in range(SEEDS // 2))
    assert len(fill(runs, disk, home, source, sizes)) >= 2
    assert_room_is_enough(runs, home, source, tmp_path / "clean")


@OFTEN
def test_a_disk_that_is_full_while_the_page_is_written(disk: Disk, runs: Runs, tmp_path: Path) -> None:
    home = tmp_path / "home"
    keep_elsewhere(home / "renders", disk.root / "renders")
    runs.run(home, "archive", 1).ok()  # without a page
    assert fill(runs, disk, home, "archive", [0, 50_000, 300_000, 2_000_000], draw=True) == {"page"}
    assert_room_is_enough(runs, home, "archive", tmp_path / "clean", draw=True)
