"""What takes long to make is made once for the whole suite, however many workers run it; each takes a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, in whichever worker asked first. Nobody changes it, or opens it to write.

    Args:
        factory: of the worker.
        name: of the folder; it is the same for all who share it.
        make: fills the folder, which is there and empty.
    """
    folder = _shared(factory) / name
    with FileLock(folder.with_name(f"{name}.lock")):
        finished = folder.with_name(f"{name}.finished")
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed half way
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def copied_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return this worker's own copy of such a folder, which it may open as it likes."""
    return Path(shutil.copytree(made_once(factory, name, make), factory.mktemp(name) / name))


def only_here(factory: pytest.TempPathFactory, name: str) -> None:
    """Fail if another worker makes this too: then the tests that share it were not given to one, see `_workers`."""
    try:
        (_shared(factory) / f"{name}.here").touch(exist_ok=False)
    except FileExistsError:
        pytest.fail(f"{name} is made by more than one worker; run the suite without --dist")


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the whole run, which all workers have."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "once"
    folder.mkdir(exist_ok=True)
    return folder
