"""What the suite imports is kept as bytecode, in `__pycache__`, and each worker of pytest-xdist makes a part of it.

Rewriting the assertions of all test modules and compiling them takes 8 s of processor time, which every worker would
spend again in every run where PYTHONDONTWRITEBYTECODE is set. The commands that tests start read what is kept, too.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

sys.dont_write_bytecode = False  # where a folder may not be written, Python goes on without


def import_all(config: pytest.Config) -> None:
    """Import the modules of the whole suite in a worker; one that cannot be imported is reported when it is collected.

    In the order of the collection all workers would rewrite the same module at the same time.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    names = [".".join(file.relative_to(_ROOT).with_suffix("").parts) for file in files]
    for name in in_turn(names, int(worker["workerid"].removeprefix("gw")), worker["workercount"]):
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def in_turn(names: Sequence[str], worker: int, workers: int) -> list[str]:
    """Return all names, beginning with the part of this worker, which is numbered from 0."""
    first = len(names) * worker // workers
    return [*names[first:], *names[:first]]
