"""What a process needs around it besides its data: a home, room for temporary files, and places where libraries write.

numba, matplotlib and Dagster keep files beside the program or in the user's own folder. In a container, of a service
user, or where both are read-only, there is neither; they get a folder of the home then. Nothing here is written before
somebody needs it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from heatmap_pipeline.errors import HeatmapError

_PACKAGE = Path(__file__).parent


class HomeError(HeatmapError):
    """A home that is not there and cannot be made, or is no folder; says what to do."""


def check_home(home: Path) -> None:
    """Look that a home is there or can be made; it need not be writable, and nothing is made.

    Raises:
        HomeError: if it is no folder, cannot be read, or is missing and cannot be made.
    """
    there = False
    try:
        there = home.is_dir()
        if there:
            os.scandir(home).close()
            return
        if _nearest(home) == home:
            raise HomeError(f"home {home} is not a folder; choose another with --home or HEATMAP_HOME")
        # Tried, not asked: /proc says that it may be written. Under a name of its own, for others may be making it now.
        Path(tempfile.mkdtemp(prefix=".heatmap-", dir=_nearest(home))).rmdir()
    except OSError as error:
        what = "cannot be read" if there else "is not there and cannot be made"
        raise HomeError(f"home {home} {what} ({error.strerror}); choose another with --home or HEATMAP_HOME") from None


def settle(home: Path) -> None:
    """Give libraries places to write to, in the home where there are no others, before any of them is imported.

    What the user has set (NUMBA_CACHE_DIR, MPLCONFIGDIR, TMPDIR) stays as it is; what is added is found by the
    processes that this one starts, too.

    Args:
        home: absolute; it need not be there, nor be writable if it is.
    """
    cache = home / "cache"
    if os.path.expanduser("~") == "~":  # noqa: PTH111  # pathlib raises where there is none
        os.environ["HOME"] = str(cache)  # else libraries make a folder that is called ~
    if not may_write(_PACKAGE / "model" / "__pycache__"):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "numba"))
    if not all(may_write(folder / "matplotlib") for folder in _user_folders()):
        os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    _find_temporary_folder(cache / "tmp")


def may_write(path: Path) -> bool:
    """Return whether this process could write into a folder, or make it where it is missing.

    Example:
        >>> may_write(Path("/dev/null/folder"))
        False
    """
    there = _nearest(path)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest of the folders above it, that is there."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            folder.lstat()
            return folder
    return Path(path.anchor)


def _user_folders() -> list[Path]:
    """Return where libraries keep settings and what they can make again."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    usual = {"XDG_CONFIG_HOME": home / ".config", "XDG_CACHE_HOME": home / ".cache"}
    return [Path(os.environ.get(name) or folder) for name, folder in usual.items()]


def _find_temporary_folder(spare: Path) -> None:
    """Use a folder of the home for temporary files where every usual one is missing, full or read-only."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        with suppress(OSError):  # then who needs one says so
            spare.mkdir(parents=True, exist_ok=True)
            os.environ["TMPDIR"] = tempfile.tempdir = str(spare)
