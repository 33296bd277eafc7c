"""How long Dagster's history is kept: what is too old is removed, and the disk gets its room back.

Dagster itself only knows how to delete a run with everything it did, after which its UI shows the days of that run as
missing; and no file gets smaller. So its SQLite files are changed here: of a run that is too old its row, its log file,
its output and its events go, but for the newest materialisation of each asset and day, and the newest result of each
check. A run that is going on, or whose backfill is, is left alone, as is the newest run. Where a version of Dagster
keeps its history in another way, nothing is removed, and that is said.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from filelock import FileLock, Timeout

from heatmap_pipeline.chain.old_files import remove_old_files
from heatmap_pipeline.errors import HeatmapError, reason
from heatmap_pipeline.settings import Settings

_DAY = 86400.0
_EVERY = 0.9 * _DAY
"""Seconds between two times, so that a daily command never skips a day."""

_YOUNGEST = _DAY
"""Seconds for which every run is kept, however many there are."""

_MOST = 400
"""Runs removed at a time; more are removed the next time, soon."""

_EMPTY_SHARE, _EMPTY_BYTES = 0.25, 4 << 20
"""A file is written anew, without its holes, when these are at least such a share of it and so many bytes."""

_SECONDS = 20.0
"""How long to wait for whoever writes at this moment."""

_CHOSEN = """
SELECT run_id FROM (
    SELECT run_id, status, id, coalesce(end_time, CAST(strftime('%s', update_timestamp) AS REAL)) AS ended,
        backfill_id, row_number() OVER (PARTITION BY status ORDER BY id DESC) AS place
    FROM runs WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED')
)
WHERE ((:days > 0 AND ended < :now - :days * 86400) OR (:runs > 0 AND status = 'SUCCESS' AND place > :runs))
    AND ended < :now - :youngest
    AND id < (SELECT max(id) FROM runs)
    AND (backfill_id IS NULL OR backfill_id NOT IN (SELECT key FROM bulk_actions WHERE status NOT IN (
        'COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED')))
ORDER BY id LIMIT :most
"""

_FORGET_EVENTS = (
    "CREATE TEMP TABLE kept AS SELECT max(id) AS id FROM event_logs "
    "WHERE dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION') "
    "GROUP BY asset_key, partition, dagster_event_type",
    "INSERT INTO kept SELECT evaluation_event_storage_id FROM asset_check_executions WHERE id IN "
    "(SELECT max(id) FROM asset_check_executions WHERE evaluation_event_storage_id IS NOT NULL "
    "GROUP BY asset_key, check_name)",
    "DELETE FROM event_logs WHERE run_id IN (SELECT run_id FROM gone) AND id NOT IN (SELECT id FROM kept)",
    "DELETE FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)",
    "DELETE FROM asset_check_executions WHERE run_id IN (SELECT run_id FROM gone) AND id NOT IN (SELECT max(id) "
    "FROM asset_check_executions WHERE evaluation_event IS NOT NULL GROUP BY asset_key, check_name)",
)

_FORGET_RUNS = (
    "DELETE FROM run_tags WHERE run_id IN (SELECT run_id FROM gone)",
    "DELETE FROM runs WHERE run_id IN (SELECT run_id FROM gone)",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removed:
    """What was removed: runs of the history, files of the archive; and whether more runs are to go."""

    runs: int = 0
    files: int = 0
    more: bool = False


def tidy_up(settings: Settings, warn: Callable[[str], object] = _log.warning) -> Removed | None:
    """Remove what the settings say is too old, once a day; None where that is done already or somebody else does it.

    Nothing is raised: a run that succeeded is no worse because something could not be removed.
    """
    stamp = settings.home / "dagster" / "tidied"
    with suppress(OSError):
        if 0 <= time.time() - stamp.stat().st_mtime < _EVERY:  # not while it lies ahead: the clock was wrong then
            return None
    try:
        with FileLock(stamp.with_name("tidied.lock")).acquire(timeout=0):
            runs, more = remove_old_runs(stamp.parent, settings.keep_run_days, settings.keep_runs)
            files = remove_old_files(settings)
            if not more:
                stamp.touch()
    except Timeout:
        return None
    except (sqlite3.Error, OSError, HeatmapError) as error:
        warn(f"nothing more was removed of what is too old: {reason(error)}; it is tried again")
        return None
    return Removed(runs, files, more)


def remove_old_runs(folder: Path, days: int, runs: int, now: float | None = None) -> tuple[int, bool]:
    """Remove runs of the history in a folder that holds dagster.yaml.

    Args:
        folder: DAGSTER_HOME.
        days: a run that ended longer ago is removed; 0: none for its age.
        runs: of those that succeeded so many are kept, the newest; 0: all.
        now: seconds since 1970-01-01 UTC, for tests.

    Returns:
        How many, and whether more are to go.

    Raises:
        sqlite3.Error: if the history cannot be written, or is not as this program knows it.
    """
    moment = time.time() if now is None else now
    history, logs = folder / "history" / "runs.db", folder / "history" / "runs"
    if not history.exists() or not (logs / "index.db").exists():
        return 0, False
    with _opened(history) as con:
        bounds = {"days": days, "runs": runs, "now": moment, "youngest": _YOUNGEST, "most": _MOST}
        chosen = [str(name) for (name,) in con.execute(_CHOSEN, bounds)]
        known = {str(name) for (name,) in con.execute("SELECT run_id FROM runs")}
        # What a cleaning that was killed has left: the row is gone, the file is not.
        gone = {*chosen, *(name for name in _logged(logs, moment - _YOUNGEST) if name not in known)}
        if gone:
            _execute(con, _FORGET_RUNS, gone)
    if gone:
        with _opened(logs / "index.db") as con:
            _execute(con, _FORGET_EVENTS, gone)
    for name in gone:
        shutil.rmtree(folder / "storage" / name, ignore_errors=True)
        # The file that tells of the run goes last: until then the next cleaning does all of this again.
        for ending in (".db-wal", ".db-shm", ".db"):
            (logs / f"{name}{ending}").unlink(missing_ok=True)
    for path in (history, logs / "index.db"):
        _shrink(path)
    return len(chosen), len(chosen) == _MOST


def _logged(logs: Path, before: float) -> Iterator[str]:
    """Yield the runs that have a log file no younger than that."""
    for path in logs.glob("*.db"):
        with suppress(ValueError, OSError):
            UUID(path.stem)
            if path.stat().st_mtime < before:
                yield path.stem


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # rw: a file that is gone is not made anew.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_SECONDS, isolation_level=None)) as con:
        yield con


def _execute(con: sqlite3.Connection, statements: Collection[str], gone: Collection[str]) -> None:
    """Execute statements about the runs that are gone in one transaction."""
    con.execute("CREATE TEMP TABLE gone (run_id TEXT PRIMARY KEY)")
    con.executemany("INSERT INTO gone VALUES (?)", [(name,) for name in gone])
    con.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            con.execute(statement)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def _shrink(path: Path) -> None:
    """Write a file anew where much of it is empty; if somebody is in the way or the disk is full, another time."""
    with _opened(path) as con, suppress(sqlite3.OperationalError):
        pages, free, size = (
            con.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if free * size >= _EMPTY_BYTES and free >= _EMPTY_SHARE * pages:
            con.execute("VACUUM")
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
