"""Processes that a test starts by forking itself, as one that imports everything anew takes most of a second each time.

What `work` changes in modules is gone with the process. Tests that use none of the command's own start belong here.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, TypeAlias

Say: TypeAlias = Callable[[str], None]


class Fork:
    """A process that does `work` and ends; what `work` says are lines of `said`. Killed at the end, if it still runs.

    Args:
        work: is given how to say something. An exception that it raises is printed, and the process ends with 70.
        printed: whether what it prints is among `said` too, and not among what the test prints.
    """

    def __init__(self, work: Callable[[Say], object], *, printed: bool = False) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            os._exit(_work(work, writer, printed=printed))
        os.close(writer)
        self.said: TextIO = os.fdopen(reader, encoding="utf-8")
        self._code: int | None = None

    def wait(self) -> int:
        """Return how it ended, once it has: its exit code, or the signal, negative."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill(self) -> None:
        """End it at once."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def __enter__(self) -> Fork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.said.close()


def ended(work: Callable[[], object]) -> int:
    """Do something in a process of its own; return how that ended: its exit code, or the signal, negative."""
    with Fork(lambda _: work()) as fork:
        return fork.wait()


def die() -> None:
    """End this process as SIGKILL does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _work(work: Callable[[Say], object], writer: int, *, printed: bool) -> int:
    if printed:
        sys.stdout = sys.stderr = os.fdopen(os.dup(writer), "w", buffering=1, encoding="utf-8")

    def say(line: str) -> None:
        os.write(writer, f"{line}\n".encode())

    try:
        work(say)
    except BaseException:  # whatever it is, nothing of the test may go on in this process
        traceback.print_exc()
        return 70
    return 0
