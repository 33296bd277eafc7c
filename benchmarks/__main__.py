"""Runs the benchmarks and prints them as a table; see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    asking,
    commands,
    cost,
    engine,
    exchange,
    fleet,
    footprint,
    jobs,
    page,
    serving,
    size,
    storage,
    symbols,
)
from benchmarks.measure import Benchmark, Measured, Setting

BENCHMARKS = (
    Benchmark("engine", engine.snapshot_per_candle),
    Benchmark("year", engine.year),
    Benchmark("steps", engine.against_steps),
    Benchmark("read", storage.read_files),
    Benchmark("write", storage.write_tables),
    Benchmark("books", storage.keep_books),
    Benchmark("size", size.symbol_year, long=True),
    Benchmark("ask", asking.ask),
    Benchmark("serve", serving.serve),
    Benchmark("crowd", serving.crowd),
    Benchmark("base", serving.base),
    Benchmark("symbols", symbols.many_symbols),
    Benchmark("help", commands.help_text),
    Benchmark("run", commands.run, long=True),
    Benchmark("demo", commands.demo, long=True),
    Benchmark("jobs", jobs.jobs, long=True, on_request=True),
    Benchmark("memory", commands.memory, long=True),
    Benchmark("cost", cost.cost, long=True, on_request=True),
    Benchmark("fleet", fleet.fleet, long=True, on_request=True),
    Benchmark("page", page.page, long=True, on_request=True),
    Benchmark("fetch", exchange.fetch, long=True, on_request=True),
    Benchmark("footprint", footprint.footprint, long=True, on_request=True),
)
"""Everything that is measured, in this order."""


def machine() -> dict[str, object]:
    """Return what the numbers depend on: processor, cores, load before the start, versions."""
    packages = ("numpy", "numba", "pandas", "pyarrow", "duckdb", "dagster", "matplotlib")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
        "system": platform.platform(aliased=True, terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: Sequence[Measured], about: dict[str, object]) -> Table:
    """Return the rows as a table, what is slower than expected in red."""
    shown = Table(caption=", ".join(f"{name} {value}" for name, value in about.items()))
    for heading in ("name", "measured"):
        shown.add_column(heading)
    for heading in ("median", "spread", "processor", "expected", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("limited by")
    for row in rows:
        late = row.ratio is not None and row.ratio > 1
        spread = f"{_number(min(row.values))} .. {_number(max(row.values))} (n={len(row.values)})"
        shown.add_row(
            row.name,
            row.what,
            f"{_number(row.value)} {row.unit}",
            spread if len(row.values) > 1 else "n=1",
            _number(sorted(row.cpu)[len(row.cpu) // 2]) if row.cpu else "",
            f"< {row.expected:g} {row.unit}" if row.expected is not None else "",
            f"{row.ratio:.2f}" if row.ratio is not None else "",
            row.limit,
            style="red" if late else None,
        )
    return shown


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def run(names: Sequence[str], setting: Setting, console: Console) -> list[Measured]:
    """Run the benchmarks of these names and return their rows."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    rows: list[Measured] = []
    for name in names:
        console.print(f"measuring {name} ...")
        rows += known[name].measure(setting)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    long = ", ".join(benchmark.name for benchmark in BENCHMARKS if benchmark.long)
    asked = ", ".join(benchmark.name for benchmark in BENCHMARKS if benchmark.on_request)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure the pipeline. The long ones are {long}; only with --only: {asked}.",
    )
    parser.add_argument("--quick", action="store_true", help="measure little, to see that it works; without targets")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--skip", action="append", choices=names, metavar="NAME", default=[], help="leave this out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file as well")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to put data meanwhile (the system's temporary folder)"
    )
    given = parser.parse_args(arguments)
    about = machine()
    usual = [benchmark.name for benchmark in BENCHMARKS if not benchmark.on_request]
    chosen = [name for name in given.only or usual if name not in given.skip]
    with tempfile.TemporaryDirectory(prefix="heatmap-benchmarks-", dir=given.folder) as folder:
        rows = run(chosen, Setting(Path(folder), given.quick), Console(stderr=True))
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows, about))
    if given.json is not None:
        given.json.write_text(
            json.dumps({"machine": about, "rows": [row.to_record() for row in rows]}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
