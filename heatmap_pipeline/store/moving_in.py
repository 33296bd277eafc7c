"""The last step of a restore: whole, verified files take their places in the home, all of them whoever is killed.

They wait in a folder of the home that appears in one step. From then on the restore is done, whatever happens: whoever
next takes the lock of the warehouse moves in what is left (`warehouse.Warehouse.locked`).
"""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path

from heatmap_pipeline.files import sync

READY = ".restore.ready"
"""Folder of the home that holds the files that wait."""

_ASIDE = ".aside"
"""File in it: name of the folder of the home for what they replace; then the databases that are not among them."""

_FIRST = "warehouse.duckdb"
"""While it has not moved, the home is what it was before; once it has, whoever opens it moves in the rest."""

_BESIDE = {
    "warehouse.duckdb": ("warehouse.duckdb.wal",),
    "heatmap.duckdb": ("heatmap.duckdb.wal", ".heatmap.spare.duckdb"),
}
"""The databases, each with the files that go with it and must not stay beside a new one."""


def release(home: Path, staged: Path, aside: str) -> None:
    """Make the files of a folder of the home wait for `move_in`, in one step; what they replace goes to `aside`.

    So does a database that is not among them: it would be of another home than they are.
    """
    missing = [name for name in _BESIDE if not (staged / name).exists()]
    (staged / _ASIDE).write_text("\n".join([aside, *missing]))
    staged.rename(home / READY)
    sync(home)


def move_in(home: Path) -> Path | None:
    """Move in what waits; the caller holds the lock of the warehouse. Returns where the replaced files are, if any.

    Raises:
        OSError: if a file cannot be moved; what waits goes on waiting.
    """
    ready = home / READY
    if not ready.is_dir():
        return None
    said = (ready / _ASIDE).read_text().split("\n") if (ready / _ASIDE).exists() else ["replaced"]
    aside = home / said[0].strip()
    for name in said[1:]:
        for gone in (name, *_BESIDE.get(name, ())):
            _put_aside(home, Path(gone), aside, stays=False)
    waiting = sorted(path.relative_to(ready) for path in ready.rglob("*") if path.is_file() and path.name != _ASIDE)
    for path in sorted(waiting, key=lambda path: (str(path) != _FIRST, path)):
        for beside in _BESIDE.get(str(path), ()):
            _put_aside(home, Path(beside), aside, stays=False)
        _put_aside(home, path, aside, stays=True)
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(ready / path, target)
        sync(target.parent)
    shutil.rmtree(ready)
    sync(home)
    return aside if aside.is_dir() else None


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
