"""What age costs: the books and their rows for three years, and one more day after a month and after years."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import market
from benchmarks.measure import Measured, Ran, Setting, run_heatmap, timed
from heatmap_pipeline.model.book import DayResult
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS

_YEARS = 1095
"""Days of the long history."""
_AGES = (30, 180, 365, 730, _YEARS)
_AROUND = 15
"""Days before and after an age that a number is the median of: the market of one day differs from the next one's."""
_MONTH = 31
_SETTLING = 2
"""First refreshes that are not counted: there is no older publication yet that could be brought up to date."""
_SNAPSHOT = 900

Series = Mapping[str, npt.NDArray[np.float64]]


def books(setting: Setting) -> Sequence[Measured]:
    """Measure each day of three years in the engine alone: time, lots, bytes of the state, rows by table."""
    count = setting.pick(_YEARS + _AROUND, 60)
    ages = _AGES if not setting.quick else (15, 45)
    start, given = market.candles(count)
    rows = []
    for model in MODELS:
        parameters = market.parameters(model)
        state = start_state(parameters, start)
        run_day(parameters, state, given[0], _SNAPSHOT)  # compiles
        days: list[dict[str, float]] = []
        for part in given:
            results: list[DayResult] = []
            # The fastest of three: a day takes a millisecond, and other programs are in the way of some.
            took = [
                timed(lambda: results.append(run_day(parameters, state, part, _SNAPSHOT))).cpu  # noqa: B023
                for _ in range(3)
            ]
            state = results[0].state
            days.append({"engine ms": min(took) * 1000, **_sizes(results[0])})
        series = {name: np.array([day[name] for day in days]) for name in days[0]}
        rows += [_with_age(model, name, series, ages) for name in series]
    return rows


def _sizes(result: DayResult) -> dict[str, float]:
    lots = result.state.lots
    columns = (lots.side, lots.leverage, lots.liq_price, lots.quantity, lots.volume, lots.opened_at)
    events = [len(part["timestamp"]) for part in (result.opens, result.closes, result.liquidations)]
    return {
        "lots": len(lots),
        "state bytes": sum(column.nbytes for column in columns),
        "position_events": sum(events),
        "liquidation_snapshots": len(result.cells["side"]),
    }


def _with_age(model: str, name: str, series: Series, ages: Sequence[int]) -> Measured:
    """Return the row of a number that may grow with age: the oldest as a multiple of the youngest."""
    at = [float(np.median(series[name][max(age - _AROUND, 0) : age + _AROUND])) for age in ages]
    told = ", ".join(f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in at)
    return Measured(
        name=f"age, {model}: {name}",
        what=f"day {ages[-1]} / day {ages[0]}; at days {', '.join(map(str, ages))}: {told}; "
        f"most on any day {series[name].max():,.4g}",
        unit="x",
        values=(at[-1] / at[0],),
        limit="the market: how far price has been away, and how many buckets high that is",
    )


def refreshes(setting: Setting) -> Sequence[Measured]:
    """Measure `heatmap run` of one further day in a home of a month and in one of three years, in turns."""
    repetitions = setting.pick(7, 1)
    further = repetitions + _SETTLING
    until_now = (datetime.now(UTC).date() - market.FIRST).days
    counts = {"month": setting.pick(_MONTH, 2), "years": min(setting.pick(_YEARS, 6), until_now - further)}
    homes = {name: setting.home(name) for name in counts}
    for name, count in counts.items():
        for begin in range(0, count, 365):
            _run(setting, homes[name], market.FIRST + timedelta(days=begin), min(365, count - begin))
    sizes = {name: _megabytes(home) for name, home in homes.items()}
    ran: dict[str, list[Ran]] = {name: [] for name in counts}
    for number in range(further):
        for name, count in counts.items():
            done = _run(setting, homes[name], market.FIRST + timedelta(days=count + number), 1)
            if number >= _SETTLING:
                ran[name].append(done)
    label = {name: f"after {count:,} days" for name, count in counts.items()}
    rows = [_refresh(f"refresh {label[name]}", sizes[name], ran[name]) for name in counts]
    return [*rows, *_ratios(setting, ran, label)]


def _run(setting: Setting, home: Path, first: date, count: int) -> Ran:
    last = first + timedelta(days=count - 1)
    words = ["run", market.SYMBOL, "--start", str(first), "--end", str(last), "--source", "demo", "--home", str(home)]
    return run_heatmap(words, setting.folder)


def _megabytes(home: Path) -> dict[str, float]:
    history = sum(path.stat().st_size for path in (home / "dagster").rglob("*") if path.is_file())
    return {"database": (home / "heatmap.duckdb").stat().st_size / 1e6, "Dagster's history": history / 1e6}


def _refresh(name: str, sizes: Mapping[str, float], ran: Sequence[Ran]) -> Measured:
    held = ", ".join(f"{what} {size:,.0f} MB" for what, size in sizes.items())
    memory = statistics.median(one.megabytes for one in ran)
    return Measured(
        name=name,
        what=f"`heatmap run` of one more day, one symbol, both models ({held}; memory {memory:,.0f} MB)",
        unit="s",
        values=tuple(one.reading.wall for one in ran),
        cpu=tuple(one.reading.cpu for one in ran),
        limit="starting Python, imports and pictures; Dagster's events",
    )


def _ratios(setting: Setting, ran: Mapping[str, Sequence[Ran]], label: Mapping[str, str]) -> list[Measured]:
    """Return years / month, a value per pair of runs that came one after the other."""
    pairs = list(zip(ran["years"], ran["month"], strict=True))
    found = {
        "wall": [old.reading.wall / young.reading.wall for old, young in pairs],
        "processor": [old.reading.cpu / young.reading.cpu for old, young in pairs],
        "memory": [old.megabytes / young.megabytes for old, young in pairs],
    }
    return [
        Measured(
            name=f"refresh, {name} with age",
            what=f"{label['years']} / {label['month']}, runs that came one after the other",
            unit="x",
            values=tuple(values),
            expected=setting.target(1.25),
            limit="reading and comparing what is known of each stored day, about a millisecond a day",
        )
        for name, values in found.items()
    ]


def footprint(setting: Setting) -> Sequence[Measured]:
    """Measure both."""
    return [*books(setting), *refreshes(setting)]
