"""A command's symbols in several processes at once, each of them a Dagster run of its own; published once, at the end.

Why so, and not steps in processes of their own: docs/decisions/0016. What belongs here: who does what, and what becomes
of it when one of them fails, is killed or stopped. What does not: a run (`runs.py`).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

from heatmap_pipeline.chain.progress import listening, tell
from heatmap_pipeline.errors import HeatmapError, listed
from heatmap_pipeline.notices import Failure
from heatmap_pipeline.orchestration import runs
from heatmap_pipeline.orchestration.loading import loading
from heatmap_pipeline.orchestration.runs import STOPPED, Days, Outcome
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import share_cores

Step: TypeAlias = tuple[str, str, int, int]
"""What `progress.tell` is told: symbol, stage, steps done, steps in all."""


def groups_of(requests: Mapping[str, Days], jobs: int) -> list[dict[str, Days]]:
    """Share symbols out among so many processes, or fewer, that all have about as many days; none has no symbol.

    Example:
        >>> from datetime import date
        >>> week, day = (date(2024, 7, 1), date(2024, 7, 7)), (date(2024, 7, 7), date(2024, 7, 7))
        >>> [list(group) for group in groups_of({"BTC": day, "ETH": week, "SOL": day}, 2)]
        [['ETH'], ['BTC', 'SOL']]
    """
    groups: list[dict[str, Days]] = [{} for _ in range(min(jobs, len(requests)))]
    work = [0] * len(groups)
    for symbol in sorted(requests, key=lambda name: _count(requests[name]), reverse=True):
        least = work.index(min(work))
        groups[least][symbol] = requests[symbol]
        work[least] += _count(requests[symbol])
    return groups


def _count(days: Days) -> int:
    return (days[1] - days[0]).days + 1


@contextmanager
def started(
    settings: Settings, requests: Mapping[str, Days], again: str, *, restart: bool = False
) -> Iterator[Callable[[], Outcome]]:
    """Start the processes that `HEATMAP_JOBS` allows; give what waits for them, publishes, and returns the outcome.

    With one there is no other: what is given is `run_days`. Under `turns.one_run_at_a_time`; to be entered before this
    process has threads of its own, as a progress bar has.

    Args:
        settings: of the command.
        requests: days by symbol.
        again: the command line that is going on.
        restart: whether a new history begins after a gap.

    Raises:
        RunError: if Dagster's history cannot be opened, which what is given raises, too; if a process cannot be begun.
    """
    groups = groups_of(requests, settings.jobs)
    if len(groups) < 2:
        yield partial(runs.run_days, settings, requests, restart=restart)
        return
    context = _context()
    # What processes that are copies of this one then have, too.
    with loading() if context.get_start_method() == "fork" else nullcontext():
        runs.begin_history(settings)
    children: list[_Child] = []
    try:
        for group in groups:
            children.append(_begun(context, settings, group, restart, len(groups)))
        yield partial(_gathered, settings, requests, children, again)
    finally:
        for child in children:
            child.end()


def _begun(context: Any, settings: Settings, requests: Mapping[str, Days], restart: bool, processes: int) -> _Child:
    """Begin a process, one of so many; raise RunError where the system allows no more of them."""
    try:
        return _Child(context, settings, requests, restart, processes)
    except OSError as error:
        raise RunError(
            f"{processes} processes cannot be begun ({error.strerror}); run it with fewer, by --jobs or HEATMAP_JOBS"
        ) from None


def _gathered(settings: Settings, requests: Mapping[str, Days], children: list[_Child], again: str) -> Outcome:
    """Wait for the processes, then publish what is ready; nothing after this one was told to stop."""
    with _forwarding(children) as told:
        while waiting := {child.channel: child for child in children if child.outcome is None}:
            for channel in wait(list(waiting)):
                waiting[channel].hear()
    outcome = Outcome({}, {})
    computed: dict[str, Days] = {}
    for child in children:
        assert child.outcome is not None  # noqa: S101 - that ended the loop above
        computed |= child.outcome.published
        _add(outcome, child.outcome)
    if told:
        outcome.failures.update(dict.fromkeys(requests, STOPPED))
        outcome.details.clear()
        computed.clear()
    killed = [child.process.pid for child in children if child.killed and child.process.pid is not None]
    in_order = {symbol: computed[symbol] for symbol in requests if symbol in computed}
    published = runs.publish_days(settings, in_order, killed, again)
    _add(outcome, published)
    outcome.published.update(published.published)
    return outcome


def _add(outcome: Outcome, other: Outcome) -> None:
    """Add what failed; of what failed twice, the first is told."""
    for symbol, message in other.failures.items():
        if symbol not in outcome.failures:
            outcome.failures[symbol] = message
            if symbol in other.details:
                outcome.details[symbol] = other.details[symbol]
    outcome.run_ids.extend(other.run_ids)


@contextmanager
def _forwarding(children: list[_Child]) -> Iterator[list[int]]:
    """Have the processes stop when this one is told to, as a run of its own would; told again, kill them.

    Yields the signals that were received. The processes are in groups of their own, so that no key reaches them.
    """
    told: list[int] = []

    def forward(number: int, _: Any) -> None:
        told.append(number)
        for child in children:
            child.signal(signal.SIGINT if len(told) == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """A process that computes some symbols, one of so many at work, and what is known of it.

    Attributes:
        process: it.
        channel: by which it tells its progress, then its outcome.
        outcome: None as long as it works.
        killed: whether it ended without one.
    """

    def __init__(
        self, context: Any, settings: Settings, requests: Mapping[str, Days], restart: bool, processes: int
    ) -> None:
        self._symbols = list(requests)
        self.outcome: Outcome | None = None
        self.killed = False
        self.channel, other = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_work, args=(settings, requests, restart, processes, other))
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until it has a group of its own
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        other.close()  # so that its end is seen here

    def hear(self) -> None:
        """Take what the process has said: tell its progress, keep its outcome; or what its end means."""
        try:
            said: Step | Outcome = self.channel.recv()
        except (EOFError, OSError):
            self.process.join()
            self.killed, self.outcome = True, self._lost()
            return
        if isinstance(said, Outcome):
            self.outcome = said
        else:
            tell(*said)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is done."""
        if self.outcome is None and self.process.pid is not None and self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def end(self) -> None:
        """Wait for its end; kill it, where it still works because this process cannot go on."""
        if self.outcome is None:
            self.process.kill()
        self.process.join()
        self.channel.close()

    def _lost(self) -> Outcome:
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended by itself with exit code {code}"
        message = (
            f"process {self.process.pid}, which worked on {listed(self._symbols)}, {how}; "
            "what it did is kept, and the same command goes on from there"
        )
        return Outcome({}, dict.fromkeys(self._symbols, message), _details(self._symbols, message))


