"""The command `heatmap ui` itself: one per home, stopped by a signal, with nothing left behind however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from heatmap_pipeline.orchestration.runs import (
    close_killed_runs,
    close_killed_runs_of_the_ui,
    packaged_file,
    prepare_home,
)
from heatmap_pipeline.orchestration.shards import locations
from heatmap_pipeline.orchestration.turns import RunError, no_run_at_all
from heatmap_pipeline.orchestration.ui.keeper import FOLDER_AT, FOLDER_PREFIX, answers, end_group
from heatmap_pipeline.settings import Settings

_ENDING = 10.0
"""Seconds that what is left of a killed UI has to end before it is killed; three times as long, and it is given up."""

_RUNS = "runs the UI and the schedule of {} already; use that, stop it"
_RESTORES = "restores a backup into {}; wait for it"
"""What the holder of a home does, and what to do about it."""


def run_ui(settings: Settings, host: str, bound: socket.socket, tell: Callable[[str], None]) -> int:
    """Run the Dagster UI with the daily schedule until SIGINT, SIGTERM or SIGHUP; return the exit code.

    Args:
        settings: of the home.
        host: address that is listened on, as the user wrote it.
        bound: the socket that listens there.
        tell: is given a line at the start.

    Raises:
        RunError: if a UI runs on this home already, what is left of an earlier one does not end, the home cannot be
            written, or what keeps the UI is killed.
    """
    folder = prepare_home(settings)
    port = bound.getsockname()[1]
    with _only_one(settings, folder, _RUNS), _no_leftovers(folder) as lock:
        close_killed_runs(settings)
        close_killed_runs_of_the_ui(settings, answers)
        location = yaml.safe_load(packaged_file("workspace.yaml").read_text())["load_from"][0]["python_module"]
        plan = {
            "module": location["module_name"],
            "locations": locations(settings),
            "host": host,
            "port": str(port),
            "names": ",".join(settings.ui_hosts),
        }
        shown = f"[{host}]" if ":" in host else host
        tell(f"Dagster UI on http://{shown}:{port} for {settings.home}; stop it with Ctrl-C")
        return _kept(plan, bound, lock, _environment(settings, folder))


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    environment = {**os.environ, "HEATMAP_HOME": str(settings.home), "HEATMAP_SOURCE": settings.source}
    environment["DAGSTER_HOME"] = str(folder)
    if settings.archive is not None:
        environment["HEATMAP_ARCHIVE"] = str(settings.archive)
    return environment


def _kept(plan: dict[str, Any], bound: socket.socket, lock: int, environment: dict[str, str]) -> int:
    """Have the keeper run everything, and let go of it at the first signal; at the second kill everything."""
    theirs, ours = os.pipe()
    signals = 0

    def stop(*_: Any) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            os.close(ours)
        else:
            end_group(_group(lock), signal.SIGKILL)

    # Set, not left as they are: a script's background commands begin with SIGINT ignored. `nohup` means its SIGHUP.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    words = [str(theirs), str(bound.fileno()), str(lock), json.dumps(plan)]
    keeper = subprocess.Popen(  # noqa: S603  # this interpreter, a module of ours
        [sys.executable, "-m", "heatmap_pipeline.orchestration.ui.keeper", *words],
        pass_fds=(theirs, bound.fileno(), lock),
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    bound.close()
    code = keeper.wait()
    if code >= 0:
        return code
    end_group(_group(lock), signal.SIGKILL)
    raise RunError(
        f"the keeper of the UI's processes was killed by signal {-code}, so the UI was ended; start it again"
    )


@contextmanager
def nobody_else(settings: Settings, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a home against runs of the command line, where no UI runs on it.

    Raises:
        RunError: if a UI runs, a run goes on for too long, or the home cannot be written.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"home {settings.home} cannot be written ({error.strerror}); choose another with --home or HEATMAP_HOME"
        ) from None
    with no_run_at_all(settings, tell), ExitStack() as stack:
        if (settings.home / "dagster").is_dir():
            stack.enter_context(_only_one(settings, settings.home / "dagster", _RESTORES))
        yield


@contextmanager
def _only_one(settings: Settings, folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of this command itself, in which stands for others what it is doing; it ends with it."""
    with _opened(folder / "ui.lock") as lock:
        if not _locked(lock):
            said = os.fsdecode(os.pread(lock, 8192, 0)) or f"another process {_RUNS.format(settings.home)}"
            raise RunError(f"{said}, or choose another --home")
        os.ftruncate(lock, 0)
        os.pwrite(lock, os.fsencode(f"process {os.getpid()} {doing.format(settings.home)}"), 0)
        yield


@contextmanager
def _no_leftovers(folder: Path) -> Iterator[int]:
    """Hold the lock of the processes, and end those of a UI that was killed together with what kept them.

    Raises:
        RunError: if something holds it that does not end.
    """
    with _opened(folder / "services.lock") as lock:
        until, number = time.monotonic() + _ENDING, signal.SIGTERM
        while not _locked(lock):
            # Locked, so a process of that group lives, and its number is nobody else's.
            end_group(_group(lock), number)
            if time.monotonic() > until:
                number = signal.SIGKILL
            if time.monotonic() > until + 2 * _ENDING:
                raise RunError(
                    f"what an earlier UI started (process group {_group(lock) or 'unknown'}) does not end and holds "
                    f"{folder / 'services.lock'}; end it, and start again"
                )
            time.sleep(0.2)
        _remove_folder(lock)
        os.ftruncate(lock, 0)
        try:
            yield lock
        finally:
            _remove_folder(lock)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        why = f"{path} cannot be used ({error.strerror})"
        raise RunError(f"{why}; mend its permissions, or choose another home with --home or HEATMAP_HOME") from None
    try:
        yield lock
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _group(lock: int) -> int:
    """Return the process group that the lock file names."""
    written = os.pread(lock, FOLDER_AT, 0).decode().strip()
    return int(written) if written.isdigit() else 0


def _remove_folder(lock: int) -> None:
    """Remove the folder of sockets that the lock file names: its keeper does so, unless it was killed."""
    folder = Path(os.pread(lock, 4096, FOLDER_AT).decode().strip("\0 "))
    if folder.name.startswith(FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
