"""Which days are due: what is missing since the last stored day, and what has to be read again.

The schedules, `heatmap refresh` and the checks all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from typing import Any

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain.earlier import ComputedEarlier, computed_earlier, words_for_earlier_version
from heatmap_pipeline.chain.recovery import ask_each, lost_days, naming_the_rebuild
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.days import DayRecord
from heatmap_pipeline.store.raw import RawDay
from heatmap_pipeline.store.read import PublishedHistory, failed_days, published_histories
from heatmap_pipeline.store.warehouse import FileError, Warehouse

_WAITING = timedelta(days=7)
"""How long a day that came over REST is read again in the hope that the archive has it by now."""


def last_due(settings: Settings) -> date:
    """Return the newest day that `refresh` asks for: today so far where the source has it, else yesterday."""
    return calendar.yesterday() + (ONE_DAY if settings.kind.has_today else timedelta(0))


def due_days(
    settings: Settings, symbols: Sequence[str], until: date, *, again: bool = True
) -> dict[str, tuple[date, date]]:
    """Return the first and last day due for each symbol that has any; an unknown symbol begins at HEATMAP_START.

    What follows a day that is due is due, too, to the last stored day. Nothing is due of a day that has just begun, nor
    of a symbol whose last stored day has not begun by this machine's clock: the clock is wrong.

    A day is due if it is missing, was provisional when it was read, came over REST within the last week and the
    archive may have it by now, or is stored and not published. Days that were published and are not stored any more are
    missing: after the loss of its file all of a symbol is due. Without `again` nothing is due only to be read again.
    Where its file cannot be used `until` is due, so that the run of this symbol says so.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    published = published_histories(warehouse, symbols)
    until = min(until, calendar.begun(datetime.now(UTC)))
    due: dict[str, tuple[date, date]] = {}
    with naming_the_rebuild(settings), ExitStack() as stack:
        nothing: Any = None
        for symbol in symbols:
            if warehouse.holds(symbol):
                try:
                    with warehouse.look(symbol) as con:
                        first, last = _first_and_last(con, settings, symbol, until, published, again=again)
                except FileError:
                    due[symbol] = (until, until)
                    continue
            else:  # one for all that are not stored: to make it takes longer than to open a file
                nothing = nothing or stack.enter_context(warehouse.nothing())
                first, last = _first_and_last(nothing, settings, symbol, until, published, again=again)
            if first is not None and first <= until and not clock_is_behind(last):
                due[symbol] = (first, max(until, last or until))
    return due


def _first_and_last(
    con: Any,
    settings: Settings,
    symbol: str,
    until: date,
    published: Mapping[str, PublishedHistory] | None,
    *,
    again: bool,
) -> tuple[date | None, date | None]:
    """Return the first day due of a symbol and its last computed day."""
    return first_due(con, settings, symbol, until, published, again=again), last_stored(con, settings, symbol)


def first_due(
    con: Any,
    settings: Settings,
    symbol: str,
    until: date,
    published: Mapping[str, PublishedHistory] | None,
    *,
    again: bool = True,
) -> date | None:
    """Return the first day due of a symbol, None where nothing is known of it and HEATMAP_START is not set.

    It lies after `until` where nothing is due. `published` is what `published_histories` says.
    """
    records = {model: stored.day_records(con, symbol, model) for model in settings.models}
    history = (published or {}).get(symbol)
    lost = lost_days(con, history, symbol, settings.models)
    known = [max(days) for days in records.values() if days]
    raw = stored_raw.raw_days(con, symbol)
    if not known:
        # Days that were read begin a history as well: of the first one something could not be had.
        return min([*lost, *raw["candles"]], default=settings.start)
    # A model that has no day yet begins where the symbol's history does.
    first = min(known) + ONE_DAY if len(known) == len(records) else min(raw["candles"])
    kinds = ("candles", "open_interest") if again else ()
    sooner = [day for kind in kinds for day in _to_read_again(raw[kind], until)]
    # What failed after it was read can succeed though nothing of the source is another: a full disk, an export.
    late = [day for stage, day, _ in failed_days(con, symbol) if not stage.startswith("raw_")]
    sooner += [min(day, max(known)) for day in late]
    if unpublished(records, history):
        sooner.append(max(known))
    return min([first, *sooner, *lost])


def last_stored(con: Any, settings: Settings, symbol: str) -> date | None:
    """Return the last computed day of a symbol, of the models of the settings; None where there is none."""
    return max((day for model in settings.models for day in stored.day_records(con, symbol, model)), default=None)


def clock_is_behind(last: date | None) -> bool:
    """Whether a stored day cannot have begun yet by this machine's clock."""
    return last is not None and last > calendar.today()


def wrong_clock(settings: Settings) -> str | None:
    """Say that this machine's clock and what is stored exclude each other; None where they do not."""
    for symbol, last in ask_each(
        settings, lambda con, name: last_stored(con, settings, name), settings.symbols
    ).items():
        if last is not None and clock_is_behind(last):
            return words_for_clock(symbol, last)
    return None


def of_earlier_version(settings: Settings) -> dict[str, str]:
    """Return what to tell, by symbol, of those whose days an earlier version computed: nothing can follow them."""
    histories: dict[str, ComputedEarlier] = {}
    for of_symbol in ask_each(settings, lambda con, _: computed_earlier(con), settings.symbols).values():
        histories |= of_symbol
    return words_for_earlier_version(settings, histories)


def words_for_clock(symbol: str, last: date) -> str:
    """Return what to tell of a last stored day that has not begun by this machine's clock."""
    return (
        f"{symbol} is stored until {last}, and by this machine's clock it is {calendar.today()} (UTC): set the clock "
        "right, or use another --home if it was wrong when that was computed"
    )


def unpublished(records: Mapping[str, Mapping[date, DayRecord]], history: PublishedHistory | None) -> bool:
    """Whether a finished day is stored that is not published as it is: a run was stopped just before its end."""
    days = history.days if history is not None else {}
    return any(
        days.get(model, {}).get(day) != record.state_hash
        for model, of_model in records.items()
        for day, record in of_model.items()
        if not record.provisional
    )


def _to_read_again(days: Mapping[date, RawDay], until: date) -> list[date]:
    return [
        day
        for day, raw in days.items()
        if raw.facts.get("provisional") or (raw.facts.get("via") == "rest" and until - day <= _WAITING)
    ]
