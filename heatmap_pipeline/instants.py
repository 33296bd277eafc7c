"""Days, instants and intervals: how they are counted and written. Instants are microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Literal

Interval = Literal["1m", "5m", "15m"]
"""Step of the candle grid, written as the exchange writes it."""

SnapshotInterval = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"]
"""Distance of two stored snapshots."""

SECONDS: Mapping[str, int] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "4h": 14400,
    "1d": 86400,
}
"""Seconds of each interval that can be named."""

ONE_DAY = timedelta(days=1)

MICROSECONDS = 1_000_000
"""Microseconds of a second."""

DAY = 86_400 * MICROSECONDS
"""Microseconds of a day."""

_EPOCH = date(1970, 1, 1)


def day_start(day: date) -> int:
    """Return the start of a day, microseconds since 1970-01-01 UTC."""
    return (day - _EPOCH).days * DAY


def day_of(instant: int) -> date:
    """Return the day that holds an instant given in microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(days=instant // DAY)


def iso(instant: int) -> str:
    """Return an instant as text.

    Example:
        >>> iso(0)
        '1970-01-01T00:00:00Z'
    """
    return f"{(datetime(1970, 1, 1) + timedelta(microseconds=instant)).isoformat(timespec='auto')}Z"
