"""The published database: a whole new file beside the old one, put in its place in one step.

Readers never meet a lock and never see half a run; a kill at any point leaves the old file or the new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from heatmap_pipeline.commands import first_commands
from heatmap_pipeline.files import sync as _sync
from heatmap_pipeline.store import spare
from heatmap_pipeline.store.compact import compact, has_room
from heatmap_pipeline.store.migrate import READABLE, columns_there, rows_as_today
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, transaction
from heatmap_pipeline.store.warehouse import READER_PREFIX, StoreError, Warehouse, free_name


class _OtherVersionError(StoreError):
    """The published file has tables of another version."""


_log = logging.getLogger(__name__)
_READER_SECONDS = 600
"""A reader's own name for the file is older than this only if the reader was killed."""


@dataclass(frozen=True)
class PublishReport:
    """What a publication did.

    Attributes:
        changed: whether heatmap.duckdb was replaced.
        published: symbols whose newest rows it holds now.
        kept: symbols that still have the rows published before.
        size: bytes of the file.
        seconds: how long it took.
        whole: whether the file was made by copying all of it, which takes the longer the more is stored.
    """

    changed: bool
    published: tuple[str, ...]
    kept: tuple[str, ...]
    size: int
    seconds: float
    whole: bool = False


def publish(warehouse: Warehouse, symbols: Sequence[str], *, keep_former: bool = True) -> PublishReport:
    """Publish the newest rows of these symbols; of every other symbol what is published already stays.

    A symbol that is named but has no rows any more is removed; one that was never published and is not named stays
    private. Nothing is written where nothing differs. A published file of a schema version that is not readable gives
    no rows to the new one; it stays beside it as `heatmap.schema-N.duckdb`, so that nothing of it is lost.

    Args:
        warehouse: of the home.
        symbols: whose newest rows are published.
        keep_former: whether the file published before may wait to become the next one (`spare.py`).

    Raises:
        StoreError: if the disk is full, the warehouse is held by another process, or the published file cannot be
            read; heatmap.duckdb is then as it was.
    """
    started = time.monotonic()
    if not warehouse.path.exists():
        raise StoreError(f"there is no {warehouse.path} to publish; run {first_commands(warehouse.home)} first")
    with warehouse.locked(), warehouse.explaining():
        _remove_leftovers(warehouse)
        with warehouse.opened(warehouse.path) as con:
            warehouse.ensure_schema(con)
            con.execute("CHECKPOINT")
            private, room = fingerprints(con), has_room(con)
        published_prints = _published_fingerprints(warehouse)
        before = published_prints or {}
        differ = _differing(private, before)
        changed, whole = bool(differ & set(symbols)), False
        if changed:
            if room:
                compact(warehouse)
            whole = _replace(
                warehouse, sorted(differ - set(symbols)), carry=published_prints is not None, keep=keep_former
            )
        size = warehouse.published.stat().st_size if warehouse.published.exists() else 0
    published = tuple(name for name in dict.fromkeys(symbols) if name in private)
    kept = tuple(sorted(before.keys() - set(symbols)))
    return PublishReport(changed, published, kept, size, time.monotonic() - started, whole)


def unpublished(warehouse: Warehouse, con: Connection) -> set[str]:
    """Return the symbols whose rows are not those that are published: what `publish` would write for.

    Args:
        warehouse: of the home.
        con: its private database, open.

    Raises:
        StoreError: as `publish` does, for a published file that cannot be read.
    """
    return _differing(fingerprints(con), _published_fingerprints(warehouse) or {})


def _differing(private: Mapping[str, str], published: Mapping[str, str]) -> set[str]:
    return {name for name in {*private, *published} if private.get(name) != published.get(name)}


def fingerprints(con: Connection, schema: str = "main", *, symbols: Sequence[str] | None = None) -> dict[str, str]:
    """Return a hash per symbol of what its rows were made from: equal if and only if its rows are.

    `schema` is where the tables are, for an attached database `name.main`; `symbols` are those asked for, None for all.
    """
    digests: dict[str, hashlib.blake2b] = {}
    there = columns_there(con, schema.removesuffix("main").rstrip(".") or None)
    for table in symbol_tables(private=False):
        if table.name not in there:  # of an earlier version
            continue
        if table.vouches or table.time_column is None:  # the small ones, one of which changes whatever changes
            # Summed in the database: a hundred symbols of some years have a quarter of a million of these rows.
            wanted = "" if symbols is None else "WHERE symbol IN (SELECT unnest(?::VARCHAR[])) "
            query = f"SELECT symbol, count(*), sum(hash(r)::HUGEINT) FROM {schema}.{table.name} AS r {wanted}"  # noqa: S608
            for symbol, count, total in rows(con, f"{query}GROUP BY symbol", [] if symbols is None else [[*symbols]]):
                digest = digests.setdefault(symbol, hashlib.blake2b(digest_size=16))
                digest.update(repr((table.name, count, int(total))).encode())
    return {symbol: digest.hexdigest() for symbol, digest in sorted(digests.items())}


