"""A home for the time of one run over a store: the warehouse is its own, what is not of the store is that of the home.

    HOME/scratch/NAME/warehouse, heatmap.duckdb               of this run
    HOME/scratch/NAME/dagster -> HOME/dagster, archive, ...   shared

Whatever a run of the command line does in a home it does here too, so that there is one way to run. What a killed run
left is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.locks import notes_lock
from heatmap_pipeline.settings import SCRATCH, Settings
from heatmap_pipeline.store.origin import take_archives

_SHARED = ("dagster", "archive", "renders", "notices")
"""Folders of the home that a run uses as they are: its history, what was fetched, pictures, what was told."""
_IF_THERE = ("recordings",)
"""Such folders that nobody makes who only reads them."""
_NOTES = ("last_run.json", "rest_closed*.txt")
"""Small files at the top of the home, copied to the run's; back, what the run has changed of them."""


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
    with explaining(home):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with notes_lock(home):  # a lock that is made but not held yet would be taken for that of a killed run
            lock.acquire(timeout=0)
            folder.mkdir()  # not before: one without a lock nobody would remove
            _remove_abandoned(home / SCRATCH)
        for shared in (*_SHARED, *(each for each in _IF_THERE if (home / each).is_dir())):
            (home / shared).mkdir(exist_ok=True)
            (folder / shared).symlink_to(home / shared, target_is_directory=True)
        take_archives(home, folder, settings.symbols)
        notes = _notes(home)
        _put_notes(folder, {}, notes)
    try:
        yield settings.model_copy(update={"home": folder})
    finally:
        with suppress(OSError):  # others work in the home as well: what this run has not changed is theirs
            take_archives(folder, home, settings.symbols)
            _put_notes(home, notes, _notes(folder))
        if before is None:
            os.environ.pop("DAGSTER_HOME", None)
        else:
            os.environ["DAGSTER_HOME"] = before
        _remove(folder)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


@contextmanager
def explaining(home: Path) -> Iterator[None]:
    """Say in words that a home cannot be written.

    Raises:
        ScratchError: for an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ScratchError(
            f"home {home} cannot be written ({error.strerror}); make room on its disk, or choose another with --home "
            "or HEATMAP_HOME"
        ) from None


def _notes(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for pattern in _NOTES for path in home.glob(pattern)}


def _put_notes(home: Path, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """Change the notes of a home as they were changed elsewhere."""
    for name in before.keys() - after.keys():
        (home / name).unlink(missing_ok=True)
    for name, content in after.items():
        if before.get(name) != content:
            replace_file(home / name, content)


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
