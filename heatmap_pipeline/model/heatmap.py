"""The heatmap of any candles and changes of open interest in one call, for notebooks and for data of your own.

The pipeline does not come through here; it runs `engine.run_day` day by day on what it stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heatmap_pipeline.model.book import DayCandles, DayResult
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.levels import HeatmapSnapshot
from heatmap_pipeline.model.parameters import MODELS, ModelError, ModelParameters, choose_bucket

_DAY = 86_400_000_000


def calculate_time_evolving_heatmap(
    candles: pd.DataFrame,
    oi_deltas: Sequence[float] | npt.NDArray[np.float64] | pd.Series[float],
    *,
    symbol: str = "BTCUSDT",
    model: str = "delta",
    start_open_interest: float | None = None,
    leverage_weights: Mapping[float, float] | None = None,
    bucket: float | None = None,
) -> list[HeatmapSnapshot]:
    """Compute one snapshot of the liquidation map per candle.

    Args:
        candles: `open_time` (datetime64, UTC), `open`, `high`, `low`, `close` (USDT) and `volume` (contracts), one row
            per existing candle in time order.
        oi_deltas: change of open interest in contracts against the previous candle, one per candle.
        symbol: the name of the market, for whoever reads the call; no number depends on it.
        model: a name in `MODELS`.
        start_open_interest: open interest before the first candle, contracts; `turnover` needs it.
        leverage_weights: weight by leverage, instead of the model's own; normalised by their sum.
        bucket: height of a price bucket in USDT; None means `choose_bucket` of the first close.

    Returns:
        A snapshot per candle, in time order; each names its candle's start and holds the state at its end.

    Raises:
        ModelError: naming the argument and its value.

    Example:
        >>> frame = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-01 00:00", "2024-01-01 00:05"]),
        ...     "open": [100.0, 101.0], "high": [101.5, 101.2], "low": [99.9, 85.0], "close": [101.0, 90.0],
        ...     "volume": [10.0, 30.0]})
        >>> first, second = calculate_time_evolving_heatmap(frame, [5.0, 0.0], symbol="X", bucket=1.0)
        >>> round(first.total_long_volume), round(second.consumed_long)
        (505, 429)
    """
    if model not in MODELS:
        raise ModelError(f"model = {model!r} is unknown; known are {', '.join(MODELS)}")
    missing = {"open_time", "open", "high", "low", "close", "volume"} - set(candles.columns)
    if missing:
        raise ModelError(f"candles has no column {', '.join(sorted(missing))}")
    flow = np.asarray(oi_deltas, dtype=np.float64)
    if flow.shape != (len(candles),):
        raise ModelError(f"oi_deltas has shape {flow.shape}, expected one number per candle: ({len(candles)},)")
    if len(candles) == 0:
        return []
    if not np.isfinite(flow).all():
        raise ModelError(f"oi_deltas[{int(np.argmin(np.isfinite(flow)))}] is not finite")
    time = candles["open_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    parameters = ModelParameters(
        MODELS[model],
        choose_bucket(float(candles["close"].iloc[0])) if bucket is None else bucket,
        _step(time),
    )
    if leverage_weights is not None:
        parameters = parameters.with_weights(
            tuple((float(leverage), float(weight)) for leverage, weight in leverage_weights.items())
        )
    before, level = _levels(flow, start_open_interest, parameters)
    columns: dict[str, Any] = {
        name: candles[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")
    }
    state = start_state(parameters, before)
    snapshots: list[HeatmapSnapshot] = []
    edges = np.flatnonzero(np.diff(time // _DAY)) + 1
    for part in np.split(np.arange(len(time)), edges):
        day = DayCandles(
            time[part],
            **{name: column[part] for name, column in columns.items()},
            flow=flow[part],
            open_interest=level[part],
        )
        result = run_day(parameters, state, day, snapshot_seconds=parameters.interval)
        state = result.state
        snapshots += _snapshots(result, time[part], parameters)
    return snapshots


def _step(time: npt.NDArray[np.int64]) -> int:
    """Return the longest step in seconds that every candle starts on a multiple of; candles may be missing."""
    step = int(np.gcd.reduce(np.append(time % _DAY, _DAY)))
    if step % 1_000_000:
        raise ModelError("candles.open_time holds an instant that is not a whole second")
    return step // 1_000_000


def _levels(
    flow: npt.NDArray[np.float64], start: float | None, parameters: ModelParameters
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the open interest before the first candle and at the end of each."""
    moved = np.cumsum(flow)
    if start is None:
        if parameters.spec.rules.holds_open_interest:
            raise ModelError(f"start_open_interest is missing; model {parameters.spec.name} starts from it")
        # Any level does for a model that looks at changes only, as long as it never falls below zero.
        start = max(0.0, -float(moved.min())) + float(np.abs(flow).max()) + 1.0
    level = start + moved
    if not start > 0 or level.min() < -1e-9 * start:
        raise ModelError(f"start_open_interest = {start!r} with these oi_deltas falls to {level.min():g} contracts")
    return start, np.maximum(level, 0.0)


def _snapshots(result: DayResult, time: npt.NDArray[np.int64], parameters: ModelParameters) -> list[HeatmapSnapshot]:
    cells = result.cells
    edges = np.searchsorted(cells["timestamp"], time)
    ends = np.append(edges[1:], len(cells["timestamp"]))
    created = np.searchsorted(np.sort(result.opens["timestamp"]), np.append(time, np.iinfo(np.int64).max))
    consumed = np.searchsorted(np.sort(result.liquidations["timestamp"]), np.append(time, np.iinfo(np.int64).max))
    prices = cells["price_bucket"] * parameters.bucket_units / 1e8
    return [
        HeatmapSnapshot(
            timestamp=int(when),
            price_buckets=prices[first:last],
            sides=cells["side"][first:last],
            active_volumes=cells["active_volume"][first:last],
            consumed_volumes=cells["consumed_volume"][first:last],
            positions_created=int(created[row + 1] - created[row]),
            positions_consumed=int(consumed[row + 1] - consumed[row]),
        )
        for row, (when, first, last) in enumerate(zip(time, edges, ends, strict=True))
    ]
