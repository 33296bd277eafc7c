"""A copy of a home that can be put back: taken while runs go on, whole or not there, verified before it is used.

    DIR/2026-11-26T040000Z/manifest.json      what it holds: size and sha256 of each file, version, settings
    DIR/2026-11-26T040000Z/warehouse/BTCUSDT.duckdb, ..., heatmap.duckdb, recordings/, renders/, ...

The databases are copied under the locks that every commit and every publication take, so they belong together. Not in
it are Dagster's history, and files of the archive that the exchange or the demo market can give again.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from heatmap_pipeline import __version__
from heatmap_pipeline.commands import at, command, first_commands
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import open_regular, sync
from heatmap_pipeline.market.archive_names import checksum_beside
from heatmap_pipeline.market.strict_json import load_json
from heatmap_pipeline.store.migrate import READABLE, SCHEMA_VERSION
from heatmap_pipeline.store.moving_in import PRIVATE
from heatmap_pipeline.store.publish import publication
from heatmap_pipeline.store.spare import clone
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

MANIFEST = "manifest.json"

_FOLDERS = ("recordings", "renders", "notices")
"""Folders of the home that are copied whole."""

_ENDINGS = (".duckdb", ".json", ".txt")
"""Files at the top of the home that are copied."""

_ARCHIVE = "archive"
"""Folder of the home of which the zips are copied that nobody can give again."""

_LONGEST = 1000
"""Letters of the longest path below a home that a manifest holds."""

_LARGEST_MANIFEST = 64 << 20
"""Bytes of the largest manifest that is read; it has some 130 for each file."""

_CACHE = "cache"
_FORMAT = 2
_FORMATS = (1, _FORMAT)
"""Of the first is a backup with one private database of all symbols, which the home then takes apart."""

_PART = ".part"
_STAGED = ".restore.part"
_BLOCK = 1 << 20
_NAME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}Z(-\d+)?")
"""Name of a backup; any other folder that has a manifest.json is somebody else's."""


