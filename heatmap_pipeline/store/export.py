"""The publication as a tree of Parquet files, for programs that cannot open heatmap.duckdb; what changed is written.

What belongs here: which files there are, which of them have to be written again, and putting them in their place. What
does not: what stands beside them for people and for DuckDB (`export_guide.py`).

A file is `TABLE/symbol=BTCUSDT/month=2024-07/part.parquet`, without the month where a table has a few rows per symbol.
Its rows change only if those of a small table that vouches for the same days do (`schema.Table.vouches`), so a hash of
these per symbol and month, kept in the manifest, says what has to be written.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import duckdb
from pydantic import BaseModel, StrictInt, ValidationError

from heatmap_pipeline.commands import at, command
from heatmap_pipeline.errors import HeatmapError, reason
from heatmap_pipeline.files import open_regular, replace_file, sync
from heatmap_pipeline.locks import LockHeldError, file_lock
from heatmap_pipeline.store.catalogue import views_over
from heatmap_pipeline.store.export_guide import guide, opening
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.months import AS_PARQUET, Group, fingerprints, folder_of, rows_of
from heatmap_pipeline.store.parts import by_month
from heatmap_pipeline.store.schema import Table, tables
from heatmap_pipeline.store.sql import Connection, quoted, scalar
from heatmap_pipeline.store.warehouse import Warehouse

MANIFEST = "heatmap-export.json"
"""Says what the tree holds; a folder that has one is one of ours."""

_FORMAT = 1
"""Goes up when files are to be written otherwise: then all of them are written again."""

_TEMPORARY = ".tmp"
"""Folder of what is not finished: on the same file system, and in the way of nobody who reads the folder of a table."""
_LOCK = ".heatmap-export.lock"
_PART = re.compile(r"[a-z_]+/(symbol=[^/\x00]+/)?(month=\d{4,}-\d{2}/)?part\.parquet")
_LARGEST_MANIFEST = 64 << 20
"""Bytes of the largest manifest that is read; it has some 100 for each file."""
_log = logging.getLogger(__name__)

Report: TypeAlias = Callable[[str, int, int], None]
"""Told a symbol, how many of its changed months are written, and how many there are."""


class ExportError(HeatmapError):
    """An export that cannot be written; names the folder and what to do. What is published stands."""


class _Part(BaseModel):
    rows: StrictInt
    bytes: StrictInt


class _Group(BaseModel):
    symbol: str
    month: str
    fingerprint: str
    parts: dict[str, _Part]


class _Manifest(BaseModel):
    format: StrictInt = _FORMAT
    complete: bool = False
    groups: list[_Group] = []


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        folder: of the tree.
        files: number of Parquet files in it.
        size: bytes of these.
        written: how many of them were written now.
        removed: files that were taken away, as their rows are published no more.
        seconds: how long it took.
    """

    folder: Path
    files: int
    size: int
    written: int
    removed: int
    seconds: float


def export(warehouse: Warehouse, folder: Path, report: Report | None = None) -> ExportReport:
    """Make a folder hold what is published, as Parquet files; files whose rows did not change are left alone.

    Each file is written beside the tree and renamed into its place, so nobody reads half of one; the manifest comes
    last. A kill leaves files of this publication and of the one before, and a manifest that says so; the next export
    ends with the same tree as if there had been none.

    Args:
        warehouse: of the home whose publication is exported.
        folder: a new or empty one, or one of an earlier export.
        report: is told how far it is.

    Raises:
        ExportError: if the folder is none, holds files of others, cannot be written, its disk is full, or another
            export into it is going on.
        StoreError: if nothing is published, or what is cannot be read.
    """
    started = time.monotonic()
    folder = folder.expanduser().resolve()
    with ExitStack() as stack:
        # What is published is looked at under the lock, so that no export of a former one ends last.
        if warehouse.published.exists():  # else opening it says what to do, and no folder is made
            stack.enter_context(_locked(folder, warehouse.lock_timeout))
        con = stack.enter_context(warehouse.read(alone=True))
        stack.enter_context(_explaining(folder))
        if scalar(con, "SELECT max(version) FROM schema_version") != SCHEMA_VERSION:
            line = command(at(warehouse.home), "refresh")
            raise ExportError(f"{warehouse.published} is of an earlier version; bring it up to date with `{line}`")
        try:
            written, removed, groups = _bring_up_to_date(con, folder, report)
        finally:
            shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
    parts = [part for group in groups for part in group.parts.values()]
    size = sum(part.bytes for part in parts)
    return ExportReport(folder, len(parts), size, written, removed, time.monotonic() - started)


def is_current(warehouse: Warehouse, folder: Path) -> bool:
    """Return whether a folder holds what is published, as far as its manifest and the sizes of its files tell.

    Raises:
        StoreError: if nothing is published, or what is cannot be read.
    """
    manifest = _read_manifest(folder)
    with warehouse.read() as con:
        wanted = _fingerprints(con)
    current = _unchanged(folder, manifest, wanted)
    return manifest.complete and len(current) == len(wanted) == len(manifest.groups)


