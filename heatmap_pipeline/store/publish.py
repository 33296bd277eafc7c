"""The published database: a whole new file beside the old one, put in its place in one step.

Readers never meet a lock and never see half a run; a kill at any point leaves the old file or the new one.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from heatmap_pipeline.commands import first_commands
from heatmap_pipeline.files import sync as _sync
from heatmap_pipeline.store import spare
from heatmap_pipeline.store.by_parts import (
    Generation,
    LostPartsError,
    Opening,
    Tell,
    parts_folder,
    publish_by_parts,
    remove_forgotten,
    remove_older,
    remove_unfinished,
    tell_nobody,
)
from heatmap_pipeline.store.catalogue import can_be_shown, views_over
from heatmap_pipeline.store.compact import compact, has_room
from heatmap_pipeline.store.leftovers import remove_leftovers, temporary
from heatmap_pipeline.store.migrate import READABLE, SCHEMA_VERSION, columns_there, rows_as_today
from heatmap_pipeline.store.parts import load
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, transaction
from heatmap_pipeline.store.warehouse import OpenElsewhereError, StoreError, Warehouse, free_name


class _OtherVersionError(StoreError):
    """The published file has tables of another version."""


_log = logging.getLogger(__name__)
TABLES_UP_TO = 20_000_000_000
"""Bytes of private files of published symbols up to which all tables are real ones; beyond, large ones are views."""

BACK_BELOW = 0.8
"""Share of that size below which they are real ones again: each change writes everything."""

_SHARE_OF_PARTS = 0.75
"""Bytes of parts for each byte of private files, at most; of simulated rows 0.6 were measured."""

_WITHOUT_LOG = {"checkpoint_threshold": "1B"}
"""Settings under which what is committed goes into the file at once, and not into a log before: half of the bytes."""


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


@dataclass(frozen=True)
class Published:
    """What heatmap.duckdb holds.

    Attributes:
        prints: fingerprints of the symbols asked for.
        others: names of all others.
        parts: those that its large tables are views over, None where these are real ones.
        can_be_cut: whether the rows of others can be read out of its tables as they are.
    """

    prints: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    parts: Generation | None = None
    can_be_cut: bool = True

    @property
    def symbols(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.prints, *self.others)

    def lost(self) -> list[str]:
        """Return the symbols that lack parts."""
        return [] if self.parts is None else [name for name in self.symbols if self.parts.lacks(name)]


def publish(
    warehouse: Warehouse,
    symbols: Sequence[str],
    *,
    keep_former: bool = True,
    tables_up_to: float = TABLES_UP_TO,
    tell: Tell = tell_nobody,
) -> PublishReport:
    """Publish the newest rows of these symbols; of every other symbol what is published already stays.

    A symbol that is named but has no rows any more is removed; one that was never published and is not named stays
    private. Nothing is written where nothing differs. A published file of a schema version that is not readable gives
    no rows to the new one; it stays beside it as `heatmap.schema-N.duckdb`, so that nothing of it is lost.

    The private databases of these symbols are locked all the time, those of others are not touched; but where parts of
    another symbol are gone (`by_parts.py`), its newest rows are published, too. A part that cannot be read counts as
    gone, if its bytes are not those that were written.

    Args:
        warehouse: of the home.
        symbols: whose newest rows are published.
        keep_former: whether the file published before may wait to become the next one (`spare.py`).
        tables_up_to: bytes of the private files of what is published beyond which large tables are views over parts.
        tell: how far it is, where it goes over to views or back.

    Raises:
        StoreError: if the disk is full, a private database is held by another process or damaged, or the published file
            cannot be read; heatmap.duckdb is then as it was.
    """
    try:
        return _publish(warehouse, symbols, keep_former, tables_up_to, tell)
    except StoreError as error:
        lost = error.symbols if isinstance(error, LostPartsError) else _damaged(warehouse, error)
        if not lost:
            raise
    if nowhere := [symbol for symbol in lost if not warehouse.path(symbol).exists()]:
        raise LostPartsError(warehouse, nowhere)
    _log.warning("parts of %s are gone: they are made anew", ", ".join(lost))
    return _publish(warehouse, [*symbols, *lost], keep_former, tables_up_to, tell)


def _publish(
    warehouse: Warehouse, symbols: Sequence[str], keep_former: bool, tables_up_to: float, tell: Tell
) -> PublishReport:
    started = time.monotonic()
    names = list(dict.fromkeys(symbols))
    if not warehouse.symbols() and not warehouse.published.exists():
        raise StoreError(f"nothing is in {warehouse.folder} to publish; run {first_commands(warehouse.home)} first")
    with warehouse.locked(*names), warehouse.publishing(), warehouse.explaining():
        remove_leftovers(warehouse)
        stored = [name for name in names if warehouse.path(name).exists()]
        private: dict[str, str] = {}
        roomy = []
        for name in stored:
            with warehouse.opened(warehouse.path(name)) as con:
                warehouse.ensure_schema(con, warehouse.path(name))
                con.execute("CHECKPOINT")
                private |= fingerprints(con, symbols=[name])
                if has_room(con):
                    roomy.append(name)
        there = _published(warehouse, names)
        before = there or Published()
        lost = before.lost()
        if others := [name for name in lost if name in before.others]:
            raise LostPartsError(warehouse, others)
        differ = [name for name in names if private.get(name) != before.prints.get(name) or name in lost]
        views = _views_wanted(warehouse, [*private, *before.others], before, tables_up_to)
        whole, changed = False, bool(differ) or _has_another_form(before, views)
        if there is not None or not warehouse.published.exists():
            remove_unfinished(warehouse, before.parts)
        if changed:
            for name in roomy:
                compact(warehouse, name)
            held = [name for name in names if name in before.prints and name not in differ]
            wanted = {name: private.get(name) for name in differ}
            new = _New(warehouse, wanted, [*held, *before.others], there is not None, before.parts, tell)
            whole = _replace_by_parts(new) if views else _replace(new, keep=keep_former)
        elif gone := [name for name in names if name not in private]:  # one that was killed may have left some of it
            remove_forgotten(warehouse, before.parts, gone)
        size = warehouse.published.stat().st_size if warehouse.published.exists() else 0
    done = tuple(name for name in names if name in private)
    return PublishReport(changed, done, before.others, size, time.monotonic() - started, whole)


def _damaged(warehouse: Warehouse, error: StoreError) -> tuple[str, ...]:
    """Return the symbols with parts that are not as they were written, if an error is about a part.

    What of them can be made anew is removed.
    """
    if ".parquet" not in str(error):
        return ()
    with warehouse.publishing(), warehouse.explaining():
        there = _published(warehouse, ())
        if there is None or there.parts is None:
            return ()
        damaged = {symbol: files for symbol in there.symbols if (files := there.parts.damaged(symbol))}
        for symbol, files in damaged.items():
            if warehouse.path(symbol).exists():
                for file in files:
                    file.unlink(missing_ok=True)
    return tuple(damaged)


def _views_wanted(warehouse: Warehouse, symbols: Sequence[str], before: Published, tables_up_to: float) -> bool:
    """Return whether large tables are to be views over parts; as before while nobody knows how much there is."""
    if before.parts is None and before.others and not before.can_be_cut:
        return False  # the next time
    if not can_be_shown(parts_folder(warehouse)):
        return False
    paths = [warehouse.path(symbol) for symbol in symbols]
    if not all(path.exists() for path in paths):  # lost: what is published of it may be most of it
        return before.parts is not None
    size = sum(path.stat().st_size for path in paths)
    there = before.parts is not None
    views = size > tables_up_to * (BACK_BELOW if there else 1)
    if views != there and before.symbols and not _has_room(warehouse, size, views):
        return there
    return views


def _has_room(warehouse: Warehouse, size: int, views: bool) -> bool:
    """Return whether the disk has room to write all anew; else say so, for what is published can be brought up to date.

    Args:
        warehouse: of the home.
        size: bytes of the private files of what is published.
        views: whether parts are to be written, else tables.
    """
    path = spare.spare_path(warehouse)
    free = shutil.disk_usage(warehouse.home).free + (path.stat().st_size if path.exists() else 0)
    needed = size * _SHARE_OF_PARTS if views else size
    if free < needed:
        _log.warning(
            "%s goes over to %s once there is room: the disk has %.1f GB left, and that may take %.1f GB",
            *(warehouse.published, "parts" if views else "real tables", free / 1e9, needed / 1e9),
        )
    return free >= needed


def _has_another_form(before: Published, views: bool) -> bool:
    """Return whether what is published is not as it should be, though its rows are."""
    if not before.symbols:
        return False
    return views != (before.parts is not None) or (before.parts is not None and before.parts.moved)


def published_prints(warehouse: Warehouse, symbols: Sequence[str]) -> Mapping[str, str]:
    """Return the fingerprints of those of the symbols that are published, for `is_published`.

    None where parts are gone, or the home was moved: a publication has to make them anew.

    Raises:
        StoreError: as `publish` does, for a published file that cannot be read.
    """
    there = _published(warehouse, symbols)
    if there is None or there.lost() or (there.parts is not None and there.parts.moved):
        return {}  # to be made anew
    return there.prints


def publication(warehouse: Warehouse) -> Published | None:
    """Return what is published; None where it is of another version, or somebody has it open for writing.

    Raises:
        StoreError: for a published file that cannot be read.
    """
    if not warehouse.published.exists():
        return None
    try:
        return _read_published(warehouse, warehouse.published, ())
    except (_OtherVersionError, OpenElsewhereError):
        return None


def is_published(con: Connection, symbol: str, prints: Mapping[str, str]) -> bool:
    """Return whether the rows of a symbol, in its open private database, are those that are published."""
    return fingerprints(con, symbols=[symbol]).get(symbol) == prints.get(symbol)


def fingerprints(con: Connection, schema: str = "main", *, symbols: Sequence[str] | None = None) -> dict[str, str]:
    """Return a hash per symbol of what its rows were made from: equal if and only if its rows are.

    `schema` is where the tables are, for an attached database `name.main`; `symbols` are those asked for, None for all.
    """
    if symbols is not None and not symbols:
        return {}
    wanted = "" if symbols is None else f"WHERE symbol IN ({', '.join(map(quoted, symbols))}) "

    def select(place: int, name: str) -> str:
        # Summed in the database: a hundred symbols of some years have a quarter of a million of these rows.
        return (
            f"SELECT {place}, symbol, count(*), sum(hash(r)::HUGEINT) FROM {schema}.{name} AS r {wanted}GROUP BY symbol"  # noqa: S608
        )

    digests: dict[str, hashlib.blake2b] = {}
    for place, symbol, count, total in sorted(_of_small(con, schema, select)):
        digest = digests.setdefault(symbol, hashlib.blake2b(digest_size=16))
        digest.update(repr((_small()[place], count, int(total))).encode())
    return {symbol: digest.hexdigest() for symbol, digest in sorted(digests.items())}


@cache
def _small() -> tuple[str, ...]:
    """Return the names of the small tables, one of which changes whatever changes."""
    return tuple(table.name for table in symbol_tables(private=False) if table.vouches or table.time_column is None)


def _of_small(con: Connection, schema: str, select: Callable[[int, str], str]) -> list[tuple[Any, ...]]:
    """Return the rows of a query of each small table, given its place and name, in any order.

    Of an earlier version some are not there. That is asked only where they are missed: it takes as long as the rest.
    """

    def query(there: Container[str]) -> str:
        return " UNION ALL ".join(select(place, name) for place, name in enumerate(_small()) if name in there)

    try:
        return rows(con, query(_small()))
    except duckdb.CatalogException:
        return rows(con, query(columns_there(con, schema.removesuffix("main").rstrip(".") or None)))


def _published(warehouse: Warehouse, symbols: Sequence[str]) -> Published | None:
    """Return what is published, None where none of it can be carried over."""
    if not warehouse.published.exists():
        return None
    try:
        return _read_published(warehouse, warehouse.published, symbols)
    except _OtherVersionError:
        return None
    except OpenElsewhereError:
        pass  # for writing, as the command-line client does unless told otherwise: read a copy
    with _copied(warehouse) as copy, suppress(_OtherVersionError):
        return replace(_read_published(warehouse, copy, symbols), can_be_cut=False)
    return None


def _read_published(warehouse: Warehouse, path: Path, symbols: Sequence[str]) -> Published:
    with warehouse.opened() as con:
        version = _attach(con, path)
        named = views_over(con, "old")
        names = _of_small(con, "old.main", lambda _, name: f"SELECT DISTINCT symbol FROM old.main.{name}")  # noqa: S608
        return Published(
            fingerprints(con, "old.main", symbols=symbols),
            tuple(sorted({name for (name,) in names} - {*symbols})),
            Generation(warehouse, named) if named is not None else None,
            version == SCHEMA_VERSION,
        )


def _attach(con: Connection, path: Path) -> int:
    """Attach a published file as `old`; return the version of its tables."""
    con.execute(f"ATTACH {quoted(path)} AS old (READ_ONLY)")
    try:
        ((version,),) = rows(con, "SELECT max(version) FROM old.main.schema_version")
    except duckdb.CatalogException:
        raise StoreError(f"{path} holds no tables of this program; move it away, or choose another --home") from None
    if version not in READABLE:
        raise _OtherVersionError(version)
    return int(version)


@contextmanager
def _copied(warehouse: Warehouse) -> Iterator[Path]:
    copy = temporary(warehouse, "old")
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


@dataclass(frozen=True)
class _New:
    """A publication in the making.

    Attributes:
        warehouse: of the home.
        wanted: fingerprint of each symbol whose rows are to be those of its private database; None: it has no rows.
        kept: symbols that keep the rows they have in the published file.
        carry: whether that one has anything for the new one.
        parts: those that its large tables are views over, None where these are real ones.
        tell: how far it is, where it goes over to views or back.
    """

    warehouse: Warehouse
    wanted: Mapping[str, str | None]
    kept: Sequence[str]
    carry: bool
    parts: Generation | None
    tell: Tell

    @property
    def differ(self) -> list[str]:
        """The symbols whose rows are to be those of their private databases."""
        return list(self.wanted)

    @property
    def gone(self) -> list[str]:
        """Those of them that have no rows any more."""
        return [symbol for symbol, fingerprint in self.wanted.items() if fingerprint is None]

    def is_in(self, con: Connection) -> bool:
        """Whether an open file holds the rows that are wanted."""
        return fingerprints(con, symbols=self.differ) == {name: each for name, each in self.wanted.items() if each}


def _replace(made: _New, *, keep: bool) -> bool:
    """Put a new file in the place of the published one; return whether all of it had to be written."""
    warehouse, whole = made.warehouse, False
    new = temporary(warehouse, "new")
    try:
        there = spare.take(warehouse, new) and made.carry and made.parts is None
        if not (there and spare.bring_up_to_date(warehouse, new, made.differ, made.is_in, of_others=True)):
            remove_leftovers(warehouse)
            whole = _written(made, new)
        new.chmod(0o644)
        _sync(new)
        spare.seal(new)
        if not made.carry and warehouse.published.exists():
            _set_aside(warehouse)
        # A log beside the old file (someone wrote into it and was killed) must not be replayed into the new one.
        warehouse.published.with_name(warehouse.published.name + ".wal").unlink(missing_ok=True)
        if keep:
            spare.keep(warehouse)
        new.replace(warehouse.published)
        _sync(warehouse.home)
        spare.remember(warehouse)
        remove_older(warehouse, None, made.parts, made.gone)
        return whole
    finally:
        remove_leftovers(warehouse)


def _replace_by_parts(made: _New) -> bool:
    """Put a file with views over parts in the place of the published one; return whether all of it had to be written.

    Symbols that are kept have their parts; where real tables are published, their rows are cut out of these.
    """
    warehouse = made.warehouse

    @contextmanager
    def private(symbol: str) -> Iterator[Connection]:
        with warehouse.opened(warehouse.path(symbol)) as con:
            yield con

    @contextmanager
    def published(_: str) -> Iterator[Connection]:
        with warehouse.read() as con:
            yield con

    sources: dict[str, Opening] = {symbol: private for symbol in made.differ if symbol not in made.gone}
    kept = made.kept
    if made.parts is None:
        sources |= dict.fromkeys(made.kept, published)
        kept = []
        spare.spare_path(warehouse).unlink(missing_ok=True)  # of no use any more, and as large as what is written now
    if not made.carry and warehouse.published.exists():
        _set_aside(warehouse)
    new = publish_by_parts(warehouse, sources, kept, made.parts, made.tell)
    spare.forget(warehouse)
    remove_older(warehouse, new, made.parts, made.gone)
    return made.parts is None


def _written(made: _New, new: Path) -> bool:
    """Write a new file; return whether every byte had to be written, and not only what differs.

    The file of a single symbol is a copy of its private one, which takes the least time. Otherwise what is published is
    copied and given what differs, where nobody has changed it since. Where neither will do, all rows are written.
    """
    warehouse = made.warehouse
    if not made.kept and len(made.differ) == 1 and not made.gone:
        (symbol,) = made.differ
        whole = _copy(warehouse.path(symbol), new)
        with warehouse.opened(new, fault=warehouse.path(symbol)) as con:
            with transaction(con):
                for table in symbol_tables():
                    con.execute(f"DELETE FROM {table.name} WHERE ? OR symbol <> ?", [table.private, symbol])  # noqa: S608
            con.execute("CHECKPOINT")
        return whole
    if made.carry and not made.gone and made.parts is None and spare.is_unchanged(warehouse):
        whole = _copy(warehouse.published, new)
        if spare.bring_up_to_date(warehouse, new, made.differ, made.is_in, of_others=False):
            return whole
        remove_leftovers(warehouse)
    with ExitStack() as stack:
        con = stack.enter_context(warehouse.opened(new, config=_WITHOUT_LOG, fault=warehouse.published))
        old = stack.enter_context(_copied(warehouse)) if made.kept and made.parts is None else None
        _write_rows(made, con, old)
        con.execute("CHECKPOINT")
    return True


def _write_rows(made: _New, con: Connection, old: Path | None) -> None:
    """Write all rows in one transaction, table by table: private ones, and those of `kept` out of a published file."""
    symbols = [symbol for symbol in made.differ if symbol not in made.gone]
    for number, symbol in enumerate(symbols):
        with made.warehouse.explaining(made.warehouse.path(symbol)):
            con.execute(f"ATTACH {quoted(made.warehouse.path(symbol))} AS private{number} (READ_ONLY)")
    there: dict[str, list[str]] = {}
    if old is not None:
        _attach(con, old)
        there = columns_there(con, "old")
    with transaction(con):
        for name in (table.name for table in symbol_tables(private=False)):
            for number, symbol in enumerate(symbols):
                with made.warehouse.explaining(made.warehouse.path(symbol)):
                    con.execute(f"INSERT INTO {name} FROM private{number}.main.{name} WHERE symbol = ?", [symbol])
            if query := rows_as_today(name, "old.main", there):
                con.execute(f"INSERT INTO {name} {query} WHERE symbol IN (SELECT unnest(?))", [[*made.kept]])
        if made.parts is not None:
            for done, symbol in enumerate(made.kept):
                made.tell("tables", done, len(made.kept))
                load(con, symbol, made.parts.held(symbol).files)
            made.tell("tables", len(made.kept), len(made.kept))


def _set_aside(warehouse: Warehouse) -> None:
    """Keep the published file of another version under a name that says which, beside the one that replaces it."""
    with warehouse.read(any_version=True) as con:
        ((version,),) = rows(con, "SELECT max(version) FROM schema_version")
    aside = free_name(warehouse.home / f"heatmap.schema-{version}.duckdb")
    _log.warning("%s has schema version %s: it is kept as %s", warehouse.published, version, aside.name)
    copy = temporary(warehouse, "aside")
    shutil.copyfile(warehouse.published, copy)
    _sync(copy)
    copy.replace(aside)
