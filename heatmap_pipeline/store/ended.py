"""Symbols whose market has ended: the last day there is of each, void as soon as a later day is stored.

What belongs here: the table `ended_symbols`. What does not: how an end is known (`market/`) and what follows from one
(`chain/ends.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb

from heatmap_pipeline.store.sql import Connection, rows, transaction


@dataclass(frozen=True)
class Ended:
    """The end of a symbol: the last day (UTC) there is of it, and how that is known, in words."""

    day: date
    reason: str


_ENDS = """
SELECT symbol, ended, reason FROM ended_symbols AS e
WHERE NOT EXISTS (FROM raw_days AS d WHERE d.symbol = e.symbol AND d.kind = 'candles' AND d.day > e.ended)
ORDER BY symbol
"""


def ended_symbols(con: Connection) -> dict[str, Ended]:
    """Return the end of every symbol that has ended; none of a database of an earlier version."""
    try:
        ends = rows(con, _ENDS)
    except duckdb.CatalogException:
        return {}
    return {symbol: Ended(day, reason) for symbol, day, reason in ends}


def record_end(con: Connection, symbol: str, ended: Ended | None) -> None:
    """Record that a symbol has ended, or with None that it goes on, in place of what was recorded before."""
    with transaction(con):
        con.execute("DELETE FROM ended_symbols WHERE symbol = ?", [symbol])
        if ended is not None:
            con.execute("INSERT INTO ended_symbols VALUES (?, ?, ?)", [symbol, ended.day, ended.reason])
            # What was asked of days after the end could not be had, and will not be asked again.
            con.execute("DELETE FROM failed_days WHERE symbol = ? AND day > ?", [symbol, ended.day])