def _bring_up_to_date(con: Connection, folder: Path, report: Report | None) -> tuple[int, int, list[_Group]]:
    """Write what changed, take away what is published no more; return how many files each, and what there is now."""
    _remove_leftovers(folder)
    wanted = _fingerprints(con)
    kept = _unchanged(folder, _read_manifest(folder), wanted)
    written, stale, groups = _write_changed(con, folder, kept, wanted, report)
    ordered = [groups[group] for group in sorted(groups)]
    if kept and _other_rows(con, _rows_by_table(ordered)):  # somebody has changed the manifest
        written, stale, groups = _write_changed(con, folder, {}, wanted, report)
        ordered = [groups[group] for group in sorted(groups)]
    count = _rows_by_table(ordered)
    if words := _other_rows(con, count):  # a guard, that costs nothing, against a defect here
        raise RuntimeError(words)
    # A table without rows has no file that a view could read: the views come between what is new and what goes.
    replace_file(folder / "open.sql", opening(count).encode())
    for path in stale:
        _remove(folder, path)
    replace_file(folder / "README.md", guide(con, count).encode())
    _write_manifest(folder, ordered, complete=True)
    return written, len(stale), ordered


def _write_changed(
    con: Connection, folder: Path, kept: Mapping[Group, _Group], wanted: Mapping[Group, str], report: Report | None
) -> tuple[int, set[str], dict[Group, _Group]]:
    """Write all groups but those that are kept; return how many files that were, which are stale, and all groups."""
    groups = dict(kept)
    changed = sorted(wanted.keys() - groups.keys())
    stale = _parts_there(folder) - {path for group in groups.values() for path in group.parts}
    if changed or stale:
        # What is about to change is forgotten first: after a kill it must not pass for what it was before.
        _write_manifest(folder, groups.values(), complete=False)
    written = 0
    for (symbol, month), parts in zip(changed, _write_groups(con, folder, changed, report), strict=True):
        groups[symbol, month] = _Group(symbol=symbol, month=month, fingerprint=wanted[symbol, month], parts=parts)
        written += len(parts)
        stale -= parts.keys()
    return written, stale, groups


# -- what is wanted


def exported_tables() -> tuple[Table, ...]:
    """Return the tables that the tree holds: every one that is published."""
    return tuple(table for table in tables() if not table.private)


def _fingerprints(con: Connection) -> dict[Group, str]:
    """Return a hash per group: of the rows that vouch for all of its rows, and of how these are written."""
    return fingerprints(con, exported_tables(), _how())


@cache
def _how() -> bytes:
    """Return what every file depends on besides its rows."""
    return repr((_FORMAT, SCHEMA_VERSION, [(table.name, dict(table.types)) for table in exported_tables()])).encode()


def _other_rows(con: Connection, exported: Mapping[str, int]) -> str:
    """Say which table has not as many rows as the published one, '' where all have."""
    for table in exported_tables():
        published = scalar(con, f"SELECT count(*) FROM {table.name}")  # noqa: S608 - a table name of ours
        if published != exported.get(table.name, 0):
            return f"{table.name}: {exported.get(table.name, 0)} rows exported of {published}"
    return ""


# -- one group after the other


def _write_groups(
    con: Connection, folder: Path, groups: Sequence[Group], report: Report | None
) -> Iterator[dict[str, _Part]]:
    """Put the files of groups in their place, group by group; yield those of each, by path."""
    temporary = folder / _TEMPORARY
    temporary.mkdir(exist_ok=True)
    con.execute(f"SET temp_directory = {quoted(temporary / 'memory')}")
    views = views_over(con)
    months, done = Counter(symbol for symbol, month in groups if month), Counter[str]()
    for symbol, month in groups:
        yield _write_group(con, folder, temporary / "part.parquet", symbol, month, views)
        if report is not None and month:
            done[symbol] += 1
            report(symbol, done[symbol], months[symbol])


def _path(table: Table, symbol: str, month: str) -> str:
    """Return where the rows of a table are, as a path of the tree; readers take symbol and month from it."""
    folder = folder_of(table.name, symbol) if symbol else table.name
    return "/".join([folder, *([f"month={month}"] if month else []), "part.parquet"])


def _write_group(
    con: Connection, folder: Path, new: Path, symbol: str, month: str, views: Path | None
) -> dict[str, _Part]:
    """Put the files of a group in their place, each written as `new` before; return them, by path.

    Large tables may be views over files below a folder.
    """
    parts = {}
    for table in exported_tables():
        if bool(symbol) != ("symbol" in table.types) or bool(month) != (table.time_column is not None):
            continue
        files: list[Path] = []
        if views is not None and by_month(table):
            files = sorted((views / folder_of(table.name, symbol)).glob(f"{month}-*.parquet"))
            if not files:
                continue
        count = scalar(con, f"COPY ({rows_of(table, symbol, month, files)}) TO {quoted(new)} {AS_PARQUET}")
        if count:
            sync(new)
            path = _path(table, symbol, month)
            parts[path] = _Part(rows=count, bytes=new.stat().st_size)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            new.replace(folder / path)
    new.unlink(missing_ok=True)
    return parts


