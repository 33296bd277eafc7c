"""Which days are due: what is missing since the last stored day, and what has to be read again.

The schedules, `heatmap refresh` and the checks all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from heatmap_pipeline.orchestration import partitions
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import chain as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.raw import RawDay
from heatmap_pipeline.store.warehouse import Warehouse

_ONE_DAY = timedelta(days=1)
_WAITING = timedelta(days=7)
"""How long a day that came over REST is read again in the hope that the archive has it by now."""


def last_due(settings: Settings) -> date:
    """Return the newest day that `refresh` asks for: today so far where the source has it, else yesterday."""
    return partitions.yesterday() + (_ONE_DAY if settings.source == "binance" else timedelta(0))


def due_days(settings: Settings, symbols: Sequence[str], until: date) -> dict[str, tuple[date, date]]:
    """Return the first and last day due for each symbol that has any; an unknown symbol begins at HEATMAP_START.

    A day is due if it is missing, was provisional when it was read, or came over REST within the last week and the
    archive may have it by now.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    if not warehouse.path.exists():
        return {symbol: (settings.start, until) for symbol in symbols if settings.start and settings.start <= until}
    due: dict[str, tuple[date, date]] = {}
    with warehouse.connect() as con:
        for symbol in symbols:
            first = first_due(con, settings, symbol, until)
            if first is not None and first <= until:
                due[symbol] = (first, until)
    return due


def first_due(con: Any, settings: Settings, symbol: str, until: date) -> date | None:
    """Return the first day due of a symbol, None where nothing of it is stored and HEATMAP_START is not set.

    It lies after `until` where nothing is due.
    """
    tips = [max(stored.day_records(con, symbol, model), default=None) for model in settings.models]
    known = [tip for tip in tips if tip is not None]
    if not known:
        return settings.start
    raw = stored_raw.raw_days(con, symbol)
    # A model that has no day yet begins where the symbol's history does.
    first = min(known) + _ONE_DAY if len(known) == len(tips) else min(raw["candles"])
    again = [day for kind in ("candles", "open_interest") for day in _to_read_again(raw[kind], until)]
    return min([first, *again])


def _to_read_again(days: Mapping[date, RawDay], until: date) -> list[date]:
    return [
        day
        for day, one in days.items()
        if one.facts.get("provisional") or (one.facts.get("via") == "rest" and until - day <= _WAITING)
    ]
