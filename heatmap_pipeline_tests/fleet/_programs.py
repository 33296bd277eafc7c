"""Code servers and a daemon as forks of one process, which has imported what takes each of them two seconds or more.

As a script this file is that process. The runs of such a code server are forks too: of what it was before it served.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any, NoReturn

import pytest

from heatmap_pipeline_tests._homes import draw_nothing

PACKAGE = "heatmap_pipeline.orchestration"
_IMPORTED = (
    *(f"{PACKAGE}.{name}" for name in ("loading", "runs", "shard_job", "shard_server", "ui.daemon")),
    *("dagster._cli", "dagster._daemon.cli", "dagster._grpc.server", "dagster_postgres", "obstore"),
)


class Programs:
    """Starts them, each in a process group of its own; nothing is drawn in them. To be ended by `close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Start a module of the package; return the process."""
        return self._ask(module=module, arguments=arguments, environment=dict(environment), log=str(log))

    def wait(self, process: int) -> None:
        """Return once a process that was begun has ended."""
        self._ask(ended=process)

    def close(self) -> None:
        """End; whoever was begun has ended before."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve(requests: Iterator[str]) -> None:
    """Answer each line that asks for a program by a line with its process."""
    for name in _IMPORTED:
        import_module(name)
    from heatmap_pipeline.orchestration import loading

    loading._load()
    draw_nothing(pytest.MonkeyPatch())
    gc.collect()
    gc.freeze()  # a fork that looked through all of it for garbage would copy it
    for line in requests:
        request = json.loads(line)
        if "ended" in request:
            process, _ = os.waitpid(request["ended"], 0)
        else:
            process = os.fork()  # nothing has started a thread yet
            if process == 0:
                _be(**request)
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()


def _be(module: str, arguments: list[str], environment: dict[str, str], log: str) -> NoReturn:
    """Be what `python -m` begins with a module of the package."""
    os.setsid()
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, written), (2, written)):
        os.dup2(file, number)
    os.chdir(Path(log).parent)
    os.environ.clear()
    os.environ.update(environment)
    if module == "shard_server":
        _fork_runs()
    import_module(f"{PACKAGE}.{module}").main(arguments)
    sys.exit()


def _fork_runs() -> None:
    """Let multiprocessing fork this process as it is now where it would begin another one."""
    begin = util.spawnv_passfds

    def fork(path: bytes, words: Sequence[Any], files: Sequence[int]) -> int:
        if "forkserver" not in words[-1]:
            return begin(path, words, files)
        process = os.fork()
        if process == 0:
            exec(words[-1])  # noqa: S102 - what the standard library would have its own process do
            os._exit(0)
        return process

    setattr(util, "spawnv_passfds", fork)  # noqa: B010
    forkserver.ensure_running()
    context = multiprocessing.get_context("forkserver")
    setattr(multiprocessing, "get_context", lambda _: context)  # noqa: B010


if __name__ == "__main__":
    serve(iter(sys.stdin))
