"""What the judging of candles and of samples both need: the day before, and columns as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.bound import Traded
from heatmap_pipeline.market.tables import CleanDay

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

HOUR = 3600 * MICROSECONDS
"""Microseconds."""

_MIN_REPEATED = 12


@dataclass(frozen=True)
class Before:
    """What is known of the days before one: candles and samples as they were stored, None where nothing is.

    Attributes:
        candles: clean candles of the day before.
        samples: clean samples of the newest earlier day that has some.
        both_sides: whether the file of those samples added both sides.
    """

    candles: pd.DataFrame | None = None
    samples: pd.DataFrame | None = None
    both_sides: bool = False


def repeats(table: pd.DataFrame, before: pd.DataFrame, names: tuple[str, ...]) -> bool:
    """Whether the rows are those of the day before under new labels; rows that are all equal say nothing."""
    if len(table) != len(before) or len(table) < _MIN_REPEATED:
        return False
    varied = False
    for name in names:  # the first column that is another ends it, as on nearly every day
        values, others = (part[name].to_numpy(np.float64) for part in (table, before))
        if not np.array_equal(values, others):
            return False
        varied = varied or bool(np.ptp(values) > 0)
    return varied


def implied_prices(samples: pd.DataFrame) -> Floats:
    """Return value / contracts of each sample, NaN where the value is unknown."""
    value, contracts = (samples[name].to_numpy(np.float64) for name in ("value", "contracts"))
    with np.errstate(over="ignore"):
        implied: Floats = np.where(value > 0, value, np.nan) / contracts
    return implied


def path_of(day: CleanDay, candles: CleanDay) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats, int]:
    """Return the instants of samples and what `price_path` needs of the candles."""
    table = candles.table
    return (
        microseconds(day.table["snapshot_time"]),
        microseconds(table["open_time"]),
        table["open"].to_numpy(np.float64),
        table["close"].to_numpy(np.float64),
        candles.step * MICROSECONDS,
    )


def traded_on(candles: CleanDay) -> Traded:
    """Return what the candles of a day say about the volume between two instants."""
    opened, volume = microseconds(candles.table["open_time"]), candles.table["volume"].to_numpy(np.float64)
    midnight = day_start(candles.day)
    return Traded(opened, volume, candles.step * MICROSECONDS, midnight, midnight + DAY)


def within(ratio: Floats, limit: float) -> Mask:
    """Return which ratios are at most `limit` times 1, or part of it; NaN is not."""
    return (ratio <= limit) & (ratio >= 1 / limit)


def microseconds(column: pd.Series[Any]) -> NDArray[np.int64]:
    """Return a column of times as microseconds since 1970."""
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


def minute(instant: int) -> str:
    """Return an instant, microseconds since 1970 UTC, as a person writes it.

    Example:
        >>> minute(1_726_272_000_000_000)
        '2024-09-14 00:00'
    """
    return str(np.datetime64(int(instant), "us")).replace("T", " ")[:16]


def with_counts(repairs: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return repairs and further counts of them, of those only what is above 0."""
    return {**repairs, **{name: count for name, count in counts.items() if count}}
