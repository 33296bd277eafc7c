"""Keeps the UI's processes together: code servers, webserver and daemon begin and end with the command `heatmap ui`.

The command holds one end of a pipe, this process the other. However the command ends (stopped, killed, crashed), the
pipe closes, and everything is stopped from here. All processes, and the runs that they start, are in one process
group, so none is forgotten. For the next start that group, and the folder of their sockets, stand in a file that stays
locked while any of them lives.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from heatmap_pipeline.errors import HeatmapError

_READY = 120.0
"""Seconds that the code server has to load the pipeline; 3 on an idle machine."""
_STOPPING = 10.0
"""Seconds that webserver and daemon have to end when they are asked to."""
_TICK = 0.3
_DAEMON, _WEBSERVER = "daemon", "webserver"
_ASKED = (_DAEMON, _WEBSERVER)
"""Who is asked to end, and by that asks no run to."""

FOLDER_PREFIX = "heatmap-ui-"

FOLDER_AT = 20
"""Where the folder of the sockets stands in the lock file, after the number of the process group."""

_PROGRAM = """
import sys
from importlib.metadata import entry_points
sys.argv = sys.argv[1:]
(script,) = entry_points(group="console_scripts", name=sys.argv[0])
sys.exit(script.load()())
"""
"""Runs an installed program with this interpreter, wherever its script may lie."""


class ServiceError(HeatmapError):
    """One of the processes ended by itself; says which."""


def program(name: str, *arguments: str) -> list[str]:
    """Return the command line of an installed program."""
    return [sys.executable, "-c", _PROGRAM, name, *arguments]


def _module(name: str, *arguments: str) -> list[str]:
    """Return the command line of a module beside this one."""
    return [sys.executable, "-m", f"heatmap_pipeline.orchestration.ui.{name}", *arguments]


def end_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; one that is gone is no error, and 0, which is one's own, is none."""
    if group <= 1:
        return
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of the dead
        os.killpg(group, number)


class Services:
    """The processes, in one process group that is led by the first of them."""

    def __init__(self, lock: int, folder: Path) -> None:
        self._lock = lock
        os.pwrite(lock, str(folder).encode(), FOLDER_AT)
        self._environment = {**os.environ, "TMPDIR": str(folder)}  # their sockets go with it
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.group = 0

    def start(
        self, name: str, command: Sequence[str], *, keep: Sequence[int] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        """Start a process that keeps the lock, and the other descriptors given, open, and has variables of its own."""
        process = subprocess.Popen(  # noqa: S603  # our own command lines
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(self._lock, *keep),
            process_group=self.group,
            env={**self._environment, **(variables or {})},
        )
        if not self.group:
            self.group = process.pid
            os.pwrite(self._lock, f"{self.group:<{FOLDER_AT}}".encode(), 0)
        self._processes[name] = process

    def check(self) -> None:
        """Raise ServiceError if one has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ServiceError(
                    f"the {name} of the UI ended by itself ({_how(process.returncode)}), so the UI was stopped; "
                    "what it said stands above; start it again"
                )

    def stop(self) -> None:
        """Ask the processes to end, then kill what is left: the code servers and the runs that are going on.

        A run that is killed loses nothing that it has committed, and goes on at the next start; one that is asked to
        end would count as failed for good.
        """
        if not self.group:
            return
        until = time.monotonic() + _STOPPING
        asked = [self._processes[name] for name in _ASKED if name in self._processes]
        for process in asked:
            process.terminate()
        for process in asked:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        end_group(self.group, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _gone(lifeline: int, seconds: float) -> bool:
    """Wait so long, and say whether the command is gone."""
    return bool(select.select([lifeline], [], [], seconds)[0])


def answers(path: Path) -> bool:
    """Whether a process listens on a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _keep(plan: Mapping[str, Any], lifeline: int, bound: int, services: Services, folder: Path) -> None:
    """Start everything and stay until the command is gone; raise ServiceError if one of them ends before."""
    workspace, quiet = folder / "workspace.yaml", ("--log-level", "warning")
    doors = {name: folder / f"code{number}" for number, name in enumerate(plan["locations"])}
    servers = [{"grpc_server": {"socket": str(door), "location_name": name}} for name, door in doors.items()]
    workspace.write_text(json.dumps({"load_from": servers}))  # JSON is YAML
    for name, door in doors.items():
        code = ("-m", plan["module"], "--location-name", name, "--socket", str(door))
        service = "code server" if len(doors) == 1 else f"code server of {name}"
        services.start(
            service, program("dagster", "code-server", "start", *code, *quiet), variables=plan["locations"][name]
        )
    for name, door in doors.items():
        until = time.monotonic() + _READY  # for each anew: loading takes a core, and there may be more of them
        while not answers(door):
            if _gone(lifeline, _TICK):
                return
            services.check()
            if time.monotonic() > until:
                raise ServiceError(f"{name} was not loaded within {_READY:g} s, so the UI was stopped; try again")
    loaded = ("--workspace", str(workspace))
    # Its warnings are about a home that is new; what failed is an error.
    services.start(_DAEMON, _module("daemon", "run", "--log-level", "error", *loaded))
    guarded = (str(bound), plan["host"], plan["port"], plan["names"], "--dagster-log-level", "warning", *loaded)
    services.start(_WEBSERVER, _module("webserver", *guarded), keep=(bound,))
    os.close(bound)
    while not _gone(lifeline, _TICK):
        services.check()


def main(arguments: Sequence[str]) -> int:
    """Keep the services until the command is gone; arguments are three descriptors and the plan as JSON."""
    lifeline, bound, lock = (int(number) for number in arguments[:3])
    plan: dict[str, Any] = json.loads(arguments[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The pipe alone counts. Not SIG_IGN, which the services would inherit.
        signal.signal(number, lambda *_: None)
    # A folder for its owner only, with a short path, as those of sockets have to be.
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as name:
        services = Services(lock, Path(name))
        failure = None
        try:
            _keep(plan, lifeline, bound, services, Path(name))
        except ServiceError as error:
            failure = error
        finally:
            services.stop()
    if failure is not None:
        print(f"heatmap: {failure}", file=sys.stderr)  # noqa: T201  # the command's last line
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
