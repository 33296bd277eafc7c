"""Publications that cost what has changed, not what is stored: shared blocks, or the file published before the present.

What belongs here: whether a file can be had without copying it, and bringing an older publication up to date. What does
not: when to publish, and putting the new file in its place (`publish.py`).

A file that was published may be changed again only when nobody can be reading it any more. Whatever is not certain here
ends in a whole copy, which is always right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeAlias

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.store.compact import has_room
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, rows, scalar, transaction
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

MINIMUM = 64_000_000
"""Bytes below which a file is simply copied: that takes a tenth of a second, and no room for a spare one."""

MOST_DAYS = 31
"""Changed days of all symbols together up to which they are written into an older publication, whatever is stored."""

_LARGEST_SHARE = 10
"""One day of so many may have changed; beyond that a copy is faster, and leaves a file without holes."""

_YOUNGEST = 1.0
"""Seconds after which an opening that had found the file under its public name has long become an open file."""

_ALONE: Mapping[str, frozenset[str]] = {
    "lot_days": frozenset({"lot_days", "open_positions"}),
    "snapshot_days": frozenset({"snapshot_days", "coarse_days", "liquidation_snapshots"}),
}
"""What differs in a day where nothing vouches for a difference but these: lots or cells that came or went. The events
of such a day stay where they are, among those of its neighbours."""

_FICLONE = 0x40049409
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs"})
"""File systems that nobody reaches past this kernel, so that it knows of everyone who has a file open."""


def clone(source: Path, target: Path) -> bool:
    """Make `target` share the blocks of `source` until one of them changes; False where the file system cannot."""
    with source.open("rb") as read_from, target.open("wb") as written, suppress(OSError):
        fcntl.ioctl(written, _FICLONE, read_from.fileno())
        return True
    return False


def spare_path(warehouse: Warehouse) -> Path:
    """Return where the file waits that was published before the present one."""
    return warehouse.home / ".heatmap.spare.duckdb"


def seal(path: Path) -> None:
    """Mark a finished file by the fraction of its second of modification, which any later write changes."""
    status = path.stat()
    if status.st_size < MINIMUM:  # never a spare one; and two made in one second stay different to who compares times
        return
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns // 10**9 * 10**9 + _mark(status)))


def _mark(status: os.stat_result) -> int:
    name = f"{status.st_ino} {status.st_size}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) % 10**9


def _sealed(status: os.stat_result) -> bool:
    return status.st_mtime_ns % 10**9 == _mark(status)


def keep(warehouse: Warehouse) -> None:
    """Give the published file, which is about to be replaced, a second name under which it will wait.

    A kill before the replacement leaves a spare that is the published file; `take` sees that and refuses it.
    """
    spare = spare_path(warehouse)
    spare.unlink(missing_ok=True)
    with suppress(OSError):  # none is published yet, or the file system has no links
        status = warehouse.published.stat()
        if status.st_size >= MINIMUM and _sealed(status) and _is_local(warehouse.home):
            spare.hardlink_to(warehouse.published)


def take(warehouse: Warehouse, target: Path) -> bool:
    """Move the spare file to `target` where nobody else can have it open; else remove it and return False."""
    spare = spare_path(warehouse)
    with suppress(FileNotFoundError):
        status = spare.stat()
        spare.replace(target)
        # One name: it is not the published file, and no reader has given it a name to open it by.
        settled = time.time() - status.st_ctime >= _YOUNGEST
        if status.st_nlink == 1 and settled and _sealed(status) and _is_local(warehouse.home) and unread(target):
            return True
        target.unlink()
    return False


def unread(path: Path) -> bool:
    """Return whether nobody but the caller has a file open, by asking for a lease, which the kernel grants only then.

    False also where there are no leases.
    """
    lease = getattr(fcntl, "F_SETLEASE", None)
    if lease is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        # Should someone open it in this instant, the kernel says so by a signal; this one is ignored by default.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, lease, fcntl.F_WRLCK)
        fcntl.fcntl(handle, lease, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_local(folder: Path) -> bool:
    """Return whether a folder is on a file system of `_LOCAL`."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    kinds = {line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number}
    return bool(kinds) and kinds <= _LOCAL


def forget(warehouse: Warehouse) -> None:
    """Remove the spare file, and the note of which one is published: what is now is no file to bring up to date."""
    spare_path(warehouse).unlink(missing_ok=True)
    _note(warehouse).unlink(missing_ok=True)


def remember(warehouse: Warehouse) -> None:
    """Note which file is published now; a kill before that leaves a note of another one."""
    with suppress(OSError):  # all rows are written the next time
        replace_file(_note(warehouse), _identity(warehouse))


def is_unchanged(warehouse: Warehouse) -> bool:
    """Return whether the published file is the one that was published last, and nobody has written into it."""
    with suppress(OSError):
        return _note(warehouse).read_bytes() == _identity(warehouse)
    return False


