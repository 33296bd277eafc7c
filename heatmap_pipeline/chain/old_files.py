"""How long files of the exchange's archive are kept in the home: for ever, unless HEATMAP_KEEP_ARCHIVE_DAYS says so.

A rebuild reads every day again, so by default nothing is removed. With the setting, only a file goes that this home
does not need and the archive can give again: its day is computed by every model, too old to be asked about for
corrections, and the file is what its CHECKSUM says. One that was fetched within the last day stays: a rebuild that is
going on may be about to read it. Files placed by hand or accepted as they are, folders of the user's
own and days that only REST has had (they are in the warehouse) are never touched.
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

from heatmap_pipeline.chain.calendar import today
from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.archive_names import checksum_beside, read_checksum
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.days import day_records
from heatmap_pipeline.store.warehouse import FileError, Warehouse

_YOUNGEST = 86400.0
"""Seconds for which a file that was fetched stays, however old its day."""

_FILE = re.compile(r"([^-]{2,30})-(?:metrics|1m|5m|15m)-(\d{4}-\d{2}-\d{2})\.zip")


def remove_old_files(settings: Settings) -> int:
    """Remove what may go, and return how many files that were.

    Raises:
        StoreError: if the warehouse cannot be read.
        OSError: if a file cannot be removed.
    """
    if not settings.keep_archive_days or not settings.kind.over_network:
        return 0
    before = today() - timedelta(days=max(settings.keep_archive_days, settings.check_days))
    old: dict[str, list[tuple[date, Path]]] = {}
    for path in settings.archive_root.glob("futures/um/daily/**/*.zip"):
        with suppress(ValueError):  # no day of the calendar: no file of the archive
            if (match := _FILE.fullmatch(path.name)) and (day := date.fromisoformat(match[2])) < before:
                old.setdefault(match[1], []).append((day, path))
    count = 0
    for symbol, files in old.items():
        computed = _computed(settings, symbol)
        for day, path in files:
            if day in computed and time.time() - path.stat().st_mtime > _YOUNGEST and _can_be_had_again(path):
                path.unlink()
                checksum_beside(path).unlink(missing_ok=True)
                count += 1
    return count


def _computed(settings: Settings, symbol: str) -> set[date]:
    """Return the finished days that every model has computed; none where its file cannot be used."""
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    computed: list[set[date]] = [set()]
    with suppress(FileError), warehouse.look(symbol) as con:
        computed = [
            {day for day, record in day_records(con, symbol, model).items() if not record.provisional}
            for model in settings.models
        ]
    return set.intersection(*computed)


def _can_be_had_again(path: Path) -> bool:
    with suppress(OSError), open_regular(path) as zipped, open_regular(checksum_beside(path)) as beside:
        published = read_checksum(beside.read(4096))
        return published is not None and hashlib.file_digest(zipped, "sha256").hexdigest() == published[0]
    return False
