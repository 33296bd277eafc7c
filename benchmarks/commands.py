"""The `heatmap` command as its users start it: a process of its own, from the first import to the last file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from benchmarks import market
from benchmarks.measure import Measured, Setting, row, run_heatmap


def help_text(setting: Setting) -> Sequence[Measured]:
    """Measure `heatmap --help`."""
    run_heatmap(["--help"], setting.folder)
    return [
        row(
            [run_heatmap(["--help"], setting.folder).reading for _ in range(setting.pick(11, 3))],
            name="heatmap --help",
            what="from the start of Python to its end",
            expected=0.5,
            limit="the start of Python itself; nothing heavy is imported for it",
        )
    ]


def run(setting: Setting) -> Sequence[Measured]:
    """Measure a whole run over archive files that exist already, then again, then once a file is corrected."""
    count = setting.pick(90, 3)
    source = market.archive(setting.folder, count)
    last = market.FIRST + timedelta(days=count - 1)
    run_heatmap(_run(last, "--archive", str(source), "--home", str(setting.home("warm"))), setting.folder)
    first, again, corrected, memory = [], [], [], []
    for _ in range(setting.pick(3, 1)):
        home = setting.home("home")
        arguments = _run(last, "--archive", str(source), "--home", str(home))
        ran = run_heatmap(arguments, setting.folder)
        first.append(ran.reading)
        memory.append(ran.megabytes)
        again.append(run_heatmap(arguments, setting.folder).reading)
        with market.corrected(source, last):
            corrected.append(run_heatmap(arguments, setting.folder).reading)
    return [
        row(
            first,
            name=f"heatmap run, {count} days",
            what=f"one symbol, both models, from zips to page and database, start included ({max(memory):,.0f} MB)",
            expected=setting.target(10.0),
            limit="imports, pictures and page, files to tables, checks, Dagster's events",
        ),
        row(
            again,
            name="run again, nothing changed",
            what=f"the same command over the same {count} days: it says so, and is done without Dagster",
            expected=setting.target(2.0),
            limit="imports, then the sha256 of every file",
        ),
        row(
            corrected,
            name="run again, one day changed",
            what=f"the same command, the file of the last of {count} days corrected",
            limit="imports, then pictures",
        ),
    ]


def memory(setting: Setting) -> Sequence[Measured]:
    """Measure the largest memory of a run over a year, simulated days written by the run itself."""
    count = setting.pick(365, 5)
    last = market.FIRST + timedelta(days=count - 1)
    home = setting.home("year")
    ran = run_heatmap(_run(last, "--source", "demo", "--home", str(home)), setting.folder)
    what = f"largest resident memory of `heatmap run` over {count} days, one symbol, both models"
    return [
        Measured(
            name=f"memory, {count} days",
            what=f"{what} ({ran.reading.wall:,.0f} s)",
            unit="MB",
            values=(ran.megabytes,),
            expected=setting.target(2000.0),
            limit="what is imported (about 450 MB), then DuckDB while it writes the cells",
        )
    ]


def demo(setting: Setting) -> Sequence[Measured]:
    """Measure `heatmap demo`: three markets, both models, from nothing to pictures."""
    count = setting.pick(30, 3)
    home = str(setting.home("warm"))
    run_heatmap(["demo", "--days", "1", "--home", home], setting.folder)
    readings = [
        run_heatmap(["demo", "--days", str(count), "--home", str(setting.home("demo"))], setting.folder).reading
        for _ in range(setting.pick(3, 1))
    ]
    return [
        row(
            readings,
            name=f"heatmap demo, {count} days",
            what="three markets, both models, from nothing to page and database",
            expected=setting.target(60.0),
            limit="Dagster's events, then DuckDB's commits, imports and pictures",
        )
    ]


def _run(last: object, *options: str) -> list[str]:
    return ["run", market.SYMBOL, "--start", str(market.FIRST), "--end", str(last), *options]
