"""Programs that stand in for Dagster's where a test is about the processes themselves, which then start in no time.

They lie in a folder that comes before the installed packages (PYTHONPATH), under the names by which those are found, so
that the command, its keeper and the guarded webserver start them as they start the real ones. The command is forked
from a process that has imported everything.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

_PROGRAMS = '''
import signal, socket, subprocess, sys, time

def code_server():
    """Listens on its socket, and has a process of its own, as the real one."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(sys.argv[sys.argv.index("--socket") + 1])
        door.listen()
        time.sleep(600)

def daemon():
    time.sleep(600)

def webserver():
    import uvicorn

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    uvicorn.run(app)
'''
_NAMES = {
    "dagster": {"dagster": "code_server", "dagster-daemon": "daemon"},
    "dagster_webserver": {"dagster-webserver": "webserver"},
}
"""Package -> program -> function above."""

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [f"heatmap_pipeline.{name}" for name in ("cli", "api.server", "orchestration.ui.front")]
)


def write_programs(folder: Path) -> Path:
    """Fill a folder with the programs, and return it."""
    (folder / "standing_in.py").write_text(_PROGRAMS)
    for package, programs in _NAMES.items():
        about = folder / f"{package}-0.0.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.0\n")
        lines = [f"{program} = standing_in:{function}" for program, function in programs.items()]
        (about / "entry_points.txt").write_text("\n".join(["[console_scripts]", *lines]) + "\n")
    return folder


class Forked:
    """The command in a process of its own, with the methods of `subprocess.Popen` that are used here.

    Args:
        words: of the command.
        environment: all of it.
        log: to which is added what it says.
    """

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self._process: BaseProcess = _FORKING.Process(target=_become, args=(words, environment, log))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError(f"process {self.pid} did not end within {timeout:g} s")
        return code


def _become(words: list[str], environment: dict[str, str], log: Path) -> None:
    """Be the command: in a session of its own, with SIGINT ignored as a script starts its background commands."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(out, number)
    os.environ.clear()
    os.environ.update(environment)
    from heatmap_pipeline.cli import main

    main(words, prog_name="heatmap")