class BackupError(HeatmapError):
    """A backup that cannot be made or put back; says which, why, and what to do."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: StrictInt = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a backup says of itself.

    Attributes:
        format: of the backup.
        program: version that made it.
        schema_version: of its databases.
        made: when, UTC.
        home: where its files were.
        settings: HEATMAP_* variables that were set, without secrets.
        files: by path below the home, with slashes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: StrictInt
    program: str
    schema_version: StrictInt
    made: datetime
    home: str
    settings: dict[str, str]
    files: dict[str, _File]


@dataclass(frozen=True)
class Report:
    """What was copied.

    Attributes:
        folder: of the backup.
        files: how many.
        size: bytes of them.
        removed: older backups that were removed.
        replaced: of a restore: folder with the files that stood in the home before, if there were any.
    """

    folder: Path
    files: int
    size: int
    removed: int = 0
    replaced: Path | None = None


def back_up(
    warehouse: Warehouse,
    target: Path,
    settings: Mapping[str, str],
    *,
    keep: int | None = None,
    now: datetime | None = None,
) -> Report:
    """Copy a home to a new folder below `target`, which appears when it is whole.

    Args:
        warehouse: of the home.
        target: folder of backups, made if need be.
        settings: to remember.
        keep: how many whole backups stay below `target`, the newest; None: all.
        now: for tests.

    Raises:
        BackupError: if there is nothing to copy, the disk is full or a file cannot be read or written. Backups made
            before are as they were.
        StoreError: if the warehouse is damaged, or held by another process for too long.
    """
    if not (warehouse.symbols() or warehouse.published.exists()):
        raise BackupError(f"nothing is stored in {warehouse.home} yet; run {first_commands(warehouse.home)} first")
    made = now or datetime.now(UTC)
    with _explaining(target), _alone(target):
        _remove_parts(target)
        folder = _free(target / f"{made:%Y-%m-%dT%H%M%SZ}")
        part = target / f".{folder.name}{_PART}"
        try:
            part.mkdir()
            names = [*_copied_databases(warehouse, part), *_copied_files(warehouse.home, part, target)]
            manifest = Manifest(
                format=_FORMAT,
                program=__version__,
                schema_version=SCHEMA_VERSION,
                made=made,
                home=str(warehouse.home),
                settings=dict(settings),
                files={name: _described(part / name) for name in sorted(names)},
            )
            (part / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
            _sync_all(part)
            part.rename(folder)
            sync(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        removed = 0 if keep is None else _remove_older(target, keep)
    return Report(folder, len(manifest.files), sum(file.size for file in manifest.files.values()), removed)


def backups(target: Path) -> list[Path]:
    """Return the whole backups below a folder, the oldest first."""
    copies = (path.parent for path in target.glob(f"*/{MANIFEST}"))
    return sorted(path for path in copies if _NAME.fullmatch(path.name))


def chosen(folder: Path) -> tuple[Path, Manifest]:
    """Return the backup that a folder is, or the newest of those below it, with what it says of itself.

    Raises:
        BackupError: if there is none, or it cannot be used by this program.
    """
    if not (folder / MANIFEST).is_file():
        below = backups(folder)
        if not below:
            raise BackupError(f"{folder} is no backup, and holds none; name a folder of backups")
        folder = below[-1]
    path = folder / MANIFEST
    try:
        with open_regular(path) as stream:
            content = stream.read(_LARGEST_MANIFEST + 1)
        manifest = _understood(path, content)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not as it was written"
        raise BackupError(f"{path} cannot be used ({reason}); restore another backup") from None
    for name in manifest.files:
        if not _may_hold(name):
            raise BackupError(
                f"{path} names {ascii(name)[:80]}, which is outside of a home or in no backup; restore another backup"
            )
    if manifest.schema_version not in READABLE:
        raise BackupError(
            f"{folder} has schema version {manifest.schema_version}, this program knows {SCHEMA_VERSION}: restore it "
            "with the program that made it"
        )
    return folder, manifest


def _understood(path: Path, content: bytes) -> Manifest:
    """Return what a manifest says; raise ValueError where it is none, BackupError where a later program wrote it."""
    if len(content) > _LARGEST_MANIFEST:
        raise ValueError("it is too large")
    written = load_json(content)
    if isinstance(written, dict) and written.get("format") not in _FORMATS:
        raise BackupError(f"{path} is of a format that this program does not know; use the program that made it")
    return Manifest.model_validate(written)


def _may_hold(name: str) -> bool:
    """Whether a backup may hold a file: of those that `_files` names, so that a restore touches no other."""
    parts = PurePosixPath(name).parts
    if not parts or "/".join(parts) != name or ".." in parts or not name.isprintable() or len(name) > _LONGEST:
        return False
    if len(parts) == 1:
        return name.endswith(_ENDINGS) and not name.startswith(".")
    if parts[0] == PRIVATE:
        return len(parts) == 2 and name.endswith(".duckdb") and not parts[1].startswith(".")
    if parts[0] == _ARCHIVE:
        return name.endswith(".zip")
    return parts[0] in _FOLDERS and not parts[-1].startswith(".") and not name.endswith(".lock")


def restore(
    warehouse: Warehouse, folder: Path, manifest: Manifest, *, replace: bool, now: datetime | None = None
) -> Report:
    """Put a backup into a home; the files that it replaces are kept in a folder of the home.

    Until every file is there and is what the manifest says, the home is as it was. Then all of them take their places,
    also if this process is killed: the next command moves in what is left.

    Args:
        warehouse: of the home.
        folder: a backup (`chosen`).
        manifest: of it.
        replace: whether the home may hold anything.
        now: for tests.

    Raises:
        BackupError: if the home holds anything and `replace` is not given, a file of the backup is missing or damaged,
            or the disk is full.
        StoreError: if the warehouse is held by another process for too long.
    """
    home = warehouse.home
    with _explaining(home):
        home.mkdir(parents=True, exist_ok=True)
        warehouse.finish_taking_over()
        if not replace and (there := _contents(home)):
            shown = ", ".join([*there[:3], *(["..."] if len(there) > 3 else [])])
            raise BackupError(
                f"{home} is not empty ({shown}); choose another --home, or replace what is there with --yes"
            )
        staged = home / _STAGED
        shutil.rmtree(staged, ignore_errors=True)
        try:
            for name, file in manifest.files.items():
                _copy_verified(folder, name, file, staged / name)
            _sync_all(staged)
            replaced = warehouse.take_over(staged, f"replaced-{now or datetime.now(UTC):%Y-%m-%dT%H%M%SZ}")
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return Report(folder, len(manifest.files), sum(file.size for file in manifest.files.values()), replaced=replaced)


def _contents(home: Path) -> list[str]:
    """Return what a home holds, without locks, what an unfinished restore left, and what libraries make again.

    The command itself may have made the latter, where it can write nowhere else (`surroundings.py`).
    """
    names = sorted(path.name for path in home.iterdir() if path.name not in (_STAGED, _CACHE))
    if not any((home / PRIVATE).glob("*.duckdb")):
        names = [name for name in names if name != PRIVATE]
    return [name for name in names if not name.endswith((".lock", ".lock.holder"))]


def _copied_databases(warehouse: Warehouse, part: Path) -> Iterator[str]:
    """Copy the databases as they are between two commits; yield their paths below the home."""
    with warehouse.standing_still() as symbols:
        _refuse_what_parts_alone_hold(warehouse, symbols)
        private = [warehouse.path(symbol) for symbol in symbols]
        for path in private:
            with warehouse.opened(path) as con:
                warehouse.ensure_schema(con, path)
                con.execute("CHECKPOINT")
        (part / PRIVATE).mkdir()
        for path in (*private, warehouse.published):
            name = path.relative_to(warehouse.home).as_posix()
            if path.exists():
                if not clone(path, part / name):
                    shutil.copyfile(path, part / name)
                yield name


def _refuse_what_parts_alone_hold(warehouse: Warehouse, symbols: Collection[str]) -> None:
    """Refuse a home of which a backup would lose what is published: parts are in none, as private files make them.

    A published file that nobody can read now stops no backup: it is copied as it is.
    """
    there = None
    with suppress(StoreError):
        there = publication(warehouse)
    if not symbols or there is None or there.parts is None:
        return
    lost = [name for name in there.symbols if name not in symbols]
    if lost:
        anew = command(at(warehouse.home), "refresh", *lost)
        out = ", ".join(f"`{command(at(warehouse.home), 'forget', symbol)}`" for symbol in lost)
        raise BackupError(
            f"the private files of {', '.join(lost)} are gone, and a backup does not hold the parts that still show "
            f"what is published of them; compute them anew with `{anew}`, or take them out with {out}"
        )


def _copied_files(home: Path, part: Path, target: Path) -> Iterator[str]:
    """Copy everything else that cannot be had again; yield its paths below the home."""
    for path in _files(home):
        name = path.relative_to(home).as_posix()
        if _is_of_backups(path, target) or (part / name).exists():
            continue
        if not _may_hold(name):
            raise BackupError(f"{str(path)!a} has a name that no manifest can hold; rename it, and run again")
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_regular(path) as stream, (part / name).open("xb") as copy:
                shutil.copyfileobj(stream, copy, _BLOCK)
        except FileNotFoundError:  # replaced or removed this moment
            (part / name).unlink(missing_ok=True)
            continue
        yield name


def _is_of_backups(path: Path, target: Path) -> bool:
    """Return whether a file lies in a backup below `target`, whole or in the making; the home may lie there, too."""
    if target not in path.parents:
        return False
    name = path.relative_to(target).parts[0].removeprefix(".").removesuffix(_PART)
    return _NAME.fullmatch(name) is not None


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.iterdir()):
        if path.is_file() and path.suffix in _ENDINGS and not path.name.startswith("."):
            yield path
    for folder in _FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock":
                yield path
    for path in sorted((home / _ARCHIVE).rglob("*.zip")):
        if path.is_file() and not checksum_beside(path).exists():  # placed by hand
            yield path


def _copy_verified(folder: Path, name: str, file: _File, target: Path) -> None:
    """Copy a file of a backup, and see that it is what the manifest says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    try:
        source = open_regular(folder / name)
    except OSError as error:
        raise _damaged(folder, name, error.strerror or "it cannot be read") from None
    with source, target.open("wb") as copy:
        while block := source.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size > file.size:  # however much follows
                break
            copy.write(block)
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise _damaged(folder, name, f"it is not the file that {MANIFEST} describes")


