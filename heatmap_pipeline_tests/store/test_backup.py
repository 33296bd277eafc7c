"""Backup and restore: whole or not there, verified, and nothing that stood in a home is lost."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from heatmap_pipeline.store import backup as module
from heatmap_pipeline.store import moving_in
from heatmap_pipeline.store.backup import BackupError, Report, back_up, backups, chosen, restore
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests.store.tiny import digest_but_times, forget_symbol

MADE = datetime(2026, 11, 26, 4, tzinfo=UTC)
NAME = "2026-11-26T040000Z"


@pytest.fixture
def full(warehouse: Warehouse) -> Warehouse:
    """A home with everything that a home may hold."""
    publish(warehouse, ["BTCUSDT"])
    home = warehouse.home
    for name in (
        "archives.json",
        "last_run.json",
        "recordings/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl",
        "renders/index.html",
        "notices/abc.sent",
        "archive/binance/futures/um/daily/klines/BTCUSDT/5m/by-hand.zip",
        "archive/binance/futures/um/daily/klines/BTCUSDT/5m/published.zip",
        "archive/binance/futures/um/daily/klines/BTCUSDT/5m/published.zip.CHECKSUM",
        "dagster/history/runs.db",
        ".heatmap.spare.duckdb",
        "run.lock",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"this is {name}")
    return warehouse


COPIED = {
    "warehouse/BTCUSDT.duckdb",
    "heatmap.duckdb",
    "archives.json",
    "last_run.json",
    "recordings/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl",
    "renders/index.html",
    "notices/abc.sent",
    "archive/binance/futures/um/daily/klines/BTCUSDT/5m/by-hand.zip",
}


def made(warehouse: Warehouse, target: Path, **more: Any) -> Report:
    return back_up(warehouse, target, {"HEATMAP_SOURCE": "demo"}, **{"now": MADE, **more})


def put_back(target: Path, home: Path, *, replace: bool = False) -> Report:
    return restore(Warehouse(home, lock_timeout=20), *chosen(target), replace=replace, now=MADE)


def contents(warehouse: Warehouse) -> tuple[Any, Any]:
    """Return the rows of both databases."""
    with warehouse.connect("BTCUSDT") as con:
        private = digest_but_times(con)
    with warehouse.read() as con:
        return private, digest_but_times(con)


def files(home: Path) -> dict[str, bytes]:
    """Return the files of a home by name, but locks and the databases, whose bytes an opening may change."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("lock", ".holder", "BTCUSDT.duckdb", ".heatmap.published"))
    }