def _note(warehouse: Warehouse) -> Path:
    return warehouse.home / ".heatmap.published"


def _identity(warehouse: Warehouse) -> bytes:
    status = warehouse.published.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}\n".encode()


def bring_up_to_date(
    warehouse: Warehouse,
    file: Path,
    symbols: Sequence[str],
    proven: Callable[[Connection], bool],
    *,
    of_others: bool,
) -> bool:
    """Give a publication the rows of symbols in their private databases, and of others those that are published.

    Only the days that differ are touched. The caller holds the locks of the symbols and of the publication.

    Args:
        warehouse: of the home.
        file: an older publication, or a copy of the present one.
        symbols: that are published now.
        proven: whether their rows in the file, open, are those of their private databases.
        of_others: whether other symbols may differ: the file is an older publication, not a copy of the present one.

    Returns:
        False where so much differs that other ways are better, or anything is not as expected: the file is then of no
        use.
    """
    names = ", ".join(map(quoted, symbols))
    try:
        with _second_name(warehouse, of_others) as published, warehouse.opened(file, fault=warehouse.published) as con:
            private = {symbol: f"private{number}" for number, symbol in enumerate(symbols)}
            for symbol, name in private.items():
                con.execute(f"ATTACH {quoted(warehouse.path(symbol))} AS {name} (READ_ONLY)")
            sources = [_Source(tuple(private.values()), f"symbol IN ({names})", private)]
            if published is not None:
                con.execute(f"ATTACH {quoted(published)} AS published (READ_ONLY)")
                sources.append(_Source(("published",), f"symbol NOT IN ({names})", {}))
            if not _same_schema(con, sources[0].databases[0]):
                return False
            changed = [source.changed_days(con) for source in sources]
            days = sum(len(of_tables) for each in changed for of_tables in each.values())
            if of_others and days > max(MOST_DAYS, _stored_days(con) // _LARGEST_SHARE):
                return False
            for source, each in zip(sources, changed, strict=True):
                source.take_over(con, each)
            con.execute("CHECKPOINT")
            if not (proven(con) and all(source.has_as_many_rows(con) for source in sources)):
                return False
            if published is not None and sources[1].changed_days(con):
                return False
            return of_others or not has_room(con)
    except StoreError:  # damaged, opened by someone for writing, or no room: other ways will do, or say what it is
        return False


@contextmanager
def _second_name(warehouse: Warehouse, wanted: bool) -> Iterator[Path | None]:
    """Give the published file a name of our own where it is wanted: DuckDB may still know its usual one as another."""
    if not wanted or not warehouse.published.exists():
        yield None
        return
    name = warehouse.home / f".heatmap.duckdb.{os.getpid()}.link"
    with warehouse.explaining():
        name.hardlink_to(warehouse.published)
    try:
        yield name
    finally:
        name.unlink(missing_ok=True)


def _same_schema(con: Connection, other: str) -> bool:
    """Whether the file was made by the same program as another, and nobody added anything to the one or the other."""
    query = (
        "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = ? AND NOT internal "
        "UNION ALL SELECT view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal ORDER BY ALL"
    )
    here = scalar(con, "SELECT current_database()")
    same_version = rows(con, "FROM schema_version") == rows(con, f"FROM {other}.main.schema_version")
    return same_version and rows(con, query, [here, here]) == rows(con, query, [other, other])


_Changed: TypeAlias = Mapping[frozenset[str], Sequence[tuple[str, date]]]
"""Symbol and day wherever a file differs from what is wanted, rising, by the tables that may differ."""


@dataclass(frozen=True)
class _Source:
    """Attached databases that have the rows that are wanted of some symbols.

    Attributes:
        databases: their names.
        mine: condition in SQL that a row is of one of these symbols.
        of_symbol: the database of each; the first one where it is not said.
    """

    databases: Sequence[str]
    mine: str
    of_symbol: Mapping[str, str]

    @property
    def _filter(self) -> str:
        """Clause in SQL that leaves the rows of these symbols of a database; a symbol's own has no others."""
        return "" if self.of_symbol else f" WHERE {self.mine}"

    def _rows(self, table: str) -> str:
        """Return the rows of a table, in SQL."""
        return f"({' UNION ALL '.join(f'FROM {name}.main.{table}' for name in self.databases)})"

    def _hashes(self, prefix: str, where: str) -> list[str]:
        """Return queries for symbol, day, table and hash of the rows that carry hashes, one per table."""
        return [
            f"SELECT symbol, CAST({table.time_column} AS DATE), '{table.name}', hash(r) "  # noqa: S608 - names of ours
            f"FROM {prefix}{table.name} AS r{where}"
            for table in symbol_tables(private=False)
            if table.vouches
        ]

    def take_over(self, con: Connection, changed: _Changed) -> None:
        """Give the open file the rows of days that differ."""
        with transaction(con):
            for table in symbol_tables(private=False):
                if table.time_column is None:
                    self._replace(con, table.name, self.mine, [], {self._rows(table.name): []})
            for names, days in changed.items():
                for (first, last), symbols in _spans(days).items():
                    self._replace_days(con, symbols, first, last, names)

    def changed_days(self, con: Connection) -> _Changed:
        """Return where the open file differs from what is wanted."""
        # By the hashes of rows, as fingerprints go. Of many symbols the texts of the rows, or all scans at once, are
        # more than the memory that DuckDB is given: only the tables of a single symbol are scanned together.
        for side in ("present", "wanted"):
            con.execute(f"CREATE OR REPLACE TEMP TABLE {side} (symbol VARCHAR, day DATE, name VARCHAR, hashed UBIGINT)")
        for query in self._hashes("", f" WHERE {self.mine}"):
            con.execute(f"INSERT INTO present {query}")
        for database in self.databases:
            queries = self._hashes(f"{database}.main.", self._filter)
            for query in [" UNION ALL ".join(queries)] if self.of_symbol else queries:
                con.execute(f"INSERT INTO wanted {query}")
        every = frozenset(table.name for table in symbol_tables(private=False) if table.time_column is not None)
        query = (
            "SELECT symbol, day, list(DISTINCT name) FROM "
            "((FROM present EXCEPT ALL FROM wanted) UNION ALL (FROM wanted EXCEPT ALL FROM present)) "
            "GROUP BY ALL ORDER BY ALL"
        )
        changed: dict[frozenset[str], list[tuple[str, date]]] = {}
        for symbol, day, names in rows(con, query):
            differing: frozenset[str] = frozenset().union(*(_ALONE.get(name, every) for name in names))
            changed.setdefault(differing, []).append((symbol, day))
        return changed

    def _replace_days(
        self, con: Connection, symbols: Sequence[str], first: date, last: date, names: Collection[str]
    ) -> None:
        of_database: dict[str, list[str]] = {}
        for symbol in symbols:
            of_database.setdefault(self.of_symbol.get(symbol, self.databases[0]), []).append(symbol)
        for table in symbol_tables(private=False):
            if table.name in names:
                days, bounds = table.within(first, last)
                # All symbols at once: what deleting costs is looking for the rows.
                where = f"symbol IN (SELECT unnest(?::VARCHAR[])) AND {days}"
                self._replace(
                    con,
                    table.name,
                    where,
                    [list(symbols), *bounds],
                    {f"{name}.main.{table.name}": [theirs, *bounds] for name, theirs in of_database.items()},
                )

    def _replace(
        self, con: Connection, table: str, where: str, window: list[object], sources: Mapping[str, list[object]]
    ) -> None:
        """Replace the rows of a table in a window by those of sources, each with its values for the same condition."""
        con.execute(f"DELETE FROM {table} WHERE {where}", window)  # noqa: S608 - a table name of ours
        for source, of_source in sources.items():
            con.execute(f"INSERT INTO {table} FROM {source} WHERE {where}", of_source)

    def has_as_many_rows(self, con: Connection) -> bool:
        """Whether every table has as many rows as it should; a guard, that costs little, against a defect here."""
        wanted = [self._counts(con, f"{database}.main.", self._filter) for database in self.databases]
        return self._counts(con, "", f" WHERE {self.mine}") == [sum(of_table) for of_table in zip(*wanted, strict=True)]

    def _counts(self, con: Connection, prefix: str, where: str) -> list[int]:
        counts = " UNION ALL ".join(
            f"SELECT {place}, count(*) FROM {prefix}{table.name}{where}"  # noqa: S608 - names of ours
            for place, table in enumerate(symbol_tables(private=False))
        )
        return [int(count) for _, count in rows(con, f"{counts} ORDER BY 1")]


def _stored_days(con: Connection) -> int:
    return int(scalar(con, "SELECT count(*) FROM (SELECT DISTINCT symbol, day FROM heatmap_days)"))


def _spans(days: Sequence[tuple[str, date]]) -> dict[tuple[date, date], list[str]]:
    """Return days in a row as one span: the symbols of each first and last day."""
    spans: list[tuple[str, date, date]] = []
    for symbol, day in days:
        if spans and spans[-1][0] == symbol and spans[-1][2] == day - ONE_DAY:
            spans[-1] = (symbol, spans[-1][1], day)
        else:
            spans.append((symbol, day, day))
    symbols: dict[tuple[date, date], list[str]] = {}
    for symbol, first, last in spans:
        symbols.setdefault((first, last), []).append(symbol)
    return symbols
