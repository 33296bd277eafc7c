"""What a symbol costs in a fleet: a linear model of two small runs over a store, held against a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from benchmarks import market
from benchmarks.measure import Measured, Setting, timed
from heatmap_pipeline.fleet.worker import run_symbols
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration.runs import run_days
from heatmap_pipeline.settings import load_settings

_SYMBOLS = ("BTCUSDT", "ETHUSDT")
_YEAR = 365


class Cost(NamedTuple):
    """Of a run: processor time in seconds, MB in the store."""

    seconds: float
    megabytes: float


def cost(setting: Setting) -> Sequence[Measured]:
    """Measure two runs of one symbol, and how far what follows from them is from a run of two symbols and more days."""
    few, more, many = setting.pick(5, 1), setting.pick(20, 2), setting.pick(30, 3)
    archive = setting.folder / "files"
    for symbol in _SYMBOLS:
        write_demo_days(archive, symbol, market.days(many))
    _run(setting, archive, _SYMBOLS[:1], 1)  # compiles
    small, middle = (_run(setting, archive, _SYMBOLS[:1], days) for days in (few, more))
    each_day = Cost(*((after - before) / (more - few) for before, after in zip(small, middle, strict=True)))
    each_run = Cost(*(after - more * day for after, day in zip(middle, each_day, strict=True)))
    large = _run(setting, archive, _SYMBOLS, many)
    predicted = Cost(*(len(_SYMBOLS) * (run + many * day) for run, day in zip(each_run, each_day, strict=True)))
    what = (
        f"{len(_SYMBOLS)} symbols of {many} days, both models, over a folder, of what runs of {few} and {more} days say"
    )
    return [
        _row("cost, symbol-day", "processor time of a day of a symbol", "s", each_day.seconds, "Dagster, then DuckDB"),
        _row("cost, symbol", "processor time of a symbol, however many days", "s", each_run.seconds, "pictures, steps"),
        _row(
            "cost, symbol-year",
            f"{_YEAR} days in the store, by these days",
            "MB",
            _YEAR * each_day.megabytes,
            "cells and events, as Parquet",
        ),
        _row(
            "cost, predicted time", what, "x", large.seconds / predicted.seconds, "books that grow", setting.target(1.2)
        ),
        _row(
            "cost, predicted room",
            what,
            "x",
            large.megabytes / predicted.megabytes,
            "books that grow",
            setting.target(1.2),
        ),
    ]


def _row(name: str, what: str, unit: str, value: float, limit: str, expected: float | None = None) -> Measured:
    return Measured(name, what, unit, (value,), limit, expected=expected)


def _run(setting: Setting, archive: Path, symbols: Sequence[str], days: int) -> Cost:
    """Compute the first days of symbols over an empty store."""
    home, store = setting.home("home"), setting.home("store")
    settings = load_settings(
        home=home, source="archive", archive=archive, symbols=tuple(symbols), store=f"file://{store}"
    )
    asked = dict.fromkeys(symbols, (market.days(1)[0], market.days(days)[-1]))

    def run() -> None:
        outcome = run_symbols(settings, asked, partial(run_days, history=_in_memory))
        if outcome.failures:
            raise RuntimeError("; ".join(outcome.failures.values()))

    reading = timed(run)
    stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return Cost(reading.cpu, stored / 1e6)


def _in_memory(_: Path) -> AbstractContextManager[dg.DagsterInstance]:
    return dg.DagsterInstance.ephemeral()
