"""Folders of parts below DIR/parts, one for each time that a database was made of them, with links to the same files.

    DIR/parts/NAME/raw_candles/symbol=BTCUSDT/2024-01-<hash>.parquet

What views are over is never changed, so that no reader sees parts of two states; the folder of the time before stays
for who has the former file open. What belongs here: making and removing such folders. What does not: which parts are in
one (`by_parts.py`, `fleet/pull.py`).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

PARTS_FOLDER = "parts"
"""Folder of a home, or of what is pulled, that holds them."""

_BUILT = "built"
"""File in a folder of parts that says that a database was made of it, and what else the caller writes."""


def generations(parts: Path) -> list[Path]:
    """Return the folders that are whole."""
    return [path for path in parts.iterdir() if path.is_dir() and not path.name.startswith(".")]


@contextmanager
def new_generation(parts: Path) -> Iterator[Path]:
    """Give a folder to fill and to rename; what is left of it at the end is removed, as are those of killed processes.

    The caller lets nobody else make one meanwhile.
    """
    new = parts / f".{os.getpid()}.new"
    remove_half_made(parts)
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def remove_half_made(parts: Path) -> None:
    """Remove what killed processes left of a folder; the caller lets nobody make one meanwhile."""
    for left in parts.glob(".*.new"):
        shutil.rmtree(left, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """Give a part a second name, or copy it where the file system has no links.

    Raises:
        OSError: if there is no such part, or no room.
    """
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        shutil.copyfile(source, target)


def mark_built(generation: Path, note: str = "") -> None:
    """Say that a database was made of a folder, which is the newest one then."""
    (generation / _BUILT).write_text(note)
    (generation / _BUILT).chmod(0o644)


def built_note(generation: Path) -> str | None:
    """Return what was said when a database was made of a folder, None where none was."""
    with suppress(OSError):
        return (generation / _BUILT).read_text()
    return None


def newest_built(generations: list[Path]) -> Path | None:
    """Return the folder of which a database was made last."""
    built = [path for path in generations if (path / _BUILT).exists()]
    return max(built, key=lambda path: (path / _BUILT).stat().st_mtime_ns, default=None)


def remove_all_but(parts: Path, kept: Set[Path]) -> None:
    """Remove every folder of parts but these, and the one that holds them where none is left."""
    if not parts.is_dir():
        return
    for path in generations(parts):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        parts.rmdir()
