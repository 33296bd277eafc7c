"""The compiled engine alone: no files, no tables, no orchestration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import market
from benchmarks.measure import Measured, Setting, repeat, row, timed
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.levels import Candle
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.model.stepwise import run_stepwise

_SNAPSHOT = 900
"""Seconds between two snapshots of the pipeline's own output."""


def snapshot_per_candle(setting: Setting) -> Sequence[Measured]:
    """Measure 1,000 candles in one go, from empty books, with all cells after each candle."""
    count = setting.pick(1000, 100)
    start, parts = market.candles(4)
    given = market.joined(parts, count)
    rows = []
    for model in MODELS:
        parameters = market.parameters(model)
        state = start_state(parameters, start)
        cells = len(run_day(parameters, state, given, 300).cells["side"])
        rows.append(
            row(
                repeat(_run(model, start, [given], 300), setting.pick(25, 3), warm_ups=3),
                unit="ms",
                per=1000,
                name=f"engine {model}, cells",
                what=f"{count:,} candles, a snapshot per candle, warm ({cells:,} cells)",
                expected=setting.target(20.0),
                limit="taking memory for the cells and writing them, 33 bytes each",
            )
        )
    return rows


def year(setting: Setting) -> Sequence[Measured]:
    """Measure a year of 5-minute candles, day by day: levels, ledger and a snapshot every 15 minutes."""
    count = setting.pick(365, 5)
    start, given = market.candles(count)
    targets = {"delta": 1.0, "turnover": 1.2}
    return [
        row(
            repeat(_run(model, start, given, _SNAPSHOT), setting.pick(5, 2)),
            name=f"engine {model}, {'year' if count == 365 else f'{count} days'}",
            what=f"{288 * count:,} candles day by day: levels, ledger, cells every 15 min",
            expected=setting.target(targets[model]),
            limit="the heaps and the table of lots that each day builds anew, then writing the cells",
        )
        for model in MODELS
    ]


def against_steps(setting: Setting) -> Sequence[Measured]:
    """Measure how many times faster the engine is than the step-by-step model, on the same candles, with all cells."""
    count = setting.pick(200, 40)
    start, parts = market.candles(1)
    given = market.joined(parts, count)
    columns = (given.open_time, given.open, given.high, given.low, given.close, given.volume)
    candles = [Candle(int(one[0]), *map(float, one[1:])) for one in zip(*columns, strict=True)]
    rows = []
    for model in MODELS:
        parameters = market.parameters(model)
        flow = given.flow.tolist()
        steps = timed(lambda: run_stepwise(candles, flow, parameters, start))  # noqa: B023  # called at once
        engine = repeat(_run(model, start, [given], 300), setting.pick(25, 3), warm_ups=3)
        rows.append(
            Measured(
                name=f"engine {model}, times faster",
                what=f"than the step-by-step model ({steps.wall * 1000:,.0f} ms), {count} candles, cells per candle",
                unit="x",
                values=tuple(steps.wall / reading.wall for reading in engine),
                limit="the step-by-step model sums every lot anew for each candle, to be read and not to be fast",
            )
        )
    return rows


def _run(model: str, start: float, parts: Sequence[DayCandles], seconds: int) -> Callable[[], None]:
    """Return a function that carries a model through days, nothing kept of one call for the next."""
    parameters = market.parameters(model)

    def run() -> None:
        state = start_state(parameters, start)
        for part in parts:
            state = run_day(parameters, state, part, seconds).state

    return run
