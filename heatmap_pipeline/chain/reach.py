"""What a source can give now of what is due: how far its days go, why no further, and which were corrected meanwhile.

`due.py` says from what is stored which days are wanted; here the source is asked. `heatmap refresh` and the schedules
run what comes of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain.due import clock_is_behind, due_days
from heatmap_pipeline.chain.recovery import naming_the_rebuild
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.market.sources import Market, open_market
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.warehouse import Warehouse

WAITED_FOR = timedelta(days=3)
"""How late the archive's file of a day may be, where that is all that can be had, before the day counts as missing."""


@dataclass(frozen=True)
class Plan:
    """What to run now.

    Attributes:
        days: first and last day by symbol, of those that have any.
        until: the newest day that every symbol can have.
        closed: why nothing newer can be had, '' where nothing stands in the way.
        refused: what the source could not be asked, each once; the run comes upon what it needs of that.
    """

    days: dict[str, tuple[date, date]]
    until: date
    closed: str = ""
    refused: tuple[str, ...] = ()


def plan_due(settings: Settings, symbols: Sequence[str], until: date) -> Plan:
    """Return what is due of the symbols and can be had.

    What the archive corrected or added within the last `check_days` days is due as well, with all that follows it.
    Whether the exchange's REST is closed to this place is remembered in the home, for `heatmap status`.

    Raises:
        StoreError: if the home cannot be read or written.
    """
    if not settings.kind.over_network:
        return Plan(due_days(settings, symbols, until), until)
    market = open_market(settings)
    days: dict[str, tuple[date, date]] = {}
    closed: list[str] = []
    refused: list[str] = []
    last = until
    for symbol in symbols:
        stored = _stored(settings, symbol)
        if stored and clock_is_behind(stored.days[-1]):
            continue  # nothing is due of it, and what this machine asks would be of another day
        try:
            reached, why = market.reach(symbol, until)
        except MarketError as error:
            reached, why = until, ""
            refused.append(str(error))
        closed += [why] if why else []
        last = min(last, reached)
        due = due_days(settings, [symbol], reached)
        if symbol in due:
            days[symbol] = due[symbol]
        if stored:
            try:
                changed = _changed(market, settings, symbol, stored, asked_today=False)
            except MarketError as error:
                refused.append(str(error))
                continue
            if changed:
                first, end = days.get(symbol, (changed[0], stored.days[-1]))
                days[symbol] = min(first, changed[0]), max(end, stored.days[-1])
    if not refused or closed:
        _remember(settings, closed[0] if closed else "")
    return Plan(days, last, closed[0] if closed else "", tuple(dict.fromkeys(refused)))


def check_files(settings: Settings, symbol: str, first: date, last: date) -> list[date]:
    """Ask the archive about the files of stored days, also of those asked about today; return the days that changed.

    Raises:
        MarketError: for an archive that cannot be asked.
        StoreError: if the home cannot be read.
    """
    stored = _stored(settings, symbol)
    if stored is None:
        return []
    within = _Stored([day for day in stored.days if first <= day <= last], stored.interval)
    return _changed(open_market(settings), settings, symbol, within, asked_today=True)


def closed_words(settings: Settings) -> str:
    """Return what was said when REST was last found closed to this place, '' where it was open."""
    with suppress(OSError, ValueError):
        return _note(settings).read_text(encoding="utf-8").strip() if settings.kind.over_network else ""
    return ""


def last_expected(settings: Settings) -> date:
    """Return the newest day that should be there: yesterday, or where REST is closed the last one waited for."""
    return calendar.yesterday() - (WAITED_FOR if closed_words(settings) else timedelta(0))


@dataclass(frozen=True)
class _Stored:
    """Days of stored candles, rising, and the step of their candles in seconds."""

    days: list[date]
    interval: int


def _stored(settings: Settings, symbol: str) -> _Stored | None:
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    if not warehouse.path.exists():
        return None
    with naming_the_rebuild(settings), warehouse.connect() as con:
        record = stored_raw.get_symbol(con, symbol)
        days = sorted(stored_raw.raw_days(con, symbol)["candles"])
    return None if record is None or not days else _Stored(days, record.candle_interval_seconds)


def _changed(market: Market, settings: Settings, symbol: str, stored: _Stored, *, asked_today: bool) -> list[date]:
    oldest = date.min if asked_today else calendar.today() - timedelta(days=settings.check_days)
    days = [day for day in stored.days if day >= oldest]
    return market.changed(symbol, days, stored.interval, asked_today=asked_today) if days else []


def _note(settings: Settings) -> Path:
    return settings.home / "rest_closed.txt"


def _remember(settings: Settings, words: str) -> None:
    with suppress(OSError):  # it is only said again
        if words:
            replace_file(_note(settings), f"{words}\n".encode())
        else:
            _note(settings).unlink(missing_ok=True)
