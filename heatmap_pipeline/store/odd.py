"""Which stored days held rows that cannot be true, and what became of them: said as long as they are what is stored.

What belongs here: the one question, for `heatmap status`, the check `days_believable`, the page and GET /health. What
does not: how it is told (`market/plausible/`, `market/bound.py`), and files that are not whole (`whole.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from heatmap_pipeline.market.plausible.names import BOTH_SIDES, LEFT_OUT, NOTED
from heatmap_pipeline.store.sql import Connection, parsed, rows
from heatmap_pipeline.store.whole import days_not_whole_of
from heatmap_pipeline.symbols import HOME_EXCHANGE, exchange_and_name

_JUDGED = {"impossible_samples": "that trades cannot explain", "level_shifts": "of the level, by nothing traded"}
"""What is found where the flow is computed, in words that follow a number."""


def odd_days(con: Connection, symbol: str) -> dict[date, str]:
    """Return what of a symbol's stored days cannot be true, in words, by day, rising.

    Example:
        >>> odd_days(con, "BTCUSDT")  # doctest: +SKIP
        {date(2024, 3, 5): '288 samples left out, contracts and value are swapped'}
    """
    return odd_days_of(con, [symbol]).get(symbol, {})


def odd_days_of(con: Connection, symbols: Sequence[str]) -> dict[str, dict[date, str]]:
    """Return the same of many symbols, in one question; a symbol of which there is nothing to say is left out."""
    words: dict[str, dict[date, list[str]]] = {}
    raw = (
        "SELECT symbol, day, kind, rows, repairs, facts FROM raw_days WHERE symbol IN (SELECT unnest(?::VARCHAR[])) "
        "AND kind IN ('candles', 'open_interest') AND (repairs <> '{}' OR facts LIKE '%\"odd\"%') "
        "ORDER BY symbol, day, kind"
    )
    for symbol, day, kind, count, text, facts in rows(con, raw, [[*symbols]]):
        at_home = exchange_and_name(symbol)[0] == HOME_EXCHANGE
        # That another exchange adds both sides is how it counts (symbols.oi_sides), not what cannot be true.
        repairs = {name: made for name, made in parsed(text).items() if at_home or name != BOTH_SIDES}
        if said := _of_raw(kind, count, repairs, parsed(facts)):
            words.setdefault(symbol, {}).setdefault(day, []).extend(said)
    # The flow depends on no model, so that each says the same.
    judged = (
        "SELECT symbol, day, any_value(repairs) FROM heatmap_days WHERE symbol IN (SELECT unnest(?::VARCHAR[])) "
        "AND {which} GROUP BY symbol, day"
    )
    which = " OR ".join(f"repairs LIKE '%{name}%'" for name in _JUDGED)
    for symbol, day, repairs in rows(con, judged.format(which=f"({which})"), [[*symbols]]):
        counts = parsed(repairs)
        said = [_counted(name, counts[name], text) for name, text in _JUDGED.items() if counts.get(name)]
        words.setdefault(symbol, {}).setdefault(day, []).extend(said)
    return {symbol: {day: "; ".join(each[day]) for day in sorted(each) if each[day]} for symbol, each in words.items()}


def days_to_mention(con: Connection, symbols: Sequence[str]) -> dict[str, dict[date, str]]:
    """Return what is not whole or cannot be true of the symbols' stored days, in words, by symbol and day, rising.

    A symbol of which there is nothing to say is left out.
    """
    words = days_not_whole_of(con, symbols)
    for symbol, days in odd_days_of(con, symbols).items():
        known = words.setdefault(symbol, {})
        for day, text in days.items():
            known[day] = f"{known[day]}; {text}" if day in known else text
    return {symbol: dict(sorted(days.items())) for symbol, days in words.items() if days}


def _of_raw(kind: str, count: int, repairs: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    said = [f"{repairs[name]} samples left out, {text}" for name, text in LEFT_OUT.items() if repairs.get(name)]
    name_of_rows = "candles" if kind == "candles" else "samples"
    said += [f"{repairs[name]} {name_of_rows} {text}" for name, text in NOTED.items() if repairs.get(name)]
    if not count and repairs.get("invalid_contracts"):
        said.append(f"{repairs['invalid_contracts']} samples are 0, blank or no number")
    return [*said, *([facts["odd"]] if "odd" in facts else [])]


def _counted(name: str, count: int, text: str) -> str:
    noun = "samples" if name == "impossible_samples" else "shifts"
    return f"{count} {noun if count != 1 else noun[:-1]} {text}"
