"""A home for the time of one run over a store: the warehouse is its own, what is not of the store is that of the home.

    HOME/scratch/NAME/warehouse, heatmap.duckdb               of this run
    HOME/scratch/NAME/dagster -> HOME/dagster, archive, ...   shared

Whatever a run of the command line does in a home it does here too, so that there is one way to run. What a killed run
left is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.settings import SCRATCH, Settings
from heatmap_pipeline.store.origin import archive_folders, put_archives

_SHARED = ("dagster", "archive", "renders", "notices")
"""Folders of the home that a run uses as they are: its history, what was fetched, pictures, what was told."""
_IF_THERE = ("recordings",)
"""Such folders that nobody makes who only reads them."""
_NOTES = ("last_run.json", "rest_closed*.txt")
"""Small files at the top of the home, copied to the run's and back."""


class ScratchError(HeatmapError):
    """A scratch home that cannot be made; says where and what to do."""


@contextmanager
def scratch_home(settings: Settings) -> Iterator[Settings]:
    """Give settings whose home is a new one below the home; it is removed at the end.

    Raises:
        ScratchError: if it cannot be made.
    """
    home, name = settings.home, f"{os.getpid()}-{uuid4().hex[:8]}"
    folder = home / SCRATCH / name
    lock = FileLock(home / SCRATCH / f"{name}.lock")
    before = os.environ.get("DAGSTER_HOME")
    try:
        folder.mkdir(parents=True)
        lock.acquire(timeout=0)
        _remove_abandoned(home / SCRATCH)
        for shared in (*_SHARED, *(each for each in _IF_THERE if (home / each).is_dir())):
            (home / shared).mkdir(exist_ok=True)
            (folder / shared).symlink_to(home / shared, target_is_directory=True)
        _copy_notes(home, folder)
        put_archives(folder, archive_folders(home))
    except OSError as error:
        raise ScratchError(
            f"home {home} cannot be written ({error.strerror}); choose another with --home or HEATMAP_HOME"
        ) from None
    try:
        yield settings.model_copy(update={"home": folder})
    finally:
        with suppress(OSError):
            _copy_notes(folder, home)
            known = archive_folders(folder)  # those of other symbols may be older than what other commands have noted
            put_archives(home, {symbol: known[symbol] for symbol in settings.symbols if symbol in known})
        if before is None:
            os.environ.pop("DAGSTER_HOME", None)
        else:
            os.environ["DAGSTER_HOME"] = before
        _remove(folder)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _copy_notes(source: Path, target: Path) -> None:
    for pattern in _NOTES:
        for path in source.glob(pattern):
            replace_file(target / path.name, path.read_bytes())


def _remove_abandoned(above: Path) -> None:
    """Remove the folders whose lock nobody holds: of runs that were killed."""
    for path in above.glob("*.lock"):
        folder = path.with_suffix("")
        with suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
            _remove(folder)
            path.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a scratch home, and nothing that its links lead to."""
    shutil.rmtree(folder, ignore_errors=True)
