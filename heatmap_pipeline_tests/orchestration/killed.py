"""Runs that are killed: `python -m heatmap_pipeline_tests.orchestration.killed HOME ARCHIVE STEP...`.

Each STEP is one process that ends itself with SIGKILL just before its STEP-th step; a step is the filling of one table
or one move of a publication, so most of them are in the middle of a transaction.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heatmap_pipeline.render import page, picture
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import chain, publish, raw
from heatmap_pipeline_tests.orchestration.homes import real, run_job

STEPS = ((raw, "insert"), (chain, "insert"), (publish, "_make_public"), (publish, "_sync"))


def run_until(settings: Settings, last: int) -> None:
    """Run days 1 to 5 in this process and kill it before step `last`."""
    done = 0

    def counting(step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            nonlocal done
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **more)

        return counted

    for module, name in STEPS:
        setattr(module, name, counting(getattr(module, name)))
    run_job(settings, 1, 5)


def main(home: str, archive: str, *steps: str) -> None:
    """Run and be killed, once per step; print how each of the processes ended."""
    setattr(page, "write_page", lambda *_: None)  # noqa: B010
    setattr(picture, "small_png", lambda *_: b"")  # noqa: B010
    settings = real(Path(home), Path(archive))
    for step in steps:
        child = os.fork()  # nothing has started a thread yet; importing everything anew would take seconds
        if child == 0:
            try:
                run_until(settings, int(step))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
