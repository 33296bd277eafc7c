"""How a file is replaced: whole or not at all, so that nobody ever reads half of one."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_SECONDS = 600
"""A temporary file older than this is a killed run's; a younger one may be another run's, just now."""


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `path`, then put it in place; leave an equal file alone."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(*folders: Path) -> None:
    """Remove what killed runs left under temporary names."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
