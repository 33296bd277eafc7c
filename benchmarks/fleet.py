"""A symbol-day in a fleet as symbols become more: workers of twenty symbols over a folder, one after the other.

Each worker is a process that does what a run of Dagster's queue does: it loads the definitions of its shard and runs
their job. What it does once, however many symbols follow, is apart: its start, and what a first symbol loads.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import market
from benchmarks.measure import Measured, Setting, run_python, timed

if TYPE_CHECKING:
    import dagster as dg

FEW = 5
SHARD = 20
"""Symbols of a worker, as docs/deploy.md says."""


class Worker(NamedTuple):
    """Processor time of a process in seconds, and the most memory that it had, in MB."""

    start: float
    """Until its job can begin."""
    first: float
    """A first symbol, which loads what all others use."""
    job: float
    """Its own symbols."""
    megabytes: float


def fleet(setting: Setting) -> Sequence[Measured]:
    """Measure workers of a few and of twenty symbols, each over an empty store, and five that fill one with a hundred.

    By turns, as a machine is now faster and now slower.
    """
    few, some, many = setting.pick(FEW, 2), setting.pick(SHARD, 3), setting.pick(100, 6)
    days = 1  # what may grow are the symbols
    names = [f"COPY{number:03}USDT" for number in range(many)]
    archive = market.copies(setting.folder, names, days)
    _worker(setting, archive, names[:1], days, "empty")  # compiles
    setting.home("store")
    rounds = [
        (*(_worker(setting, archive, names[:count], days, "empty") for count in (1, few, some)),
         _worker(setting, archive, names[first : first + some], days, "store"))
        for first in range(0, many, some)
    ]  # fmt: skip
    further = [(of_few.job - of_one.job) / (few - 1) for of_one, of_few, _, _ in rounds]
    once = statistics.median(of_one.job - another for (of_one, _, _, _), another in zip(rounds, further, strict=True))
    each = {
        few: statistics.median(further) / days,
        some: statistics.median((alone.job - once) / (some * days) for _, _, alone, _ in rounds),
        many: sum(among.job - once for _, _, _, among in rounds) / (many * days),
    }
    workers = [worker for one_round in rounds for worker in one_round]
    what = f"a day each, one model, a cell an hour, over a folder, by workers of {SHARD} symbols at the most"
    catalogue = timed(lambda: _pull(setting, names)).cpu
    return [
        *(
            _row(
                f"fleet, symbol-day of {count}",
                f"processor time of each of {count}, without what a worker does once; {what}",
                "s",
                (value,),
                "pictures, steps, checks",
            )
            for count, value in each.items()
        ),
        _row(
            "fleet, equal",
            f"the most of these over the least: {', '.join(map(str, each))} symbols",
            "x",
            (max(each.values()) / min(each.values()),),
            "what grows with the symbols of a worker, or of the store",
            setting.target(1.1),
        ),
        _row(
            "fleet, start",
            "processor time of a worker until its run begins",
            "s",
            tuple(worker.start for worker in workers),
            "imports, mostly Dagster",
            setting.target(5.0),
        ),
        _row("fleet, run", "processor time of a run, however many symbols", "s", (once,), "Dagster's two histories"),
        _row(
            "fleet, first symbol",
            "processor time that the first symbol of a worker takes more than others",
            "s",
            tuple(worker.first - once - days * each[few] for worker in workers),
            "compiled code and fonts that are loaded",
        ),
        _row(
            "fleet, memory",
            f"the most memory of a worker; {what}",
            "MB",
            (max(worker.megabytes for worker in workers),),
            "imports, then pictures",
            setting.target(1000),
        ),
        _row(
            "fleet, catalogue",
            f"processor time of heatmap.duckdb of {many} symbols, made at the end of a run (HEATMAP_CATALOGUE)",
            "s",
            (catalogue,),
            "rows of all symbols, loaded anew",
        ),
    ]


def _row(
    name: str, what: str, unit: str, values: tuple[float, ...], limit: str, expected: float | None = None
) -> Measured:
    return Measured(name, what, unit, values, limit, expected=expected)


def _worker(setting: Setting, archive: Path, names: Sequence[str], days: int, store: str) -> Worker:
    """Compute symbols in a process of its own, over an empty store or over one that has others already."""
    setting.home("home")
    if store == "empty":
        setting.home(store)
    settings = {
        "HOME": setting.folder / "home",
        "STORE": f"file://{setting.folder}/{store}",
        "SOURCE": "archive",
        "ARCHIVE": archive,
        "SYMBOLS": ",".join(names),
        "MODELS": "turnover",
        "SNAPSHOT_INTERVAL": "1h",
        "CATALOGUE": "false",
    }
    variables = {f"HEATMAP_{name}": str(value) for name, value in settings.items()}
    span = [str(market.days(days)[0]), str(market.days(days)[-1])]
    ran = run_python(["-m", "benchmarks.fleet", *span], setting.folder, variables)
    start, first, job = json.loads(ran.said.splitlines()[-1])
    return Worker(start, first, job, ran.megabytes)


def _pull(setting: Setting, names: Sequence[str]) -> None:
    from heatmap_pipeline.fleet.pull import pull  # noqa: PLC0415
    from heatmap_pipeline.settings import load_settings  # noqa: PLC0415

    store = f"file://{setting.folder}/store"
    made = pull(load_settings(home=setting.folder / "home", store=store), setting.home("pulled"))
    if made.symbols != len(names):
        raise RuntimeError(f"{made.symbols} symbols are in the store, not {len(names)}")


def main(start: str, end: str) -> None:
    """Be a worker of the symbols of the settings, and print what it took."""
    from heatmap_pipeline.definitions import defs  # noqa: PLC0415 - what is loaded here is part of the start

    job = defs().resolve_job_def("heatmap_shard")
    moments = [time.process_time()]
    first = Path(os.environ["HEATMAP_HOME"]) / "first"
    for run in (_first_of(first), job):
        _run(run, start, end)
        moments.append(time.process_time())
    before, after, last = moments
    print(json.dumps([before, after - before, last - after]))


def _first_of(home: Path) -> dg.JobDefinition:
    """Return the job of the first symbol alone, over a store that nobody else has."""
    from heatmap_pipeline.orchestration.shard_job import build_shard_job  # noqa: PLC0415
    from heatmap_pipeline.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    return build_shard_job(
        settings.model_copy(
            update={"home": home, "store": f"file://{home}/store-{os.getpid()}", "symbols": settings.symbols[:1]}
        )
    )


def _run(job: dg.JobDefinition, start: str, end: str) -> None:
    import dagster as dg  # noqa: PLC0415

    config = {"ops": {"symbols": {"config": {"start": start, "end": end}}}}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(run_config=config | quiet, instance=instance)


if __name__ == "__main__":
    main(*sys.argv[1:])