def _damaged(folder: Path, name: str, reason: str) -> BackupError:
    return BackupError(f"{folder / name}: {reason}; nothing was restored: restore another backup")


def _described(path: Path) -> _File:
    with path.open("rb") as stream:
        return _File(size=path.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def _sync_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def _free(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _remove_parts(target: Path) -> None:
    """Remove what killed backups left."""
    for path in target.glob(f".*{_PART}"):
        if _is_of_backups(path / MANIFEST, target):
            shutil.rmtree(path, ignore_errors=True)


def _remove_older(target: Path, keep: int) -> int:
    older = backups(target)[: -max(keep, 1)]
    for folder in older:
        part = folder.with_name(f".{folder.name}{_PART}")
        folder.rename(part)  # at once, so that no half of it passes for a backup
        part.unlink() if part.is_symlink() else shutil.rmtree(part)  # where a link leads is somebody else's
    return len(older)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    target.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target / ".backup.lock").acquire(timeout=0):
            yield
    except Timeout:
        raise BackupError(f"another backup into {target} is going on; run again when it is done") from None


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Say in words that files cannot be read or written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BackupError(f"the disk that holds {folder} is full; make room and run again") from None
        reason = error.strerror or str(error)
        raise BackupError(
            f"{error.filename or folder} cannot be read or written ({reason}); choose another folder, or mend it"
        ) from None
