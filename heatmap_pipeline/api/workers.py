"""Several processes behind one address, each with a socket of its own; who dies is replaced, and all end together.

Linux shares new connections out evenly among such sockets. On one socket that all of them wait for, the process that
waited last takes nearly every connection, and a second one is of little use; other systems have that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from heatmap_pipeline.api.descriptors import BACKLOG

Work = Callable[[socket.socket], None]
"""What a worker does with its socket until it is told to end; a function of a module, as it is pickled by its name."""

_LEAST_SECONDS = 1.0
"""Who dies sooner after its start is not replaced before; a fault at the start would take a whole processor."""

_END_SECONDS = 10.0
"""How long a worker may take to end; then it is killed."""


def sockets_for(bound: socket.socket, workers: int) -> list[socket.socket]:
    """Return what the workers listen on: connections wait there while a worker starts, or is replaced.

    Args:
        bound: listens, so that no other program has the address; closed where each worker has a socket of its own.
        workers: how many.
    """
    if sys.platform != "linux":
        return [bound] * workers
    family, address = bound.family, bound.getsockname()
    bound.close()
    shared_sockets = []
    for _ in range(workers):
        shared = socket.socket(family, socket.SOCK_STREAM)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
        shared.listen(BACKLOG)
        shared_sockets.append(shared)
    return shared_sockets


def run_workers(work: Work, sockets: Sequence[socket.socket], tell: Callable[[str], None]) -> None:
    """Run a process for each socket until this one is interrupted or told to end.

    Args:
        work: what each does.
        sockets: that listen; open as long as this runs.
        tell: is given a line for each process that is replaced.

    Raises:
        OSError: if a process cannot be begun; the others are ended.
    """
    processes: list[SpawnProcess] = []
    try:
        with _told_to_end() as ending:
            for shared in sockets:
                processes.append(_begin(work, shared))
            _replace_dead(work, sockets, processes, ending, tell)
    finally:
        _end(processes)


def _replace_dead(
    work: Work,
    sockets: Sequence[socket.socket],
    processes: list[SpawnProcess],
    ending: threading.Event,
    tell: Callable[[str], None],
) -> None:
    """Put another process in the place of each that dies, until told to end."""
    began = [time.monotonic()] * len(processes)
    while not ending.is_set():
        wait([process.sentinel for process in processes], timeout=0.2)
        ending.wait(0.02)  # one that died and may not be replaced yet would have this go round without a rest
        for number, process in enumerate(processes):
            if process.is_alive() or ending.is_set() or time.monotonic() - began[number] < _LEAST_SECONDS:
                continue
            tell(f"worker process {process.pid} ended by itself ({process.exitcode}); another takes its place")
            processes[number], began[number] = _begin(work, sockets[number]), time.monotonic()


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Tell processes to end, and kill who does not in time."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _END_SECONDS
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()
        process.join()


def end_with_parent() -> None:
    """Have this process end when the one that began it is gone, even killed: nobody else would stop it."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _begin(work: Work, shared: socket.socket) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=work, args=(shared,))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for this one, which ends the others
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    return process


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    ending = threading.Event()
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, lambda *_: ending.set())
            stack.callback(signal.signal, number, before)
        yield ending
