"""What every fuzz target shares: how many inputs it gets, how long a case may take, and the count of outcomes.

A few hundred inputs per target run with the suite, the same ones each time. Many more, new ones each time:

    HEATMAP_TEST_FUZZ=20000 pytest heatmap_pipeline_tests/fuzz -q

spreads 20,000 inputs over the targets (a few minutes) and prints what became of them.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

from heatmap_pipeline.errors import HeatmapError

FUZZ = int(os.environ.get("HEATMAP_TEST_FUZZ") or 0)
"""Inputs of the opt-in run in all; 0 = the suite's. Read here: tests see no HEATMAP_* variable."""

TARGETS = 16
"""Seven kinds of input, each mutated from simulated and from real data, and two kinds of manifest."""

SUITE = 120
"""Inputs per target in the suite."""

CASE_SECONDS = 5.0
"""Seconds of computing that one case may take; the usual one takes 5 ms."""

CASE_WAITS = 60.0
"""Seconds by the clock that one case may take, on a machine that has other things to do."""

GROWTH = 300 * 2**20
"""Bytes by which the process may grow over all cases of a target."""

Read = TypeVar("Read")


class HangError(AssertionError):
    """A case that took too long."""


def budget() -> settings:
    """Return how Hypothesis runs a target: the same inputs every time in the suite, new ones in the opt-in run."""
    return settings(
        max_examples=-(-FUZZ // TARGETS) if FUZZ else SUITE,
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )


@contextmanager
def time_limit(seconds: float = CASE_SECONDS, waiting: float = CASE_WAITS) -> Iterator[None]:
    """Raise `HangError` in the body after so many seconds of work, or of anything else."""

    def late(*_: Any) -> None:
        raise HangError(f"not done after {seconds:g} s of work or {waiting:g} s of waiting")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, seconds), (signal.SIGALRM, signal.ITIMER_REAL, waiting))
    before = [(number, timer, signal.signal(number, late)) for number, timer, _ in timers]
    try:
        for _, timer, limit in timers:
            signal.setitimer(timer, limit)
        yield
    finally:
        for number, timer, handler in before:
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def outcome(work: Callable[[], Read]) -> Read | HeatmapError:
    """Return what comes out in time, or the refusal; anything else is the failure that is looked for."""
    with time_limit():
        try:
            return work()
        except HeatmapError as error:
            return error


class Tally:
    """What became of the inputs of one target."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._peak = _peak()

    def refused(self, error: HeatmapError, *names: str) -> None:
        """Count a refusal, which has to be one printable line of bounded length that names what it is about."""
        text = str(error)
        assert any(name in text for name in names), f"names none of {names}: {text[:500]}"
        assert text.isprintable(), repr(text[:500])
        assert 20 < len(text) - max(len(name) for name in names) < 700, text[:1000]
        self.counts["refused"] += 1

    def read(self, repairs: dict[str, int], usual: dict[str, int]) -> None:
        """Count a result: repaired if it states repairs that the unmutated input did not need."""
        assert all(type(count) is int and count > 0 for count in repairs.values()), repairs
        self.counts["accepted" if repairs == usual else "repaired"] += 1

    def check(self, record: Any, target: str, **least: int) -> None:
        """Require that the inputs reached each outcome (in parts of a hundred), and that memory stayed bounded.

        Hypothesis draws otherwise when other modules are loaded, so the parts are far below what is usual: three of 120
        where ten to twenty are.
        """
        total = self.counts.total()
        record("fuzz", f"{target}: {total} inputs, " + ", ".join(f"{n} {name}" for name, n in self.counts.items()))
        for name, percent in least.items():
            assert self.counts[name] * 100 >= percent * total, f"{target}: too few {name} of {total}: {self.counts}"
        assert _peak() - self._peak < GROWTH, "memory grew with the cases"


@pytest.fixture
def tally() -> Tally:
    """A fresh count for one target."""
    return Tally()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
