"""Which stored days are not what a whole, checked file would have given, and in what: said until a better file comes.

What belongs here: the one question, for `heatmap status`, the check `days_whole` and GET /health. What does not: rules
that a stored row breaks (`checks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from heatmap_pipeline.instants import day_start
from heatmap_pipeline.store.sql import Connection, parsed, rows

_ENDS = """
    WITH meant AS MATERIALIZED (
        SELECT symbol, day, rows, repairs, facts, step_seconds FROM raw_days
        WHERE symbol IN (SELECT unnest(?::VARCHAR[])) AND kind = ? AND facts NOT LIKE '%"provisional": true%'
            AND (rows < 86400 // step_seconds OR facts LIKE '%_file"%' OR repairs LIKE '%accepted_checksum%'
                OR repairs LIKE '%placed_by_hand%')
    ), ends AS (
        SELECT symbol, day, max(epoch_us({time})) AS newest
        FROM {table} SEMI JOIN meant USING (symbol, day) GROUP BY ALL
    )
    SELECT symbol, day, rows, repairs, facts, step_seconds, newest FROM meant LEFT JOIN ends USING (symbol, day)
"""
"""Only days that may be meant: of all others not one row is read."""

_TABLES = {
    "candles": ("raw_candles", "open_time"),
    "open_interest": ("raw_open_interest", "snapshot_time"),
}
"""Of each kind its table and the column of time."""
_NAMES = {"candles": "candles", "open_interest": "samples of open interest"}
_AT_LEAST = 1800
"""Seconds before midnight within which a day may end."""


def days_not_whole(con: Connection, symbol: str) -> dict[date, str]:
    """Return what is not whole of a symbol's stored days, in words, by day; a day that was not over is left out.

    Example:
        >>> days_not_whole(con, "BTCUSDT")  # doctest: +SKIP
        {date(2024, 3, 5): 'samples of open interest end at 13:30'}
    """
    return days_not_whole_of(con, [symbol]).get(symbol, {})


def days_not_whole_of(con: Connection, symbols: Sequence[str]) -> dict[str, dict[date, str]]:
    """Return the same of many symbols, in one question; a symbol of which there is nothing to say is left out."""
    words: dict[str, dict[date, list[str]]] = {}
    for kind, (table, time) in _TABLES.items():
        query = _ENDS.format(table=table, time=time)
        for symbol, day, count, repairs, facts, step, newest in rows(con, query, [[*symbols], kind]):
            lasting = step if kind == "candles" else 0
            end = (newest - day_start(day)) / 1e6 + lasting if count and newest is not None else None
            said = _words(_NAMES[kind], parsed(repairs), parsed(facts), step, end)
            if said:
                words.setdefault(symbol, {}).setdefault(day, []).append(said)
    return {symbol: {day: "; ".join(each[day]) for day in sorted(each)} for symbol, each in words.items()}


def _words(name: str, repairs: Mapping[str, Any], facts: Mapping[str, Any], step: int, end: float | None) -> str:
    """Say what is not whole of one kind of one day, which ends `end` seconds after its midnight; None: has no row."""
    if facts.get("provisional"):
        return ""
    said = []
    if end is None:
        held = f"no {name}, held"
        said.append(f"{held} (no file {facts['missing_file']})" if "missing_file" in facts else held)
    elif end < 86400 - max(_AT_LEAST, 3 * step):
        minutes = int(end) // 60
        said.append(f"{name} end at {minutes // 60:02}:{minutes % 60:02}")
    if "damaged_file" in facts:
        said.append(f"{name} over REST, {facts['damaged_file']} does not match its CHECKSUM")
    if repairs.get("accepted_checksum"):
        said.append(f"{name} from a file accepted against its CHECKSUM")
    if repairs.get("placed_by_hand"):
        said.append(f"{name} from a file placed by hand")
    return ", ".join(said)