def _published_fingerprints(warehouse: Warehouse) -> dict[str, str] | None:
    """Return the fingerprints of what is published, None where none of it can be carried over."""
    if not warehouse.published.exists():
        return None
    try:
        return _fingerprints_of(warehouse, warehouse.published)
    except _OtherVersionError:
        return None
    except StoreError as error:
        if "lock on file" not in str(error.__cause__):
            raise
    # Someone has opened it for writing, as the command-line client does unless told otherwise: read a copy.
    with _copied(warehouse) as copy, suppress(_OtherVersionError):
        return _fingerprints_of(warehouse, copy)
    return None


def _fingerprints_of(warehouse: Warehouse, path: Path) -> dict[str, str]:
    with warehouse.opened() as con:
        _attach(con, path)
        return fingerprints(con, "old.main")


def _attach(con: Connection, path: Path) -> None:
    con.execute(f"ATTACH {quoted(path)} AS old (READ_ONLY)")
    try:
        ((version,),) = rows(con, "SELECT max(version) FROM old.main.schema_version")
    except duckdb.CatalogException:
        raise StoreError(f"{path} holds no tables of this program; move it away, or choose another --home") from None
    if version not in READABLE:
        raise _OtherVersionError(version)


@contextmanager
def _copied(warehouse: Warehouse) -> Iterator[Path]:
    copy = _temporary(warehouse, "old")
    try:
        _copy(warehouse.published, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> bool:
    """Copy a file, by sharing its blocks where the file system can; return whether every byte had to be written."""
    if spare.clone(source, target):
        return False
    shutil.copyfile(source, target)
    return True


def _replace(warehouse: Warehouse, others: Sequence[str], *, carry: bool, keep: bool) -> bool:
    """Put what the private database holds in the place of the published one, with `others` as they are published.

    Without `carry` the published one has nothing for the new one: `others` are left out. Returns whether all of it had
    to be written.
    """
    new, whole = _temporary(warehouse, "new"), False
    try:
        if not (spare.take(warehouse, new) and carry and spare.bring_up_to_date(warehouse, new, others)):
            _remove_leftovers(warehouse)
            whole = _copy(warehouse.path, new)
            if others and carry:
                with _copied(warehouse) as old:
                    _make_public(warehouse, new, others, old)
            else:
                _make_public(warehouse, new, others, None)
        new.chmod(0o644)
        _sync(new)
        spare.seal(new)
        if not carry and warehouse.published.exists():
            _set_aside(warehouse)
        # A log beside the old file (someone wrote into it and was killed) must not be replayed into the new one.
        warehouse.published.with_name(warehouse.published.name + ".wal").unlink(missing_ok=True)
        if keep:
            spare.keep(warehouse)
        new.replace(warehouse.published)
        _sync(warehouse.home)
        return whole
    finally:
        _remove_leftovers(warehouse)


def _set_aside(warehouse: Warehouse) -> None:
    """Keep the published file of another version under a name that says which, beside the one that replaces it."""
    with warehouse.read(any_version=True) as con:
        ((version,),) = rows(con, "SELECT max(version) FROM schema_version")
    aside = free_name(warehouse.home / f"heatmap.schema-{version}.duckdb")
    _log.warning("%s has schema version %s: it is kept as %s", warehouse.published, version, aside.name)
    copy = _temporary(warehouse, "aside")
    shutil.copyfile(warehouse.published, copy)
    _sync(copy)
    copy.replace(aside)


def _make_public(warehouse: Warehouse, new: Path, others: Sequence[str], old: Path | None) -> None:
    """Drop what is private from the copy, and give `others` the rows they have in `old`."""
    with warehouse.opened(new) as con:
        there: dict[str, list[str]] = {}
        if old is not None:
            _attach(con, old)
            there = columns_there(con, "old")
        with transaction(con):
            for table in (table.name for table in symbol_tables() if table.private):
                con.execute(f"DELETE FROM {table}")  # noqa: S608 - a table name of ours
            for table in (table.name for table in symbol_tables() if others):
                con.execute(f"DELETE FROM {table} WHERE symbol IN (SELECT unnest(?))", [others])  # noqa: S608 - ours
                if query := rows_as_today(table, "old.main", there):
                    with warehouse.explaining(warehouse.published):  # a block that is damaged is one of it
                        con.execute(
                            f"INSERT INTO {table} {query} WHERE symbol IN (SELECT unnest(?))",
                            [others],
                        )
        con.execute("CHECKPOINT")


def _temporary(warehouse: Warehouse, use: str) -> Path:
    return warehouse.home / f".heatmap.duckdb.{os.getpid()}.{use}"


def _remove_leftovers(warehouse: Warehouse) -> None:
    """Remove the temporary files of this and of killed publications; only the holder of the lock makes any."""
    for path in warehouse.home.glob(".heatmap.duckdb.*"):
        if path.is_dir():  # what DuckDB put there when its memory was full
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in warehouse.home.glob(f"{READER_PREFIX}*"):  # of readers that were killed
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_ctime > _READER_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
