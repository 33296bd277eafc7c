"""The database files of a home: who may open them, how, and what it means when that fails.

    HOME/warehouse/SYMBOL.duckdb    private, one per symbol: one process at a time, under the symbol's own lock
    HOME/heatmap.duckdb             what everyone else reads; only ever replaced as a whole (`publish.py`)

Whoever needs several locks takes them in one order, so that nobody waits for ever: that of the home (only to move files
in), those of symbols by name, that of the publication. A symbol's file is called after its `safe_name`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from pathlib import Path

import duckdb

from heatmap_pipeline.commands import at, command, first_commands
from heatmap_pipeline.errors import HeatmapError, reason
from heatmap_pipeline.locks import LockHeldError, file_lock
from heatmap_pipeline.store import instances
from heatmap_pipeline.store.blank import put_blank
from heatmap_pipeline.store.generations import PARTS_FOLDER
from heatmap_pipeline.store.migrate import READABLE, SCHEMA_VERSION, migrate
from heatmap_pipeline.store.moving_in import FORMER, PRIVATE, READY, move_in, release
from heatmap_pipeline.store.schema import schema_text, table_statements
from heatmap_pipeline.store.split import show_only, stage_symbols, symbols_in
from heatmap_pipeline.store.sql import Connection, quoted, rows, transaction
from heatmap_pipeline.symbols import of_safe_name, safe_name

STORAGE_VERSION = "v1.5.0"
"""Storage format of all of them: the newest that the command-line client people have can open."""

_SETTINGS = {
    "storage_compatibility_version": STORAGE_VERSION,
    "memory_limit": "1GB",  # beyond it queries use the disk; the default is most of the machine's memory
    "checkpoint_threshold": "128MB",  # the default of 16 MB makes many days in a row a quarter slower
}

_PUBLISHED = "heatmap.duckdb"

READER_PREFIX = ".heatmap.reader."
"""Names that readers give the published file while they open it; they last for milliseconds."""

_DAMAGED = (
    "not a valid DuckDB",
    "orrupt",
    "checksum",
    "Serialization Error",
    "newer version",
    "Could not read enough bytes",
    "replaying WAL",
)
"""What DuckDB says of a file that cannot be trusted; a log beside a file that it does not belong to is one, too."""

_HEADERS = 3 * 4096
"""Bytes before the blocks of a file of DuckDB."""

_log = logging.getLogger(__name__)
_held: dict[Path, int] = {}
"""The locks this process holds, by file, with the thread that took each."""


def share_cores(processes: int) -> None:
    """Let DuckDB have its share of the cores from now on, in a process that is one of so many at work.

    Each would have a thread for every core otherwise, and two processes on two cores take a tenth longer so.
    """
    _SETTINGS["threads"] = str(max(1, (os.cpu_count() or 1) // processes))


class StoreError(HeatmapError):
    """A database file that cannot be opened, written or trusted; the message says which and what to do."""


class FileError(StoreError):
    """A database file that cannot be used, which says nothing of the files of other symbols."""


class ForeignError(FileError):
    """A database file that is none of this program's."""


class OpenElsewhereError(FileError):
    """A database file that another program has open for writing, or has open at all where it is to be written."""


class UnusableError(FileError):
    """A database file that has to be made anew: damaged, or of another version.

    Attributes:
        path: the file.
        reason: what is wrong with it, without what to do.
    """

    def __init__(self, path: Path, reason: str, home: Path) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{reason}; move it away (with {path.name}.wal, if there is one), then "
            f"`{command(at(home), 'status')}` names the command that makes it again"
        )


