"""Today and yesterday, in UTC, by this machine's clock, and from when on a day has candles."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

EARLIEST = date(2019, 1, 1)
"""A day before there were such perpetuals."""

FIRST_CANDLE = timedelta(minutes=20)
"""How long after midnight a day is first asked for: its first candle has closed by then, also one of 15 minutes, and
also where this machine's clock is some minutes ahead."""


def yesterday() -> date:
    """Return the last day that is complete, in UTC."""
    return datetime.now(UTC).date() - timedelta(days=1)


def today() -> date:
    """Return the day that is going on, in UTC; no data can be of a later one, unless this machine's clock is behind."""
    return yesterday() + timedelta(days=1)


def begun(now: datetime) -> date:
    """Return the newest day of which a candle of any interval is finished for sure."""
    return (now - FIRST_CANDLE).date()
