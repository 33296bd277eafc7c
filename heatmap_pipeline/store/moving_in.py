"""The last step of a restore, and of a home's move to a file per symbol: whole files take their places, all of them.

They wait in a folder of the home that appears in one step. From then on it is done, whatever happens: whoever next
uses a private database moves in what is left (`warehouse.Warehouse.locked`), and nobody uses one before.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from heatmap_pipeline.files import sync

PRIVATE = "warehouse"
"""Folder of the home for the private databases of symbols."""

FORMER = "warehouse.duckdb"
"""The private database of all symbols, of homes and backups that an earlier version made."""

READY = ".restore.ready"
"""Folder of the home that holds the files that wait."""

_ASIDE = ".aside"
"""File in it: name of the folder of the home for what they replace; then what else of the home goes there."""

_DONE_WITH = ".done_with"
"""Another: names of files of the home that go for good, when all others are in their places."""

_PUBLISHED = "heatmap.duckdb"
_SPARE = ".heatmap.spare.duckdb"


def release(
    home: Path, staged: Path, folder: str, *, aside: Sequence[str] | None = None, done_with: Sequence[str] = ()
) -> None:
    """Make the files of a folder of the home wait for `move_in`, in one step.

    Args:
        home: whose files they are to be.
        staged: a folder of it with whole files, which is gone afterwards.
        folder: of the home, for what they replace.
        aside: paths below the home of what goes there, too; by default every database that is not among the files, for
            it would be of another home than they are.
        done_with: names of files that are removed when all of them are in their places.
    """
    if aside is None:
        there = [*sorted((home / PRIVATE).glob("*.duckdb")), home / FORMER, home / _PUBLISHED]
        aside = [name for name in (path.relative_to(home).as_posix() for path in there) if not (staged / name).exists()]
    (staged / _ASIDE).write_text("\n".join([folder, *aside]))
    (staged / _DONE_WITH).write_text("\n".join(done_with))
    for path in (staged / _ASIDE, staged / _DONE_WITH, staged):
        sync(path)
    staged.rename(home / READY)
    sync(home)


def move_in(home: Path) -> Path | None:
    """Move in what waits; the caller holds every lock of the home. Returns where the replaced files are, if any.

    Raises:
        OSError: if a file cannot be moved; what waits goes on waiting.
    """
    ready = home / READY
    if not ready.is_dir():
        return None
    folder, *others = _lines(ready / _ASIDE) or ["replaced"]
    aside = home / folder
    for name in others:
        for gone in (name, *_beside(name)):
            _put_aside(home, Path(gone), aside, stays=False)
    orders = (_ASIDE, _DONE_WITH)
    waiting = sorted(path.relative_to(ready) for path in ready.rglob("*") if path.is_file() and path.name not in orders)
    for path in waiting:
        for beside in _beside(path.as_posix()):
            _put_aside(home, Path(beside), aside, stays=False)
        _put_aside(home, path, aside, stays=True)
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(ready / path, target)
        sync(target.parent)
    for name in _lines(ready / _DONE_WITH):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(ready)
    sync(home)
    return aside if aside.is_dir() else None


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _beside(name: str) -> tuple[str, ...]:
    """Return the files that go with a database and must not stay beside a new one."""
    log = f"{name}.wal"
    return () if not name.endswith(".duckdb") else (log, _SPARE) if name == _PUBLISHED else (log,)


def _put_aside(home: Path, path: Path, aside: Path, *, stays: bool) -> None:
    """Keep a file of the home under another name, where it can be by a second one, so that readers always find one."""
    old, kept = home / path, aside / path
    if not old.is_file() or kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    if stays:
        with suppress(OSError):  # a file system without links
            kept.hardlink_to(old)
            return
    _move(old, kept)


def _move(old: Path, new: Path) -> None:
    """Give a file another place, at once; also on another disk, where somebody keeps a folder of the home."""
    try:
        old.replace(new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = new.with_name(f".{new.name}.moving")
        shutil.copyfile(old, copy)
        sync(copy)
        copy.replace(new)
        old.unlink()