class Warehouse:
    """The database files under one home.

    Attributes:
        home: the folder; made when first needed.
        folder: of the private databases.
        former: the one private database of all symbols that a home of an earlier version has; it is taken apart when
            the home is first used (`split.py`).
        published: the database for readers; a copy of one may have another name.
        lock_timeout: seconds to wait for another process before giving up.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home, Warehouse(Path(home)).connect("BTCUSDT") as con:
        ...     con.execute("SELECT count(*) FROM raw_candles").fetchall()
        [(0,)]
    """

    def __init__(self, home: Path, *, lock_timeout: float = 600.0, published: Path | None = None) -> None:
        self.home = home
        self.folder = home / PRIVATE
        self.former = home / FORMER
        self.published = published or home / _PUBLISHED
        self.lock_timeout = lock_timeout
        self._home_lock = home / "warehouse.lock"  # the only one of earlier versions: they wait for it, too
        self._publication_lock = home / "heatmap.lock"

    def path(self, symbol: str) -> Path:
        """Return the private database of a symbol, whether it is there or not."""
        return self.folder / f"{safe_name(symbol)}.duckdb"

    def symbols(self) -> list[str]:
        """Return the symbols that have a private database, sorted.

        Raises:
            StoreError: for a home of an earlier version, as `connect` does.
        """
        if self.former.exists() and not self._can_be_written():
            with self._attached(self.former) as con:
                return symbols_in(con)
        if self._can_be_written():
            self._settle()
        return self._symbols_there()

    def _symbols_there(self) -> list[str]:
        return sorted(filter(None, (of_safe_name(path.stem) for path in self.folder.glob("*.duckdb"))))

    def holds(self, symbol: str) -> bool:
        """Return whether a symbol has a private database; raises as `symbols` does."""
        return symbol in self.symbols() if self._unsettled() else self.path(symbol).exists()

    @contextmanager
    def connect(self, symbol: str, *, config: Mapping[str, str] | None = None) -> Iterator[Connection]:
        """Open the private database of a symbol for writing, alone, with its schema; roll back what was not committed.

        Hold it for milliseconds: compute outside, then connect and commit. Nobody waits who works on another symbol.

        Args:
            symbol: id of the market.
            config: further DuckDB settings, for example `{"threads": "1"}`.

        Raises:
            StoreError: if the home cannot be written, the disk is full, another process of ours holds the lock for
                longer than `lock_timeout`, a stranger has the file open, or it is damaged or of another version.
        """
        with self.locked(symbol), self._with_schema(symbol, config) as con:
            yield con

    @contextmanager
    def _with_schema(self, symbol: str, config: Mapping[str, str] | None = None) -> Iterator[Connection]:
        """Open the private database of a symbol, whose lock is held, with its tables."""
        with self.opened(self.path(symbol), config=config) as con:
            self.ensure_schema(con, self.path(symbol))
            yield con

    @contextmanager
    def look(self, symbol: str) -> Iterator[Connection]:
        """Open the private database of a symbol for who only reads and makes nothing; an empty one where there is none.

        As `connect`, but without lock where the home cannot be written.

        Raises:
            StoreError: as `connect`; for tables of an earlier version in a home that cannot be written.
        """
        with ExitStack() as stack:
            there, writable = self.holds(symbol), self._can_be_written()
            if there and writable:
                stack.enter_context(self.locked(symbol))
                there = self.path(symbol).exists()  # one that was forgotten meanwhile is not to come back
            if not there:
                con = stack.enter_context(self.nothing())
            elif writable:
                con = stack.enter_context(self._with_schema(symbol))
            else:
                former = self.former.exists()
                con = stack.enter_context(self._attached(self.former if former else self.path(symbol)))
                if former:
                    show_only(con, symbol)
            yield con

    @contextmanager
    def nothing(self) -> Iterator[Connection]:
        """Open an empty private database in memory: what is stored of a symbol that has none."""
        with self.opened() as con:
            with transaction(con):
                for statement in table_statements():
                    con.execute(statement)
            yield con

    def _can_be_written(self) -> bool:
        return os.access(self.home, os.W_OK)

    @contextmanager
    def _attached(self, path: Path) -> Iterator[Connection]:
        """Open a private database read-only, without lock."""
        with self.explaining(path), instances.lent(_SETTINGS) as con:
            con.execute(f"ATTACH {quoted(path)} AS warehouse (READ_ONLY)")
            con.execute("USE warehouse")
            self._check_length(con, path, path)
            self._check_version(con, path)
            if (version := schema_version(con)) != SCHEMA_VERSION:
                raise StoreError(
                    f"{path} has schema version {version} and gets that of this program, {SCHEMA_VERSION}, where "
                    f"home {self.home} can be written"
                )
            yield con

    @contextmanager
    def read(self, *, any_version: bool = False, alone: bool = False) -> Iterator[Connection]:
        """Open the published database read-only; needs no lock, and sees the version that is newest now.

        Args:
            any_version: accept tables of any version of this program, for who expects little of them. Those of a
                readable earlier version are always accepted: they may lack tables and columns that were added since.
            alone: whether the caller changes settings of DuckDB, so that nobody else may have the same one.

        Raises:
            StoreError: if nothing is published yet, someone has opened the file for writing, or it is damaged or of
                another version.
        """
        if not self.published.exists():
            raise StoreError(f"nothing is published in {self.home} yet; run {first_commands(self.home)} first")
        # Attached to a database of its own: within one process DuckDB hands out the file it already has open under a
        # path, which may be the version before the last replacement.
        with ExitStack() as stack:
            stack.enter_context(self.explaining(self.published))
            spill = self._own_name(".tmp") if self._can_be_written() else None
            lent = instances.alone(_SETTINGS, spill) if alone else instances.lent(_SETTINGS, spill=spill)
            con = stack.enter_context(lent)
            with self._pinned() as path:
                con.execute(f"ATTACH {quoted(path)} AS heatmap (READ_ONLY)")
            con.execute("USE heatmap")
            if not any_version:
                self._check_version(con, self.published)
            yield con

    def _own_name(self, ending: str = "") -> Path:
        """Return a path beside the published file for one reader alone."""
        return self.home / f"{READER_PREFIX}{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}{ending}"

    @contextmanager
    def _pinned(self) -> Iterator[Path]:
        """Give the published file of this instant a name of its own while DuckDB opens it.

        DuckDB opens a path three times: for its kind, for its header, for its blocks. A publication between two of them
        would give it the header of one file and the blocks of another.
        """
        link = self._own_name()
        try:
            link.hardlink_to(self.published)
        except OSError:  # a folder that this reader may not write to, or a file system without links
            yield self.published
            return
        try:
            yield link
        finally:
            link.unlink(missing_ok=True)

    @contextmanager
    def locked(self, *symbols: str) -> Iterator[None]:
        """Hold the locks of the private databases of symbols (see `locks.file_lock`).

        Raises:
            StoreError: if the home cannot be written or a lock is held for longer than `lock_timeout`; as `symbols`.
        """
        for path, holder in list(_held.items()):  # other threads come and go meanwhile
            if holder == threading.get_ident() and (path.parent == self.folder or path == self._publication_lock):
                raise RuntimeError(f"{path} is already held here; pass the open connection on instead")
        while True:
            self._settle()
            with self._locks(symbols):
                if not self._unsettled():
                    yield
                    return
            # Files began to wait meanwhile: they come first.

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock under which heatmap.duckdb is replaced; raises as `locked` does."""
        with self._lock(self._publication_lock):
            yield

    @contextmanager
    def standing_still(self) -> Iterator[list[str]]:
        """Hold all locks: nothing of the symbols that are given, nor what is published, changes; raises as `locked`."""
        while True:
            symbols = self.symbols()
            with self.locked(*symbols), self.publishing():
                there = self._symbols_there()
                if set(there) <= set(symbols):  # one may have been forgotten
                    yield there
                    return
            # A symbol has come meanwhile, and may be published already.

    def take_over(self, staged: Path, aside: str) -> Path | None:
        """Put the files of a folder of the home in their places, whoever is killed; see `moving_in.release`.

        Returns:
            Where those are that they replaced, None where there were none.

        Raises:
            StoreError: as `locked` does.
        """
        with self._lock(self._home_lock):
            with self.explaining():
                release(self.home, staged, aside)
            replaced = self._move_in()
        self._settle()
        return replaced

    def finish_taking_over(self) -> None:
        """Put files in their places that a killed `take_over` left waiting."""
        if (self.home / READY).is_dir():
            with self._lock(self._home_lock):
                self._move_in()

    def _unsettled(self) -> bool:
        """Whether files wait to be moved in, or the home is of an earlier version."""
        return (self.home / READY).is_dir() or self.former.exists()

    def _settle(self) -> None:
        """Move in what waits, and give each symbol of a home of an earlier version its file.

        A kill leaves the home as it was, or files that wait for whoever comes next.
        """
        if not self._unsettled():
            return
        with self._lock(self._home_lock):
            self._move_in()
            if self.former.exists():
                _log.info("%s is taken apart: each symbol gets a file of its own in %s", self.former, self.folder)
                stage_symbols(self)
                self._move_in()

    def _move_in(self) -> Path | None:
        """Move in what waits; under the lock of the home. From now on nobody new begins with a symbol (`locked`)."""
        waiting = [*(self.home / READY / PRIVATE).glob("*.duckdb"), *self.folder.glob("*.lock")]
        names = sorted({path.stem for path in waiting})
        with self._locks(filter(None, map(of_safe_name, names))), self.publishing(), self.explaining():
            return move_in(self.home)

    @contextmanager
    def _locks(self, symbols: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            for symbol in sorted(set(symbols)):
                stack.enter_context(self._lock(self.path(symbol).with_suffix(".lock")))
            yield

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        def waiting(holder: str) -> None:
            _log.info("waiting for %s, which holds %s", holder, path)

        with ExitStack() as stack:
            lock = file_lock(path, timeout=self.lock_timeout, patience=2.0, waiting=waiting, must_name=True)
            with self.explaining():
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(lock)
                except LockHeldError as error:
                    raise StoreError(
                        f"{path} has been held by {error.holder} for over {self.lock_timeout:g} s; "
                        "wait until that run has ended, or end it, and run again"
                    ) from None
            _held[path] = threading.get_ident()
            stack.callback(_held.pop, path, None)
            yield

    @contextmanager
    def opened(
        self, path: Path | None = None, *, config: Mapping[str, str] | None = None, fault: Path | None = None
    ) -> Iterator[Connection]:
        """Open a database file, or none; whatever happens, roll back, close, and say in words why it failed.

        Args:
            path: of the file; where there is none, one with all tables and none of their rows is made.
            config: further DuckDB settings.
            fault: the file that a temporary one is a copy of; by default it is itself, without one the published one.

        Raises:
            StoreError: for every failure of the file or the disk, also inside the `with` block.
        """
        fault = fault or path or self.published
        settings = {**_SETTINGS, **(config or {})}
        with self.explaining(fault), ExitStack() as stack:
            if path is not None and not path.exists():
                put_blank(path, settings)
            con = stack.enter_context(instances.lent(settings, path))
            if path is not None:
                self._check_length(con, path, fault)
            yield con

    @contextmanager
    def explaining(self, path: Path | None = None) -> Iterator[None]:
        """Raise failures of files and disk as `StoreError`; defects of ours pass as they are.

        Args:
            path: the database file that is at fault if it is a damaged one; None means the published one.
        """
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if _of_a_part(error):
                raise self._about_parts(error) from error
            of_the_file = (duckdb.IOException, duckdb.FatalException, duckdb.SerializationException, OSError)
            uncommitted = isinstance(error, duckdb.TransactionException) and "Failed to commit" in str(error)
            damaged = type(error) is duckdb.Error  # bare: a damaged block
            if not (isinstance(error, of_the_file) or uncommitted or damaged):
                raise
            raise self._explained(error, path or self.published) from error

    def ensure_schema(self, con: Connection, path: Path) -> None:
        """Create the tables in an empty database, bring one of a readable earlier version to ours, refuse any other.

        Args:
            con: with the database open and in use.
            path: of its file, to be named.

        Raises:
            StoreError: if the database is not ours or of another version.
        """
        # Asked first, because it takes 11 ms less than listing the tables, and every stage of a run comes here.
        version = schema_version(con)
        if version == SCHEMA_VERSION:
            return
        if version is None and not rows(con, "SELECT 1 FROM duckdb_tables() LIMIT 1"):
            with transaction(con):
                con.execute(schema_text())
        elif version in READABLE:
            _log.info("%s has schema version %s: it gets the tables of version %s", path, version, SCHEMA_VERSION)
            migrate(con)
        self._check_version(con, path)

    def _check_version(self, con: Connection, path: Path) -> None:
        version = schema_version(con)
        if version is None:
            raise ForeignError(f"{path} holds no tables of this program; move it away, or choose another --home")
        if version not in READABLE:
            raise UnusableError(
                path,
                f"{path} has schema version {version}, this program needs {SCHEMA_VERSION}: use the program that made "
                "it, or rebuild it",
                self.home,
            )

    def _check_length(self, con: Connection, path: Path, fault: Path) -> None:
        """Refuse a file that is shorter than what is in use of it, before anything is read from it or written to it.

        DuckDB reads a block when a query needs it, so in a file that was cut off many a query would go well, and new
        rows would be written where others were. Where more of it was free than is missing this cannot tell: whoever
        reads a block that is missing then says so.

        Args:
            con: with the file open and in use.
            path: of the file.
            fault: the file to name.

        Raises:
            UnusableError: if it is too short.
        """
        ((used,),) = rows(
            con, "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
        )
        length, needed = path.stat().st_size, _HEADERS + used
        if length < needed:
            reason = f"{fault} is damaged: it was cut off at {length} bytes, and holds {needed} by what it says"
            raise UnusableError(fault, reason, self.home)

    def _about_parts(self, error: Exception) -> StoreError:
        """Say what to do where files that the published database has views over cannot be read."""
        if any(self.folder.glob("*.duckdb")):
            anew = f"remove those that are damaged, then `{command(at(self.home), 'refresh')}` makes them anew"
        else:  # a copy, or pulled from a store
            anew = f"open it where it was published, or pull it anew with `{command(at(self.home), 'catalogue')}`"
        return StoreError(
            f"{self.published} shows files that are gone or damaged (was the home moved, or {PARTS_FOLDER}/ removed?); "
            f"{anew} ({reason(error)})"
        )

    def _explained(self, error: Exception, path: Path) -> StoreError:
        """Return the same failure as a sentence that says what to do."""
        text = reason(error)
        number = error.errno if isinstance(error, OSError) else None
        full = ("No space left", "Disk quota exceeded", "File too large")
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(part in text for part in full):
            return StoreError(f"the disk that holds {self.home} is full; make room and run again ({text})")
        if "lock on file" in text:  # DuckDB's own message names the process
            return OpenElsewhereError(
                f"a database in {self.home} is open elsewhere; close it there and run again ({text})"
            )
        denied = number in (errno.EACCES, errno.EPERM) or "Permission denied" in text
        if denied and self._can_be_written():  # as of one that was made as another user
            named = getattr(error, "filename", None) or path
            return FileError(f"{named} cannot be used; mend its permissions and run again ({text})")
        refused = ("Permission denied", "Read-only file system", "Not a directory")
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST) or any(
            part in text for part in refused
        ):
            return StoreError(f"home {self.home} cannot be written; choose another with --home ({text})")
        if any(part in text for part in _DAMAGED):
            return UnusableError(path, f"{path} is damaged or of another version of DuckDB ({text})", self.home)
        return StoreError(f"a database in {self.home} failed: {text}")


def _of_a_part(error: Exception) -> bool:
    """Whether DuckDB could not read a file that a published view is over; one in the making has a hidden folder."""
    text = str(error)
    named = re.search(rf"/{PARTS_FOLDER}/[^./][^/]*/\w+/symbol=[^/]*/[^/]*\.parquet", text)
    return isinstance(error, duckdb.Error) and named is not None and "Permission denied" not in text


def schema_version(con: Connection) -> int | None:
    """Return the version of the tables, None where they are not ours."""
    try:
        ((version,),) = rows(con, "SELECT max(version) FROM schema_version")
    except duckdb.CatalogException:
        return None
    return int(version or 0)


def home_of(path: Path) -> Path:
    """Return the home that a database file is of, private or published."""
    private = path.parent.name == PRIVATE and path.name != _PUBLISHED
    return path.parent.parent if private else path.parent


def free_name(path: Path) -> Path:
    """Return a path, with -2, -3 ... at the end of its stem where there is something already."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in chain([path], numbered) if not name.exists())
