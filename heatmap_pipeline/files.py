"""How a file is replaced: whole or not at all, so that nobody reads half of one; how one of others is opened."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

_ABANDONED_SECONDS = 600
"""A temporary file older than this is a killed run's; a younger one may be another run's, just now."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes; what only looks like one (a pipe, a device) is refused and never waited for.

    Raises:
        OSError: as `open`; its `strerror` says what it is instead of a file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        what = "a pipe" if stat.S_ISFIFO(kind) else "a device"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))
    return os.fdopen(handle, "rb")


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `path`, then put it in place; leave an equal file alone."""
    with suppress(FileNotFoundError):  # another may move it away between two looks
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def state_of(path: Path) -> tuple[int, int, int] | None:
    """Return what differs whenever a file was replaced or written: inode, nanoseconds, bytes; None where there is none.

    Where a file cannot be looked at, it is as if there were none.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_half_written(*folders: Path) -> None:
    """Remove the files that killed runs left under temporary names; a folder there may be DuckDB's, and stays."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if path.is_file() and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