# -- what is there


def _parts_there(folder: Path) -> set[str]:
    """Return the files of the tree that would be read, by path: also those that a killed export left."""
    return {
        path.relative_to(folder).as_posix()
        for name in _tables_there(folder)
        for path in (folder / name).rglob("part.parquet")
        if _PART.fullmatch(path.relative_to(folder).as_posix())
    }


def _tables_there(folder: Path) -> set[str]:
    """Return the folders of tables that the tree may have: today's, and those of the manifest, which may be older."""
    parts = [path for group in _read_manifest(folder).groups for path in group.parts]
    return {table.name for table in exported_tables()} | {path.partition("/")[0] for path in parts}


def _unchanged(folder: Path, manifest: _Manifest, wanted: Mapping[Group, str]) -> dict[Group, _Group]:
    """Return the groups that are as they are wanted, and whose files are there."""
    return {
        (group.symbol, group.month): group
        for group in manifest.groups
        if wanted.get((group.symbol, group.month)) == group.fingerprint
        and all(_size(folder / path) == part.bytes for path, part in group.parts.items())
    }


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _rows_by_table(groups: Iterable[_Group]) -> Counter[str]:
    count = Counter[str]()
    for group in groups:
        for path, part in group.parts.items():
            count[path.partition("/")[0]] += part.rows
    return count


def _remove(folder: Path, path: str) -> None:
    """Remove a file, and the folders that are empty then."""
    (folder / path).unlink(missing_ok=True)
    with suppress(OSError):
        for parent in list((folder / path).relative_to(folder).parents)[:-1]:
            (folder / parent).rmdir()


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed export left half written; only the holder of the lock writes anything."""
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _read_manifest(folder: Path) -> _Manifest:
    """Return the manifest; one that says nothing where there is none, or none that can be used."""
    try:
        with open_regular(folder / MANIFEST) as stream:
            manifest = _Manifest.model_validate_json(stream.read(_LARGEST_MANIFEST))
    except (OSError, ValidationError):
        return _Manifest()
    ours = all(_PART.fullmatch(path) for group in manifest.groups for path in group.parts)
    return manifest if ours and manifest.format == _FORMAT else _Manifest()


def _write_manifest(folder: Path, groups: Iterable[_Group], *, complete: bool) -> None:
    manifest = _Manifest(complete=complete, groups=list(groups))
    replace_file(folder / MANIFEST, f"{manifest.model_dump_json(indent=1)}\n".encode())


# -- whose folder it is


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Raise for a file, a folder of others, a Parquet file of others that would be read with ours, and links."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; an export needs a folder, choose another name")
    for name in (_LOCK, _TEMPORARY):
        _refuse_link(folder / name)
    if not (folder / MANIFEST).exists():
        before = (_LOCK, _TEMPORARY, f".{MANIFEST}")  # what may be there before there is a manifest
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(before))
        if others:
            raise ExportError(f"{folder} holds {others[0]}, which is of no export; choose a new or an empty folder")
        return
    for name in sorted(_tables_there(folder)):
        _refuse_link(folder / name)
        for inside, below, _ in os.walk(folder / name):
            for each in below:
                _refuse_link(Path(inside, each))
        for path in sorted((folder / name).rglob("*.parquet")):
            if not _PART.fullmatch(path.relative_to(folder).as_posix()):
                raise ExportError(f"{path} is of no export and would be read with the others; move it away")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ExportError(f"{path} is a link, and an export writes nothing outside of its folder; remove the link")


@contextmanager
def _locked(folder: Path, timeout: float) -> Iterator[None]:
    """Make the folder, if need be, and let nobody else export into it."""

    def waiting(holder: str) -> None:
        _log.info("waiting for %s, which exports into %s", holder, folder)

    with ExitStack() as stack, _explaining(folder):
        _refuse_what_is_not_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(file_lock(folder / _LOCK, timeout=timeout, patience=2.0, waiting=waiting))
        except LockHeldError as error:
            raise ExportError(
                f"{error.holder} has been exporting into {folder} for over {timeout:g} s; run again when it is done"
            ) from None
        yield


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Say in words what the disk of the tree refused; what is wrong with the published file is said by its opener."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        text = reason(error)
        number = error.errno if isinstance(error, OSError) else None
        full = ("No space left", "Disk quota exceeded", "File too large")
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(part in text for part in full):
            raise ExportError(f"the disk that holds {folder} is full; make room and run again ({text})") from error
        if isinstance(error, OSError) or str(folder) in text:
            raise ExportError(f"{folder} cannot be written; mend that or choose another folder ({text})") from error
        raise