def test_a_restored_home_is_the_one_that_was_backed_up(full: Warehouse, tmp_path: Path) -> None:
    report = made(full, tmp_path / "backups")
    assert (report.folder, report.files) == (tmp_path / "backups" / NAME, len(COPIED))
    manifest = json.loads((report.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == COPIED
    assert manifest["settings"] == {"HEATMAP_SOURCE": "demo"}
    home = tmp_path / "restored"
    back = put_back(tmp_path / "backups", home)
    assert (back.files, back.size, back.replaced) == (report.files, report.size, None)
    assert {name for name in COPIED if not (home / name).is_file()} == set()
    assert contents(Warehouse(home)) == contents(full)
    assert set(files(home)) | {"warehouse/BTCUSDT.duckdb"} == COPIED, "and nothing else"


def test_both_databases_are_of_one_moment(full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody commits or publishes while they are copied."""
    held: list[str] = []

    def look(source: Path, _target: Path) -> bool:
        for lock in ("warehouse/BTCUSDT.lock", "heatmap.lock"):
            with pytest.raises(Timeout):
                FileLock(full.home / lock).acquire(timeout=0)
        held.append(source.name)
        return False

    monkeypatch.setattr(module, "clone", look)
    made(full, tmp_path / "backups")
    assert held == ["BTCUSDT.duckdb", "heatmap.duckdb"]


def test_a_symbol_that_comes_while_locks_are_waited_for_is_in_the_backup(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published of it is; without its private file that would be lost where it is restored."""
    real, left = Warehouse.publishing, [True]

    def publishing(warehouse: Warehouse) -> AbstractContextManager[None]:
        if left and left.pop():
            assert warehouse.symbols() == ["BTCUSDT"]
            shutil.copyfile(warehouse.path("BTCUSDT"), warehouse.path("ETHUSDT"))
        return real(warehouse)

    monkeypatch.setattr(Warehouse, "publishing", publishing)
    report = made(full, tmp_path / "backups")
    assert (report.folder / "warehouse" / "ETHUSDT.duckdb").is_file()


def test_while_a_file_is_damaged_none_is_made_and_none_removed(full: Warehouse, tmp_path: Path) -> None:
    first = made(full, tmp_path / "backups").folder
    full.path("ETHUSDT").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=f"^{full.path('ETHUSDT')} is damaged"):
        made(full, tmp_path / "backups", now=MADE + timedelta(days=1), keep=1)
    assert backups(tmp_path / "backups") == [first]


def test_backups_follow_each_other_and_only_whole_ones_count(full: Warehouse, tmp_path: Path) -> None:
    target = full.home / "backups"  # within the home: none holds the others
    sizes = [made(full, target, now=MADE + timedelta(days=number)).size for number in range(3)]
    assert max(sizes) < 2 * min(sizes)
    assert [made(full, target).folder.name, made(full, target).folder.name] == [f"{NAME}-2", f"{NAME}-3"]
    killed = target / f".{NAME}-9.part"
    killed.mkdir()
    (target / "2027-01-01T000000Z").mkdir()
    assert chosen(target)[0].name == "2026-11-28T040000Z", "the newest that has a manifest"
    report = made(full, target, now=MADE + timedelta(days=9), keep=2)
    assert report.removed == 4
    assert [path.name for path in backups(target)] == ["2026-11-28T040000Z", "2026-12-05T040000Z"]
    assert not killed.exists()


def test_an_older_backup_that_is_a_link_goes_and_what_it_leads_to_stays(full: Warehouse, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "backups", tmp_path / "elsewhere"
    made(full, target).folder.rename(elsewhere)
    (target / NAME).symlink_to(elsewhere)
    report = made(full, target, now=MADE + timedelta(days=1), keep=1)
    assert (report.removed, [path.name for path in backups(target)]) == (1, [report.folder.name])
    assert (elsewhere / "manifest.json").exists()


def test_a_name_that_no_manifest_can_hold_is_said(full: Warehouse, tmp_path: Path) -> None:
    (full.home / "archive" / "two\nlines.zip").write_text("by hand")
    with pytest.raises(BackupError, match=r"two\\nlines\.zip' has a name that no manifest can hold; rename it"):
        made(full, tmp_path / "backups")
    assert backups(tmp_path / "backups") == []


def test_folders_of_others_beside_the_backups_stay(full: Warehouse, tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("an-extension", "zoo", ".hidden", ".kept.part")]
    for folder in others:
        folder.mkdir()
        (folder / "manifest.json").write_text('{"format": 1}')
    for number in range(2):
        report = made(full, tmp_path, now=MADE + timedelta(days=number), keep=1)
    assert (report.removed, chosen(tmp_path)[0]) == (1, report.folder)
    assert all((folder / "manifest.json").exists() for folder in others)


@pytest.mark.parametrize("place", ["..", ".", "recordings"])
def test_backups_may_lie_anywhere_around_the_home(full: Warehouse, place: str) -> None:
    """Whatever that is, everything of the home is in each, and nothing of the others."""
    target = (full.home / place).resolve()
    for _ in range(2):
        report = made(full, target)
        assert set(json.loads((report.folder / "manifest.json").read_text())["files"]) == COPIED


def test_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"nothing is stored in .* run `heatmap demo"):
        made(Warehouse(tmp_path / "home"), tmp_path / "backups")
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "backups").exists()


def test_what_was_published_is_backed_up_without_a_warehouse(full: Warehouse, tmp_path: Path) -> None:
    full.path("BTCUSDT").unlink()
    made(full, tmp_path / "backups")
    put_back(tmp_path / "backups", tmp_path / "restored")
    assert (tmp_path / "restored" / "heatmap.duckdb").read_bytes() == full.published.read_bytes()


# -- a home that is not empty


def test_a_home_that_holds_anything_is_left_alone(full: Warehouse, tmp_path: Path) -> None:
    made(full, tmp_path / "backups")
    other = tmp_path / "other"
    other.mkdir()
    (other / "recordings").mkdir()
    with pytest.raises(BackupError, match=r"is not empty \(recordings\); choose another --home.*--yes"):
        put_back(tmp_path / "backups", other)
    assert [path.name for path in other.iterdir()] == ["recordings"]


def test_a_home_with_nothing_but_compiled_code_is_empty(full: Warehouse, tmp_path: Path) -> None:
    """The command that restores makes it, where the installation cannot be written (`surroundings.py`)."""
    made(full, tmp_path / "backups")
    home = tmp_path / "new"
    (home / "cache" / "numba").mkdir(parents=True)
    assert put_back(tmp_path / "backups", home).files == len(COPIED)


def test_what_is_replaced_is_kept(full: Warehouse, tmp_path: Path) -> None:
    made(full, tmp_path / "backups")
    before = contents(full)
    home = full.home
    with full.connect("BTCUSDT") as con:
        forget_symbol(con, "BTCUSDT")
    publish(full, ["BTCUSDT"])
    changed = full.published.read_bytes()
    recording = home / "recordings/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl"
    recording.write_text("more of it")
    (recording.parent / "later.jsonl").write_text("heard since")
    (home / "warehouse" / "BTCUSDT.duckdb.wal").write_bytes(b"")
    (home / ".heatmap.spare.duckdb").write_bytes(b"published before")
    report = put_back(tmp_path / "backups", home, replace=True)
    assert report.replaced == home / f"replaced-{NAME}"
    assert contents(full) == before
    assert (report.replaced / "heatmap.duckdb").read_bytes() == changed
    assert (report.replaced / recording.relative_to(home)).read_text() == "more of it"
    log = "warehouse/BTCUSDT.duckdb.wal"
    assert (report.replaced / log).exists(), "a log must not be replayed into another file"
    assert not (home / log).exists()
    assert (report.replaced / ".heatmap.spare.duckdb").exists()
    assert (recording.parent / "later.jsonl").read_text() == "heard since", "what the backup does not have stays"
    assert (home / "dagster/history/runs.db").exists()


def test_a_database_that_the_backup_does_not_have_is_put_aside(full: Warehouse, tmp_path: Path) -> None:
    """Else what is published, and carried over by every later publication, would be of another home."""
    private = Warehouse(tmp_path / "private")
    private.folder.mkdir(parents=True)
    shutil.copyfile(full.path("BTCUSDT"), private.path("BTCUSDT"))
    made(private, tmp_path / "backups")
    before = full.published.read_bytes()
    report = put_back(tmp_path / "backups", full.home, replace=True)
    assert full.path("BTCUSDT").exists()
    assert not full.published.exists()
    assert not (full.home / ".heatmap.spare.duckdb").exists()
    assert report.replaced is not None
    assert (report.replaced / "heatmap.duckdb").read_bytes() == before


def test_a_folder_of_the_home_may_lie_on_another_disk(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = made(full, tmp_path / "backups")
    (full.home / "recordings").rename(tmp_path / "elsewhere")
    (full.home / "recordings").symlink_to(tmp_path / "elsewhere")
    recording = tmp_path / "elsewhere/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl"
    recording.write_text("more of it")
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if moving_in.READY in path.parts and "recordings" in target.parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    back = put_back(tmp_path / "backups", full.home, replace=True)
    assert recording.read_text().startswith("this is recordings/")
    assert sorted(path.name for path in recording.parent.iterdir()) == [recording.name]
    assert made(full, tmp_path / "again").size == report.size
    assert back.replaced is not None
    assert (back.replaced / "recordings/bybit/BTCUSDT" / recording.name).read_text() == "more of it"


# -- what can be wrong


Damage = Callable[[Path], None]


def _flip(folder: Path) -> None:
    path = folder / "warehouse" / "BTCUSDT.duckdb"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _manifest(change: Callable[[dict[str, Any]], None]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        (folder / "manifest.json").write_text(json.dumps(content))

    return damage


def _other_name(name: str) -> Damage:
    return _manifest(lambda content: content["files"].update({name: {"size": 0, "sha256": "0" * 64}}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip, "BTCUSDT.duckdb: it is not the file that manifest.json describes; nothing was restored"),
        (lambda folder: (folder / "heatmap.duckdb").unlink(), "heatmap.duckdb: No such file"),
        (
            lambda folder: (folder / "archives.json").write_text("longer than it was, by far"),
            "archives.json: it is not",
        ),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1'), "manifest.json cannot be used"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be used"),
        (_manifest(lambda content: content.update(format=3)), "is of a format that this program does not know"),
        (_manifest(lambda content: content.update(schema_version=99)), "has schema version 99"),
        (_manifest(lambda content: content["files"]["heatmap.duckdb"].update(sha256="x")), "cannot be used"),
        (_other_name("../outside"), "which is outside of a home"),
        (_other_name("/etc/passwd"), "which is outside of a home"),
        (_other_name(".restore.ready/x"), "which is outside of a home"),
    ],
)
def test_a_backup_that_is_not_as_it_was_is_refused(full: Warehouse, tmp_path: Path, damage: Damage, said: str) -> None:
    folder = made(full, tmp_path / "backups").folder
    damage(folder)
    before = files(full.home)
    for home, replace in ((tmp_path / "new", False), (full.home, True)):
        with pytest.raises(BackupError) as refused:
            put_back(folder, home, replace=replace)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
    assert files(full.home) == before
    assert not files(tmp_path / "new") if (tmp_path / "new").exists() else True


def test_a_folder_without_a_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no backup, and holds none"):
        chosen(tmp_path)


def test_a_full_disk_is_said_in_a_line_and_leaves_the_backups_before(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backups"
    made(full, target)

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step, name in ((shutil, "copyfile"), (shutil, "copyfileobj"), (module, "_sync_all")):
        with monkeypatch.context() as patch:
            patch.setattr(step, name, no_room)
            patch.setattr(module, "clone", lambda *_: False)
            with pytest.raises(BackupError, match=rf"the disk that holds {target} is full; make room and run again"):
                made(full, target, now=MADE + timedelta(days=1))
        assert sorted(path.name for path in target.iterdir()) == [".backup.lock", NAME]
    home = tmp_path / "restored"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync_all", no_room)
        with pytest.raises(BackupError, match=rf"the disk that holds {home} is full"):
            put_back(target, home)
    assert files(home) == {}
    put_back(target, home)


# -- a restore that is stopped


class _Killed(BaseException):
    """Ends everything at once, as a kill does; what is written stays."""


def test_a_restore_that_is_stopped_between_any_two_moves_is_finished_by_the_next_command(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(full, tmp_path / "backups")
    wanted = contents(full)
    with full.connect("BTCUSDT") as con:
        forget_symbol(con, "BTCUSDT")
    publish(full, ["BTCUSDT"])
    other = contents(full)
    real, count = Path.replace, 0
    for stop in (1, 2, 5, len(COPIED)):
        home = Path(shutil.copytree(full.home, tmp_path / f"home{stop}"))
        count = 0

        def replace(path: Path, target: Path, stop: int = stop) -> Path:
            nonlocal count
            if moving_in.READY in path.parts:
                count += 1
                if count == stop:
                    raise _Killed
            return real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with pytest.raises(_Killed):
                put_back(tmp_path / "backups", home, replace=True)
        assert Warehouse(home).published.exists(), "readers always find one"
        warehouse = Warehouse(home, lock_timeout=20)
        assert contents(warehouse) == wanted != other
        assert not (home / moving_in.READY).exists()
        assert (home / f"replaced-{NAME}" / "warehouse" / "BTCUSDT.duckdb").exists()