def _context() -> Any:
    """Return how to start a process: as a copy of this one where that is safe, for an import of everything takes 2 s.

    A copy has none of the threads of this one, but their locks. DuckDB's are seen to (`store/instances.py`).
    """
    copies = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context("fork" if copies else "spawn")


def _work(settings: Settings, requests: Mapping[str, Days], restart: bool, processes: int, channel: Connection) -> None:
    """Do the work of a process, one of so many."""
    share_cores(processes)
    gc.freeze()  # what it has from its parent stays, and is not to be copied for being looked at
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _end_with_parent()
    lock = threading.Lock()

    def say(what: Step | Outcome) -> None:
        with lock:  # a download tells from its threads
            channel.send(what)

    try:
        with listening(lambda *step: say(step)):
            outcome = runs.compute_days(settings, requests, restart=restart)
    except HeatmapError as error:
        outcome = Outcome({}, dict.fromkeys(requests, str(error)), _details([*requests], str(error)))
    except KeyboardInterrupt:  # between two runs; within one it is Dagster's
        outcome = Outcome({}, dict.fromkeys(requests, STOPPED))
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error} (unexpected)"
        outcome = Outcome({}, dict.fromkeys(requests, message), _details([*requests], message))
    say(outcome)


def _details(symbols: list[str], message: str) -> dict[str, Failure]:
    return {symbol: Failure(symbol, message) for symbol in symbols}


def _end_with_parent() -> None:
    """Have this process end when the one that began it is gone, even killed: the home is free for another run then."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()
