"""What a measurement is, and how one is taken: warm-up apart, several repetitions, wall clock and processor time."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """One repetition: seconds on the wall clock and seconds of processor time of all threads."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """One row of the table.

    Attributes:
        name: what it is called in the table.
        what: what was measured, in words.
        unit: of the values.
        values: one per repetition.
        limit: what keeps it from being better, one sentence.
        cpu: processor time of each repetition in the same unit, where that means something.
        expected: the value that is asked for at most; None where none is, or where less was measured than it is for.
    """

    name: str
    what: str
    unit: str
    values: tuple[float, ...]
    limit: str
    cpu: tuple[float, ...] = ()
    expected: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def cpu_value(self) -> float:
        """The median of the processor time."""
        return statistics.median(self.cpu)

    @property
    def ratio(self) -> float | None:
        """The value divided by what is expected: 1 or less is as asked."""
        return None if self.expected is None else self.value / self.expected

    def to_record(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "median": self.value,
            "values": self.values,
            "cpu": self.cpu,
            "expected": self.expected,
            "ratio": self.ratio,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class Setting:
    """Where and how thoroughly to measure.

    Attributes:
        folder: an empty folder for data, removed afterwards.
        quick: whether to measure less than the targets are for, to see that everything works.
    """

    folder: Path
    quick: bool = False

    def pick(self, full: int, quick: int) -> int:
        """Return one of two sizes."""
        return quick if self.quick else full

    def home(self, name: str) -> Path:
        """Return a new, empty folder."""
        home = self.folder / name
        rmtree(home, ignore_errors=True)
        home.mkdir()
        return home

    def target(self, expected: float) -> float | None:
        """Return a target, None where less is measured than it is for."""
        return None if self.quick else expected


def timed(function: Callable[[], Any]) -> Reading:
    """Call a function once."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Reading(time.perf_counter() - wall, time.process_time() - cpu)


def repeat(function: Callable[[], Any], repetitions: int, *, warm_ups: int = 1) -> list[Reading]:
    """Call a function a few times, the first ones not counted, with the garbage collector still."""
    for _ in range(warm_ups):
        function()
    gc.collect()
    gc.disable()
    try:
        return [timed(function) for _ in range(repetitions)]
    finally:
        gc.enable()


@dataclass(frozen=True)
class Ran:
    """A command that ran to its end: its reading, the most memory it had, in MB, and what it said."""

    reading: Reading
    megabytes: float
    said: str


def run_heatmap(arguments: Sequence[str], folder: Path) -> Ran:
    """Run `heatmap` in a process of its own, with none of the caller's settings.

    Raises:
        RuntimeError: if it fails, with the end of what it said.
    """
    return run_python(["-m", "heatmap_pipeline", *arguments], folder)


def run_python(arguments: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> Ran:
    """Run Python in a process of its own, with these settings and none of the caller's.

    Raises:
        RuntimeError: if it fails, with the end of what it said.
    """
    # Bytecode is kept, as setup.sh leaves it: without it compiling the program's own modules took half a second.
    foreign = ("HEATMAP_", "DAGSTER_", "PYTHONDONTWRITEBYTECODE")
    given = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    said = folder / "said.txt"
    with said.open("wb") as out:
        wall = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=out,
            stderr=out,
            env={**given, **(settings or {})},
            cwd=Path(__file__).parents[1],
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - wall
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {child.returncode}:\n{said.read_text()[-2000:]}")
    return Ran(Reading(wall, usage.ru_utime + usage.ru_stime), _megabytes(usage), said.read_text())


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@dataclass(frozen=True)
class Benchmark:
    """A measurement by name; one may give several rows of the table."""

    name: str
    measure: Callable[[Setting], Sequence[Measured]]
    long: bool = False
    """Whether it takes more than a minute."""
    on_request: bool = False
    """Whether it is measured only when it is named, because it takes longer than all others together."""


def row(readings: Sequence[Reading], *, unit: str = "s", per: float = 1.0, **rest: Any) -> Measured:
    """Return the row of some readings, multiplied by `per` (1000 for ms)."""
    values = tuple(reading.wall * per for reading in readings)
    return Measured(unit=unit, values=values, cpu=tuple(reading.cpu * per for reading in readings), **rest)


def times(
    taken: Sequence[Reading], least: Sequence[Reading], *, name: str, what: str, limit: str, expected: float | None
) -> Measured:
    """Return the row that says how many times the processor time of something else a thing takes."""
    compared = statistics.median(reading.cpu for reading in least)
    values = tuple(reading.cpu / compared for reading in taken)
    return Measured(name=name, what=what, unit="x", values=values, limit=limit, expected=expected)
